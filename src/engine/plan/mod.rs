//! Plans: their cost, their limits, their optimisation, and operators that can be cancelled.

pub(super) mod asset_id_literals;
pub(super) mod cancellable_aggregate;
pub(super) mod cancellable_plan;
pub(super) mod cancellable_rules;
pub(super) mod cancellable_window;
pub(super) mod cost_estimate;
pub(super) mod filter_pushdown;
pub(super) mod optimised;
pub(super) mod plan_limits;
mod qualified_names;
pub(super) mod row_limits;
pub(super) mod sequential_unions;
pub(super) mod subqueries;
pub(super) mod subquery_limits;
pub(super) mod tenant_filter_scan;
mod total_filters;
pub(super) mod union_names;
mod window_sorts;
