//! A table of this engine, with the properties that decide how its queries are planned, scheduled and shared.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::{Constraints, Result, Statistics};
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// The number of rows that a small table in memory counts as.
pub(in crate::engine) const SMALL_TABLE_ROWS: f64 = 1_000.0;
/// The number of rows of a table that may be of any size: all queries of it are long.
pub(in crate::engine) const UNKNOWN_ROWS: f64 = f64::INFINITY;

/// A table with its properties.
pub(in crate::engine) trait TableProperties: TableProvider {
    /// Estimates the number of rows that a scan with these conditions and this limit reads. A query that reads few rows
    /// is short and runs on the serving thread.
    fn estimated_rows(&self, filters: &[Expr], limit: Option<usize>) -> f64;

    /// Returns which queries of the table may share a plan.
    fn contents(&self) -> Contents;
}

/// The contents of a table, as far as they decide which queries of it may share a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Contents {
    /// The rows never change, because the table is a published version or belongs to the catalog at the time of planning:
    /// a physical plan can run again.
    Immutable,
    /// The rows may change, and are the same for all users of an organisation: they share logical plans.
    Changing,
    /// The rows differ between the users of an organisation: they share no plan.
    OfUser,
}

/// A table of this engine. All tables in its schemas and all results of its table functions have this type; tables of
/// other types are DataFusion's.
pub(in crate::engine) struct EngineTable {
    table: Arc<dyn TableProperties>,
    contents: Contents,
}

impl EngineTable {
    /// Wraps a table.
    pub fn new(table: Arc<dyn TableProperties>) -> Self {
        let contents = table.contents();
        Self { table, contents }
    }

    /// Wraps a table that is made from the account of a user: whatever the table says, its plans are not shared.
    pub fn of_user(table: Arc<dyn TableProperties>) -> Self {
        Self {
            table,
            contents: Contents::OfUser,
        }
    }

    /// Estimates the number of rows that a scan with these conditions and this limit reads.
    pub fn estimated_rows(&self, filters: &[Expr], limit: Option<usize>) -> f64 {
        self.table.estimated_rows(filters, limit)
    }

    /// Returns which queries of the table may share a plan.
    pub fn contents(&self) -> Contents {
        self.contents
    }
}

impl fmt::Debug for EngineTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

/// Forwards everything that reads. Tables have no other methods, because SQL is read-only.
#[async_trait]
impl TableProvider for EngineTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.table.constraints()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.table.get_table_definition()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.table.get_logical_plan()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.table.get_column_default(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.table.scan(state, projection, filters, limit).await
    }

    async fn scan_with_args<'a>(
        &self,
        state: &dyn Session,
        args: ScanArgs<'a>,
    ) -> Result<ScanResult> {
        self.table.scan_with_args(state, args).await
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.table.statistics()
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use datafusion::datasource::empty::EmptyTable;

    use super::*;

    #[derive(Debug)]
    struct Inner(EmptyTable);

    #[async_trait]
    impl TableProvider for Inner {
        fn schema(&self) -> SchemaRef {
            self.0.schema()
        }

        fn table_type(&self) -> TableType {
            TableType::Temporary
        }

        async fn scan(
            &self,
            state: &dyn Session,
            projection: Option<&Vec<usize>>,
            filters: &[Expr],
            limit: Option<usize>,
        ) -> Result<Arc<dyn ExecutionPlan>> {
            self.0.scan(state, projection, filters, limit).await
        }
    }

    impl TableProperties for Inner {
        fn estimated_rows(&self, _: &[Expr], limit: Option<usize>) -> f64 {
            limit.map_or(UNKNOWN_ROWS, |limit| limit as f64)
        }

        fn contents(&self) -> Contents {
            Contents::Immutable
        }
    }

    #[test]
    fn table_of_a_user_is_not_shared_whatever_it_says() {
        let table = || Arc::new(Inner(EmptyTable::new(Arc::new(Schema::empty()))));
        assert_eq!(EngineTable::new(table()).contents(), Contents::Immutable);
        let table = EngineTable::of_user(table());
        assert_eq!(table.contents(), Contents::OfUser);
        assert_eq!(table.table_type(), TableType::Temporary);
        assert_eq!(table.estimated_rows(&[], Some(3)), 3.0);
    }
}
