//! The table functions `generate_series` and `range` with a check of their step, and with times in microseconds, like those
//! in the tables. DataFusion returns no rows for a step whose months, days and times have different signs, such as
//! `INTERVAL '1 month -1 day'`, and takes and returns nanoseconds only.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast, ident};

/// Returns the table function with a check of its arguments.
pub(super) fn checked_series(function: &Arc<TableFunction>) -> Arc<TableFunction> {
    let checked = CheckedSeries(Arc::clone(function.function()));
    Arc::new(TableFunction::new(
        function.name().to_owned(),
        Arc::new(checked),
    ))
}

#[derive(Debug)]
struct CheckedSeries(Arc<dyn TableFunctionImpl>);

impl TableFunctionImpl for CheckedSeries {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        check(args.exprs())?;
        let bounds = args.exprs().iter().map(in_nanos);
        let bounds = bounds.collect::<Result<Vec<_>>>()?;
        let series = self
            .0
            .call_with_args(TableFunctionArgs::new(&bounds, args.session()))?;
        in_micros(series)
    }
}

/// Returns a constant time in nanoseconds, and other arguments unchanged.
fn in_nanos(argument: &Expr) -> Result<Expr> {
    let Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), zone), metadata) = argument
    else {
        return Ok(argument.clone());
    };
    match micros.checked_mul(1_000) {
        Some(nanos) => {
            let time = ScalarValue::TimestampNanosecond(Some(nanos), zone.clone());
            Ok(Expr::Literal(time, metadata.clone()))
        }
        None => plan_err!("a series of times must be within the years from 1678 to 2261"),
    }
}

/// Returns the series with times in microseconds, and series of numbers unchanged.
fn in_micros(series: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let schema = series.schema();
    let Some(field) = schema.fields().first() else {
        return Ok(series);
    };
    let DataType::Timestamp(TimeUnit::Nanosecond, zone) = field.data_type() else {
        return Ok(series);
    };
    let kind = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
    let column = cast(ident(field.name()), kind).alias(field.name());
    let plan = LogicalPlanBuilder::scan("series", provider_as_source(series), None)?
        .project([column])?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

fn check(arguments: &[Expr]) -> Result<()> {
    for argument in arguments {
        if !matches!(argument, Expr::Literal(..)) {
            return plan_err!(
                "the arguments of a series in FROM must be constants: use unnest(generate_series(start, stop, step)) in a SELECT list for others"
            );
        }
        if let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(step)), _) = argument {
            let signs = [
                step.months.signum(),
                step.days.signum(),
                step.nanoseconds.signum() as i32,
            ];
            if signs.contains(&1) && signs.contains(&-1) {
                return plan_err!(
                    "a step with positive and negative parts is not supported: use an INTERVAL whose parts have the same sign"
                );
            }
        }
    }
    Ok(())
}
