//! A session: what one who asks may see, and the planning and running of read-only SQL on it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    SchemaProvider,
};
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
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as Parsed;

use super::account_tables::{Account, AccountSchema};
use super::archive_schema::ArchiveSchema;
use super::budget::Budget;
use super::cancellation::CancelToken;
use super::catalog_tables::CatalogSource;
use super::checked_aggregate::checked_aggregates;
use super::checked_plan::checked;
use super::counted_scan::RunContext;
use super::guarded_scan::guarded;
use super::optimised::OptimisedQuery;
use super::plan_limits;
use super::public_schema::PublicSchema;
use super::published::PublishedTables;
use super::rollup_table::store_url;
use super::search_table;
use super::sql::{Query, SessionOption, Statement};
use super::usage_tables::{self, UsageReportFunction};
use super::views::Views;
use super::weight;
use super::{QueryError, cancellable_rules, functions, graph_tables, row_limits, spec_functions};
use crate::catalog::Visible;
use crate::lake::Store;
use crate::lake::scanned::Scanned;
use crate::search::Search;

/// The only catalog of SQL.
pub const CATALOG: &str = "plantlake";
/// The schema of the tables.
pub const PUBLIC: &str = "public";
/// The schema of what an organisation may know of itself.
pub const ACCOUNT: &str = "account";
/// The schema of what expired.
pub const ARCHIVE: &str = "archive";
/// The schema that describes the others.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// What one who asks may see, at one published set of versions.
#[derive(Clone)]
pub struct QuerySession {
    /// What queries are planned with that are shared out among the cores,
    parallel: Arc<SessionState>,
    /// and what those are that are done within a moment: to share little work out costs more than to do it.
    serial: Arc<SessionState>,
    /// None where queries take what they need.
    budget: Option<Arc<Budget>>,
    /// Whether not everything may be seen.
    is_restricted: bool,
    run: u64,
}

/// A query that is ready to be run.
pub struct ReadyQuery {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

impl ReadyQuery {
    /// Runs it. What is worked on beside the reader, is worked on where this is called.
    pub fn run(self) -> Result<SendableRecordBatchStream, DataFusionError> {
        execute_stream(self.plan, self.context)
    }
}

impl QuerySession {
    /// Opens what is published now, for the operator at this machine, who may see everything. The catalog in the folder
    /// `catalog` is read by the first query that needs it.
    ///
    /// `search` is what `search('…')` asks; without it there is no such function.
    pub async fn open(
        lake: &Store,
        catalog: &Path,
        search: Option<Search>,
    ) -> Result<Self, QueryError> {
        let bare = Arc::new(bare_state(lake, Arc::new(RuntimeEnv::default()))?);
        let public = PublicSchema {
            published: Arc::new(PublishedTables::latest(lake).await?),
            raw: None,
            catalog: Arc::new(CatalogSource::folder(catalog.to_owned())),
            views: Arc::new(Views::default()),
            search,
            visible: Arc::new(Visible::All),
            bare: Arc::clone(&bare),
            within: Vec::new(),
        };
        Self::new(&bare, public, None, &[], None)
    }

