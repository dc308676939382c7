//! Rules of DataFusion's analyzer and optimisers that end when their statement is cancelled. Each rule visits the whole plan,
//! and many visits of a large plan take seconds.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer};
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::{PhysicalOptimizer, PhysicalOptimizerContext};
use datafusion::physical_plan::ExecutionPlan;

use super::filter_pushdown::UnambiguousFilters;
use super::qualified_names::ProjectionMerges;
use super::sequential_unions::SequentialUnions;
use super::subqueries::{PredicateSubqueries, ScalarSubqueries};
use super::total_filters::FilterPushDown;
use super::window_sorts::WindowSorts;
use crate::engine::limits::cancellation;

/// Registers DataFusion's rules with `builder`. Each rule checks before it visits the plan, or a node of it, whether
/// the statement is cancelled. `first_rule` comes before DataFusion's rules of the analyzer, and `extra_rules` after them.
pub(in crate::engine) fn register(
    builder: SessionStateBuilder,
    first_rule: Arc<dyn AnalyzerRule + Send + Sync>,
    extra_rules: [Arc<dyn AnalyzerRule + Send + Sync>; 6],
) -> SessionStateBuilder {
    let mut analyzer_rules = vec![first_rule];
    analyzer_rules.extend(Analyzer::new().rules);
    analyzer_rules.extend(extra_rules);
    let mut optimizer_rules = Optimizer::new().rules;
    replace_rules(&mut optimizer_rules, |rule| corrected_rule(rule.name()));
    let mut physical_rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> =
        vec![Arc::new(SequentialUnions)];
    physical_rules.extend(PhysicalOptimizer::new().rules);
    physical_rules.push(Arc::new(WindowSorts));
    replace_rules(&mut physical_rules, |rule| {
        let corrected = UnambiguousFilters::replacing(rule.name())?;
        Some(Arc::new(corrected))
    });
    builder
        .with_analyzer_rules(cancellable(analyzer_rules, |rule| {
            Arc::new(Cancellable(rule))
        }))
        .with_optimizer_rules(cancellable(optimizer_rules, |rule| {
            Arc::new(Cancellable(rule))
        }))
        .with_physical_optimizer_rules(cancellable(physical_rules, |rule| {
            Arc::new(Cancellable(rule))
        }))
}

/// Replaces the rules for which there is another.
fn replace_rules<R: ?Sized>(rules: &mut [Arc<R>], other: impl Fn(&R) -> Option<Arc<R>>) {
    for rule in rules {
        if let Some(other) = other(rule) {
            *rule = other;
        }
    }
}

/// Returns the rule of the optimiser that replaces DataFusion's rule with this name; `None` if that one is right.
fn corrected_rule(name: &str) -> Option<Arc<dyn OptimizerRule + Send + Sync>> {
    Some(match name {
        "decorrelate_predicate_subquery" => Arc::new(PredicateSubqueries::default()),
        "scalar_subquery_to_join" => Arc::new(ScalarSubqueries::default()),
        "push_down_filter" => Arc::new(FilterPushDown::default()),
        "optimize_projections" => Arc::new(ProjectionMerges::default()),
        _ => return None,
    })
}

fn cancellable<R: ?Sized>(rules: Vec<Arc<R>>, wrap: fn(Arc<R>) -> Arc<R>) -> Vec<Arc<R>> {
    rules.into_iter().map(wrap).collect()
}

/// A rule that fails with [`cancellation::Cancelled`] instead of visiting the plan of a cancelled statement.
#[derive(Debug)]
struct Cancellable<R: ?Sized>(Arc<R>);

impl AnalyzerRule for Cancellable<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        cancellation::check()?;
        self.0.analyze(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for Cancellable<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        cancellation::check()?;
        self.0.rewrite(plan, config)
    }
}

impl PhysicalOptimizerRule for Cancellable<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        cancellation::check()?;
        self.0.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        cancellation::check()?;
        self.0.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
