//! DataFusion's rule that merges projections, which keeps the qualifiers of their columns.

use datafusion::common::Result;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::Alias;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// Merges projections. DataFusion drops the alias of an expression whose name is that of the alias, and its qualifier with it,
/// which tells two columns of a result with equal names apart. Aliases with metadata stay, also if it is empty.
#[derive(Debug, Default)]
pub(super) struct ProjectionMerges(OptimizeProjections);

impl OptimizerRule for ProjectionMerges {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        // A result has its names in its last step.
        let plan = match plan {
            LogicalPlan::Projection(_) => mark(plan)?.data,
            plan => plan,
        };
        self.0.rewrite(plan, config)
    }
}

fn mark(step: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    step.map_expressions(|expression| {
        Ok(match expression {
            Expr::Alias(alias @ Alias { metadata: None, .. }) if alias.relation.is_some() => {
                let marked = alias.with_metadata(Some(FieldMetadata::default()));
                Transformed::yes(Expr::Alias(marked))
            }
            expression => Transformed::no(expression),
        })
    })
}
