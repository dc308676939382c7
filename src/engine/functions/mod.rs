//! The functions of SQL: which are offered, and within which limits.
//!
//! What operators hold is counted against a query's memory, and every large allocation is ([`crate::memory`]). What is
//! refused here would only end there, or would work for minutes on one batch without looking up.

mod arguments;
mod bounded;
mod checks;
mod costs;
mod offered;
mod operators;
mod pattern;
mod planning;
mod types;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};

pub(super) use self::arguments::check_arguments;
use self::bounded::BoundedFunction;
use self::offered::{AGGREGATE, Bounds, HIGHER_ORDER, SCALAR, TABLE, WINDOW};
pub(super) use self::operators::BoundExpressions;
pub(super) use self::planning::while_planning;
pub(super) use self::types::check_type;

/// The bounds of the scalar function of this name, if it is offered.
fn bounds_of(name: &str) -> Option<Bounds> {
    let found = SCALAR.iter().find(|(known, _)| *known == name);
    found.map(|(_, bounds)| *bounds)
}

/// The function, within its limits; none if it is not offered.
fn within_limits(function: Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    let bounds = bounds_of(function.name())?;
    match bounds.must_be_checked() {
        true => Some(Arc::new(BoundedFunction::new(function, bounds).into())),
        false => Some(function),
    }
}

/// Leaves the functions that are offered in a session that is being built, within their limits.
pub(super) fn offer(builder: &mut SessionStateBuilder) {
    fn retain<F>(functions: &mut Option<Vec<Arc<F>>>, offered: &[&str], name: impl Fn(&F) -> &str) {
        if let Some(functions) = functions {
            functions.retain(|function| offered.contains(&name(function)));
        }
    }
    if let Some(functions) = builder.scalar_functions() {
        let all = std::mem::take(functions).into_iter();
        *functions = all.filter_map(within_limits).collect();
    }
    retain(
        builder.higher_order_functions(),
        HIGHER_ORDER,
        HigherOrderUDF::name,
    );
    retain(builder.aggregate_functions(), AGGREGATE, AggregateUDF::name);
    retain(builder.window_functions(), WINDOW, WindowUDF::name);
    if let Some(functions) = builder.table_functions() {
        let all: HashMap<_, _> = std::mem::take(functions);
        let all = all.into_iter();
        *functions = all
            .filter(|(name, _)| TABLE.contains(&name.as_str()))
            .collect();
    }
}

#[cfg(test)]
mod tests;
