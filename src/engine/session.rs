//! A session over the tables that the last finished run published, and those of the catalog, for read-only SQL.

use std::path::Path;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;

use super::catalog_tables::{CatalogTable, CatalogTableProvider, LazyCatalog};
use super::rollup_table::{RollupTable, store_url};
use crate::catalog::CatalogError;
use crate::lake::Store;
use crate::lake::runs::{Runs, RunsError};
use crate::lake::table::{Table, TableError};
use crate::model::Resolution;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Which versions are published cannot be found out.
    #[error("the published tables cannot be found")]
    Runs(#[from] RunsError),
    /// A published table cannot be opened.
    #[error("a published table cannot be opened")]
    Table(#[from] TableError),
    /// It is not one read-only statement.
    #[error(
        "only one SELECT, WITH, VALUES, EXPLAIN, SHOW or DESCRIBE is allowed here, not {found}: plantlake's tables are written by its jobs only"
    )]
    NotReadOnly {
        /// What it is.
        found: String,
    },
    /// The query asks for the catalog, which is missing or wrong.
    #[error(transparent)]
    Catalog(Box<CatalogError>),
    /// The SQL is wrong, or its execution failed.
    #[error("the query cannot be answered")]
    Sql(#[source] Box<DataFusionError>),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(error) => match error.downcast() {
                Ok(error) => Self::Catalog(error),
                Err(error) => Self::Sql(Box::new(DataFusionError::External(error))),
            },
            error => Self::Sql(Box::new(error)),
        }
    }
}

/// The tables `data_min`, `data_h` and `data_d` at one published set of versions, and the catalog's `assets` and
/// `asset_edges`.
pub struct QuerySession {
    context: SessionContext,
}

impl QuerySession {
    /// Opens what is published now. Before the first run the tables are there, and empty. The catalog in the folder
    /// `catalog` is read by the first query that needs it.
    pub async fn open(lake: &Store, catalog: &Path) -> Result<Self, QueryError> {
        let config = SessionConfig::new()
            .with_information_schema(true)
            .with_default_catalog_and_schema("plantlake", "public")
            .set_bool("datafusion.execution.parquet.pushdown_filters", true);
        let context = SessionContext::new_with_config(config);
        context.register_object_store(store_url(lake)?.as_ref(), lake.root());
        let published = Runs::open(lake).latest_publication().await?;
        for resolution in Resolution::ALL {
            let table = match &published {
                Some(publication) => Some(
                    Table::open_at(lake, resolution, publication.versions.of(resolution)).await?,
                ),
                None => None,
            };
            context.register_table(
                resolution.table(),
                Arc::new(RollupTable::new(resolution, table.as_ref())),
            )?;
        }
        let catalog = Arc::new(LazyCatalog::new(catalog.to_owned()));
        for table in CatalogTable::ALL {
            let provider = CatalogTableProvider::new(table, Arc::clone(&catalog));
            context.register_table(table.name(), Arc::new(provider))?;
        }
        Ok(Self { context })
    }

    /// Plans one read-only statement.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame, QueryError> {
        let mut statements = DFParserBuilder::new(sql).build()?.parse_statements()?;
        let statement = match (statements.pop_front(), statements.len()) {
            (Some(statement), 0) => statement,
            (None, _) => {
                return Err(QueryError::NotReadOnly {
                    found: "nothing".to_owned(),
                });
            }
            (Some(_), more) => {
                return Err(QueryError::NotReadOnly {
                    found: format!("{} statements", more + 1),
                });
            }
        };
        if !is_read_only(&statement) {
            let text = statement.to_string();
            let words: Vec<&str> = text.split_whitespace().take(3).collect();
            return Err(QueryError::NotReadOnly {
                found: words.join(" "),
            });
        }
        let plan = self.context.state().statement_to_plan(statement).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        Ok(self.context.execute_logical_plan(plan).await?)
    }
}

fn is_read_only(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => matches!(
            &**statement,
            ast::Statement::Query(_)
                | ast::Statement::ExplainTable { .. }
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowVariable { .. }
                | ast::Statement::ShowFunctions { .. }
        ),
        Statement::Explain(explain) => is_read_only(&explain.statement),
        _ => false,
    }
}
