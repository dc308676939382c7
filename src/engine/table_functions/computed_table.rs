//! Tables of functions whose few rows are computed when the table is scanned.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::engine::tables::engine_table::{Contents, SMALL_TABLE_ROWS, TableProperties};

/// Computes the rows of a [`ComputedTable`].
#[async_trait]
pub(super) trait ComputedRows: fmt::Debug + Send + Sync + 'static {
    /// Which queries of the table may share a plan.
    const CONTENTS: Contents;

    /// Returns the schema of the rows.
    fn schema(&self) -> SchemaRef;

    /// Computes the rows of a scan.
    async fn compute(&self) -> Result<Vec<RecordBatch>>;
}

/// A small table of computed rows.
pub(super) struct ComputedTable<T>(pub T);

impl<T: ComputedRows> fmt::Debug for ComputedTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: ComputedRows> TableProperties for ComputedTable<T> {
    fn estimated_rows(&self, _: &[Expr], _: Option<usize>) -> f64 {
        SMALL_TABLE_ROWS
    }

    fn contents(&self) -> Contents {
        T::CONTENTS
    }
}

#[async_trait]
impl<T: ComputedRows> TableProvider for ComputedTable<T> {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(MemorySourceConfig::try_new_exec(
            &[self.0.compute().await?],
            self.0.schema(),
            projection.cloned(),
        )?)
    }
}
