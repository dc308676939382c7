//! A session: the tables that a caller may see, and the planning and execution of read-only SQL on them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::SchemaProvider;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, ParamValues, Result, ScalarValue, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement as Parsed;

use super::base_state::base_state;
use super::bound_values;
use super::equal_names;
use super::public_schema::PublicSchema;
use super::views::{FileStamps, ViewFolder, Views};
use crate::catalog::VisibleAssets;
use crate::engine::functions;
use crate::engine::functions::session_functions;
use crate::engine::limits::cancellation::CancelToken;
use crate::engine::limits::resource_limits::RuntimeEnvFactory;
use crate::engine::plan::cancellable_aggregate::with_cancellable_aggregates;
use crate::engine::plan::cancellable_plan::with_cancellation_checks;
use crate::engine::plan::optimised::OptimisedQuery;
use crate::engine::plan::sequential_unions::SequentialUnions;
use crate::engine::plan::tenant_filter_scan::rewrite_scans;
use crate::engine::plan::{cost_estimate, plan_limits, row_limits, subquery_limits};
use crate::engine::query_error::QueryError;
use crate::engine::raw::raw_files::RawFiles;
use crate::engine::scan::metered_scan::RunContext;
use crate::engine::schema_names::{ACCOUNT, ARCHIVE, CATALOG, INFORMATION_SCHEMA, PUBLIC};
use crate::engine::sql::statement::{Query, SessionOption, Statement};
use crate::engine::sql::time_zones::TimeTypes;
use crate::engine::tables::account::Account;
use crate::engine::tables::catalog_tables::CatalogSource;
use crate::engine::tables::published::PublishedTables;
use crate::engine::tables::table_names::public_table_names;
use crate::lake::Store;
use crate::lake::storage::scanned_bytes::ScannedBytes;
use crate::search::Search;

/// The schemas that a caller may see, at one published set of table versions.
#[derive(Clone)]
pub struct QuerySession {
    /// Plans queries that run on several cores.
    parallel: Arc<SessionState>,
    /// Plans short queries, for which distributing the work would take longer than doing it.
    serial: Arc<SessionState>,
    /// The memory limits of queries; `None` for no limits.
    budget: Option<Arc<RuntimeEnvFactory>>,
    /// Whether the caller may see some assets only.
    is_restricted: bool,
    run: u64,
}

/// The sources of a session of the operator at this machine, besides the lake.
pub struct LocalSources<'a> {
    /// The folder of the catalog, which is read by the first query that needs it.
    pub catalog: &'a Path,
    /// The folder of views.
    pub views: &'a Path,
    /// The raw files; `None` if there are none.
    pub raw: Option<RawFiles>,
    /// Answers the function `search('…')`.
    pub search: Search,
}

/// A query that is ready to be run.
pub struct ReadyQuery {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

impl ReadyQuery {
    /// Starts the query and returns its rows. Operators that spawn tasks spawn them on the runtime of the calling
    /// thread.
    pub fn run(self) -> Result<SendableRecordBatchStream, DataFusionError> {
        execute_stream(self.plan, self.context)
    }
}

impl QuerySession {
    /// Opens the current publication for the operator at this machine, who may see everything. The first query that
    /// needs the catalog reads it from the folder `catalog`.
    ///
    /// `search` answers the function `search('…')`; without it, the function does not exist.
    pub async fn open(
        lake: &Store,
        catalog: &Path,
        search: Option<Search>,
    ) -> Result<Self, QueryError> {
        let public = local_schema(lake, catalog, search).await?;
        Self::new(public, None, &[], None)
    }

    /// Opens the current publication like [`open`](Self::open), with the views and the raw readings.
    pub async fn open_local(lake: &Store, sources: LocalSources<'_>) -> Result<Self, QueryError> {
        let mut public = local_schema(lake, sources.catalog, Some(sources.search)).await?;
        let folder = ViewFolder::new(sources.views.to_owned(), public_table_names());
        if let Some((_, views)) = folder.read_if_changed(&FileStamps::new()) {
            public.views = Arc::new(views);
        }
        public.raw = sources.raw.map(Arc::new);
        public.remove_invalid_views().await;
        Self::new(public, None, &[], None)
    }

