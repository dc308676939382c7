//! Ingest of readings that clients send (`CommandStatementIngest`, which ADBC's `adbc_ingest` uses): checks the permission,
//! and writes the messages into a raw file.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::sql::CommandStatementIngest;
use futures::Stream;
use tonic::{Code, Status};
use uuid::Uuid;

use super::actions::no_transactions;
use super::batch_decoder::{BatchDecoder, DecodeError, DecodeLimits, any_type};
use super::body_check::BodyLimits;
use super::call::Call;
use super::error_text::about_data;
use super::ingest_places::NoPlace;
use super::running::refusal;
use super::server::Server;
use super::status;
use crate::engine::{CATALOG, INGESTED, Ingest, IngestAssets, IngestError, PUBLIC};

/// The only table that accepts data.
const TARGET: &str = "raw_readings";
/// The minimum size of a reading, in bytes: its time.
const MIN_READING_BYTES: u64 = 8;
/// The maximum number of messages of one ingest. Each counts towards the limit on bytes as well.
const MAX_MESSAGES: u64 = 1 << 20;

/// The limits of an ingest.
#[derive(Debug, Clone, Copy)]
pub struct IngestLimits {
    /// The maximum size of the Arrow data, decompressed, in bytes.
    pub bytes: u64,
    /// The time limit for the next message.
    pub unsent: Duration,
}

impl IngestLimits {
    fn decoding(self) -> DecodeLimits {
        DecodeLimits {
            max_bytes: self.bytes,
            max_messages: MAX_MESSAGES,
            idle_timeout: self.unsent,
            body: BodyLimits {
                max_bytes: super::MAX_PUT_MESSAGE_BYTES as u64,
                max_rows: u64::MAX,
                min_row_bytes: MIN_READING_BYTES,
                may_be_compressed: true,
            },
            check_type: any_type,
        }
    }
}

impl Server {
    /// Stores the readings that a client sends, all or none. Returns their number.
    pub(super) async fn ingest(
        &self,
        call: &Call,
        command: &CommandStatementIngest,
        messages: impl Stream<Item = Result<FlightData, Status>> + Unpin + Send + 'static,
    ) -> Result<usize, Status> {
        check_target(command)?;
        let principal = call.principal();
        if !principal.may_ingest {
            return Err(Status::permission_denied(
                "only users and keys with the ingest permission may send readings; an admin grants it: \
                 `plantlake user change … --ingest on`, and `plantlake key create … --ingest`",
            ));
        }
        if principal.write_grants.is_empty() {
            return Err(no_write_grant(&principal.organisation));
        }
        call.meter.bills(call.id)?;
        call.meter.keep(call.id)?;
        let organisation = principal.organisation_id;
        let place = self.ingests.take(organisation).map_err(no_place)?;
        let limits = self.limits.ingest;
        let mut batches = BatchDecoder::new(messages, limits.decoding());
        let first = batches.next().await.map_err(of_decoding)?;
        let schema = batches
            .schema()
            .ok_or_else(|| Status::invalid_argument("the readings have no schema"))?;
        let path = format!("{INGESTED}/{}/{}.parquet", organisation.0, call.id);
        let allowed = IngestAssets {
            writable: self.tenants.writable(principal, &self.engine.catalog()),
            visible: self.visible(call),
        };
        let begun = self.engine.ingest(&path, schema, allowed);
        let mut ingest = begun.map_err(|error| of_ingest(&error, call.id))?;
        let (access, request) = (call.access.clone(), call.id);
        let kept = self.engine.lanes().beside(async move {
            let _place = place;
            let taken = tokio::select! {
                taken = take(&mut ingest, first, batches, request) => taken,
                ended = access.ended() => Err(refusal(&ended)),
            };
            // The readings may all have been there when the access ended, so it is checked again.
            let taken = taken.and_then(|()| access.check().map_err(|ended| refusal(&ended)));
            match taken {
                Ok(()) => {
                    let kept = ingest.keep().await;
                    kept.map_err(|error| of_ingest(&error, request))
                }
                Err(status) => {
                    ingest.refuse().await;
                    Err(status)
                }
            }
        });
        let rows = kept
            .await
            .unwrap_or_else(|| Err(Status::unavailable("the server is shutting down")))?;
        call.meter.took_in(rows);
        tracing::info!(request = %call.id, %organisation, rows, "readings were stored as {path}");
        Ok(rows)
    }
}

async fn take(
    ingest: &mut Ingest,
    first: Option<RecordBatch>,
    mut batches: BatchDecoder<impl Stream<Item = Result<FlightData, Status>> + Unpin>,
    request: Uuid,
) -> Result<(), Status> {
    let mut batch = first;
    while let Some(readings) = batch {
        let taken = ingest.take(&readings).await;
        taken.map_err(|error| of_ingest(&error, request))?;
        batch = batches.next().await.map_err(of_decoding)?;
    }
    Ok(())
}

/// Checks that the command appends to the one table for readings; nothing else is supported.
fn check_target(command: &CommandStatementIngest) -> Result<(), Status> {
    if command.transaction_id.is_some() {
        return Err(no_transactions());
    }
    let is = |named: &Option<String>, name: &str| named.as_deref().is_none_or(|it| it == name);
    if command.table != TARGET
        || !is(&command.schema, PUBLIC)
        || !is(&command.catalog, CATALOG)
        || command.temporary
    {
        return Err(Status::invalid_argument(format!(
            "cannot write to the table {:?}: only {TARGET} accepts readings",
            command.table
        )));
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
fn no_write_grant(organisation: &str) -> Status {
    let organisation = organisation.escape_debug();
    Status::permission_denied(format!(
        "your organisation has no write grant: ask the operator to grant writing for the assets of the readings, \
         such as `plantlake org grant \"{organisation}\" --location \"PLACE\" --write`"
    ))
}

/// Returns the status for too many ingests at once.
fn no_place(reason: NoPlace) -> Status {
    Status::unavailable(match reason {
        NoPlace::All => "too many concurrent ingests; try again in a moment".to_owned(),
        NoPlace::Organisation(most) => format!(
            "your organisation has {most} concurrent ingests, which is the limit; try again in a moment"
        ),
    })
}

/// Converts a decoding error to a status.
fn of_decoding(error: DecodeError) -> Status {
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
            about_data(&reason.to_string())
        )),
    }
}

fn of_ingest(error: &IngestError, request: Uuid) -> Status {
    match error {
        IngestError::Kept(_) => status::hidden(
            error,
            request,
            "cannot store the readings, none of them was kept",
        ),
        IngestError::Unusable(_) => Status::invalid_argument(about_data(&error.to_string())),
        error => Status::invalid_argument(error.to_string()),
    }
}
