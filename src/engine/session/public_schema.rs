//! The schema `public` as one session sees it: the tables, and the operator's views of them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    SchemaProvider, TableProvider,
};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::TableType;

use super::archive_schema::ArchiveSchema;
use super::views::Views;
use crate::catalog::VisibleAssets;
use crate::engine::raw::raw_files::RawFiles;
use crate::engine::schema_names::{ACCOUNT, ARCHIVE, CATALOG, PUBLIC};
use crate::engine::table_functions;
use crate::engine::table_functions::{FunctionSources, VisibleCatalog};
use crate::engine::tables::account::Account;
use crate::engine::tables::account_tables::AccountSchema;
use crate::engine::tables::catalog_tables::{CatalogSource, CatalogTable, CatalogTableProvider};
use crate::engine::tables::engine_table::{EngineTable, TableProperties};
use crate::engine::tables::published::PublishedTables;
use crate::engine::tables::raw_readings::RawReadings;
use crate::engine::tables::rollup_table::RollupTable;
use crate::engine::tables::table_names::{RAW_READINGS, public_table_names};
use crate::model::Resolution;
use crate::search::Search;

/// The schema `public`. A table is opened when a query names it.
#[derive(Clone)]
pub(in crate::engine) struct PublicSchema {
    pub published: Arc<PublishedTables>,
    pub raw: Option<Arc<RawFiles>>,
    pub catalog: Arc<CatalogSource>,
    pub views: Arc<Views>,
    /// The index for `search('…')`; `None` if the session does not have the function.
    pub search: Option<Search>,
    /// The assets that the session sees.
    pub visible: Arc<VisibleAssets>,
    /// The state without tables from which sessions are derived, also those that plan views.
    pub base_state: Arc<SessionState>,
    /// The views that are being planned, outermost first.
    pub view_stack: Vec<String>,
}

impl PublicSchema {
    /// Returns a session's state with the schemas `public` and `archive`, the schema `account` if there is one, and the
    /// table functions over them.
    pub fn into_state(self, account: Option<Account>) -> Result<SessionState> {
        let base_state = Arc::clone(&self.base_state);
        let sources = FunctionSources {
            catalog: VisibleCatalog {
                source: Arc::clone(&self.catalog),
                visible: Arc::clone(&self.visible),
            },
            search: self.search.clone(),
            account: account.clone(),
        };
        let archive = ArchiveSchema {
            published: Arc::clone(&self.published),
            visible: Arc::clone(&self.visible),
        };
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(ARCHIVE, Arc::new(archive))?;
        catalog.register_schema(PUBLIC, Arc::new(self))?;
        if let Some(account) = account {
            catalog.register_schema(ACCOUNT, Arc::new(AccountSchema(account)))?;
        }
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = SessionStateBuilder::new_from_existing((*base_state).clone())
            .with_catalog_list(Arc::new(catalogs))
            .build();
        table_functions::register(&mut state, &sources);
        Ok(state)
    }

    /// Removes the views that cannot be planned, and logs why. They would break listings of all views.
    pub async fn remove_invalid_views(&mut self) {
        // Views that depend on a removed view are removed by the next iterations.
        while let Some((name, problem)) = self.find_invalid_view().await {
            tracing::warn!("ignored the view {name}: {problem}");
            Arc::make_mut(&mut self.views).remove(&name);
        }
    }

    async fn find_invalid_view(&self) -> Option<(String, String)> {
        for name in self.views.names() {
            if let Err(problem) = self.table(name).await {
                return Some((name.to_owned(), problem.strip_backtrace()));
            }
        }
        None
    }

    fn base_table(&self, name: &str) -> Option<EngineTable> {
        self.find_base_table(name).map(EngineTable::new)
    }

    fn find_base_table(&self, name: &str) -> Option<Arc<dyn TableProperties>> {
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
        let state = inside.into_state(None)?;
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
        let tables = public_table_names().into_iter();
        let tables = tables.filter(|name| self.raw.is_some() || *name != RAW_READINGS);
        let views = self.views.names();
        tables.chain(views).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.base_table(name) {
            Some(table) => Ok(Some(Arc::new(table))),
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
