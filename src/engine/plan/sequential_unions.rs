//! Unions whose parts are read one after another.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::execution::SessionState;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;

use crate::engine::scan::sequential::SequentialExec;

/// Reads the parts of unions one after another, if the session has the option. The rule comes before all others: as a whole,
/// the rows of sorted parts are not sorted.
#[derive(Debug)]
pub(in crate::engine) struct SequentialUnions;

impl SequentialUnions {
    /// Returns the state for plans that read in sequence.
    pub fn enable(state: &SessionState) -> SessionState {
        let mut state = state.clone();
        let options = state.config_mut().options_mut();
        // With this option, DataFusion leaves unions as they are. Otherwise, it is not set.
        options.optimizer.prefer_existing_union = true;
        state
    }
}

impl PhysicalOptimizerRule for SequentialUnions {
    fn name(&self) -> &str {
        "sequential_unions"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !config.optimizer.prefer_existing_union {
            return Ok(plan);
        }
        let rewritten = plan.transform_up(|step| {
            Ok(match step.is::<UnionExec>() {
                true => Transformed::yes(Arc::new(SequentialExec::new(step)) as Arc<_>),
                false => Transformed::no(step),
            })
        });
        rewritten.data()
    }

    fn schema_check(&self) -> bool {
        true
    }
}
