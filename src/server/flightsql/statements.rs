//! SQL statements: planned when a client requests the description of the result, run when it fetches the result.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::FlightData;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tonic::{Code, Status};

use super::result_messages::{RunAgain, encode_stream};

use crate::catalog::VisibleAssets;
use crate::engine::{
    Account, PublishedTables, QueryAborted, QuerySession, QueryTimer, ReadyQuery, Scope,
    SessionOption,
};
use crate::metering::RateLimitKind;
use crate::metrics::{Cache, METRICS};
use crate::model::printable;
use crate::server::errors::status;
use crate::server::middleware::{Call, ZONELESS_TIMESTAMPS, admit_further};
use crate::server::state::plan_cache::{CachedPlan, PlanKey};
use crate::server::state::planning::{Description, OptimisedPlan, PlanOutcome, PlanRequest};
use crate::server::state::server::Server;
use crate::server::state::session_options::SessionOptions;
use crate::server::state::ticket::{HandleKind, StatementHandle};

/// The maximum number of parameters that are encoded on the thread that handles the call; more are encoded on the planning
/// threads.
const MAX_SIMPLE_PARAMETERS: usize = 64;

/// Returns the error of a preparation. The Python driver takes UNIMPLEMENTED for a server without prepared statements, goes on
/// to bind, and reports a fault of its own.
fn preparation_error(status: Status) -> Status {
    match status.code() {
        Code::Unimplemented => Status::with_details_and_metadata(
            Code::InvalidArgument,
            status.message(),
            Bytes::copy_from_slice(status.details()),
            status.metadata().clone(),
        ),
        _ => status,
    }
}

/// The outcome of planning a statement for a client.
pub(in crate::server) enum PlannedStatement {
    /// The statement has a result: its schema as an encapsulated IPC message, and the ticket for it.
    Rows { schema: Bytes, ticket: Vec<u8> },
    /// The statement changed the session, and has no result.
    NoResult,
}

/// A prepared statement.
pub(in crate::server) struct Prepared {
    pub handle: Vec<u8>,
    /// The schema of the result, without columns if there is no result; and a field for each parameter: `$1`, `$2`, ….
    pub description: Description,
}

impl Server {
    /// Creates the session in which a caller's statements are planned.
    pub(in crate::server) fn session(
        &self,
        call: &Call,
        options: &SessionOptions,
        published: Option<Arc<PublishedTables>>,
    ) -> Result<QuerySession, Status> {
        let principal = call.principal();
        let scope = Scope {
            visible: self.visible(call),
            account: Account {
                store: self.store.clone(),
                organisation: principal.organisation_id,
                user: principal.user_id,
                is_admin: principal.role.manages_organisation(),
            },
            options: options.to_engine_options(),
            published,
        };
        let session = self.engine.session(scope);
        session.map_err(|error| status::from_query_error(&error, "", call.id))
    }

    /// Plans a new statement, and makes the ticket for its result.
    pub(in crate::server) async fn plan_statement(
        &self,
        call: &Call,
        sql: String,
        timer: &QueryTimer,
    ) -> Result<PlannedStatement, Status> {
        let held = self.new_handle(call, sql)?;
        self.plan_handle(call, held, timer).await
    }

    /// Returns the options of the caller's session, with those that the headers of the call set.
    pub(super) fn session_options(&self, call: &Call) -> Result<SessionOptions, Status> {
        let mut options = self.sessions.options(call.principal());
        if let Some(value) = call.zoneless_timestamps() {
            let option = SessionOption::parse(ZONELESS_TIMESTAMPS, value);
            options.set(option.ok_or_else(|| {
                Status::invalid_argument(format!(
                    "invalid value {:?} of the header {ZONELESS_TIMESTAMPS}; use true or false",
                    printable(value, 60)
                ))
            })?);
        }
        Ok(options)
    }

    /// Returns a statement with the options of the caller's session.
    fn new_handle(&self, call: &Call, sql: String) -> Result<StatementHandle, Status> {
        let options = self.session_options(call)?;
        let mut held = StatementHandle::new(call.principal(), call.id, sql);
        held.time_zone = options.time_zone;
        held.schema = options.schema;
        held.zoneless_timestamps = options.zoneless_timestamps;
        Ok(held)
    }

