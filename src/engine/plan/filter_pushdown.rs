//! DataFusion's rule of the physical optimiser that pushes filters down, except those whose columns it would confuse. It looks up
//! the columns of a filter by name in the input of a step, and takes the first of equal names, such as those of a join.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterPushdownResult, ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation,
    PushedDown,
};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;

/// The names of DataFusion's rules, one a phase.
const NAMES: [&str; 2] = ["FilterPushdown", "FilterPushdown(Post)"];

type Step = Arc<dyn ExecutionPlan>;
type Filter = Arc<dyn PhysicalExpr>;

/// Pushes filters down whose columns have one meaning.
#[derive(Debug)]
pub(super) struct UnambiguousFilters {
    is_last: bool,
}

impl UnambiguousFilters {
    /// Returns the rule that replaces DataFusion's rule with this name; `None` if it is another one.
    pub fn replacing(name: &str) -> Option<Self> {
        let phase = NAMES.iter().position(|known| *known == name)?;
        Some(Self {
            is_last: phase == 1,
        })
    }
}

impl PhysicalOptimizerRule for UnambiguousFilters {
    fn optimize(&self, plan: Step, config: &ConfigOptions) -> Result<Step> {
        let phase = match self.is_last {
            true => FilterPushdownPhase::Post,
            false => FilterPushdownPhase::Pre,
        };
        let pushed = push(&plan, Vec::new(), phase, config)?;
        Ok(pushed.updated_node.unwrap_or(plan))
    }

    fn name(&self) -> &str {
        NAMES[usize::from(self.is_last)]
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Pushes the filters of the parent, and those of the step itself, to the inputs of the step.
fn push(
    step: &Step,
    filters: Vec<Filter>,
    phase: FilterPushdownPhase,
    config: &ConfigOptions,
) -> Result<FilterPushdownPropagation<Step>> {
    let children = step.children();
    // The numbers of the filters that the step may pass on.
    let mut offered = Vec::with_capacity(filters.len());
    for (at, filter) in filters.iter().enumerate() {
        if !is_random(filter)? && is_unambiguous(filter, step)? {
            offered.push(at);
        }
    }
    let offers = offered.iter().map(|at| Arc::clone(&filters[*at])).collect();
    let description = step.gather_filters_for_pushdown(phase, offers, config)?;
    let (of_parent, of_step) = (description.parent_filters(), description.self_filters());
    if of_parent.len() != children.len() || of_step.len() != children.len() {
        return internal_err!("{} has other inputs than its filters", step.name());
    }
    let mut parent_results = vec![vec![PushedDown::No; children.len()]; filters.len()];
    let mut step_results = Vec::with_capacity(children.len());
    let mut new_children = Vec::with_capacity(children.len());
    let inputs = children.into_iter().zip(of_parent).zip(of_step).enumerate();
    for (input, ((child, of_parent), of_step)) in inputs {
        if of_parent.len() != offered.len() {
            return internal_err!("{} has other filters than its parent", step.name());
        }
        let mut passed = Vec::new();
        let mut own = Vec::new();
        for (at, filter) in of_step.iter().enumerate() {
            if !is_random(filter)? {
                own.push(at);
                passed.push(Arc::clone(filter));
            }
        }
        let mut inherited = Vec::new();
        for (at, filter) in offered.iter().zip(of_parent) {
            if matches!(filter.discriminant, PushedDown::Yes) {
                inherited.push(*at);
                passed.push(filter.predicate);
            }
        }
        let result = push(child, passed, phase, config)?;
        if result.filters.len() != own.len() + inherited.len() {
            return internal_err!("{} lost a filter", child.name());
        }
        let mut found = result.filters.into_iter();
        let mut of_own = vec![PushedDown::No; of_step.len()];
        for (at, found) in own.into_iter().zip(found.by_ref()) {
            of_own[at] = found;
        }
        for (at, found) in inherited.into_iter().zip(found) {
            parent_results[at][input] = found;
        }
        let of_own = of_own.into_iter().zip(of_step);
        step_results.push(
            of_own
                .map(|(found, filter)| found.wrap_expression(filter))
                .collect(),
        );
        new_children.push(result.updated_node.unwrap_or_else(|| Arc::clone(child)));
    }
    let updated = replace_children_if_necessary(Arc::clone(step), new_children)?;
    let results = filters.into_iter().zip(parent_results);
    let parent_filters = results
        .map(|(filter, child_results)| ChildFilterPushdownResult {
            filter,
            child_results,
        })
        .collect();
    let mut pushed = updated.handle_child_pushdown_result(
        phase,
        ChildPushdownResult {
            parent_filters,
            self_filters: step_results,
        },
        config,
    )?;
    if pushed.updated_node.is_none() && !Arc::ptr_eq(&updated, step) {
        pushed.updated_node = Some(updated);
    }
    Ok(pushed)
}

fn is_random(filter: &Filter) -> Result<bool> {
    let mut found = false;
    filter.apply(|part| {
        found |= is_volatile(part);
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// Whether the name of each column of the filter leads to that column in the inputs of the step.
fn is_unambiguous(filter: &Filter, step: &Step) -> Result<bool> {
    let mut is_unambiguous = true;
    filter.apply(|part| {
        if let Some(column) = part.downcast_ref::<Column>() {
            is_unambiguous &= leads_to_itself(column, step);
        }
        Ok(match is_unambiguous {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    })?;
    Ok(is_unambiguous)
}

fn leads_to_itself(column: &Column, step: &Step) -> bool {
    let schema = step.schema();
    if step.is::<ProjectionExec>() {
        // It replaces its columns by their expressions.
        return is_unique(column.name(), &schema);
    }
    if let Some(step) = step.downcast_ref::<AggregateExec>() {
        let key = step.group_expr().expr().get(column.index());
        let is_same = key
            .and_then(|(key, _)| key.downcast_ref::<Column>())
            .is_some_and(|key| key.name() == column.name());
        return is_same && is_unique(column.name(), &step.input().schema());
    }
    let mut children = step.children().into_iter().map(|child| child.schema());
    if step.is::<HashJoinExec>() {
        // It knows the side of a column.
        return children.all(|child| is_unique(column.name(), &child));
    }
    is_unique(column.name(), &schema)
        && children.all(|child| {
            let same_width = child.fields().len() == schema.fields().len();
            let is_moved = child
                .fields()
                .get(column.index())
                .is_none_or(|field| field.name() != column.name());
            is_unique(column.name(), &child) && !(same_width && is_moved)
        })
}

/// Whether no two columns have the name.
fn is_unique(name: &str, schema: &Schema) -> bool {
    let equal = schema.fields().iter().filter(|field| field.name() == name);
    equal.take(2).count() < 2
}
