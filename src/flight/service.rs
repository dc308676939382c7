//! The gRPC service behind the gate: dispatches each call, and adds its id to the response.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    Command, DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use super::actions;
use super::call::{Call, add_request_id, with_request_id};
use super::call_context::{CallContext, client_address};
use super::messages::{decode_command, no_substrait, no_transactions, schema_bytes};
use super::metered::{
    Meter, Metered, MeteredStream, end_unary, metering_unavailable, usage_caller,
};
use super::parameters::receive_parameters;
use super::server::Server;
use super::statements::PlannedStatement;
use super::status;
use crate::auth::Access;
use crate::clock::Stopwatch;
use crate::engine::Statement;
use crate::metering::RateLimitKind;

/// The header that warns that a quota is nearly used up.
const WARNING_HEADER: &str = "plantlake-warning";
/// The Flight service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Service(pub Arc<Server>);

type RpcResult<T> = Result<Response<T>, Status>;
type ResponseStream<T> = BoxStream<'static, Result<T, Status>>;

/// A call in progress.
struct InFlightCall {
    call: Call,
    stopwatch: Stopwatch,
}

impl Service {
    /// Begins a call that the gate has authenticated.
    fn begin<T>(&self, name: &'static str, request: &Request<T>) -> Result<InFlightCall, Status> {
        let entry = request
            .extensions()
            .get::<CallContext>()
            .ok_or_else(unauthenticated)?;
        let (id, since) = (entry.id, entry.stopwatch);
        let call = self.call(name, id, entry.access.clone(), request);
        let call = call.map_err(|status| with_request_id(status, id))?;
        Ok(InFlightCall {
            call,
            stopwatch: since,
        })
    }

    fn call<T>(
        &self,
        rpc: &'static str,
        id: Uuid,
        access: Access,
        request: &Request<T>,
    ) -> Result<Call, Status> {
        let caller = usage_caller(access.principal(), request);
        let open = self.0.meter.open(id, caller);
        let open = open.map_err(|error| metering_unavailable(&error, id))?;
        Ok(Call {
            id,
            access,
            address: client_address(request),
            rpc,
            meter: Meter::new(open, rpc),
        })
    }

    /// Writes the usage record of the call, logs the call, and adds its id to the response.
    async fn end<T: Metered>(begun: InFlightCall, answer: Result<T, Status>) -> RpcResult<T> {
        let id = begun.call.id;
        Self::log(&begun, &answer);
        let request = begun.call.meter.into_request();
        let recorded = end_unary(request, answer.as_ref(), id).await;
        add_request_id(recorded.and(answer).map(Response::new), id)
    }