    /// Plans a prepared statement, and makes the ticket for its result.
    pub(in crate::server) async fn plan_prepared(
        &self,
        call: &Call,
        handle: &[u8],
        timer: &QueryTimer,
    ) -> Result<PlannedStatement, Status> {
        let held = self.decrypt_handle(call, HandleKind::Statement, handle)?;
        self.plan_handle(call, held.for_query(call.id), timer).await
    }

    pub(in crate::server) fn decrypt_handle(
        &self,
        call: &Call,
        kind: HandleKind,
        sealed: &[u8],
    ) -> Result<StatementHandle, Status> {
        StatementHandle::decrypt(kind, sealed, self.auth.keys(), call.principal())
    }

    /// Returns a timer for the work of a call.
    pub(in crate::server) fn timer(&self) -> QueryTimer {
        self.engine.scheduler().timer()
    }

    async fn plan_handle(
        &self,
        call: &Call,
        mut held: StatementHandle,
        timer: &QueryTimer,
    ) -> Result<PlannedStatement, Status> {
        self.record_statement(call, &held.sql);
        let published = self.engine.newest();
        held.run = Some(published.run());
        let known = self.cached_plan(call, &held);
        METRICS.engine.count_lookup(Cache::Plans, known.is_some());
        let planned = match known {
            Some(planned) => planned,
            None => match self.plan_and_cache(call, &held, published, timer).await? {
                Ok(planned) => planned,
                Err(option) => {
                    self.check_option(&option)?;
                    self.sessions
                        .set(call.principal(), |options| options.set(option));
                    return Ok(PlannedStatement::NoResult);
                }
            },
        };
        let schema = planned.description.schema;
        let ticket = held.encrypt(HandleKind::Ticket, self.auth.keys())?;
        Ok(PlannedStatement::Rows { schema, ticket })
    }

    /// Returns the assets that the caller may see now.
    pub(in crate::server) fn visible(&self, call: &Call) -> Arc<VisibleAssets> {
        self.tenants
            .visible(call.principal(), &self.engine.catalog())
    }

    fn plan_key(&self, call: &Call, held: &StatementHandle) -> PlanKey {
        let principal = call.principal();
        PlanKey {
            organisation: principal.organisation_id,
            is_admin: principal.role.manages_organisation(),
            run: held.run.unwrap_or_default(),
            views: self.engine.views_version(),
            time_zone: held.time_zone.clone(),
            schema: held.schema.clone(),
            zoneless_timestamps: held.zoneless_timestamps,
            sql: held.sql.clone(),
            parameters: held.parameters.clone(),
            query: Some(held.query()),
        }
    }

    fn cached_plan(&self, call: &Call, held: &StatementHandle) -> Option<CachedPlan> {
        self.plan_cache
            .get(&self.plan_key(call, held), &self.visible(call))
    }

    fn plan_request(
        &self,
        call: &Call,
        held: &StatementHandle,
        published: Arc<PublishedTables>,
    ) -> Result<PlanRequest, Status> {
        let options = SessionOptions {
            time_zone: held.time_zone.clone(),
            schema: held.schema.clone(),
            zoneless_timestamps: held.zoneless_timestamps,
        };
        Ok(PlanRequest {
            session: self.session(call, &options, Some(published))?,
            sql: held.sql.clone(),
            parameters: held.parameters.clone(),
            zoneless_timestamps: held.zoneless_timestamps,
            request: call.id,
        })
    }

