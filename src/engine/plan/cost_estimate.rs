//! Estimates the cost of a query from its plan, to decide whether it is short: short queries run on the serving thread.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Dependency, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, GroupingSet, Join, LogicalPlan, Operator, TableScan};

use crate::engine::schema_names::INFORMATION_SCHEMA;
use crate::engine::sql::simple_statement::is_cheap_function;
use crate::engine::tables::engine_table::{Contents, EngineTable, SMALL_TABLE_ROWS, UNKNOWN_ROWS};

/// The maximum estimated rows of a short query, which a scan processes in some 10 ms.
const MAX_SHORT_ROWS: f64 = 300_000.0;
/// The number of rows of a window frame that a function processes in the time in which a scan reads a row.
const FRAME_ROWS_PER_SCANNED_ROW: f64 = 16.0;

/// Whether an optimised plan is probably short. It may take longer than estimated, but not by much in any single step,
/// because the serving thread can be yielded only between steps.
pub(in crate::engine) fn is_short(plan: &LogicalPlan) -> bool {
    let mut cost = ExpressionCost::default();
    let looked = cost.add(plan);
    looked.is_ok() && cost.is_cheap && estimate_rows(plan) * cost.per_row() <= MAX_SHORT_ROWS
}

/// The number of expressions per row that cost no more than reading the row.
const FREE_EXPRESSIONS: usize = 64;
/// The maximum size in bytes of a constant in a short query: each row may be compared with it.
const MAX_CONSTANT_BYTES: usize = 4 << 10;

/// The cost of the expressions of a plan.
struct ExpressionCost {
    expressions: usize,
    /// Whether no function or pattern may take long on a single batch.
    is_cheap: bool,
}

impl Default for ExpressionCost {
    fn default() -> Self {
        Self {
            expressions: 0,
            is_cheap: true,
        }
    }
}

