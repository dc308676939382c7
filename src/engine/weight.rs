//! About how much work a query is, told from its plan: what is done within a moment goes before what is not.

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

use super::account_tables::AccountTableProvider;
use super::catalog_tables::CatalogTableProvider;
use super::graph_tables::GraphTable;
use super::raw_readings::RawReadings;
use super::rollup_table::RollupTable;
use super::search_table::SearchTable;
use super::session::INFORMATION_SCHEMA;
use super::usage_tables::{UsageReport, UsageTable};

/// So many rows are read and worked on within some ten milliseconds.
const SHORT: f64 = 300_000.0;
/// What is held in memory, as if it had so many rows.
const IN_MEMORY: f64 = 1_000.0;

/// Whether a plan that was optimised is probably done within a moment.
pub(super) fn is_short(plan: &LogicalPlan) -> bool {
    rows(plan) <= SHORT
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
        LogicalPlan::Join(join) if join.on.is_empty() => {
            let (left, right) = (inputs.next().unwrap_or(0.0), inputs.next().unwrap_or(0.0));
            left + right + left * right
        }
        _ => 1.0,
    };
    own + inputs.sum::<f64>() + rows_of_subqueries(plan)
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
