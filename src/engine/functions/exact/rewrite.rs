//! Replaces operators and calls with wrong results in DataFusion in a plan whose types are known, or refuses them.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, not};
use datafusion::optimizer::AnalyzerRule;

use super::calls::{is_replaced_call, replace_call};
use super::casts::{is_replaced_cast, replace_cast};
use super::distinct_orders::{has_ordered_values, with_value_columns};
use super::equality::{
    distinct_in_one_form, forms_of_keys, has_ties, key_in_one_form, sort_in_one_form,
};
use super::expressions::{is_replaced_operator, replace_operator};
use super::grouping_sets::{has_sets, with_varying_keys};
use super::members::compared_values;
use super::one_form::{may_make_nan, with_one_nan};
use super::ordered_texts::{has_orders, with_lists};
use super::rows::balanced;
use super::set_operations::{count_equal_rows, is_counted};
use crate::engine::named_expressions::map_named_expressions;

/// Replaces what has wrong results. The columns of the plan keep their names and types.
#[derive(Debug)]
pub(in crate::engine) struct ExactResults;

impl AnalyzerRule for ExactResults {
    fn name(&self) -> &str {
        "exact_results"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        if !may_change(&plan)? {
            return Ok(plan);
        }
        let exact = plan.transform_up_with_subqueries(|node| {
            let counted = count_equal_rows(node)?;
            if counted.transformed {
                return Ok(counted);
            }
            let node = counted.data;
            let schema = merge_schema(&node.inputs());
            let forms_of_keys = forms_of_keys(&node);
            let node = map_named_expressions(node, |expression| {
                let exact = expression.transform_up(|part| replace(part, &schema))?;
                let one_form = forms_of_keys
                    .and_then(|is_wanted| key_in_one_form(&exact.data, &schema, is_wanted));
                Ok(match one_form {
                    Some(one_form) => Transformed::yes(one_form),
                    None => exact,
                })
            })?;
            let node = match node.transformed {
                true => node.map_data(LogicalPlan::recompute_schema)?,
                false => node,
            };
            node.transform_data(|node| Ok(sort_in_one_form(node)))?
                .transform_data(distinct_in_one_form)?
                .transform_data(with_varying_keys)?
                .transform_data(with_value_columns)?
                .transform_data(with_lists)
        });
        exact.map(|exact| exact.data)
    }
}

/// Whether the plan contains anything that may have to be replaced. Most plans do not.
fn may_change(plan: &LogicalPlan) -> Result<bool> {
    let mut may_change = false;
    plan.apply_with_subqueries(|node| {
        may_change |= is_counted(node)
            || has_ties(node)
            || forms_of_keys(node).is_some()
            || has_sets(node)
            || has_orders(node)
            || has_ordered_values(node);
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                may_change |= is_replaced_operator(part)
                    || is_replaced_call(part)
                    || is_replaced_cast(part)
                    || may_make_nan(part);
                Ok(match may_change {
                    true => TreeNodeRecursion::Stop,
                    false => TreeNodeRecursion::Continue,
                })
            })
        })
    })?;
    Ok(may_change)
}

fn replace(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Expr::InList(list) = &part
        && let Some(compared) = compared_values(list)?
    {
        let replaced = compared.into_iter().map(|part| replace(part, schema));
        let replaced = replaced.map(|part| Ok(part?.data));
        if let Some(found) = balanced(replaced.collect::<Result<_>>()?, Operator::Or) {
            return Ok(Transformed::yes(match list.negated {
                true => not(found),
                false => found,
            }));
        }
    }
    let replaced = match &part {
        part if is_replaced_operator(part) => replace_operator(part, schema)?,
        part if is_replaced_call(part) => replace_call(part, schema)?,
        part if is_replaced_cast(part) => replace_cast(part, schema),
        _ => None,
    };
    let part = match replaced {
        Some(exact) => Transformed::yes(exact),
        None => Transformed::no(part),
    };
    part.transform_data(|part| {
        let made = match may_make_nan(&part) {
            true => with_one_nan(&part, schema)?,
            false => None,
        };
        Ok(match made {
            Some(one_nan) => Transformed::yes(one_nan),
            None => Transformed::no(part),
        })
    })
}