    /// A session of `bare` with these schemas and options.
    pub(super) fn new(
        bare: &SessionState,
        public: PublicSchema,
        account: Option<Account>,
        options: &[SessionOption],
        budget: Option<Arc<Budget>>,
    ) -> Result<Self, QueryError> {
        let run = public.published.run();
        let is_restricted = matches!(*public.visible, Visible::Only(_));
        let mut state = with_public(bare, Arc::new(public))?;
        if let Some(account) = account
            && let Some(catalog) = state.catalog_list().catalog(CATALOG)
        {
            let report = UsageReportFunction(account.clone());
            catalog.register_schema(ACCOUNT, Arc::new(AccountSchema(account)))?;
            state.register_udtf(usage_tables::REPORT.name, Arc::new(report));
        }
        for option in options {
            let config = state.config_mut().options_mut();
            match option {
                SessionOption::TimeZone(zone) => {
                    config.execution.time_zone = Some(zone.clone());
                }
                SessionOption::Schema(schema) => {
                    config.catalog.default_schema = schema.clone();
                }
            }
        }
        if is_restricted {
            only_what_rows_decide(state.config_mut().options_mut());
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

    /// The run that published the tables; 0 before the first, when they are empty.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// What a query is planned with whose `now()` is now.
    fn now(&self) -> SessionState {
        let mut state = SessionState::clone(&self.parallel);
        state.mark_start_execution();
        state
    }

    /// Plans one read-only statement, with all of `EXPLAIN`.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame, QueryError> {
        let parsed = match Statement::parse(sql)? {
            Statement::Query(query) => query.with_arguments(&[])?,
            Statement::Explain(explain) => explain.with_arguments(&[])?,
            Statement::Set(_) => {
                return Err(QueryError::NotReadOnly {
                    found: "SET".to_owned(),
                });
            }
        };
        let plan = self.planned(parsed).await?;
        Ok(DataFrame::new(self.now(), plan))
    }

    /// Plans a query. Parameters beyond `values` stay open.
    pub async fn plan(
        &self,
        query: &Query,
        values: &[ScalarValue],
    ) -> Result<LogicalPlan, QueryError> {
        let plan = self.planned(query.with_arguments(values)?).await?;
        if values.is_empty() {
            return Ok(plan);
        }
        Ok(plan.with_param_values(ParamValues::from(values.to_vec()))?)
    }

    async fn planned(&self, parsed: Parsed) -> Result<LogicalPlan, QueryError> {
        self.check_tables(&parsed)?;
        // Arguments of table functions may be made of the time, and are worked out now.
        let plan = self.now().statement_to_plan(parsed).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        plan_limits::check(&plan)?;
        Ok(plan)
    }

    /// Says which table there is not, and what may have been meant.
    fn check_tables(&self, parsed: &Parsed) -> Result<(), QueryError> {
        let state = &self.parallel;
        let Some(catalog) = state.catalog_list().catalog(CATALOG) else {
            return Ok(());
        };
        let default = &state.config_options().catalog.default_schema;
        for reference in state.resolve_table_references(parsed)? {
            // A table function looks like a table.
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
                    nearest: self.nearest(&named.table),
                });
            }
        }
        Ok(())
    }

    /// The table, or the table function, whose name is most like `name`.
    fn nearest(&self, name: &str) -> Option<String> {
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

    /// The plan as it will be run, its types checked.
    pub fn optimise(&self, plan: &LogicalPlan) -> Result<OptimisedQuery, QueryError> {
        let plan = row_limits::clamp(plan.clone())?;
        let optimised = functions::while_planning(|| self.now().optimize(&plan))?;
        functions::check_arguments(&optimised)?;
        Ok(OptimisedQuery::new(optimised))
    }

    /// Whether a plan that was not optimised yet means the same whenever it is run, and for whoever of an organisation may
    /// run it: whether it asks neither for the time nor for the account, of which each sees something else.
    pub fn is_repeatable(plan: &LogicalPlan) -> bool {
        let asks = |expression: &Expr| {
            expression.exists(|part| {
                Ok(matches!(
                    part,
                    Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Stable
                ))
            })
        };
        let mut asks_for_it = false;
        let looked = plan.apply_with_subqueries(|node| {
            // A view's query is not in the plan yet.
            if let LogicalPlan::TableScan(scan) = node {
                let inside = scan.source.get_logical_plan();
                asks_for_it |= inside.is_some_and(|inside| !Self::is_repeatable(&inside));
                asks_for_it |= weight::is_of_account(scan);
            }
            node.apply_expressions(|expression| {
                asks_for_it |= asks(expression)?;
                Ok(TreeNodeRecursion::Continue)
            })
        });
        looked.is_ok() && !asks_for_it
    }

    /// The types of a plan's open parameters, by their names (`$1`), as far as they can be told.
    pub fn parameter_types(
        plan: &LogicalPlan,
    ) -> Result<HashMap<String, Option<DataType>>, QueryError> {
        Ok(plan.get_parameter_types()?)
    }

    /// Makes a query ready to be run; the bytes that it reads of the lake's files count for `scanned`, and `token` ends it.
    pub async fn ready(
        &self,
        query: &OptimisedQuery,
        scanned: Scanned,
        token: CancelToken,
    ) -> Result<ReadyQuery, QueryError> {
        let is_short = query.is_short;
        // What is read before such a query ends must not depend on others' rows.
        let sequential = self.is_restricted && query.may_stop_early;
        // Which side of a join is read first, and so which rows of the other side are read, is another matter in a plan for
        // one partition. Whether a query is short depends on the rows of all, so that it must not decide this.
        let serial = is_short && !(self.is_restricted && query.joins);
        let state = match serial || sequential {
            true => &self.serial,
            false => &self.parallel,
        };
        let plan = match query.steps()? {
            Some(steps) => steps,
            None => {
                let planner = Arc::clone(state.query_planner());
                let steps = match is_short {
                    true => planner.create_physical_plan(&query.plan, &**state).await?,
                    false => {
                        let plan = checked_aggregates(&query.plan)?;
                        planner.create_physical_plan(&plan, &**state).await?
                    }
                };
                let steps = row_limits::without_large_tops(guarded(steps, sequential)?)?;
                query.keep_steps(&steps);
                match is_short {
                    true => steps,
                    false => checked(steps)?,
                }
            }
        };
        let runtime = match &self.budget {
            Some(budget) => budget.of_one_query(query.shows_settings),
            None => Arc::clone(state.runtime_env()),
        };
        // Functions are looked up by their names while a statement is planned, and not any more; but `information_schema`
        // lists those that there are here.
        let lists = query.shows_settings;
        let context = TaskContext::new(
            None,
            state.session_id().to_owned(),
            state
                .config()
                .clone()
                .with_extension(Arc::new(RunContext { scanned, token })),
            listed(lists, state.scalar_functions()),
            listed(lists, state.higher_order_functions()),
            listed(lists, state.aggregate_functions()),
            listed(lists, state.window_functions()),
            runtime,
        );
        Ok(ReadyQuery {
            plan,
            context: Arc::new(context),
        })
    }

    /// The schema of what [`explain`](Self::explain) gives.
    pub fn explain_schema() -> Schema {
        let text = |name| Field::new(name, DataType::Utf8, false);
        Schema::new(vec![text("plan_type"), text("plan")])
    }

    /// An optimised plan as rows: what will be done, and nothing of the files that it will be done on.
    pub fn explain(query: &OptimisedQuery) -> Result<RecordBatch, QueryError> {
        let columns: [StringArray; 2] = [
            vec!["logical_plan"].into(),
            vec![query.plan.display_indent().to_string()].into(),
        ];
        let columns = columns.map(|column| Arc::new(column) as _).to_vec();
        let rows = RecordBatch::try_new(Arc::new(Self::explain_schema()), columns);
        rows.map_err(|error| DataFusionError::from(error).into())
    }

    /// The schemas, with their names.
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

/// Turns off what leaves out files and row groups by what a query has found so far: beside that, what is left out depends on the
/// bounds of all rows in a file, others' too, and on which task was faster.
fn only_what_rows_decide(options: &mut ConfigOptions) {
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.optimizer.enable_sort_pushdown = false;
}

/// The functions, if the query lists them.
fn listed<F>(lists: bool, functions: &HashMap<String, Arc<F>>) -> HashMap<String, Arc<F>> {
    match lists {
        true => functions.clone(),
        false => HashMap::new(),
    }
}

/// As the reference was written, without quotes.
fn unquoted(reference: &TableReference) -> String {
    reference.to_string()
}

/// What all sessions on a lake have in common: functions, options, memory, and no table.
pub(super) fn bare_state(
    lake: &Store,
    runtime: Arc<RuntimeEnv>,
) -> Result<SessionState, QueryError> {
    let config = SessionConfig::new()
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .set_bool("datafusion.execution.parquet.pushdown_filters", true)
        // An instant without a zone is one of UTC, as those in the tables are.
        .set_str("datafusion.execution.time_zone", "UTC")
        // Clients know text, not views of it.
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_bool("datafusion.sql_parser.collect_spans", true);
    runtime.register_object_store(store_url(lake)?.as_ref(), lake.root());
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features();
    let mut builder = cancellable_rules::register(builder, Arc::new(functions::BoundExpressions));
    functions::offer(&mut builder);
    let mut state = builder.build();
    spec_functions::register(&mut state)?;
    Ok(state)
}

/// `bare` with the schema `public`, what goes along its catalog, and what expired of its tables.
pub(super) fn with_public(bare: &SessionState, public: Arc<PublicSchema>) -> Result<SessionState> {
    let catalog = MemoryCatalogProvider::new();
    let (source, visible) = (Arc::clone(&public.catalog), Arc::clone(&public.visible));
    let search = public.search.clone();
    let archive = ArchiveSchema {
        published: Arc::clone(&public.published),
        visible: Arc::clone(&visible),
    };
    catalog.register_schema(ARCHIVE, Arc::new(archive))?;
    catalog.register_schema(PUBLIC, public)?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    let mut state = SessionStateBuilder::new_from_existing(bare.clone())
        .with_catalog_list(Arc::new(catalogs))
        .build();
    graph_tables::register(&mut state, &source, &visible);
    if let Some(search) = search {
        search_table::register(&mut state, search, source, visible);
    }
    Ok(state)
}
