//! SQL statements: planned when a client requests the description of the result, run when it fetches the result.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use bytes::Bytes;
use datafusion::common::DataFusionError;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use tonic::Status;
use uuid::Uuid;

use super::call::Call;
use super::computed::computed;
use super::edge::to_answer;
use super::planning::{Description, Made, Planning, Unplanned};
use super::plans::{PlanKey, Planned};
use super::server::Server;
use super::session_options::Options;
use super::status;
use super::ticket::{Held, Kind};
use crate::catalog::Visible;
use crate::engine::{
    Account, CutShort, EvenBatches, PublishedTables, QuerySession, QueryTimer, ReadyQuery, Scope,
    SessionOption,
};
use crate::metering::Work;
use crate::metrics::{Cache, METRICS};

/// The target size of a message of a result, in bytes. Messages usually exceed it a little; some clients accept at most 4
/// MiB.
const MESSAGE: usize = 1 << 20;
/// The rows of a message, if their number must not depend on the layout of the rows in files.
const EVEN_ROWS: usize = 8_192;
/// The maximum size of a row that can be sent, in bytes; 64 KiB are reserved for the rest of the message.
const LARGEST_ROW: usize = super::MAX_SENT_MESSAGE_BYTES - (64 << 10);

/// The maximum number of parameters that are encoded on the thread that handles the call; more are encoded on the planning
/// threads.
const MAX_SIMPLE_PARAMETERS: usize = 64;

/// The outcome of planning a statement for a client.
pub(super) enum Asked {
    /// The statement has a result: its schema as an encapsulated IPC message, and the ticket for it.
    Answer { schema: Bytes, ticket: Vec<u8> },
    /// The statement changed the session, and has no result.
    Done,
}

/// A prepared statement.
pub(super) struct Prepared {
    pub handle: Vec<u8>,
    /// The schema of the result, without columns if there is no result; and a field for each parameter: `$1`, `$2`, ….
    pub description: Description,
}