    /// Ends a call whose response has many messages: its record is written when the response ends.
    async fn end_stream<T: Metered + Unpin + Send + 'static>(
        begun: InFlightCall,
        answer: Result<ResponseStream<T>, Status>,
    ) -> RpcResult<ResponseStream<T>> {
        let id = begun.call.id;
        Self::log(&begun, &answer);
        let warning = begun.call.meter.warning();
        let request = begun.call.meter.into_request();
        let answer = match answer {
            Ok(messages) => {
                let messages = MeteredStream::begin(messages, request, id).await;
                let mut response = Response::new(messages.boxed());
                // A warning that is not valid header text is only in the log.
                if let Some(warning) = warning.and_then(|warning| warning.parse().ok()) {
                    response.metadata_mut().insert(WARNING_HEADER, warning);
                }
                Ok(response)
            }
            Err(status) => {
                let recorded = end_unary::<FlightInfo>(request, Err(&status), id).await;
                Err(recorded.err().unwrap_or(status))
            }
        };
        add_request_id(answer, id)
    }

    fn log<T>(begun: &InFlightCall, answer: &Result<T, Status>) {
        let principal = begun.call.principal();
        let code = match answer {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        };
        tracing::info!(
            request = %begun.call.id,
            call = begun.call.rpc,
            organisation = %principal.organisation_id,
            user = %principal.user_id,
            ?code,
            seconds = begun.stopwatch.seconds(),
            "answered"
        );
    }

    /// Decodes the command in a message of a call, and checks the rate limit of the caller's organisation.
    fn accept_command(&self, call: &Call, message: &[u8]) -> Result<Command, Status> {
        let command = decode_command(message)?;
        let name = command.type_url().rsplit('.').next().unwrap_or_default();
        let mut kinds = ["Command", "Ticket"].iter();
        let name = kinds
            .find_map(|kind| name.strip_prefix(kind))
            .unwrap_or(name);
        call.set_command(match &command {
            // The client's name for it may be megabytes long, and would be stored.
            Command::Unknown(_) => "unknown",
            _ => name,
        });
        let is_part_of_another = match &command {
            Command::TicketStatementQuery(_) => true,
            // DoPut of this command binds parameters.
            Command::CommandPreparedStatementQuery(_) => call.rpc == "DoPut",
            _ => false,
        };
        if !is_part_of_another {
            self.0.check_rate_limit(call, RateLimitKind::Query)?;
        }
        Ok(command)
    }

    async fn info(&self, call: &Call, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        let command = self.accept_command(call, &descriptor.cmd)?;
        let asked = match &command {
            Command::CommandStatementQuery(query) => {
                if query.transaction_id.is_some() {
                    return Err(no_transactions());
                }
                let timer = self.0.timer();
                self.0
                    .plan_statement(call, query.query.clone(), &timer)
                    .await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                let handle = &query.prepared_statement_handle;
                let timer = self.0.timer();
                self.0.plan_prepared(call, handle, &timer).await?
            }
            Command::CommandStatementSubstraitPlan(_) => return Err(no_substrait()),
            _ => {
                let rows = self
                    .0
                    .describe(call, &command)
                    .await?
                    .ok_or_else(unsupported_command)?;
                // The command itself is the ticket.
                let ticket = Ticket::new(descriptor.cmd.clone());
                let info = flight_info(schema_bytes(&rows.schema())?);
                let endpoint = FlightEndpoint::new().with_ticket(ticket);
                return Ok(info.with_endpoint(endpoint).with_descriptor(descriptor));
            }
        };
        let info = match asked {
            PlannedStatement::NoResult => flight_info(schema_bytes(&Schema::empty())?),
            PlannedStatement::Rows { schema, ticket } => {
                let ticket = TicketStatementQuery {
                    statement_handle: ticket.into(),
                };
                let ticket = Ticket::new(ticket.as_any().encode_to_vec());
                flight_info(schema).with_endpoint(FlightEndpoint::new().with_ticket(ticket))
            }
        };
        Ok(info.with_descriptor(descriptor))
    }

    async fn schema(
        &self,
        call: &Call,
        descriptor: &FlightDescriptor,
    ) -> Result<SchemaResult, Status> {
        let command = self.accept_command(call, &descriptor.cmd)?;
        let schema = match &command {
            Command::CommandStatementQuery(query) => {
                let prepared = self.0.prepare(call, query.query.clone()).await?;
                prepared.description.schema
            }
            Command::CommandPreparedStatementQuery(query) => {
                let kind = super::ticket::HandleKind::Statement;
                let held = self
                    .0
                    .decrypt_handle(call, kind, &query.prepared_statement_handle)?;
                self.0.prepare(call, held.sql).await?.description.schema
            }
            Command::CommandStatementSubstraitPlan(_) => return Err(no_substrait()),
            _ => {
                let rows = self.0.describe(call, &command).await?;
                schema_bytes(&rows.ok_or_else(unsupported_command)?.schema())?
            }
        };
        Ok(SchemaResult { schema })
    }

    async fn get(
        &self,
        call: &Call,
        ticket: &Ticket,
    ) -> Result<ResponseStream<FlightData>, Status> {
        let command = self.accept_command(call, &ticket.ticket)?;
        // The timer covers both planning and running, if one call does both.
        let timer = self.0.timer();
        match &command {
            Command::TicketStatementQuery(ticket) => {
                self.0
                    .result_stream(call, &ticket.statement_handle, timer)
                    .await
            }
            // Some drivers fetch the result of a prepared statement by its handle.
            Command::CommandPreparedStatementQuery(query) => {
                let handle = &query.prepared_statement_handle;
                match self.0.plan_prepared(call, handle, &timer).await? {
                    PlannedStatement::Rows { ticket, .. } => {
                        self.0.result_stream(call, &ticket, timer).await
                    }
                    PlannedStatement::NoResult => {
                        Err(Status::invalid_argument("SET returns no result"))
                    }
                }
            }
            _ => {
                let rows = self
                    .0
                    .describe(call, &command)
                    .await?
                    .ok_or_else(unsupported_command)?;
                Ok(encode_batch(rows))
            }
        }
    }

    async fn put(&self, call: &Call, request: Streaming<FlightData>) -> Result<PutResult, Status> {
        let updated = DoPutUpdateResult { record_count: 0 }.encode_to_vec();
        let mut request = request.peekable();
        let first = match Pin::new(&mut request).peek().await {
            Some(Ok(first)) => first,
            Some(Err(status)) => return Err(status.clone()),
            // Without rows, ADBC does not even send the command.
            None => {
                return Ok(PutResult {
                    app_metadata: updated.into(),
                });
            }
        };
        let descriptor = first.flight_descriptor.as_ref();
        let descriptor = descriptor
            .ok_or_else(|| Status::invalid_argument("the first message has no command"))?;
        let result = match self.accept_command(call, &descriptor.cmd)? {
            Command::CommandPreparedStatementQuery(query) => {
                // The handle is checked before the body is read.
                let kind = super::ticket::HandleKind::Statement;
                let handle = &query.prepared_statement_handle;
                let held = self.0.decrypt_handle(call, kind, handle)?;
                let batches =
                    receive_parameters(request, self.0.limits.ingest.idle_timeout).await?;
                let handle = self.0.bind(call, held, batches).await?;
                DoPutPreparedStatementResult {
                    prepared_statement_handle: Some(handle.into()),
                }
                .encode_to_vec()
            }
            Command::CommandStatementUpdate(update) => {
                self.run_set(call, update.query).await?;
                updated
            }
            Command::CommandPreparedStatementUpdate(update) => {
                let kind = super::ticket::HandleKind::Statement;
                let handle = &update.prepared_statement_handle;
                let held = self.0.decrypt_handle(call, kind, handle)?;
                self.run_set(call, held.sql).await?;
                updated
            }
            Command::CommandStatementIngest(command) => {
                let rows = self.0.ingest(call, &command, request).await?;
                DoPutUpdateResult {
                    record_count: rows as i64,
                }
                .encode_to_vec()
            }
            Command::CommandStatementSubstraitPlan(_) => return Err(no_substrait()),
            _ => return Err(unsupported_command()),
        };
        Ok(PutResult {
            app_metadata: result.into(),
        })
    }

    /// Runs a statement that is meant to change something: of those, only `SET` is supported.
    async fn run_set(&self, call: &Call, sql: String) -> Result<(), Status> {
        let timer = self.0.timer();
        let parsed = match Statement::parse_simple(&sql) {
            Some(parsed) => parsed,
            None => {
                let (text, id) = (sql.clone(), call.id);
                let parse = async move {
                    Statement::parse(&text)
                        .map_err(|error| status::from_query_error(&error, &text, id))
                };
                self.0.run_on_planning_threads(call, &timer, parse).await?
            }
        };
        match parsed {
            Statement::Set(_) => self.0.plan_statement(call, sql, &timer).await.map(|_| ()),
            _ => Err(Status::invalid_argument(
                "a query is not an update; run it with execute, not with executemany or executeupdate",
            )),
        }
    }
}