    /// Returns a session with these schemas and options.
    pub(in crate::engine) fn new(
        public: PublicSchema,
        account: Option<Account>,
        options: &[SessionOption],
        budget: Option<Arc<RuntimeEnvFactory>>,
    ) -> Result<Self, QueryError> {
        let run = public.published.run();
        let is_restricted = matches!(*public.visible, VisibleAssets::Only(_));
        let user = account.as_ref().map(|account| account.user.to_string());
        let mut state = public.into_state(account)?;
        session_functions::register_user(&mut state, user)?;
        let mut zone = None;
        for option in options {
            let config = state.config_mut().options_mut();
            match option {
                SessionOption::TimeZone(name) => {
                    config.execution.time_zone = Some(name.clone());
                    zone = Some(TimeTypes::new(name));
                }
                SessionOption::Schema(schema) => {
                    config.catalog.default_schema = schema.clone();
                }
                // It affects how results are sent, and not their values.
                SessionOption::ZonelessTimestamps(_) => {}
            }
        }
        if let Some(types) = zone {
            state = SessionStateBuilder::new_from_existing(state)
                .with_type_planner(Arc::new(types))
                .build();
        }
        if is_restricted {
            disable_dynamic_pruning(state.config_mut().options_mut());
        }
        let mut serial = state.clone();
        serial
            .config_mut()
            .options_mut()
            .execution
            .target_partitions = 1;
        // Functions see the session's options, such as its time zone.
        state.mark_start_execution();
        serial.mark_start_execution();
        Ok(Self {
            parallel: Arc::new(state),
            serial: Arc::new(serial),
            budget,
            is_restricted,
            run,
        })
    }

    /// Returns the run that published the tables; 0 before the first run, when they are empty.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Returns a state for planning in which `now()` is the current time.
    fn fresh_state(&self) -> SessionState {
        let mut state = SessionState::clone(&self.parallel);
        state.mark_start_execution();
        state
    }

    /// Plans one read-only statement. All forms of `EXPLAIN` are allowed.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame, QueryError> {
        let plan = match Statement::parse(sql)? {
            Statement::Query(query) => self.plan(&query, &[]).await?,
            Statement::Explain(explain) => {
                let parsed = explain.with_arguments(&[])?;
                self.plan_statement(parsed, None).await?
            }
            Statement::Set(_) => {
                return Err(QueryError::NotReadOnly {
                    found: "SET".to_owned(),
                });
            }
        };
        Ok(DataFrame::new(self.fresh_state(), plan))
    }

    /// Plans a query with the given values of parameters. Without values, the parameters stay open.
    pub async fn plan(
        &self,
        query: &Query,
        values: &[ScalarValue],
    ) -> Result<LogicalPlan, QueryError> {
        if values.is_empty() {
            return self
                .plan_statement(query.with_arguments(&[])?, Some((query, &[])))
                .await;
        }
        let values = bound_values::normalised(values, &query.known_parameter_types());
        let plan = self
            .plan_statement(query.with_arguments(&values)?, Some((query, &values)))
            .await?;
        // A parameter with several types has none that is known.
        let types = || Self::parameter_types(&plan).unwrap_or_default();
        let values = bound_values::converted(values, types)?;
        Ok(plan.with_param_values(ParamValues::from(values))?)
    }

    /// Plans a statement, which is `query` with the values of its parameters, or an `EXPLAIN`.
    async fn plan_statement(
        &self,
        parsed: Parsed,
        query: Option<(&Query, &[ScalarValue])>,
    ) -> Result<LogicalPlan, QueryError> {
        self.check_tables_exist(&parsed)?;
        // Arguments of table functions are evaluated here and may use `now()`.
        let plan = equal_names::plan(&self.fresh_state(), parsed, query).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        plan_limits::check(&plan)?;
        Ok(plan)
    }

