//! The schema `archive` as one session sees it: what expired of the tables, with the names and columns that they have.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::TableType;

use super::published::PublishedTables;
use super::rollup_table::RollupTable;
use crate::catalog::Visible;
use crate::model::Resolution;

/// The tables. Before anything was archived they are empty.
#[derive(Debug)]
pub(super) struct ArchiveSchema {
    pub published: Arc<PublishedTables>,
    /// What may be seen of them: as much as of those that rows came from.
    pub visible: Arc<Visible>,
}

fn resolution_of(name: &str) -> Option<Resolution> {
    Resolution::ALL.into_iter().find(|it| it.table() == name)
}

#[async_trait]
impl SchemaProvider for ArchiveSchema {
    fn table_names(&self) -> Vec<String> {
        // Who looks around is not to find each name twice, as long as nothing is in the archive. Asked for, it is empty.
        match self.published.has_archive() {
            true => Resolution::ALL.map(|it| it.table().to_owned()).to_vec(),
            false => Vec::new(),
        }
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(resolution) = resolution_of(name) else {
            return Ok(None);
        };
        let archived = self.published.archived(resolution).await;
        let archived = archived.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let visible = Arc::clone(&self.visible);
        let table = RollupTable::new(resolution, archived, visible);
        Ok(Some(Arc::new(table)))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        // Without opening it.
        Ok(resolution_of(name).map(|_| TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        resolution_of(name).is_some()
    }
}
