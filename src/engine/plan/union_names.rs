//! Names of the columns of unions.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, Result};
use datafusion::logical_expr::logical_plan::Projection;
use datafusion::logical_expr::{Expr, LogicalPlan, Union};
use datafusion::optimizer::AnalyzerRule;

/// Gives the columns of all parts of a union its names. DataFusion expects them when it removes the parts without rows, such as
/// those `WHERE false`, and fails if the part that is left is a set operation, `VALUES`, or has `DISTINCT` or `LIMIT`.
#[derive(Debug)]
pub(in crate::engine) struct UnionNames;

impl AnalyzerRule for UnionNames {
    fn name(&self) -> &str {
        "union_names"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut has_unions = false;
        plan.apply_with_subqueries(|node| {
            has_unions |= matches!(node, LogicalPlan::Union(_));
            Ok(match has_unions {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })?;
        if !has_unions {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Union(union) => named(union),
            node => Ok(Transformed::no(node)),
        })
        .data()
    }
}

fn named(union: Union) -> Result<Transformed<LogicalPlan>> {
    let Union { inputs, schema } = union;
    let has_other_names = |part: &Arc<LogicalPlan>| {
        let names = part.schema().fields().iter().map(|field| field.name());
        !names.eq(schema.fields().iter().map(|field| field.name()))
    };
    if !inputs.iter().any(has_other_names) {
        return Ok(Transformed::no(LogicalPlan::Union(Union {
            inputs,
            schema,
        })));
    }
    let parts = inputs.into_iter().map(|part| match has_other_names(&part) {
        true => with_names(part, &schema),
        false => Ok(part),
    });
    let inputs = parts.collect::<Result<_>>()?;
    Ok(Transformed::yes(LogicalPlan::Union(Union {
        inputs,
        schema,
    })))
}

/// Returns the part with the names of the columns of `schema`.
fn with_names(part: Arc<LogicalPlan>, schema: &DFSchemaRef) -> Result<Arc<LogicalPlan>> {
    let columns = part.schema().iter().zip(schema.iter());
    let named = columns.map(|(column, (table, field))| {
        Expr::Column(Column::from(column)).alias_qualified(table.cloned(), field.name())
    });
    let step = Projection::try_new(named.collect(), part)?;
    Ok(Arc::new(LogicalPlan::Projection(step)))
}