    /// Fails if a table does not exist; the error names the most similar one.
    fn check_tables_exist(&self, parsed: &Parsed) -> Result<(), QueryError> {
        let state = &self.parallel;
        let Some(catalog) = state.catalog_list().catalog(CATALOG) else {
            return Ok(());
        };
        let default = &state.config_options().catalog.default_schema;
        for reference in state.resolve_table_references(parsed)? {
            // Table functions are among the references to tables.
            if state.table_functions().contains_key(reference.table()) {
                continue;
            }
            let named = reference.clone().resolve(CATALOG, default);
            let schema = catalog.schema(&named.schema);
            let is_described = *named.schema == *INFORMATION_SCHEMA;
            let is_there =
                is_described || schema.is_some_and(|schema| schema.table_exist(&named.table));
            if *named.catalog != *CATALOG || !is_there {
                return Err(QueryError::UnknownTable {
                    name: unquoted(&reference),
                    nearest: self.nearest_table_name(&named.table),
                });
            }
        }
        Ok(())
    }

    /// Returns the table or table function with the most similar name, if one is similar enough.
    fn nearest_table_name(&self, name: &str) -> Option<String> {
        let catalog = self.parallel.catalog_list().catalog(CATALOG)?;
        let schemas = [ARCHIVE, PUBLIC, ACCOUNT].into_iter();
        let names = schemas.flat_map(|schema| {
            let tables = catalog.schema(schema).map(|tables| tables.table_names());
            let names = tables.unwrap_or_default().into_iter();
            names.map(move |name| match schema {
                PUBLIC => name,
                _ => format!("{schema}.{name}"),
            })
        });
        let alike = |known: &str| {
            let known = known.rsplit('.').next().unwrap_or(known);
            strsim::normalized_damerau_levenshtein(known, name)
        };
        let functions = self.parallel.table_functions().keys().cloned();
        names
            .chain(functions)
            .map(|known| (alike(&known), known))
            .filter(|(alike, _)| *alike >= 0.5)
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, known)| known)
    }

    /// Optimises a plan, and checks its types and the arguments of functions.
    pub fn optimise(&self, plan: &LogicalPlan) -> Result<OptimisedQuery, QueryError> {
        let plan = row_limits::clamp(plan.clone())?;
        let optimised = functions::while_planning(|| self.fresh_state().optimize(&plan))?;
        functions::check_arguments(&optimised)?;
        subquery_limits::check(&optimised)?;
        Ok(OptimisedQuery::new(optimised))
    }

    /// Whether a plan that is not optimised yet means the same at any time and for any user of an organisation: it uses
    /// neither the time nor the tables of the account, whose contents differ between users.
    pub fn is_repeatable(plan: &LogicalPlan) -> bool {
        let asks = |expression: &Expr| {
            expression.exists(|part| {
                Ok(matches!(
                    part,
                    Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Stable
                ))
            })
        };
        let mut depends_on_caller = false;
        let looked = plan.apply_with_subqueries(|node| {
            // The query of a view is not part of the plan yet.
            if let LogicalPlan::TableScan(scan) = node {
                let inside = scan.source.get_logical_plan();
                depends_on_caller |= inside.is_some_and(|inside| !Self::is_repeatable(&inside));
                depends_on_caller |= cost_estimate::is_account_scan(scan);
            }
            node.apply_expressions(|expression| {
                depends_on_caller |= asks(expression)?;
                Ok(TreeNodeRecursion::Continue)
            })
        });
        looked.is_ok() && !depends_on_caller
    }

    /// Returns the types of a plan's open parameters by name (`$1`), as far as they are known.
    pub fn parameter_types(
        plan: &LogicalPlan,
    ) -> Result<HashMap<String, Option<DataType>>, QueryError> {
        Ok(plan.get_parameter_types()?)
    }

    /// Prepares a query for execution. The bytes that it reads from the lake's files are added to `scanned`, and
    /// `token` cancels it.
    pub async fn prepare(
        &self,
        query: &OptimisedQuery,
        scanned: ScannedBytes,
        token: CancelToken,
    ) -> Result<ReadyQuery, QueryError> {
        let is_short = query.is_short;
        // The rows that such a query reads before it ends must not depend on hidden rows.
        let sequential = self.is_restricted && query.may_stop_early;
        // A plan for one partition may read the sides of a join in another order, and thus other rows of the second
        // side. The estimate of a short query counts hidden rows, too, so it must not choose the plan.
        let serial = is_short && !(self.is_restricted && query.has_joins);
        let state = match serial || sequential {
            true => &self.serial,
            false => &self.parallel,
        };
        let plan = match query.cached_physical_plan()? {
            Some(steps) => steps,
            None => {
                let state = match sequential {
                    true => Arc::new(SequentialUnions::enable(state)),
                    false => Arc::clone(state),
                };
                let planner = Arc::clone(state.query_planner());
                let steps = match is_short {
                    true => planner.create_physical_plan(&query.plan, &*state).await?,
                    false => {
                        let plan = with_cancellable_aggregates(&query.plan)?;
                        planner.create_physical_plan(&plan, &*state).await?
                    }
                };
                let steps = row_limits::without_large_top_k(rewrite_scans(steps, sequential)?)?;
                query.cache_physical_plan(&steps);
                match is_short {
                    true => steps,
                    false => with_cancellation_checks(steps)?,
                }
            }
        };
        let runtime = match &self.budget {
            Some(budget) => budget.query_env(query.may_read_settings),
            None => Arc::clone(state.runtime_env()),
        };
        // Functions are looked up by name during planning only, but `information_schema` lists those in this context.
        let lists = query.may_read_settings;
        let context = TaskContext::new(
            None,
            state.session_id().to_owned(),
            state
                .config()
                .clone()
                .with_extension(Arc::new(RunContext { scanned, token })),
            listed_functions(lists, state.scalar_functions()),
            listed_functions(lists, state.higher_order_functions()),
            listed_functions(lists, state.aggregate_functions()),
            listed_functions(lists, state.window_functions()),
            runtime,
        );
        Ok(ReadyQuery {
            plan,
            context: Arc::new(context),
        })
    }

    /// Returns the schema of the rows that [`explain`](Self::explain) returns.
    pub fn explain_schema() -> Schema {
        let text = |name| Field::new(name, DataType::Utf8, false);
        Schema::new(vec![text("plan_type"), text("plan")])
    }

    /// Returns an optimised plan as rows: the logical plan only, because the physical one names files.
    pub fn explain(query: &OptimisedQuery) -> Result<RecordBatch, QueryError> {
        let columns: [StringArray; 2] = [
            vec!["logical_plan"].into(),
            vec![query.plan.display_indent().to_string()].into(),
        ];
        let columns = columns.map(|column| Arc::new(column) as _).to_vec();
        let rows = RecordBatch::try_new(Arc::new(Self::explain_schema()), columns);
        rows.map_err(|error| DataFusionError::from(error).into())
    }

    /// Returns the schemas with their names, sorted by name.
    pub fn schemas(&self) -> Vec<(String, Arc<dyn SchemaProvider>)> {
        let Some(catalog) = self.parallel.catalog_list().catalog(CATALOG) else {
            return Vec::new();
        };
        let names = catalog.schema_names().into_iter();
        let mut schemas: Vec<_> = names
            .filter_map(|name| Some((name.clone(), catalog.schema(&name)?)))
            .collect();
        schemas.sort_by(|(one, _), (other, _)| one.cmp(other));
        schemas
    }
}

