//! Functions, operators and set operations whose results in DataFusion are wrong, or wrong beyond some size, with right ones
//! under the same names. `tests/upstream` has the reports, each with its test.

mod aggregates;
mod calls;
mod canonical;
mod casts;
mod checked_sum;
mod columns;
mod days;
mod distinct_orders;
mod equality;
mod expressions;
mod extremes;
mod grouping_sets;
mod kinds;
mod lists;
mod means;
mod members;
mod moment_groups;
mod moments;
mod monotonicity;
mod one_form;
mod one_nan;
mod operators;
mod ordered_texts;
mod quantile;
mod rewrite;
mod rows;
mod series;
mod set_operations;
mod shift;
mod simplified;

use std::sync::Arc;

use datafusion::catalog::TableFunction;
use datafusion::logical_expr::{AggregateUDF, Expr, WindowUDF};

pub(super) use monotonicity::with_derived_order;
pub(in crate::engine) use rewrite::ExactResults;

/// Returns a duration as an interval of days and a time.
pub(super) fn days_and_time(duration: Expr) -> Expr {
    operators::Exact::DaysAndTime.call(vec![duration])
}

/// Returns the aggregate with right results.
pub(super) fn exact_aggregate(function: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    aggregates::exact_aggregate(function)
}

/// Returns the window function with right results.
pub(super) fn exact_window(function: Arc<WindowUDF>) -> Arc<WindowUDF> {
    shift::exact_window(function)
}

/// Returns the table function with a check of its arguments.
pub(super) fn checked_series(function: &Arc<TableFunction>) -> Arc<TableFunction> {
    series::checked_series(function)
}