impl Server {
    /// Creates the session in which a caller's statements are planned.
    pub(super) fn session(
        &self,
        call: &Call,
        options: &Options,
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
            options: options.list(),
            published,
        };
        let session = self.engine.session(scope);
        session.map_err(|error| status::of_query(&error, "", call.id))
    }

    /// Plans a new statement, and makes the ticket for its result.
    pub(super) async fn ask(
        &self,
        call: &Call,
        sql: String,
        timer: &QueryTimer,
    ) -> Result<Asked, Status> {
        let options = self.sessions.options(call.principal());
        let mut held = Held::new(call.principal(), call.id, sql);
        held.time_zone = options.time_zone;
        held.schema = options.schema;
        self.ask_held(call, held, timer).await
    }

    /// Plans a prepared statement, and makes the ticket for its result.
    pub(super) async fn ask_prepared(
        &self,
        call: &Call,
        handle: &[u8],
        timer: &QueryTimer,
    ) -> Result<Asked, Status> {
        let held = self.opened(call, Kind::Statement, handle)?;
        self.ask_held(call, held.for_query(call.id), timer).await
    }

    pub(super) fn opened(&self, call: &Call, kind: Kind, sealed: &[u8]) -> Result<Held, Status> {
        Held::open(kind, sealed, self.auth.keys(), call.principal())
    }

    /// Returns a timer for the work of a call.
    pub(super) fn timer(&self) -> QueryTimer {
        self.engine.lanes().timer()
    }

    async fn ask_held(
        &self,
        call: &Call,
        mut held: Held,
        timer: &QueryTimer,
    ) -> Result<Asked, Status> {
        self.note(call, &held.sql);
        let published = self.engine.newest();
        held.run = Some(published.run());
        let known = self.known_plan(call, &held);
        METRICS.engine.looked_up(Cache::Plans, known.is_some());
        let planned = match known {
            Some(planned) => planned,
            None => match self.planned(call, &held, published, timer).await? {
                Ok(planned) => planned,
                Err(option) => {
                    self.check_option(&option)?;
                    self.sessions
                        .set(call.principal(), |options| options.set(option));
                    return Ok(Asked::Done);
                }
            },
        };
        let schema = planned.description.schema;
        let ticket = held.seal(Kind::Ticket, self.auth.keys())?;
        Ok(Asked::Answer { schema, ticket })
    }

    /// Returns the assets that the caller may see now.
    pub(super) fn visible(&self, call: &Call) -> Arc<Visible> {
        self.tenants
            .visible(call.principal(), &self.engine.catalog())
    }

    fn key_of(&self, call: &Call, held: &Held) -> PlanKey {
        let principal = call.principal();
        PlanKey {
            organisation: principal.organisation_id,
            is_admin: principal.role.manages_organisation(),
            run: held.run.unwrap_or_default(),
            views: self.engine.views_version(),
            time_zone: held.time_zone.clone(),
            schema: held.schema.clone(),
            sql: held.sql.clone(),
            parameters: held.parameters.clone(),
            query: Some(held.query()),
        }
    }

    fn known_plan(&self, call: &Call, held: &Held) -> Option<Planned> {
        self.plans
            .find(&self.key_of(call, held), &self.visible(call))
    }

    fn unplanned(
        &self,
        call: &Call,
        held: &Held,
        published: Arc<PublishedTables>,
    ) -> Result<Unplanned, Status> {
        let options = Options {
            time_zone: held.time_zone.clone(),
            schema: held.schema.clone(),
        };
        Ok(Unplanned {
            session: self.session(call, &options, Some(published))?,
            sql: held.sql.clone(),
            parameters: held.parameters.clone(),
            request: call.id,
        })
    }

    /// Runs `work` on the planning threads, on the turn of the caller's organisation and within the time that `timer` has
    /// left.
    pub(super) async fn on_planning_lane<T: Send + 'static>(
        &self,
        call: &Call,
        timer: &QueryTimer,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let of = call.principal().organisation_id;
        let done = self.engine.lanes().plan(of, timer, work).await;
        done.map_err(|cut| status::of_cut(&cut, call.id))?
    }

    /// Plans a statement with the bound parameters, and caches the plan for the next call. Returns the option instead if
    /// the statement sets one.
    async fn planned(
        &self,
        call: &Call,
        held: &Held,
        published: Arc<PublishedTables>,
        timer: &QueryTimer,
    ) -> Result<Result<Planned, SessionOption>, Status> {
        let visible = self.visible(call);
        let unplanned = self.unplanned(call, held, published)?;
        let session = unplanned.session.clone();
        let planning = match unplanned.simple() {
            Some(statement) => unplanned.plan(Some(statement)).await?,
            None => {
                self.on_planning_lane(call, timer, unplanned.plan(None))
                    .await?
            }
        };
        match planning {
            Planning::Made(made) => Ok(Ok(self.kept(call, held, session, made, visible))),
            Planning::Set(option) => Ok(Err(option)),
            Planning::Described { .. } => Err(Status::internal("the statement was not planned")),
        }
    }

    /// Caches a plan for the next call.
    fn kept(
        &self,
        call: &Call,
        held: &Held,
        session: QuerySession,
        made: Made,
        visible: Arc<Visible>,
    ) -> Planned {
        let planned = Planned {
            session,
            query: made.query,
            explains: made.explains,
            is_repeatable: made.is_repeatable,
            schema: made.schema,
            description: made.description,
            visible,
        };
        self.plans.keep(self.key_of(call, held), &planned);
        planned
    }

    /// Returns the result for a ticket, computed within the time that `timer` has left.
    pub(super) async fn answer(
        &self,
        call: &Call,
        ticket: &[u8],
        timer: QueryTimer,
    ) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let held = self.opened(call, Kind::Ticket, ticket)?;
        self.note(call, &held.sql);
        if !self.redeemed.is_first(held.query()) {
            self.admit(call, Work::Ask)?;
        }
        let planned = match self.known_plan(call, &held) {
            Some(planned) => planned,
            None => self.planned_again(call, &held, &timer).await?,
        };
        let request = call.id;
        let schema = Arc::clone(&planned.schema);
        let answer = if planned.explains {
            let query = Arc::clone(&planned.query);
            let explain = async move {
                let rows = QuerySession::explain(&query);
                rows.map_err(|error| status::of_query(&error, "", request))
            };
            let rows = self.on_planning_lane(call, &timer, explain).await?;
            call.meter.bills(request)?;
            encoded(stream::iter([Ok(rows)]), schema, request, false)
        } else {
            let ready = self.ready(call, &held, &planned, &timer).await?;
            call.meter.bills(request)?;
            let (lanes, of) = (self.engine.lanes(), call.principal().organisation_id);
            // The number of batches must not reveal how rows of other organisations lie between the caller's.
            let is_even = *planned.visible != Visible::All;
            let run = move || match ready.run() {
                Ok(batches) => encoded(batches, schema, request, is_even),
                Err(error) => {
                    let status = status::of_execution(&error, request);
                    stream::iter([Err(super::call::stamped(status, request))]).boxed()
                }
            };
            let answer = match planned.query.is_short {
                true => lanes.short(of, timer, run()),
                false => lanes.long(of, timer, run),
            };
            let cut = move |cut: CutShort| Err(status::of_cut(&cut, request));
            answer.map(move |item| item.unwrap_or_else(cut)).boxed()
        };
        let guarded = self
            .running
            .guard(held.query(), call.access.clone(), answer);
        Ok(guarded.boxed())
    }

    /// Makes the physical plan; on the planning threads, unless the query is short.
    async fn ready(
        &self,
        call: &Call,
        held: &Held,
        planned: &Planned,
        timer: &QueryTimer,
    ) -> Result<ReadyQuery, Status> {
        let (session, query) = (planned.session.clone(), Arc::clone(&planned.query));
        let (scanned, token) = (call.meter.scanned(), timer.token().clone());
        if query.is_short {
            let ready = session.ready(&query, scanned, token).await;
            return ready.map_err(|error| status::of_query(&error, &held.sql, call.id));
        }
        let (sql, request) = (held.sql.clone(), call.id);
        let ready = async move {
            let ready = session.ready(&query, scanned, token).await;
            ready.map_err(|error| status::of_query(&error, &sql, request))
        };
        self.on_planning_lane(call, timer, ready).await
    }

    async fn planned_again(
        &self,
        call: &Call,
        held: &Held,
        timer: &QueryTimer,
    ) -> Result<Planned, Status> {
        let failed = |error| status::of_query(&error, &held.sql, call.id);
        let published = match held.run {
            Some(run) => self.engine.published(run).await.map_err(failed)?,
            None => Some(self.engine.newest()),
        };
        let published = published.ok_or_else(|| {
            Status::not_found(
                "the table versions of this ticket no longer exist; run the query again",
            )
        })?;
        let planned = self.planned(call, held, published, timer).await?;
        planned.map_err(|_| Status::invalid_argument("SET returns no result"))
    }

    /// Prepares a statement: returns its handle, and the schemas of its result and parameters.
    pub(super) async fn prepare(&self, call: &Call, sql: String) -> Result<Prepared, Status> {
        self.note(call, &sql);
        let options = self.sessions.options(call.principal());
        let mut held = Held::new(call.principal(), call.id, sql);
        held.time_zone = options.time_zone;
        held.schema = options.schema;
        let handle = held.seal(Kind::Statement, self.auth.keys())?;
        let published = self.engine.newest();
        held.run = Some(published.run());
        let known = self.known_plan(call, &held);
        METRICS.engine.looked_up(Cache::Plans, known.is_some());
        let description = match known {
            Some(planned) => planned.description,
            None => self.described(call, &held, published).await?,
        };
        Ok(Prepared {
            handle,
            description,
        })
    }

    /// Returns the schemas of the result and of the parameters.
    async fn described(
        &self,
        call: &Call,
        held: &Held,
        published: Arc<PublishedTables>,
    ) -> Result<Description, Status> {
        let visible = self.visible(call);
        let unplanned = self.unplanned(call, held, published)?;
        let session = unplanned.session.clone();
        let planning = match unplanned.simple() {
            Some(statement) => unplanned.describe(Some(statement)).await?,
            None => {
                let timer = self.engine.lanes().timer();
                self.on_planning_lane(call, &timer, unplanned.describe(None))
                    .await?
            }
        };
        match planning {
            Planning::Made(made) => Ok(self.kept(call, held, session, made, visible).description),
            Planning::Described(description) => Ok(description),
            Planning::Set(option) => {
                self.check_option(&option)?;
                Description::new(&Schema::empty(), &Schema::empty())
            }
        }
    }

    /// Binds parameters to a statement. Returns a new handle.
    pub(super) async fn bind(
        &self,
        call: &Call,
        mut held: Held,
        rows: Vec<RecordBatch>,
    ) -> Result<Vec<u8>, Status> {
        held.parameters = match rows.first().map(RecordBatch::schema) {
            Some(schema) if schema.fields().len() > MAX_SIMPLE_PARAMETERS => {
                let encode = async move { super::parameters::to_ipc(&schema, &rows) };
                self.on_planning_lane(call, &self.timer(), encode).await?
            }
            Some(schema) => super::parameters::to_ipc(&schema, &rows)?,
            None => Vec::new(),
        };
        held.seal(Kind::Statement, self.auth.keys())
    }

    /// Records the statement of a call in its usage record, and logs it if statements are logged.
    fn note(&self, call: &Call, sql: &str) {
        call.meter.is_about(sql, &self.fingerprints);
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

/// Encodes batches for the client. With `is_even`, they are regrouped so that their sizes depend on the rows alone.
fn encoded(
    batches: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send + Unpin + 'static,
    schema: SchemaRef,
    request: Uuid,
    is_even: bool,
) -> BoxStream<'static, Result<FlightData, Status>> {
    let edge = Arc::clone(&schema);
    let batches = batches.map(move |batch| {
        let batch = batch
            .map_err(|error| FlightError::Tonic(Box::new(status::of_execution(&error, request))))?;
        to_answer(&batch, &edge).map_err(FlightError::from)
    });
    let batches = match is_even {
        true => EvenBatches::new(batches, Arc::clone(&schema), EVEN_ROWS).left_stream(),
        false => batches.right_stream(),
    };
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(MESSAGE)
        .build(batches)
        .map(move |message| {
            let message = message.map_err(|error| of_flight(error, request))?;
            // The encoder does not divide a row.
            match message.data_body.len() {
                bytes if bytes > LARGEST_ROW => Err(too_wide(bytes)),
                _ => Ok(message),
            }
        });
    computed(messages, request)
}

fn too_wide(bytes: usize) -> Status {
    Status::invalid_argument(format!(
        "cannot send a row of {bytes} bytes; the limit is {LARGEST_ROW}; return less data per row"
    ))
}

/// Converts the error of an encoder to a status.
fn of_flight(error: FlightError, request: Uuid) -> Status {
    match error {
        FlightError::Tonic(status) => super::call::stamped(*status, request),
        // A computed value cannot be converted to its wire type.
        FlightError::Arrow(error) => {
            let status = status::of_execution(&DataFusionError::from(error), request);
            super::call::stamped(status, request)
        }
        error => super::call::stamped(
            status::hidden(&error, request, "cannot encode the result"),
            request,
        ),
    }
}
