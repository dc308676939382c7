//! Limits on numeric arguments of aggregates and window functions that determine their memory.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFrameBound, WindowFunctionDefinition};

/// The maximum number of centroids of an approximate percentile; 100 is usual, and 10,000 is exact to a millionth.
const MAX_CENTROIDS: i128 = 10_000;
/// The maximum distance between rows: more rows than any table has.
const MAX_ROW_DISTANCE: i128 = 1 << 40;

/// Refuses numbers for which memory would be allocated, in a plan whose constants have been evaluated.
///
/// # Errors
/// A plan error that names the function and the limit.
pub(in crate::engine) fn check_arguments(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                match part {
                    Expr::AggregateFunction(call) => check_aggregate(call)?,
                    Expr::WindowFunction(call) => check_window(call)?,
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// Refuses too many centroids of an approximate percentile.
fn check_centroids(name: &str, arguments: &[Expr]) -> Result<()> {
    let at = match name {
        "approx_percentile_cont" => 2,
        "approx_percentile_cont_with_weight" => 3,
        _ => return Ok(()),
    };
    match arguments.get(at).map(whole_number) {
        None | Some(Some(1..=MAX_CENTROIDS)) => Ok(()),
        Some(_) => plan_err!(
            "{name}: the number of centroids must be a constant from 1 to {MAX_CENTROIDS}"
        ),
    }
}

fn check_aggregate(call: &AggregateFunction) -> Result<()> {
    let (name, arguments) = (call.func.name(), &call.params.args);
    check_centroids(name, arguments)?;
    match name {
        "nth_value" => check_distances(name, arguments),
        _ => Ok(()),
    }
}

fn check_window(call: &WindowFunction) -> Result<()> {
    let arguments = &call.params.args;
    match &call.fun {
        WindowFunctionDefinition::AggregateUDF(function) => {
            check_centroids(function.name(), arguments)?;
        }
        WindowFunctionDefinition::WindowUDF(function) => match function.name() {
            name @ ("lag" | "lead" | "nth_value") => check_distances(name, arguments)?,
            name @ "ntile" => check_distance(name, arguments.first())?,
            _ => {}
        },
    }
    let frame = &call.params.window_frame;
    for bound in [&frame.start_bound, &frame.end_bound] {
        if let WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) = bound
            && number(value).is_some_and(|rows| !(0..=MAX_ROW_DISTANCE).contains(&rows))
        {
            return plan_err!(
                "a window frame of {value} rows is out of range: use UNBOUNDED, or at most {MAX_ROW_DISTANCE}"
            );
        }
    }
    Ok(())
}

fn check_distances(name: &str, arguments: &[Expr]) -> Result<()> {
    check_distance(name, arguments.get(1))
}

fn check_distance(name: &str, argument: Option<&Expr>) -> Result<()> {
    match argument.and_then(whole_number) {
        Some(rows) if rows.abs() > MAX_ROW_DISTANCE => {
            plan_err!("{name}: {rows} is out of range: the limit is {MAX_ROW_DISTANCE}")
        }
        _ => Ok(()),
    }
}

/// Returns the value of an expression that is a constant integer; `None` for others.
fn whole_number(expression: &Expr) -> Option<i128> {
    match expression {
        Expr::Literal(value, _) => number(value),
        Expr::Cast(cast) => whole_number(&cast.expr),
        Expr::Alias(alias) => whole_number(&alias.expr),
        _ => None,
    }
}

fn number(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::UInt64(value) => value.map(i128::from),
        value if value.data_type().is_integer() => {
            let value = value.cast_to(&arrow::datatypes::DataType::Int64).ok()?;
            match value {
                ScalarValue::Int64(value) => value.map(i128::from),
                _ => None,
            }
        }
        _ => None,
    }
}
