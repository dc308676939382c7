//! The table functions `generate_series` and `range` with a check of their step. DataFusion returns no rows for a step whose
//! months, days and times have different signs, such as `INTERVAL '1 month -1 day'`.

use std::sync::Arc;

use datafusion::catalog::{TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::Expr;

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
        self.0.call_with_args(args)
    }
}

fn check(arguments: &[Expr]) -> Result<()> {
    for argument in arguments {
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
