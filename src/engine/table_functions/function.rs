//! The declaration of a table function, and its form for DataFusion.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use super::signature::FunctionSignature;
use crate::catalog::{Snapshot, VisibleAssets};
use crate::engine::tables::account::Account;
use crate::engine::tables::catalog_tables::CatalogSource;
use crate::engine::tables::engine_table::{EngineTable, TableProperties};
use crate::search::Search;

/// A table function: all that planning, scheduling, clients and the documentation need to know about it.
pub(in crate::engine) struct TableFunction {
    /// The name, the parameters and an example, from which the types of parameters in prepared statements and the texts
    /// of errors follow.
    pub signature: FunctionSignature,
    /// The rows that it returns, and the limits of its arguments, as `docs/sql.md` describes them after "a table:".
    pub documentation: &'static str,
    /// The function that returns the table of a call.
    pub implementation: Implementation,
}

/// The table that a call returns.
pub(in crate::engine) type CallTable = Arc<dyn TableProperties>;

/// The function that returns the table of a call from the values of the arguments. What it reads decides which sessions
/// have the table function, and who may share a plan of it. The table has the estimated cost of a scan, and says whether
/// its rows can change.
pub(in crate::engine) enum Implementation {
    /// Reads the catalog. All sessions and all views have the function; the users of an organisation share plans.
    Catalog(fn(VisibleCatalog, &[Expr]) -> Result<CallTable>),
    /// Reads the catalog and the search index. Sessions with an index, and views in them, have the function; the users of
    /// an organisation share plans.
    Search(fn(Search, VisibleCatalog, &[Expr]) -> Result<CallTable>),
    /// Reads the account. Only sessions of a server have the function, and its plans are not shared between users.
    Account(fn(Account, &[Expr]) -> Result<CallTable>),
}

/// The catalog, and the assets in it that a session sees.
#[derive(Clone)]
pub(in crate::engine) struct VisibleCatalog {
    pub source: Arc<CatalogSource>,
    pub visible: Arc<VisibleAssets>,
}

impl VisibleCatalog {
    /// Returns the catalog with all assets, for the methods that take [`visible`](Self::visible).
    pub async fn snapshot(&self) -> Result<&Arc<Snapshot>> {
        let snapshot = self.source.snapshot().await;
        snapshot.map_err(|error| DataFusionError::External(Box::new(error)))
    }
}

/// The data of a session that table functions read.
#[derive(Clone)]
pub(in crate::engine) struct FunctionSources {
    pub catalog: VisibleCatalog,
    /// The search index, if the session has one.
    pub search: Option<Search>,
    /// The account, if the session has one. Views have none, because all users of an organisation share them.
    pub account: Option<Account>,
}

impl TableFunction {
    /// Returns the row of the function in the table of `docs/sql.md`.
    pub fn documentation_row(&self) -> String {
        let only = match self.implementation {
            Implementation::Catalog(_) | Implementation::Search(_) => "",
            Implementation::Account(_) => " (server only)",
        };
        let (syntax, rows) = (self.signature.syntax(), self.documentation);
        format!("| `{syntax}` | a table: {rows}{only} |")
    }

    /// Registers the function with a session that has its sources.
    pub fn register(&'static self, state: &mut SessionState, sources: &FunctionSources) {
        let is_available = match self.implementation {
            Implementation::Catalog(_) => true,
            Implementation::Search(_) => sources.search.is_some(),
            Implementation::Account(_) => sources.account.is_some(),
        };
        if is_available {
            let function = SessionFunction {
                function: self,
                sources: sources.clone(),
            };
            state.register_udtf(self.signature.name, Arc::new(function));
        }
    }
}

/// A table function in a session.
struct SessionFunction {
    function: &'static TableFunction,
    sources: FunctionSources,
}

impl fmt::Debug for SessionFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.function.signature.name;
        f.debug_tuple("SessionFunction").field(&name).finish()
    }
}

impl TableFunctionImpl for SessionFunction {
    fn call_with_args(&self, call: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (signature, arguments) = (&self.function.signature, call.exprs());
        signature.check_count(arguments)?;
        let FunctionSources {
            catalog,
            search,
            account,
        } = self.sources.clone();
        let missing = |source| signature.error(format_args!("the session has no {source}"));
        let table = match self.function.implementation {
            Implementation::Catalog(call) => EngineTable::new(call(catalog, arguments)?),
            Implementation::Search(call) => {
                let search = search.ok_or_else(|| missing("search index"))?;
                EngineTable::new(call(search, catalog, arguments)?)
            }
            Implementation::Account(call) => {
                let account = account.ok_or_else(|| missing("account"))?;
                EngineTable::of_user(call(account, arguments)?)
            }
        };
        Ok(Arc::new(table))
    }
}
