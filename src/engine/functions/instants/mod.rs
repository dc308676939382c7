//! Instants, local times and intervals as Postgres has them: the session's zone holds wherever a time has none.
//!
//! Instants are in UTC, in microseconds: this is the type of times in the tables, and of the results of functions. A rule
//! of the analyzer ([`SessionTimes`]) converts them to the session's zone where their local time matters.

mod builtins;
mod intervals;
mod local_time;
mod rule;
mod time_cast;
mod window_orders;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::ScalarUDF;

pub(in crate::engine) use intervals::IntervalPlanner;
pub(in crate::engine) use rule::SessionTimes;
pub(in crate::engine) use window_orders::WindowOrders;

/// Registers `timezone`, and replaces `now` and `to_timestamp…`. `wrap` enforces the limits of a function.
pub(super) fn register(
    state: &mut SessionState,
    wrap: fn(Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>>,
) -> Result<()> {
    let defaults = datafusion::execution::SessionStateDefaults::default_scalar_functions();
    for function in defaults {
        let replaced = if function.name() == "now" {
            Some(ScalarUDF::new_from_impl(builtins::Now::new(function)))
        } else {
            builtins::ToTimestamp::new(function).map(ScalarUDF::new_from_impl)
        };
        if let Some(replaced) = replaced.and_then(|function| wrap(Arc::new(function))) {
            state.register_udf(replaced)?;
        }
    }
    let timezone = ScalarUDF::new_from_impl(time_cast::TimeZoneFunction::default());
    state.register_udf(Arc::new(timezone))?;
    Ok(())
}
