//! `AT TIME ZONE` and the types of times in SQL, as in Postgres.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, TimezoneInfo, Value, visit_expressions_mut,
};

/// Replaces `time AT TIME ZONE zone` by `timezone(zone, time)`: the planner has another operator of this name, whose result
/// is an instant always.
pub(super) fn replace_at_time_zone(parsed: &mut Parsed) {
    let statement = match parsed {
        Parsed::Statement(statement) => statement,
        Parsed::Explain(explain) => return replace_at_time_zone(&mut explain.statement),
        _ => return,
    };
    let _: ControlFlow<()> = visit_expressions_mut(&mut **statement, |expression| {
        if let Expr::AtTimeZone { .. } = expression {
            let null = Expr::Value(Value::Null.with_empty_span());
            if let Expr::AtTimeZone {
                timestamp,
                time_zone,
            } = std::mem::replace(expression, null)
            {
                *expression = timezone_call(*time_zone, *timestamp);
            }
        }
        ControlFlow::Continue(())
    });
}

fn timezone_call(zone: Expr, time: Expr) -> Expr {
    let arguments = [zone, time].map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("timezone")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.to_vec(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Plans the types of times: in microseconds, like the times in the tables, and with the session's zone.
#[derive(Debug)]
pub(in crate::engine) struct TimeTypes {
    zone: Arc<str>,
}

impl TimeTypes {
    /// Creates the planner of a session with this zone.
    pub fn new(zone: &str) -> Self {
        Self { zone: zone.into() }
    }
}

impl TypePlanner for TimeTypes {
    fn plan_type_field(&self, kind: &ast::DataType) -> Result<Option<FieldRef>> {
        let planned = match kind {
            ast::DataType::Timestamp(precision, zone) => {
                let label = has_zone(zone).then(|| Arc::clone(&self.zone));
                DataType::Timestamp(unit(kind, *precision)?, label)
            }
            ast::DataType::Time(precision, zone) if !has_zone(zone) => {
                match unit(kind, *precision)? {
                    unit @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(unit),
                    unit => DataType::Time64(unit),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", planned, true))))
    }
}

fn has_zone(zone: &TimezoneInfo) -> bool {
    matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone)
}

/// Returns the unit of a type with this number of digits after the second.
fn unit(kind: &ast::DataType, precision: Option<u64>) -> Result<TimeUnit> {
    match precision {
        Some(0) => Ok(TimeUnit::Second),
        Some(3) => Ok(TimeUnit::Millisecond),
        None | Some(6) => Ok(TimeUnit::Microsecond),
        Some(9) => Ok(TimeUnit::Nanosecond),
        Some(_) => plan_err!("unsupported precision in {kind}; use 0, 3, 6 or 9 digits"),
    }
}
