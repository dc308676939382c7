//! Ingest of readings that clients send (`CommandStatementIngest`, which ADBC's `adbc_ingest` uses): checks the permission,
//! and writes the messages into a raw file.

use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::sql::CommandStatementIngest;
use futures::Stream;
use tonic::{Code, Status};
use uuid::Uuid;

use super::commands::no_transactions;
use crate::engine::{CATALOG, INGESTED, Ingest, IngestAssets, IngestError, PUBLIC};
use crate::server::errors::error_text::data_error_text;
use crate::server::errors::status;
use crate::server::limits::{IngestLimits, MAX_PUT_MESSAGE_BYTES};
use crate::server::middleware::Call;
use crate::server::state::ingest_permits::NoIngestPermit;
use crate::server::state::running_queries::access_ended_status;
use crate::server::state::server::Server;
use crate::server::wire::batch_decoder::{
    BatchDecoder, DecodeError, DecodeLimits, accept_any_type,
};
use crate::server::wire::body_check::BodyLimits;

/// The only table that accepts data.
const TARGET: &str = "raw_readings";
/// The minimum size of a reading, in bytes: its time.
const MIN_READING_BYTES: u64 = 8;
/// The maximum number of messages of one ingest. Each counts towards the limit on bytes as well.
const MAX_MESSAGES: u64 = 1 << 20;

fn decode_limits(limits: IngestLimits) -> DecodeLimits {
    DecodeLimits {
        max_bytes: limits.max_bytes,
        max_messages: MAX_MESSAGES,
        idle_timeout: limits.idle_timeout,
        body: BodyLimits {
            max_bytes: MAX_PUT_MESSAGE_BYTES as u64,
            max_rows: u64::MAX,
            min_row_bytes: MIN_READING_BYTES,
            may_be_compressed: true,
        },
        check_type: accept_any_type,
    }
}

impl Server {
    /// Stores the readings that a client sends, all or none. Returns their number.
    pub(in crate::server) async fn ingest(
        &self,
        call: &Call,
        command: &CommandStatementIngest,
        messages: impl Stream<Item = Result<FlightData, Status>> + Unpin + Send + 'static,
    ) -> Result<usize, Status> {
        check_target(command, || self.is_known_table(call, command))?;
        let principal = call.principal();
        if !principal.may_ingest {
            return Err(Status::permission_denied(
                "only users and keys with the ingest permission may send readings; an admin grants it: \
                 `plantlake user change … --ingest on`, and `plantlake key create … --ingest`",
            ));
        }
        if principal.write_grants.is_empty() {
            return Err(no_write_grant_status(&principal.organisation));
        }
        call.meter.mark_billable(call.id)?;
        call.meter.persist_start(call.id)?;
        let organisation = principal.organisation_id;
        let place = self
            .ingest_permits
            .acquire(organisation)
            .map_err(no_permit_status)?;
        let mut batches = BatchDecoder::new(messages, decode_limits(self.limits.ingest));
        let first = batches.next().await.map_err(from_decode_error)?;
        let schema = batches
            .schema()
            .ok_or_else(|| Status::invalid_argument("the readings have no schema"))?;
        let path = format!("{INGESTED}/{}/{}.parquet", organisation.0, call.id);
        let allowed = IngestAssets {
            writable: self.tenants.writable(principal, &self.engine.catalog()),
            visible: self.visible(call),
        };
        let begun = self.engine.ingest(&path, schema, allowed);
        let mut ingest = begun.map_err(|error| from_ingest_error(&error, call.id))?;
        let (access, request) = (call.access.clone(), call.id);
        let kept = self.engine.scheduler().run_without_permit(async move {
            let _place = place;
            let taken = tokio::select! {
                taken = receive(&mut ingest, first, batches, request) => taken,
                ended = access.wait_for_end() => Err(access_ended_status(&ended)),
            };
            // The readings may all have been there when the access ended, so it is checked again.
            let taken =
                taken.and_then(|()| access.check().map_err(|ended| access_ended_status(&ended)));
            match taken {
                Ok(()) => {
                    let kept = ingest.finish().await;
                    kept.map_err(|error| from_ingest_error(&error, request))
                }
                Err(status) => {
                    ingest.abort().await;
                    Err(status)
                }
            }
        });
        let rows = kept
            .await
            .unwrap_or_else(|| Err(Status::unavailable("the server is shutting down")))?;
        call.meter.count_ingested(rows);
        tracing::info!(request = %call.id, %organisation, rows, "readings were stored as {path}");
        Ok(rows)
    }
}

