//! About how much work a query is, told from its plan: what is done within a moment goes before what is not.

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Dependency, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, GroupingSet, Join, LogicalPlan, Operator, TableScan};

use super::account_tables::AccountTableProvider;
use super::catalog_tables::CatalogTableProvider;
use super::graph_tables::GraphTable;
use super::raw_readings::RawReadings;
use super::rollup_table::RollupTable;
use super::search_table::SearchTable;
use super::session::INFORMATION_SCHEMA;
use super::simple_statement::is_cheap_function;
use super::usage_tables::{UsageReport, UsageTable};

/// So many rows are read and worked on within some ten milliseconds.
const SHORT: f64 = 300_000.0;
/// What is held in memory, as if it had so many rows.
const IN_MEMORY: f64 = 1_000.0;
/// Rows of a frame that a function goes through in the time that a row is read in.
const FRAME_ROWS: f64 = 16.0;

/// Whether a plan that was optimised is probably done within a moment. It may take longer than is thought, but not by much
/// at any one step: whoever answers can be given back the thread only between two.
pub(super) fn is_short(plan: &LogicalPlan) -> bool {
    let mut cost = Cost::default();
    let looked = cost.add(plan);
    looked.is_ok() && cost.is_cheap && rows(plan) * cost.per_row() <= SHORT
}

/// Expressions that a row of a short query may be put to without counting for more than a row.
const FREE_EXPRESSIONS: usize = 64;
/// Bytes of a constant of a short query: each row may be compared with it.
const MAX_CONSTANT: usize = 4 << 10;

/// What is done with each row.
struct Cost {
    expressions: usize,
    /// Whether no function or pattern may take long for a single batch.
    is_cheap: bool,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            expressions: 0,
            is_cheap: true,
        }
    }
}

impl Cost {
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

/// Whether an expression takes little time for each row, but for those that it is made of.
fn is_cheap(expression: &Expr) -> bool {
    match expression {
        Expr::ScalarFunction(call) => is_cheap_function(call.name()),
        Expr::AggregateFunction(call) => {
            is_cheap_function(call.func.name()) && call.params.order_by.is_empty()
        }
        Expr::WindowFunction(call) => is_cheap_function(call.fun.name()),
        Expr::Literal(value, _) => value.size() <= MAX_CONSTANT,
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

/// Whether a plan that was optimised joins tables.
pub(super) fn joins(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let visited = plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Join(_));
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_err() || found
}

/// Bytes of the constants in a plan.
pub(super) fn constant_bytes(plan: &LogicalPlan) -> usize {
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

/// Whether all that is read stays as it is: what a run published, and the catalog as it was when the query was planned.
pub(super) fn is_pinned(plan: &LogicalPlan) -> bool {
    !any_scan(plan, |scan| {
        let table = source_as_provider(&scan.source);
        table.map_or(true, |table| {
            !table.is::<RollupTable>() && !is_catalog(&*table)
        })
    })
}

/// Whether the settings are read, or may be: whether a table is read that is none of those made here. The name does not
/// tell: a session may have `information_schema` for its default.
pub(super) fn shows_settings(plan: &LogicalPlan) -> bool {
    any_scan(plan, |scan| {
        let table = source_as_provider(&scan.source);
        table.map_or(true, |table| {
            !table.is::<RollupTable>()
                && !table.is::<RawReadings>()
                && !is_catalog(&*table)
                && !table.is::<SearchTable>()
                && !is_account(&*table)
        })
    })
}

/// Whether a table is read of which each user sees something else.
pub(super) fn is_of_account(scan: &TableScan) -> bool {
    // What cannot be told apart is not shared.
    source_as_provider(&scan.source).map_or(true, |table| is_account(&*table))
}

/// Whether it is made of the catalog.
fn is_catalog(table: &dyn TableProvider) -> bool {
    table.is::<CatalogTableProvider>() || table.is::<GraphTable>()
}

fn is_account(table: &dyn TableProvider) -> bool {
    table.is::<AccountTableProvider>() || table.is::<UsageTable>() || table.is::<UsageReport>()
}

/// Whether this is so of any table that is read, in subqueries too.
fn any_scan(plan: &LogicalPlan, is_so: impl Fn(&TableScan) -> bool) -> bool {
    let mut found = false;
    let looked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found |= is_so(scan);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    looked.is_err() || found
}

/// About how many rows are touched; infinitely many where that cannot be told.
fn rows(plan: &LogicalPlan) -> f64 {
    let mut inputs = plan.inputs().into_iter().map(rows);
    let own = match plan {
        LogicalPlan::TableScan(scan) => rows_of_scan(scan),
        LogicalPlan::RecursiveQuery(_) => f64::INFINITY,
        LogicalPlan::Join(join) => {
            let (left, right) = (inputs.next().unwrap_or(0.0), inputs.next().unwrap_or(0.0));
            left + right + pairs(join, left, right)
        }
        // Each row may be compared with all of its frame.
        LogicalPlan::Window(_) => {
            let inside = inputs.next().unwrap_or(0.0);
            inside + inside * inside / FRAME_ROWS
        }
        _ => 1.0,
    };
    own + inputs.sum::<f64>() + rows_of_subqueries(plan)
}

/// The most pairs of rows that a join may come upon: each of one side finds one of the other, if that is told apart by
/// what they are joined by; otherwise it may find all.
fn pairs(join: &Join, left: f64, right: f64) -> f64 {
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

fn rows_of_scan(scan: &TableScan) -> f64 {
    if scan.table_name.schema() == Some(INFORMATION_SCHEMA) {
        return IN_MEMORY;
    }
    let Ok(table) = source_as_provider(&scan.source) else {
        return f64::INFINITY;
    };
    if let Some(table) = table.downcast_ref::<RollupTable>() {
        return table.estimate(&scan.filters, scan.fetch) as f64;
    }
    // The ledger may be long; it is read page by page.
    let is_small = table.is::<AccountTableProvider>() || table.is::<UsageReport>();
    match is_catalog(&*table) || is_small {
        true => IN_MEMORY,
        false => f64::INFINITY,
    }
}

fn rows_of_subqueries(plan: &LogicalPlan) -> f64 {
    let mut found = 0.0;
    // Neither closure fails.
    let _ = plan.apply_expressions(|expression| {
        expression.apply(|part| {
            found += match part {
                Expr::ScalarSubquery(subquery) => rows(&subquery.subquery),
                Expr::Exists(exists) => rows(&exists.subquery.subquery),
                Expr::InSubquery(within) => rows(&within.subquery.subquery),
                _ => 0.0,
            };
            Ok(TreeNodeRecursion::Continue)
        })
    });
    found
}
