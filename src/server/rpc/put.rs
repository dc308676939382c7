//! `DoPut`: binds parameters, changes the session with `SET`, and ingests readings.

use std::pin::Pin;

use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{FlightData, PutResult};
use futures::StreamExt;
use futures::stream::Peekable;
use prost::Message;
use tonic::{Status, Streaming};

use super::queries::query_work;
use crate::engine::Statement;
use crate::server::errors::status;
use crate::server::flightsql::commands::{
    command_name, decode_command, no_substrait, unsupported_command,
};
use crate::server::middleware::{Call, MessageStream, RequestMessages, Rpc, Work};
use crate::server::state::parameters::receive_parameters;
use crate::server::state::server::Server;
use crate::server::state::ticket::HandleKind;

/// Receives a command and the data for it.
pub(in crate::server) struct DoPut;

impl Rpc for DoPut {
    const MESSAGES: RequestMessages = RequestMessages::LargeStream;
    type Request = Streaming<FlightData>;
    /// None if no message was sent: without rows, ADBC does not even send the command.
    type Task = Option<(Command, Peekable<Streaming<FlightData>>)>;
    type Reply = MessageStream<PutResult>;

    async fn decode(messages: Streaming<FlightData>) -> Result<Self::Task, Status> {
        let mut messages = messages.peekable();
        let first = match Pin::new(&mut messages).peek().await {
            Some(Ok(first)) => first,
            Some(Err(status)) => return Err(status.clone()),
            None => return Ok(None),
        };
        let descriptor = first.flight_descriptor.as_ref();
        let descriptor = descriptor
            .ok_or_else(|| Status::invalid_argument("the first message has no command"))?;
        Ok(Some((decode_command(&descriptor.cmd)?, messages)))
    }

    fn work(task: &Self::Task) -> Work<'_> {
        match task {
            None => Work::UNLIMITED,
            // Binding parameters belongs to the call that prepares the statement, and to the one that runs it.
            Some((command @ Command::CommandPreparedStatementQuery(_), _)) => Work {
                command: Some(command_name(command)),
                rate_limit: None,
                ..Work::UNLIMITED
            },
            Some((command, _)) => query_work(command),
        }
    }

    async fn handle(server: &Server, call: &Call, task: Self::Task) -> Result<Self::Reply, Status> {
        let result = match task {
            Some((command, messages)) => server.put(call, command, messages).await?,
            None => DoPutUpdateResult { record_count: 0 }.encode_to_vec(),
        };
        Ok(MessageStream::known([PutResult {
            app_metadata: result.into(),
        }]))
    }
}

impl Server {
    /// Runs a command with the data in `messages`. Returns its encoded result.
    async fn put(
        &self,
        call: &Call,
        command: Command,
        messages: Peekable<Streaming<FlightData>>,
    ) -> Result<Vec<u8>, Status> {
        let updated = |rows| DoPutUpdateResult { record_count: rows }.encode_to_vec();
        match command {
            Command::CommandPreparedStatementQuery(query) => {
                // The handle is checked before the body is read.
                let handle = &query.prepared_statement_handle;
                let held = self.decrypt_handle(call, HandleKind::Statement, handle)?;
                let batches = receive_parameters(messages, self.limits.ingest.idle_timeout).await?;
                let handle = self.bind(call, held, batches).await?;
                let result = DoPutPreparedStatementResult {
                    prepared_statement_handle: Some(handle.into()),
                };
                Ok(result.encode_to_vec())
            }
            Command::CommandStatementUpdate(update) => {
                self.run_set(call, update.query).await?;
                Ok(updated(0))
            }
            Command::CommandPreparedStatementUpdate(update) => {
                let handle = &update.prepared_statement_handle;
                let held = self.decrypt_handle(call, HandleKind::Statement, handle)?;
                self.run_set(call, held.sql).await?;
                Ok(updated(0))
            }
            Command::CommandStatementIngest(command) => {
                let rows = self.ingest(call, &command, messages).await?;
                Ok(updated(rows as i64))
            }
            Command::CommandStatementSubstraitPlan(_) => Err(no_substrait()),
            _ => Err(unsupported_command()),
        }
    }

    /// Runs a statement that is meant to change something: of those, only `SET` is supported.
    async fn run_set(&self, call: &Call, sql: String) -> Result<(), Status> {
        let timer = self.timer();
        let parsed = match Statement::parse_simple(&sql) {
            Some(parsed) => parsed,
            None => {
                let (text, id) = (sql.clone(), call.id);
                let parse = async move {
                    Statement::parse(&text)
                        .map_err(|error| status::from_query_error(&error, &text, id))
                };
                self.run_on_planning_threads(call, &timer, parse).await?
            }
        };
        match parsed {
            Statement::Set(_) => self.plan_statement(call, sql, &timer).await.map(|_| ()),
            _ => Err(Status::invalid_argument(
                "a query is not an update; run it with execute, not with executemany or executeupdate",
            )),
        }
    }
}
