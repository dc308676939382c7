//! The SQL functions that sessions have, and their limits.
//!
//! The memory of operators and every large allocation count towards a query's memory limit ([`crate::memory`]). The
//! calls that are refused here would fail at that limit, or would compute for minutes on one batch without a check for
//! cancellation.

mod allow_list;
mod arguments;
mod bounded;
mod checks;
mod costs;
mod exact;
pub(super) mod instants;
mod operators;
mod pattern;
mod planning;
pub(super) mod session_functions;
pub(super) mod spec_functions;
pub(super) mod spec_json;
pub(super) mod text_patterns;
mod time_formats;
mod types;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};

use allow_list::{AGGREGATE, Bounds, HIGHER_ORDER, SCALAR, TABLE, WINDOW};
pub(super) use arguments::check_arguments;
use bounded::BoundedFunction;
pub(super) use exact::ExactResults;
use exact::{checked_series, exact_aggregate, exact_window, with_derived_order};
pub(super) use operators::BoundExpressions;
pub(super) use planning::while_planning;
pub(super) use types::check_type;

/// Returns the bounds of the scalar function with this name; `None` if it is not supported.
fn function_bounds(name: &str) -> Option<Bounds> {
    let found = SCALAR.iter().find(|(known, _)| *known == name);
    found.map(|(_, bounds)| *bounds)
}

/// Returns the function with its limits enforced; `None` if it is not supported.
fn bounded_function(function: Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    let bounds = function_bounds(function.name())?;
    let function = with_derived_order(time_formats::with_postgres_formats(function));
    match bounds.is_check_required() {
        true => Some(Arc::new(BoundedFunction::new(function, bounds).into())),
        false => Some(function),
    }
}

/// Registers the functions of instants, with their limits.
pub(super) fn register_instants(state: &mut SessionState) -> Result<()> {
    instants::register(state, bounded_function)
}

/// Removes unsupported functions from a session that is being built, enforces the limits of the others, and replaces those that
/// give wrong results.
pub(super) fn retain_supported(builder: &mut SessionStateBuilder) {
    fn retain<F>(
        functions: &mut Option<Vec<Arc<F>>>,
        offered: &[&str],
        name: impl Fn(&F) -> &str,
        exact: fn(Arc<F>) -> Arc<F>,
    ) {
        if let Some(functions) = functions {
            functions.retain(|function| offered.contains(&name(function)));
            let all = std::mem::take(functions).into_iter();
            *functions = all.map(exact).collect();
        }
    }
    if let Some(functions) = builder.scalar_functions() {
        let all = std::mem::take(functions).into_iter();
        *functions = all.filter_map(bounded_function).collect();
    }
    retain(
        builder.higher_order_functions(),
        HIGHER_ORDER,
        HigherOrderUDF::name,
        |function| function,
    );
    retain(
        builder.aggregate_functions(),
        AGGREGATE,
        AggregateUDF::name,
        exact_aggregate,
    );
    retain(
        builder.window_functions(),
        WINDOW,
        WindowUDF::name,
        exact_window,
    );
    if let Some(functions) = builder.table_functions() {
        let all: HashMap<_, _> = std::mem::take(functions);
        let all = all.into_iter();
        *functions = all
            .filter(|(name, _)| TABLE.contains(&name.as_str()))
            .map(|(name, function)| (name, checked_series(&function)))
            .collect();
    }
}

#[cfg(test)]
mod tests;