/// Returns the schema `public` of the operator at this machine, who may see everything, without views and raw readings.
async fn local_schema(
    lake: &Store,
    catalog: &Path,
    search: Option<Search>,
) -> Result<PublicSchema, QueryError> {
    Ok(PublicSchema {
        published: Arc::new(PublishedTables::latest(lake).await?),
        raw: None,
        catalog: Arc::new(CatalogSource::folder(catalog.to_owned())),
        views: Arc::new(Views::default()),
        search,
        visible: Arc::new(VisibleAssets::All),
        base_state: Arc::new(base_state(lake, Arc::new(RuntimeEnv::default()))?),
        view_stack: Vec::new(),
    })
}

/// Turns off the pruning of files and row groups by rows that a query has already found: it depends on the bounds of
/// all rows in a file, hidden ones included, and on which task was faster.
fn disable_dynamic_pruning(options: &mut ConfigOptions) {
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.optimizer.enable_sort_pushdown = false;
}

/// Returns the functions if `lists` is set, because the query lists them; none otherwise.
fn listed_functions<F>(
    lists: bool,
    functions: &HashMap<String, Arc<F>>,
) -> HashMap<String, Arc<F>> {
    match lists {
        true => functions.clone(),
        false => HashMap::new(),
    }
}

/// Returns the reference as it was written, without quotes.
fn unquoted(reference: &TableReference) -> String {
    reference.to_string()
}