impl ExpressionCost {
    fn add(&mut self, plan: &LogicalPlan) -> Result<()> {
        plan.apply_with_subqueries(|node| {
            self.is_cheap &= !matches!(node, LogicalPlan::Unnest(_));
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    self.expressions += 1;
                    self.is_cheap &= is_cheap(part);
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(())
    }

    fn per_row(&self) -> f64 {
        (self.expressions as f64 / FREE_EXPRESSIONS as f64).max(1.0)
    }
}

/// Whether an expression takes little time for each row, regardless of its operands.
fn is_cheap(expression: &Expr) -> bool {
    match expression {
        Expr::ScalarFunction(call) => is_cheap_function(call.name()),
        Expr::AggregateFunction(call) => {
            is_cheap_function(call.func.name()) && call.params.order_by.is_empty()
        }
        Expr::WindowFunction(call) => is_cheap_function(call.fun.name()),
        Expr::Literal(value, _) => value.size() <= MAX_CONSTANT_BYTES,
        Expr::Like(like) => !like.case_insensitive,
        Expr::BinaryExpr(operation) => !matches!(
            operation.op,
            Operator::RegexMatch
                | Operator::RegexIMatch
                | Operator::RegexNotMatch
                | Operator::RegexNotIMatch
                | Operator::StringConcat
        ),
        Expr::SimilarTo(_) | Expr::HigherOrderFunction(_) => false,
        Expr::GroupingSet(sets) => {
            matches!(sets, GroupingSet::GroupingSets(sets) if sets.len() <= 8)
        }
        _ => true,
    }
}

/// Whether an optimised plan joins tables.
pub(in crate::engine) fn has_joins(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let visited = plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Join(_));
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_err() || found
}

/// Returns the bytes of the constants in a plan; [`usize::MAX`] if they cannot be counted.
pub(in crate::engine) fn constant_bytes(plan: &LogicalPlan) -> usize {
    let mut bytes = 0_usize;
    let looked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Literal(value, _) = part {
                    bytes = bytes.saturating_add(value.size());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    match looked {
        Ok(_) => bytes,
        Err(_) => usize::MAX,
    }
}

/// Whether everything that a plan reads is immutable: published tables, and the catalog at the time of planning.
pub(in crate::engine) fn has_immutable_inputs(plan: &LogicalPlan) -> bool {
    !any_scan(plan, |scan| {
        read_table(scan, |table| table.contents()) != Some(Contents::Immutable)
    })
}

/// Whether a plan reads the settings, or may read them: whether it reads a table of a type that is not defined in this
/// engine. The name is not enough, because `information_schema` may be the session's default schema.
pub(in crate::engine) fn may_read_settings(plan: &LogicalPlan) -> bool {
    any_scan(plan, |scan| read_table(scan, |_| ()).is_none())
}

/// Whether a scan reads a table whose contents differ between users.
pub(in crate::engine) fn is_account_scan(scan: &TableScan) -> bool {
    // A plan of unknown tables is not shared.
    source_as_provider(&scan.source).map_or(true, |table| {
        let table = table.downcast_ref::<EngineTable>();
        table.is_some_and(|table| table.contents() == Contents::OfUser)
    })
}

/// Returns what `read` returns for the table of a scan; `None` if the table is not of this engine.
fn read_table<T>(scan: &TableScan, read: impl FnOnce(&EngineTable) -> T) -> Option<T> {
    let table = source_as_provider(&scan.source).ok()?;
    table.downcast_ref::<EngineTable>().map(read)
}

/// Whether a predicate is true for any table that a plan reads, in subqueries too.
fn any_scan(plan: &LogicalPlan, predicate: impl Fn(&TableScan) -> bool) -> bool {
    let mut found = false;
    let looked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found |= predicate(scan);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    looked.is_err() || found
}

/// Estimates the number of rows that a plan processes; infinity if it is unknown.
fn estimate_rows(plan: &LogicalPlan) -> f64 {
    let mut inputs = plan.inputs().into_iter().map(estimate_rows);
    let own = match plan {
        LogicalPlan::TableScan(scan) => estimate_scan_rows(scan),
        LogicalPlan::RecursiveQuery(_) => f64::INFINITY,
        LogicalPlan::Join(join) => {
            let (left, right) = (inputs.next().unwrap_or(0.0), inputs.next().unwrap_or(0.0));
            left + right + max_joined_pairs(join, left, right)
        }
        // Each row may be compared with all rows of its frame.
        LogicalPlan::Window(_) => {
            let inside = inputs.next().unwrap_or(0.0);
            inside + inside * inside / FRAME_ROWS_PER_SCANNED_ROW
        }
        _ => 1.0,
    };
    own + inputs.sum::<f64>() + estimate_subquery_rows(plan)
}

/// Returns the maximum number of row pairs that a join compares: if the join columns are a key of one side, each row of
/// the other side has one match, otherwise all pairs.
fn max_joined_pairs(join: &Join, left: f64, right: f64) -> f64 {
    let is_key = |schema: &DFSchema, columns: Vec<Option<usize>>| {
        let keys = schema.functional_dependencies().iter();
        keys.filter(|key| key.mode == Dependency::Single)
            .any(|key| {
                key.source_indices
                    .iter()
                    .all(|at| columns.contains(&Some(*at)))
            })
    };
    let columns = |schema: &DFSchema, side: fn(&(Expr, Expr)) -> &Expr| -> Vec<Option<usize>> {
        let columns = join.on.iter().map(side);
        let index = |expression: &Expr| schema.maybe_index_of_column(expression.try_as_col()?);
        columns.map(index).collect()
    };
    let (one, other) = (join.left.schema(), join.right.schema());
    match () {
        () if is_key(one, columns(one, |(left, _)| left)) => right,
        () if is_key(other, columns(other, |(_, right)| right)) => left,
        () => left * right,
    }
}

fn estimate_scan_rows(scan: &TableScan) -> f64 {
    if scan.table_name.schema() == Some(INFORMATION_SCHEMA) {
        return SMALL_TABLE_ROWS;
    }
    let rows = read_table(scan, |table| {
        table.estimated_rows(&scan.filters, scan.fetch)
    });
    rows.unwrap_or(UNKNOWN_ROWS)
}

fn estimate_subquery_rows(plan: &LogicalPlan) -> f64 {
    let mut found = 0.0;
    // Neither closure fails.
    let _ = plan.apply_expressions(|expression| {
        expression.apply(|part| {
            found += match part {
                Expr::ScalarSubquery(subquery) => estimate_rows(&subquery.subquery),
                Expr::Exists(exists) => estimate_rows(&exists.subquery.subquery),
                Expr::InSubquery(within) => estimate_rows(&within.subquery.subquery),
                _ => 0.0,
            };
            Ok(TreeNodeRecursion::Continue)
        })
    });
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::session::query_session::QuerySession;
    use crate::engine::sql::statement::{Query, Statement};
    use crate::lake::Store;

    fn query(sql: &str) -> Query {
        match Statement::parse(sql).unwrap() {
            Statement::Query(query) => query,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn tables_and_table_functions_have_their_own_properties() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Store::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
        let session = QuerySession::open(&lake, Path::new("catalog"), None).await;
        let session = session.unwrap();
        for (table, is_expected_short, is_of_engine) in [
            ("data_h", true, true),
            ("archive.data_min", true, true),
            ("assets", true, true),
            ("neighbours('R-101')", true, true),
            ("upstream('R-101', 2)", true, true),
            ("path_between('P-101', 'R-101')", true, true),
            ("information_schema.tables", true, false),
            ("generate_series(1, 2)", false, false),
        ] {
            let query = query(&format!("SELECT * FROM {table}"));
            let plan = session.plan(&query, &[]).await.unwrap();
            assert!(QuerySession::is_repeatable(&plan), "{table}");
            let optimised = session.optimise(&plan).unwrap();
            assert_eq!(optimised.is_short, is_expected_short, "{table}");
            assert_eq!(has_immutable_inputs(&plan), is_of_engine, "{table}");
            assert_eq!(may_read_settings(&plan), !is_of_engine, "{table}");
        }
    }
}