    /// Runs `work` on the planning threads, with a permit of the caller's organisation and within the time that `timer`
    /// has left.
    pub(in crate::server) async fn run_on_planning_threads<T: Send + 'static>(
        &self,
        call: &Call,
        timer: &QueryTimer,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let of = call.principal().organisation_id;
        let done = self.engine.scheduler().plan(of, timer, work).await;
        done.map_err(|cut| status::from_query_aborted(&cut, call.id))?
    }

    /// Plans a statement with the bound parameters, and caches the plan for the next call. Returns the option instead if
    /// the statement sets one.
    async fn plan_and_cache(
        &self,
        call: &Call,
        held: &StatementHandle,
        published: Arc<PublishedTables>,
        timer: &QueryTimer,
    ) -> Result<Result<CachedPlan, SessionOption>, Status> {
        let visible = self.visible(call);
        let unplanned = self.plan_request(call, held, published)?;
        let session = unplanned.session.clone();
        let planning = match unplanned.parse_simple() {
            Some(statement) => unplanned.plan(Some(statement)).await?,
            None => {
                self.run_on_planning_threads(call, timer, unplanned.plan(None))
                    .await?
            }
        };
        match planning {
            PlanOutcome::Planned(made) => {
                Ok(Ok(self.cache_plan(call, held, session, made, visible)))
            }
            PlanOutcome::Set(option) => Ok(Err(option)),
            PlanOutcome::Described { .. } => Err(Status::internal("the statement was not planned")),
        }
    }

    /// Caches a plan for the next call.
    fn cache_plan(
        &self,
        call: &Call,
        held: &StatementHandle,
        session: QuerySession,
        made: OptimisedPlan,
        visible: Arc<VisibleAssets>,
    ) -> CachedPlan {
        let planned = CachedPlan {
            session,
            query: made.query,
            is_explain: made.is_explain,
            is_repeatable: made.is_repeatable,
            schema: made.schema,
            further: made.further,
            description: made.description,
            visible,
        };
        self.plan_cache.insert(self.plan_key(call, held), &planned);
        planned
    }

    /// Returns the result for a ticket, computed within the time that `timer` has left.
    pub(in crate::server) async fn result_stream(
        &self,
        call: &Call,
        ticket: &[u8],
        timer: QueryTimer,
    ) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let held = self.decrypt_handle(call, HandleKind::Ticket, ticket)?;
        self.record_statement(call, &held.sql);
        if !self.redeemed_tickets.redeem(held.query()) {
            admit_further(&self.meter, call, RateLimitKind::Query)?;
        }
        let planned = match self.cached_plan(call, &held) {
            Some(planned) => planned,
            None => self.replan(call, &held, &timer).await?,
        };
        let request = call.id;
        let schema = Arc::clone(&planned.schema);
        let answer = if planned.is_explain {
            let query = Arc::clone(&planned.query);
            let explain = async move {
                let rows = QuerySession::explain(&query);
                rows.map_err(|error| status::from_query_error(&error, "", request))
            };
            let rows = self.run_on_planning_threads(call, &timer, explain).await?;
            call.meter.mark_billable(request)?;
            encode_stream(stream::iter([Ok(rows)]), schema, request, false)
        } else {
            let ready = self.physical_plan(call, &held, &planned, &timer).await?;
            call.meter.mark_billable(request)?;
            let (lanes, of) = (self.engine.scheduler(), call.principal().organisation_id);
            // The number of batches must not reveal how rows of other organisations lie between the caller's.
            let is_even = *planned.visible != VisibleAssets::All;
            let again = planned.further.map(|further| RunAgain {
                session: planned.session,
                further,
                scanned: call.meter.scanned(),
                token: timer.token().clone(),
            });
            // The cost of further rows of parameters is not estimated.
            let is_short = planned.query.is_short && again.is_none();
            let run = move || match ready.run() {
                Ok(batches) => match again {
                    Some(again) => encode_stream(again.after(batches), schema, request, is_even),
                    None => encode_stream(batches, schema, request, is_even),
                },
                Err(error) => {
                    let status = status::from_execution_error(&error, request);
                    stream::iter([Err(status)]).boxed()
                }
            };
            let answer = match is_short {
                true => lanes.run_short(of, timer, run()),
                false => lanes.run_long(of, timer, run),
            };
            let cut = move |cut: QueryAborted| Err(status::from_query_aborted(&cut, request));
            answer.map(move |item| item.unwrap_or_else(cut)).boxed()
        };
        let guarded = self
            .running
            .cancellable(held.query(), call.access.clone(), answer);
        Ok(guarded.boxed())
    }

    /// Makes the physical plan; on the planning threads, unless the query is short.
    async fn physical_plan(
        &self,
        call: &Call,
        held: &StatementHandle,
        planned: &CachedPlan,
        timer: &QueryTimer,
    ) -> Result<ReadyQuery, Status> {
        let (session, query) = (planned.session.clone(), Arc::clone(&planned.query));
        let (scanned, token) = (call.meter.scanned(), timer.token().clone());
        if query.is_short {
            let ready = session.prepare(&query, scanned, token).await;
            return ready.map_err(|error| status::from_query_error(&error, &held.sql, call.id));
        }
        let (sql, request) = (held.sql.clone(), call.id);
        let ready = async move {
            let ready = session.prepare(&query, scanned, token).await;
            ready.map_err(|error| status::from_query_error(&error, &sql, request))
        };
        self.run_on_planning_threads(call, timer, ready).await
    }

    async fn replan(
        &self,
        call: &Call,
        held: &StatementHandle,
        timer: &QueryTimer,
    ) -> Result<CachedPlan, Status> {
        let failed = |error| status::from_query_error(&error, &held.sql, call.id);
        let published = match held.run {
            Some(run) => self.engine.published(run).await.map_err(failed)?,
            None => Some(self.engine.newest()),
        };
        let published = published.ok_or_else(|| {
            Status::not_found(
                "the table versions of this ticket no longer exist; run the query again",
            )
        })?;
        let planned = self.plan_and_cache(call, held, published, timer).await?;
        planned.map_err(|_| Status::invalid_argument("SET returns no result"))
    }

    /// Prepares a statement: returns its handle, and the schemas of its result and parameters.
    pub(in crate::server) async fn prepare(
        &self,
        call: &Call,
        sql: String,
    ) -> Result<Prepared, Status> {
        self.record_statement(call, &sql);
        let mut held = self.new_handle(call, sql)?;
        let handle = held.encrypt(HandleKind::Statement, self.auth.keys())?;
        let published = self.engine.newest();
        held.run = Some(published.run());
        let known = self.cached_plan(call, &held);
        METRICS.engine.count_lookup(Cache::Plans, known.is_some());
        let description = match known {
            Some(planned) => planned.description,
            None => {
                let described = self.describe_statement(call, &held, published).await;
                described.map_err(preparation_error)?
            }
        };
        Ok(Prepared {
            handle,
            description,
        })
    }

    /// Returns the schemas of the result and of the parameters.
    async fn describe_statement(
        &self,
        call: &Call,
        held: &StatementHandle,
        published: Arc<PublishedTables>,
    ) -> Result<Description, Status> {
        let visible = self.visible(call);
        let unplanned = self.plan_request(call, held, published)?;
        let session = unplanned.session.clone();
        let planning = match unplanned.parse_simple() {
            Some(statement) => unplanned.describe(Some(statement)).await?,
            None => {
                let timer = self.engine.scheduler().timer();
                self.run_on_planning_threads(call, &timer, unplanned.describe(None))
                    .await?
            }
        };
        match planning {
            PlanOutcome::Planned(made) => Ok(self
                .cache_plan(call, held, session, made, visible)
                .description),
            PlanOutcome::Described(description) => Ok(description),
            PlanOutcome::Set(option) => {
                self.check_option(&option)?;
                Description::new(&Schema::empty(), &Schema::empty())
            }
        }
    }

    /// Binds parameters to a statement. Returns a new handle.
    pub(in crate::server) async fn bind(
        &self,
        call: &Call,
        mut held: StatementHandle,
        rows: Vec<RecordBatch>,
    ) -> Result<Vec<u8>, Status> {
        held.parameters = match rows.first().map(RecordBatch::schema) {
            Some(schema) if schema.fields().len() > MAX_SIMPLE_PARAMETERS => {
                let encode =
                    async move { crate::server::state::parameters::to_ipc(&schema, &rows) };
                self.run_on_planning_threads(call, &self.timer(), encode)
                    .await?
            }
            Some(schema) => crate::server::state::parameters::to_ipc(&schema, &rows)?,
            None => Vec::new(),
        };
        held.encrypt(HandleKind::Statement, self.auth.keys())
    }

    /// Records the statement of a call in its usage record, and logs it if statements are logged.
    fn record_statement(&self, call: &Call, sql: &str) {
        call.meter.set_statement(sql, &self.fingerprints);
        if self.log_sql {
            let principal = call.principal();
            tracing::info!(
                request = %call.id,
                organisation = %principal.organisation_id,
                user = %principal.user_id,
                sql,
                "statement"
            );
        }
    }
}
