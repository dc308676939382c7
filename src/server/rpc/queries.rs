//! The RPCs of queries and metadata: the description of a result, its schema, and the result.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, PollInfo, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::Status;

use crate::metering::RateLimitKind;
use crate::server::flightsql::commands::{
    command_name, decode_command, no_substrait, no_transactions, unsupported_command,
};
use crate::server::flightsql::statements::PlannedStatement;
use crate::server::middleware::{Call, MessageStream, OneMessage, Rpc, Work};
use crate::server::state::server::Server;
use crate::server::state::ticket::HandleKind;
use crate::server::wire::wire_types::schema_bytes;

/// Describes a result, and returns the ticket for it.
pub(in crate::server) struct GetFlightInfo;

impl Rpc for GetFlightInfo {
    type Request = FlightDescriptor;
    type Task = (Command, FlightDescriptor);
    type Reply = OneMessage<FlightInfo>;

    async fn decode(descriptor: FlightDescriptor) -> Result<Self::Task, Status> {
        Ok((decode_command(&descriptor.cmd)?, descriptor))
    }

    fn work((command, _): &Self::Task) -> Work<'_> {
        query_work(command)
    }

    async fn handle(
        server: &Server,
        call: &Call,
        (command, descriptor): Self::Task,
    ) -> Result<Self::Reply, Status> {
        let info = server.info(call, &command, descriptor).await?;
        Ok(OneMessage(info))
    }
}

/// Does the same as [`GetFlightInfo`]: a statement is planned before the response, so there is nothing to poll for.
pub(in crate::server) struct PollFlightInfo;

impl Rpc for PollFlightInfo {
    type Request = FlightDescriptor;
    type Task = (Command, FlightDescriptor);
    type Reply = OneMessage<PollInfo>;

    async fn decode(descriptor: FlightDescriptor) -> Result<Self::Task, Status> {
        Ok((decode_command(&descriptor.cmd)?, descriptor))
    }

    fn work((command, _): &Self::Task) -> Work<'_> {
        query_work(command)
    }

    async fn handle(
        server: &Server,
        call: &Call,
        (command, descriptor): Self::Task,
    ) -> Result<Self::Reply, Status> {
        let info = server.info(call, &command, descriptor).await?;
        Ok(OneMessage(PollInfo {
            info: Some(info),
            flight_descriptor: None,
            progress: Some(1.0),
            expiration_time: None,
        }))
    }
}

/// Returns the schema of a result.
pub(in crate::server) struct GetSchema;

impl Rpc for GetSchema {
    type Request = FlightDescriptor;
    type Task = Command;
    type Reply = OneMessage<SchemaResult>;

    async fn decode(descriptor: FlightDescriptor) -> Result<Command, Status> {
        decode_command(&descriptor.cmd)
    }

    fn work(command: &Command) -> Work<'_> {
        query_work(command)
    }

    async fn handle(server: &Server, call: &Call, command: Command) -> Result<Self::Reply, Status> {
        let schema = server.schema(call, &command).await?;
        Ok(OneMessage(SchemaResult { schema }))
    }
}

/// Returns a result.
pub(in crate::server) struct DoGet;

impl Rpc for DoGet {
    type Request = Ticket;
    type Task = Command;
    type Reply = MessageStream<FlightData>;

    async fn decode(ticket: Ticket) -> Result<Command, Status> {
        decode_command(&ticket.ticket)
    }

    fn work(command: &Command) -> Work<'_> {
        match command {
            // The call that made the ticket has counted. `Server::result_stream` counts further fetches.
            Command::TicketStatementQuery(_) => Work {
                command: Some(command_name(command)),
                rate_limit: None,
                ..Work::UNLIMITED
            },
            _ => query_work(command),
        }
    }

    async fn handle(server: &Server, call: &Call, command: Command) -> Result<Self::Reply, Status> {
        server.get(call, &command).await.map(MessageStream::new)
    }
}

/// Returns the work of a command that counts as a query.
pub(in crate::server) fn query_work(command: &Command) -> Work<'_> {
    Work {
        command: Some(command_name(command)),
        rate_limit: Some(RateLimitKind::Query),
        ..Work::UNLIMITED
    }
}

impl Server {
    async fn info(
        &self,
        call: &Call,
        command: &Command,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, Status> {
        let asked = match command {
            Command::CommandStatementQuery(query) => {
                if query.transaction_id.is_some() {
                    return Err(no_transactions());
                }
                let timer = self.timer();
                self.plan_statement(call, query.query.clone(), &timer)
                    .await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                let handle = &query.prepared_statement_handle;
                let timer = self.timer();
                self.plan_prepared(call, handle, &timer).await?
            }
            Command::CommandStatementSubstraitPlan(_) => return Err(no_substrait()),
            _ => {
                let rows = self
                    .describe(call, command)
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

    async fn schema(&self, call: &Call, command: &Command) -> Result<Bytes, Status> {
        match command {
            Command::CommandStatementQuery(query) => {
                let prepared = self.prepare(call, query.query.clone()).await?;
                Ok(prepared.description.schema)
            }
            Command::CommandPreparedStatementQuery(query) => {
                let handle = &query.prepared_statement_handle;
                let held = self.decrypt_handle(call, HandleKind::Statement, handle)?;
                Ok(self.prepare(call, held.sql).await?.description.schema)
            }
            Command::CommandStatementSubstraitPlan(_) => Err(no_substrait()),
            _ => {
                let rows = self.describe(call, command).await?;
                schema_bytes(&rows.ok_or_else(unsupported_command)?.schema())
            }
        }
    }

    async fn get(
        &self,
        call: &Call,
        command: &Command,
    ) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        // The timer covers both planning and running, if one call does both.
        let timer = self.timer();
        match command {
            Command::TicketStatementQuery(ticket) => {
                self.result_stream(call, &ticket.statement_handle, timer)
                    .await
            }
            // Some drivers fetch the result of a prepared statement by its handle.
            Command::CommandPreparedStatementQuery(query) => {
                let handle = &query.prepared_statement_handle;
                match self.plan_prepared(call, handle, &timer).await? {
                    PlannedStatement::Rows { ticket, .. } => {
                        self.result_stream(call, &ticket, timer).await
                    }
                    PlannedStatement::NoResult => {
                        Err(Status::invalid_argument("SET returns no result"))
                    }
                }
            }
            _ => {
                let rows = self
                    .describe(call, command)
                    .await?
                    .ok_or_else(unsupported_command)?;
                Ok(encode_batch(rows))
            }
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

fn encode_batch(rows: RecordBatch) -> BoxStream<'static, Result<FlightData, Status>> {
    FlightDataEncoderBuilder::new()
        .with_schema(rows.schema())
        .build(stream::iter([Ok(rows)]))
        .map_err(Status::from)
        .boxed()
}
