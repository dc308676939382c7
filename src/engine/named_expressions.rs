//! Rewriting of the expressions of a plan's step without a change of its columns' names.

use std::collections::HashMap;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Rewrites the expressions of the step. Each column keeps its name.
pub(in crate::engine) fn map_named_expressions(
    node: LogicalPlan,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    let mut rewrite_named = |expression: Expr| {
        let name = names.save(&expression);
        let rewritten = rewrite(expression)?;
        Ok(rewritten.update_data(|expression| name.restore(expression)))
    };
    node.map_expressions(|expression| match expression {
        // The columns are those of its parts. DataFusion does not find them below another name of the whole, and a part that
        // is in several sets must stay one column.
        Expr::GroupingSet(_) => {
            let mut known: HashMap<Expr, Expr> = HashMap::new();
            expression.map_children(|part| {
                if let Some(rewritten) = known.get(&part) {
                    return Ok(Transformed::yes(rewritten.clone()));
                }
                let original = part.clone();
                let rewritten = rewrite_named(part)?;
                known.insert(original, rewritten.data.clone());
                Ok(rewritten)
            })
        }
        expression => rewrite_named(expression),
    })
}
