//! The common basis of all sessions: functions, options and memory.

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionConfig;

use crate::engine::functions;
use crate::engine::functions::instants::{IntervalPlanner, SessionTimes, WindowOrders};
use crate::engine::functions::{session_functions, spec_functions, text_patterns};
use crate::engine::plan::asset_id_literals::AssetIdLiterals;
use crate::engine::plan::cancellable_rules;
use crate::engine::plan::subqueries::SubqueryValues;
use crate::engine::plan::union_names::UnionNames;
use crate::engine::query_error::QueryError;
use crate::engine::schema_names::{CATALOG, PUBLIC};
use crate::engine::sql::time_zones::TimeTypes;
use crate::engine::tables::rollup_table::store_url;
use crate::lake::Store;

/// The zone of sessions that have set none.
const UTC: &str = "UTC";

/// Returns the common basis of all sessions on a lake: functions, options and memory, but no tables.
pub(in crate::engine) fn base_state(
    lake: &Store,
    runtime: Arc<RuntimeEnv>,
) -> Result<SessionState, QueryError> {
    let config = SessionConfig::new()
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .set_bool("datafusion.execution.parquet.pushdown_filters", true)
        // A count that is computed by a join cannot be null, but may be as far as the physical plan knows.
        .set_bool(
            "datafusion.execution.skip_physical_aggregate_schema_check",
            true,
        )
        // It looks up the keys of groups by name, and takes the first of equal names.
        .set_bool("datafusion.optimizer.top_down_join_key_reordering", false)
        // Timestamps without a time zone are UTC, like those in the tables.
        .set_str("datafusion.execution.time_zone", UTC)
        // Some clients do not know the type Utf8View.
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_bool("datafusion.sql_parser.collect_spans", true);
    runtime.register_object_store(store_url(lake)?.as_ref(), lake.root());
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_type_planner(Arc::new(TimeTypes::new(UTC)))
        .with_default_features();
    let mut builder = cancellable_rules::register(
        builder,
        Arc::new(WindowOrders),
        [
            Arc::new(SubqueryValues),
            Arc::new(SessionTimes),
            Arc::new(AssetIdLiterals),
            Arc::new(functions::ExactResults),
            Arc::new(UnionNames),
            Arc::new(functions::BoundExpressions),
        ],
    );
    functions::retain_supported(&mut builder);
    let planners = builder.expr_planners().get_or_insert_default();
    planners.push(Arc::new(IntervalPlanner));
    let mut state = builder.build();
    functions::register_instants(&mut state)?;
    spec_functions::register(&mut state)?;
    text_patterns::register(&mut state)?;
    session_functions::register(&mut state)?;
    Ok(state)
}
