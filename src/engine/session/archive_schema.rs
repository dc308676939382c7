//! The schema `archive` as one session sees it: expired rows of each table, under the table's own name and columns.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::TableType;

use crate::catalog::VisibleAssets;
use crate::engine::tables::engine_table::EngineTable;
use crate::engine::tables::published::PublishedTables;
use crate::engine::tables::rollup_table::RollupTable;
use crate::model::Resolution;

/// The archive tables. They are empty until rows are archived.
#[derive(Debug)]
pub(in crate::engine) struct ArchiveSchema {
    pub published: Arc<PublishedTables>,
    /// The assets whose rows are visible, the same as in the tables that the rows came from.
    pub visible: Arc<VisibleAssets>,
}

fn resolution_from_name(name: &str) -> Option<Resolution> {
    Resolution::ALL.into_iter().find(|it| it.table() == name)
}

#[async_trait]
impl SchemaProvider for ArchiveSchema {
    fn table_names(&self) -> Vec<String> {
        // Do not list each name twice while the archive is empty. The tables can still be queried.
        match self.published.has_archive() {
            true => Resolution::ALL.map(|it| it.table().to_owned()).to_vec(),
            false => Vec::new(),
        }
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(resolution) = resolution_from_name(name) else {
            return Ok(None);
        };
        let archived = self.published.archived_table(resolution).await;
        let archived = archived.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let visible = Arc::clone(&self.visible);
        let table = RollupTable::new(resolution, archived, visible);
        Ok(Some(Arc::new(EngineTable::new(Arc::new(table)))))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        // The type is known without opening the table.
        Ok(resolution_from_name(name).map(|_| TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        resolution_from_name(name).is_some()
    }
}