/// Returns a FlightInfo; `schema` is an encapsulated IPC message.
fn flight_info(schema: Bytes) -> FlightInfo {
    FlightInfo {
        schema,
        ..FlightInfo::new()
    }
}

fn encode_batch(rows: RecordBatch) -> ResponseStream<FlightData> {
    FlightDataEncoderBuilder::new()
        .with_schema(rows.schema())
        .build(stream::iter([Ok(rows)]))
        .map_err(Status::from)
        .boxed()
}

/// Returns the status for a call that did not come through the gate; there is no other way in.
fn unauthenticated() -> Status {
    Status::unauthenticated("the call was not authenticated")
}

fn unsupported_command() -> Status {
    Status::unimplemented("this Flight SQL command is not supported")
}

#[async_trait]
impl FlightService for Service {
    type HandshakeStream = ResponseStream<HandshakeResponse>;
    type ListFlightsStream = ResponseStream<FlightInfo>;
    type DoGetStream = ResponseStream<FlightData>;
    type DoPutStream = ResponseStream<PutResult>;
    type DoActionStream = ResponseStream<arrow_flight::Result>;
    type ListActionsStream = ResponseStream<ActionType>;
    type DoExchangeStream = ResponseStream<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> RpcResult<Self::HandshakeStream> {
        let entry = request.extensions().get::<CallContext>().cloned();
        let entry = entry.ok_or_else(unauthenticated)?;
        let (id, access) = (entry.id, entry.access);
        let credential = entry.credential.ok_or_else(unauthenticated)?;
        let call = self.call("Handshake", id, access, &request);
        let call = call.map_err(|status| with_request_id(status, id))?;
        let header = format!("Bearer {credential}").parse();
        let header =
            header.map_err(|_| Status::internal("the token is not a valid header value"))?;
        let message = HandshakeResponse {
            protocol_version: 0,
            payload: credential.into(),
        };
        let messages = stream::iter([Ok(message)]).boxed();
        let messages = MeteredStream::begin(messages, call.meter.into_request(), id).await;
        let mut response = Response::new(messages.boxed());
        response.metadata_mut().insert("authorization", header);
        add_request_id(Ok(response), id)
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> RpcResult<FlightInfo> {
        let begun = self.begin("GetFlightInfo", &request)?;
        let work = self.info(&begun.call, request.into_inner());
        let answer = begun.call.run(work).await;
        Self::end(begun, answer).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> RpcResult<PollInfo> {
        let begun = self.begin("PollFlightInfo", &request)?;
        let work = self.info(&begun.call, request.into_inner());
        let answer = begun.call.run(work).await;
        let answer = answer.map(|info| PollInfo {
            info: Some(info),
            flight_descriptor: None,
            progress: Some(1.0),
            expiration_time: None,
        });
        Self::end(begun, answer).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> RpcResult<SchemaResult> {
        let begun = self.begin("GetSchema", &request)?;
        let work = self.schema(&begun.call, request.get_ref());
        let answer = begun.call.run(work).await;
        Self::end(begun, answer).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> RpcResult<Self::DoGetStream> {
        let begun = self.begin("DoGet", &request)?;
        let work = self.get(&begun.call, request.get_ref());
        let answer = begun.call.run(work).await;
        Self::end_stream(begun, answer).await
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> RpcResult<Self::DoPutStream> {
        let begun = self.begin("DoPut", &request)?;
        let work = self.put(&begun.call, request.into_inner());
        let answer = begun.call.run(work).await;
        let answer = answer.map(|result| stream::iter([Ok(result)]).boxed());
        Self::end_stream(begun, answer).await
    }

    async fn do_action(&self, request: Request<Action>) -> RpcResult<Self::DoActionStream> {
        let begun = self.begin("DoAction", &request)?;
        let work = self.0.run_action(&begun.call, request.get_ref());
        let answer = begun.call.run(work).await;
        let answer = answer.map(|bodies| {
            let results: Vec<_> = bodies
                .into_iter()
                .map(|body| Ok(arrow_flight::Result { body }))
                .collect();
            stream::iter(results).boxed()
        });
        Self::end_stream(begun, answer).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> RpcResult<Self::ListActionsStream> {
        let begun = self.begin("ListActions", &request)?;
        let admitted = self.0.check_rate_limit(&begun.call, RateLimitKind::Action);
        let actions = actions::list_actions().into_iter().map(Ok);
        let answer = admitted.map(|()| stream::iter(actions).boxed());
        Self::end_stream(begun, answer).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> RpcResult<Self::ListFlightsStream> {
        let begun = self.begin("ListFlights", &request)?;
        let answer = Status::unimplemented("ListFlights is not supported; use Flight SQL");
        Self::end_stream(begun, Err(answer)).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> RpcResult<Self::DoExchangeStream> {
        let begun = self.begin("DoExchange", &request)?;
        let answer = Status::unimplemented("DoExchange is not supported; use Flight SQL");
        Self::end_stream(begun, Err(answer)).await
    }
}