impl Server {
    /// Whether the caller sees a table with the name in the command.
    fn is_known_table(
        &self,
        call: &Call,
        command: &CommandStatementIngest,
    ) -> Result<bool, Status> {
        let options = self.sessions.options(call.principal());
        let schemas = self.session(call, &options, None)?.schemas();
        let wanted = command.schema.as_deref().unwrap_or(PUBLIC);
        let mut schemas = schemas.iter().filter(|(name, _)| name == wanted);
        let is_own_catalog = command.catalog.as_deref().is_none_or(|it| it == CATALOG);
        Ok(is_own_catalog && schemas.any(|(_, tables)| tables.table_exist(&command.table)))
    }
}

async fn receive(
    ingest: &mut Ingest,
    first: Option<RecordBatch>,
    mut batches: BatchDecoder<impl Stream<Item = Result<FlightData, Status>> + Unpin>,
    request: Uuid,
) -> Result<(), Status> {
    let mut batch = first;
    while let Some(readings) = batch {
        let taken = ingest.write(&readings).await;
        taken.map_err(|error| from_ingest_error(&error, request))?;
        batch = batches.next().await.map_err(from_decode_error)?;
    }
    Ok(())
}

/// Checks that the command appends to the one table for readings; nothing else is supported. `is_known` determines whether
/// another table exists.
fn check_target(
    command: &CommandStatementIngest,
    is_known: impl FnOnce() -> Result<bool, Status>,
) -> Result<(), Status> {
    if command.transaction_id.is_some() {
        return Err(no_transactions());
    }
    let is = |named: &Option<String>, name: &str| named.as_deref().is_none_or(|it| it == name);
    if command.table != TARGET
        || !is(&command.schema, PUBLIC)
        || !is(&command.catalog, CATALOG)
        || command.temporary
    {
        let code = match command.temporary || is_known()? {
            true => Code::InvalidArgument,
            false => Code::NotFound,
        };
        let text = format!(
            "cannot write to the table {:?}: only {TARGET} accepts readings",
            command.table
        );
        return Err(Status::new(code, text));
    }
    let options = command.table_definition_options.as_ref();
    // The options are compared by their names in FlightSql.proto. Without options, the command appends.
    let appends = options.is_none_or(|options| {
        options.if_not_exist().as_str_name() != "TABLE_NOT_EXIST_OPTION_CREATE"
            && [
                "TABLE_EXISTS_OPTION_APPEND",
                "TABLE_EXISTS_OPTION_UNSPECIFIED",
            ]
            .contains(&options.if_exists().as_str_name())
    });
    if !appends {
        return Err(Status::invalid_argument(format!(
            "cannot create or replace {TARGET}: it exists, and only accepts appends; use mode=\"append\""
        )));
    }
    Ok(())
}

/// Returns the status for an organisation whose grants are all read-only.
fn no_write_grant_status(organisation: &str) -> Status {
    let organisation = organisation.escape_debug();
    Status::permission_denied(format!(
        "your organisation has no write grant: ask the operator to grant writing for the assets of the readings, \
         such as `plantlake org grant \"{organisation}\" --location \"PLACE\" --write`"
    ))
}

/// Returns the status for too many ingests at once.
fn no_permit_status(reason: NoIngestPermit) -> Status {
    Status::unavailable(match reason {
        NoIngestPermit::All => "too many concurrent ingests; try again in a moment".to_owned(),
        NoIngestPermit::Organisation(most) => format!(
            "your organisation has {most} concurrent ingests, which is the limit; try again in a moment"
        ),
    })
}

/// Converts a decoding error to a status.
fn from_decode_error(error: DecodeError) -> Status {
    match error {
        DecodeError::Stream(status) => match status.code() {
            Code::OutOfRange => Status::invalid_argument(format!(
                "{}; nothing was kept, send the readings in batches of fewer rows",
                status.message()
            )),
            _ => status,
        },
        DecodeError::Idle(time) => Status::deadline_exceeded(format!(
            "no readings arrived for {} s; nothing was kept, send them again",
            time.as_secs()
        )),
        DecodeError::TooManyBytes(most) => Status::invalid_argument(format!(
            "the readings exceed {most} bytes, decompressed, the limit of an ingest; nothing was kept, send them in parts"
        )),
        DecodeError::TooManyMessages(most) => Status::invalid_argument(format!(
            "the readings exceed {most} messages, the limit of an ingest; nothing was kept, send larger batches"
        )),
        DecodeError::Invalid(reason) => Status::invalid_argument(format!(
            "cannot decode the readings: {}; nothing was kept",
            data_error_text(&reason.to_string())
        )),
    }
}

fn from_ingest_error(error: &IngestError, request: Uuid) -> Status {
    match error {
        IngestError::WriteFailed(_) => status::hidden_error(
            error,
            request,
            "cannot store the readings, none of them was kept",
        ),
        IngestError::Unusable(_) => Status::invalid_argument(data_error_text(&error.to_string())),
        error => Status::invalid_argument(error.to_string()),
    }
}
