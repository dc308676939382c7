//! The schema `public` as one session sees it: the tables, and the operator's views of them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::TableType;

use super::catalog_tables::{CatalogSource, CatalogTable, CatalogTableProvider};
use super::published::PublishedTables;
use super::raw_files::RawFiles;
use super::raw_readings::RawReadings;
use super::rollup_table::RollupTable;
use super::session::with_public_schema;
use super::views::Views;
use crate::catalog::VisibleAssets;
use crate::model::Resolution;
use crate::search::Search;

/// The name of the table of raw readings.
const RAW_READINGS: &str = "raw_readings";

/// The schema `public`. A table is opened when a query names it.
#[derive(Clone)]
pub(super) struct PublicSchema {
    pub published: Arc<PublishedTables>,
    pub raw: Option<Arc<RawFiles>>,
    pub catalog: Arc<CatalogSource>,
    pub views: Arc<Views>,
    /// The index for `search('…')`; `None` if the session does not have the function.
    pub search: Option<Search>,
    /// The assets that the session sees.
    pub visible: Arc<VisibleAssets>,
    /// The state that views are planned with; it has no tables.
    pub base_state: Arc<SessionState>,
    /// The views that are being planned, outermost first.
    pub view_stack: Vec<String>,
}

impl PublicSchema {
    /// Returns the names of the tables, which no view can have.
    pub fn table_names() -> Vec<&'static str> {
        let tables = Resolution::ALL.map(Resolution::table).into_iter();
        let catalog = CatalogTable::ALL.map(CatalogTable::name);
        tables.chain(catalog).chain([RAW_READINGS]).collect()
    }

    fn base_table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let visible = || Arc::clone(&self.visible);
        if let Some(resolution) = Resolution::ALL.into_iter().find(|it| it.table() == name) {
            let published = self.published.table(resolution);
            return Some(Arc::new(RollupTable::new(resolution, published, visible())));
        }
        if let Some(table) = CatalogTable::ALL.into_iter().find(|it| it.name() == name) {
            let catalog = Arc::clone(&self.catalog);
            return Some(Arc::new(CatalogTableProvider::new(
                table,
                catalog,
                visible(),
            )));
        }
        let raw = self.raw.as_ref().filter(|_| name == RAW_READINGS)?;
        Some(Arc::new(RawReadings::new(Arc::clone(raw), visible())))
    }

    async fn view(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(query) = self.views.get(name) else {
            return Ok(None);
        };
        if self.view_stack.iter().any(|outer| outer == name) {
            let cycle = self.view_stack.join(" -> ");
            return Err(DataFusionError::Plan(format!(
                "the view {name} refers to itself ({cycle} -> {name}); ask the operator to change its query"
            )));
        }
        let mut inside = self.clone();
        inside.view_stack.push(name.to_owned());
        let state = with_public_schema(&self.base_state, Arc::new(inside))?;
        let plan = state.statement_to_plan(query.with_arguments(&[])?).await;
        let plan = plan.map_err(|error| error.context(format!("in the view {name}")))?;
        Ok(Some(Arc::new(ViewTable::new(
            plan,
            Some(query.text.trim().to_owned()),
        ))))
    }
}

impl fmt::Debug for PublicSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicSchema").finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        let tables = Self::table_names().into_iter();
        let tables = tables.filter(|name| self.raw.is_some() || *name != RAW_READINGS);
        let views = self.views.names();
        tables.chain(views).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.base_table(name) {
            Some(table) => Ok(Some(table)),
            None => self.view(name).await,
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        // A view that cannot be planned must not hide the others from listings.
        Ok(if self.views.get(name).is_some() {
            Some(TableType::View)
        } else {
            self.base_table(name).map(|table| table.table_type())
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        self.base_table(name).is_some() || self.views.get(name).is_some()
    }
}
