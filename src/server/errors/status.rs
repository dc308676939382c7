//! Converts errors to statuses for clients: a code that drivers map to the right exception, and a text with a remedy,
//! without paths, data of other organisations or internals of this program. Details that a client may not see are
//! logged with the query's id.

use std::error::Error;
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use tokio::task::JoinError;
use tonic::{Code, Status};
use uuid::Uuid;

use super::error_text::{data_error_text, sanitise};
use crate::auth::AuthError;
use crate::engine::{Cancelled, QueryAborted, QueryError};
use crate::memory;
use crate::store::StoreError;

/// Texts for developers that DataFusion adds to its errors, even if a query is simply invalid.
const DEVELOPER_TEXTS: [&str; 3] = [
    "This feature is not implemented: ",
    "Internal error: ",
    ".\nThis issue was likely caused by a bug in DataFusion's code. Please help us to resolve this by filing a bug report in our issue tracker: https://github.com/apache/datafusion/issues",
];

/// Returns the name of a code in gRPC's documentation.
pub(in crate::server) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Marks a status whose code asks for a retry as caused by the caller's organisation.
#[derive(Debug, thiserror::Error)]
#[error("caused by the caller's organisation")]
struct CausedByCaller;

/// Marks `status` as caused by the caller's organisation, so that it is no fault of the server whatever its code.
pub(in crate::server) fn mark_caused_by_caller(mut status: Status) -> Status {
    status.set_source(Arc::new(CausedByCaller));
    status
}

/// Whether a status is marked as caused by the caller's organisation.
fn is_caused_by_caller(status: &Status) -> bool {
    status
        .source()
        .is_some_and(|source| source.is::<CausedByCaller>())
}

/// Returns the same status with a text that is within the limits.
pub(in crate::server) fn limit_text(status: Status) -> Status {
    let text = sanitise(status.message());
    if text == status.message() {
        return status;
    }
    let details = status.details().to_vec();
    let metadata = status.metadata().clone();
    let within = Status::with_details_and_metadata(status.code(), text, details.into(), metadata);
    match is_caused_by_caller(&status) {
        true => mark_caused_by_caller(within),
        false => within,
    }
}

/// Whether the status reports a fault of the server.
pub(in crate::server) fn is_server_fault(status: &Status) -> bool {
    let code = status.code();
    !is_caused_by_caller(status)
        && matches!(
            code,
            Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss
        )
}

/// Converts an error of authentication.
pub(in crate::server) fn from_auth_error(error: &AuthError, request: Uuid) -> Status {
    let code = match error {
        AuthError::Busy { .. } | AuthError::ShuttingDown => Code::Unavailable,
        AuthError::NoAccess(_) => Code::PermissionDenied,
        AuthError::UnacceptablePassword(_) | AuthError::WrongCurrentPassword => {
            Code::InvalidArgument
        }
        AuthError::Store(error) => return from_store_error(error, request),
        AuthError::Keys(_) | AuthError::NoRandomness | AuthError::Hashing(_) => {
            return hidden_error(error, request, "cannot check credentials");
        }
        _ => Code::Unauthenticated,
    };
    let mut status = Status::new(code, error.to_string());
    if let AuthError::Busy { retry_after } = error {
        let seconds = retry_after.as_secs().max(1);
        status.metadata_mut().insert("retry-after", seconds.into());
    }
    status
}

/// Converts an error of the organisation database.
pub(in crate::server) fn from_store_error(error: &StoreError, request: Uuid) -> Status {
    if error.is_outage() {
        return hidden_error(error, request, "cannot reach the organisation database");
    }
    match error {
        StoreError::NotFound { .. } => Status::not_found(error.to_string()),
        StoreError::AlreadyExists { .. } => Status::already_exists(error.to_string()),
        StoreError::LimitReached { .. }
        | StoreError::LimitTooLow { .. }
        | StoreError::InvalidText(_)
        | StoreError::Refused(_) => Status::invalid_argument(error.to_string()),
        _ => hidden_error(error, request, "the organisation database failed"),
    }
}

/// Converts an error of planning the query `sql`.
pub(in crate::server) fn from_query_error(error: &QueryError, sql: &str, request: Uuid) -> Status {
    let (code, text) = match error {
        QueryError::UnknownTable { .. } => (Code::NotFound, error.to_string()),
        QueryError::Sql(error) if matches!(error.find_root(), DataFusionError::Internal(_)) => {
            from_planning_error(error, request)
        }
        QueryError::Sql(error) => match from_datafusion_error(error, request) {
            Ok(found) => found,
            Err(status) => return status,
        },
        QueryError::Runs(_) | QueryError::Table(_) | QueryError::Catalog(_) => {
            return hidden_error(error, request, "cannot read the tables");
        }
        _ => (Code::InvalidArgument, error.to_string()),
    };
    let place = error.excerpt(sql).map(|place| format!("\n{place}"));
    Status::new(code, format!("{text}{}", place.unwrap_or_default()))
}

/// Converts an error of executing a query.
pub(in crate::server) fn from_execution_error(error: &DataFusionError, request: Uuid) -> Status {
    match from_datafusion_error(error, request) {
        Ok((code, text)) => Status::new(code, text),
        Err(status) => status,
    }
}

/// Converts the reason for which a query was aborted.
pub(in crate::server) fn from_query_aborted(cut: &QueryAborted, request: Uuid) -> Status {
    tracing::info!(%request, "query aborted: {cut}");
    let text = cut.to_string();
    match cut {
        QueryAborted::TimedOut(_) | QueryAborted::PlanningTimedOut(_) => {
            Status::deadline_exceeded(text)
        }
        QueryAborted::OutOfMemory => out_of_memory(),
        QueryAborted::QueueTimedOut(_) | QueryAborted::Failed => Status::unavailable(text),
        QueryAborted::ResultUnread(_) => Status::cancelled(text),
    }
}

/// Returns the status of a query that exceeds the memory limit.
pub(in crate::server) fn out_of_memory() -> Status {
    Status::resource_exhausted(QueryAborted::OutOfMemory.to_string())
}

/// Converts an error that the planner reports as internal, usually because of incompatible types.
fn from_planning_error(error: &DataFusionError, request: Uuid) -> (Code, String) {
    tracing::warn!(%request, "cannot plan a query: {error}");
    let text = strip_developer_texts(&error.find_root().strip_backtrace());
    let first = text.lines().next().unwrap_or_default().to_owned();
    (
        Code::Unimplemented,
        format!("cannot plan the query as written: {first}"),
    )
}

/// Removes the texts for developers from an error.
fn strip_developer_texts(text: &str) -> String {
    let parts = DEVELOPER_TEXTS.iter();
    parts.fold(text.to_owned(), |text, part| text.replace(part, ""))
}

/// Returns the code and the text, or the complete status if the text is not for clients.
fn from_datafusion_error(error: &DataFusionError, request: Uuid) -> Result<(Code, String), Status> {
    if memory::is_exhausted() {
        return Err(out_of_memory());
    }
    // The context that planning steps add means nothing to clients.
    let root = error.find_root();
    if let DataFusionError::External(cause) = root
        && cause.is::<Cancelled>()
    {
        return Err(Status::cancelled("the query was cancelled"));
    }
    let text = || strip_developer_texts(&root.strip_backtrace());
    if matches!(
        root,
        DataFusionError::ArrowError(..) | DataFusionError::ParquetError(_)
    ) && let Some(text) = condition_error_text(&root.to_string())
    {
        return Ok((Code::InvalidArgument, text));
    }
    if root.to_string().contains(INVALID_REGEX_TEXT) {
        return Ok((
            Code::InvalidArgument,
            "invalid regular expression, or too large when compiled; use fewer repetitions"
                .to_owned(),
        ));
    }
    if has_panicked(error) {
        if memory::is_exhaustion_text(&error.to_string()) {
            return Err(out_of_memory());
        }
        tracing::error!(%request, "an expression panicked: {error}");
        let text = panic_error().strip_backtrace();
        return Ok((Code::InvalidArgument, strip_developer_texts(&text)));
    }
    if shows_physical_plan(&root.to_string()) {
        tracing::error!(%request, "cannot plan a statement: {error}");
        return Ok((Code::Unimplemented, UNPLANNABLE_TEXT.to_owned()));
    }
    match root {
        DataFusionError::SQL(parser, _) => {
            let text = parser.to_string();
            let text = text.strip_prefix("sql parser error: ").unwrap_or(&text);
            Ok((
                Code::InvalidArgument,
                format!("cannot parse the SQL: {text}"),
            ))
        }
        DataFusionError::ArrowError(inside, _) if may_name_files(inside) => Err(hidden_error(
            error,
            request,
            "the query failed on the server",
        )),
        DataFusionError::ArrowError(inside, _) => {
            Ok((Code::InvalidArgument, value_error_text(inside)))
        }
        // A function reports its arguments as an internal error. A retry would fail again.
        DataFusionError::Internal(_) => {
            tracing::warn!(%request, "cannot compute a query: {error}");
            let text = text();
            let first = text.lines().next().unwrap_or_default();
            let text = format!("cannot compute the statement: {}", data_error_text(first));
            Ok((Code::InvalidArgument, text))
        }
        DataFusionError::External(inside) if is_argument_error(inside.as_ref()) => {
            Ok((Code::InvalidArgument, data_error_text(&inside.to_string())))
        }
        DataFusionError::Execution(_) => Ok((Code::InvalidArgument, data_error_text(&text()))),
        DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_) => Ok((Code::InvalidArgument, text())),
        DataFusionError::NotImplemented(_) | DataFusionError::Substrait(_) => {
            Ok((Code::Unimplemented, text()))
        }
        DataFusionError::ResourcesExhausted(_) => Err(out_of_memory()),
        _ => Err(hidden_error(
            error,
            request,
            "the query failed on the server",
        )),
    }
}

/// The text for a statement that the planner cannot plan by a fault of its own.
const UNPLANNABLE_TEXT: &str = "cannot plan the statement, although it may be valid; write it in another form, for example with columns of a sub-query instead of expressions in ORDER BY";

/// Whether the text of an error shows a physical plan, which names the server's files.
fn shows_physical_plan(text: &str) -> bool {
    text.contains("file_groups={") || text.contains("does not satisfy order requirements")
}

/// Returns the error for an expression that panicked.
pub(in crate::server) fn panic_error() -> DataFusionError {
    DataFusionError::Execution(
        "cannot compute the statement: an expression failed, probably because a value is out of range"
            .to_owned(),
    )
}

/// Whether an expression panicked in a task of an operator.
fn has_panicked(error: &DataFusionError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // If several partitions wait for one task, they share its error.
        let shared = error.downcast_ref::<Arc<JoinError>>().map(Arc::as_ref);
        let join = error.downcast_ref::<JoinError>().or(shared);
        if join.is_some_and(JoinError::is_panic) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The prefix of DataFusion's error about a condition that is evaluated while files are read; the error's `Debug` text
/// follows.
const CONDITION_ERROR_PREFIX: &str = "Error evaluating filter predicate: ArrowError(";
/// The prefix of the error if a function in the condition rejected its arguments.
const CONDITION_CALL_ERROR_PREFIX: &str = "Error evaluating filter predicate: Execution(";
/// A part of DataFusion's internal error about a regular expression that is invalid or too large.
const INVALID_REGEX_TEXT: &str = "Regular expression did not compile";

/// Returns the text for an error about such a condition; `None` for other errors. The text omits the value: conditions
/// are evaluated in any order, so the value may belong to an asset that the caller must not see.
fn condition_error_text(error: &str) -> Option<String> {
    if error.contains(CONDITION_CALL_ERROR_PREFIX) {
        return Some(
            "cannot evaluate a condition for all rows: a function rejects its arguments, or its result would be too large"
                .to_owned(),
        );
    }
    let (_, inside) = error.split_once(CONDITION_ERROR_PREFIX)?;
    let (kind, of) = inside.split_once(['(', ','])?;
    let cast = of
        .split_once("' to value of ")
        .and_then(|(_, rest)| rest.split_once(" type"));
    Some(match (kind, cast) {
        ("CastError", Some((into, _))) => format!(
            "cannot convert a value in a condition to {into}: use the same type on both sides, such as asset_id = '5', or \
             TRY_CAST"
        ),
        ("DivideByZero", _) => {
            "division by zero in a condition: avoid it with NULLIF(…, 0)".to_owned()
        }
        ("ArithmeticOverflow" | "ComputeError" | "CastError" | "ParseError" | "InvalidArgumentError", _) => {
            "cannot evaluate a condition for all rows: a number is out of range, or a text cannot be converted".to_owned()
        }
        // Errors about files.
        _ => return None,
    })
}

/// Returns the text for an error about a value.
fn value_error_text(error: &ArrowError) -> String {
    let text = data_error_text(&error.to_string());
    match text.contains("Error parsing timestamp") {
        true => format!(
            "{text}; write a timestamp as 2024-05-01T10:30:00, with seconds, and with Z or an offset such as +02:00 if it is \
             not in the session's time zone"
        ),
        false => text,
    }
}

/// Whether the error's text may name files.
fn may_name_files(error: &ArrowError) -> bool {
    match error {
        ArrowError::ExternalError(inside) => !is_argument_error(inside.as_ref()),
        error => matches!(error, ArrowError::IoError(..) | ArrowError::ParquetError(_)),
    }
}

/// Whether an external error comes from a function and concerns its arguments. All other external errors, including
/// unknown ones, may name files and are not shown.
fn is_argument_error(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let is_of_text = error.is::<std::num::ParseIntError>()
        || error.is::<std::num::ParseFloatError>()
        || error.is::<std::num::TryFromIntError>()
        || error.is::<std::str::Utf8Error>()
        || error.is::<std::string::FromUtf8Error>()
        || error.is::<chrono::ParseError>();
    // Errors about regular expressions have no type of their own here.
    let text = error.to_string();
    let is_of_pattern = ["regex parse error", "Compiled regex exceeds"]
        .iter()
        .any(|start| text.starts_with(start));
    is_of_text || is_of_pattern
}

/// Logs an error whose text is for the operator only, and returns a status with `what` and the id of the call.
pub(in crate::server) fn hidden_error(error: &dyn Error, request: Uuid, what: &str) -> Status {
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    tracing::error!(%request, "{what}: {}", causes.join(": "));
    Status::unavailable(format!(
        "{what}; try again, and if the error persists, give the operator this request's id: {request}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_auth_error_of_hashing_is_server_fault_and_hides_cause() {
        let error = AuthError::Hashing("no random numbers".to_owned());
        let status = from_auth_error(&error, Uuid::nil());
        assert!(is_server_fault(&status), "{status}");
        assert!(!status.message().contains("random"), "{status}");
        assert!(!error.is_refusal());
    }

    #[test]
    fn from_execution_error_of_condition_blames_caller_and_hides_value() {
        let failed = |inside: &str| {
            let text = format!("Error evaluating filter predicate: {inside}");
            let inside = ArrowError::ComputeError(text);
            let inside = parquet::errors::ParquetError::External(Box::new(inside));
            from_execution_error(
                &DataFusionError::ParquetError(Box::new(inside)),
                Uuid::nil(),
            )
        };
        let cast =
            ArrowError::CastError("Cannot cast string 'hush' to value of Int64 type".to_owned());
        let cast = failed(&format!("{:?}", DataFusionError::from(cast)));
        assert_eq!(cast.code(), Code::InvalidArgument);
        assert!(cast.message().contains("Int64"), "{cast}");
        assert!(!cast.message().contains("hush"), "{cast}");
        let zero = failed(&format!(
            "{:?}",
            DataFusionError::from(ArrowError::DivideByZero)
        ));
        assert_eq!(zero.code(), Code::InvalidArgument);
        assert!(zero.message().contains("NULLIF"), "{zero}");
        let file = ArrowError::IoError("/secret/path".to_owned(), std::io::Error::other("gone"));
        let file = failed(&format!("{:?}", DataFusionError::from(file)));
        assert_eq!(file.code(), Code::Unavailable);
        assert!(!file.message().contains("secret"), "{file}");
    }

    #[test]
    fn from_plan_error_with_physical_plan_names_no_files() {
        let text = "Plan: [\"DataSourceExec: file_groups={1 group: [[srv/lake/data_min/secret.parquet]]}\"] does not satisfy order requirements";
        let error = DataFusionError::Plan(text.to_owned()).context("SanityCheckPlan");
        let status = from_execution_error(&error, Uuid::nil());
        assert!(!status.message().contains("secret"), "{status}");
        assert!(
            status.message().contains("cannot plan the statement"),
            "{status}"
        );
    }

    #[test]
    fn from_execution_error_of_function_arguments_blames_caller() {
        let text = || "array_resize: failed to convert size".to_owned();
        let regex: Box<dyn Error + Send + Sync> = "regex parse error: (".into();
        let number = "x".parse::<i32>().unwrap_err();
        for error in [
            DataFusionError::Internal(text()),
            DataFusionError::Execution(text()),
            DataFusionError::External(regex),
            DataFusionError::External(Box::new(number.clone())),
            DataFusionError::from(ArrowError::ExternalError(Box::new(number))),
            DataFusionError::from(ArrowError::ExternalError(Box::new(
                DataFusionError::Internal(text()),
            ))),
            DataFusionError::from(ArrowError::ArithmeticOverflow(text())),
            DataFusionError::Shared(Arc::new(DataFusionError::Internal(text()))),
            DataFusionError::Internal(text()).context("at a step"),
        ] {
            let status = from_execution_error(&error, Uuid::nil());
            assert_eq!(status.code(), Code::InvalidArgument, "{error:?}");
            assert!(!status.message().contains("Internal error"), "{status}");
            assert!(!is_server_fault(&status));
        }
        let gone = || std::io::Error::other("/secret/path");
        for error in [
            DataFusionError::IoError(gone()),
            DataFusionError::External(Box::new(gone())),
            DataFusionError::from(ArrowError::ExternalError(Box::new(gone()))),
        ] {
            let status = from_execution_error(&error, Uuid::nil());
            assert!(is_server_fault(&status), "{error:?}");
            assert!(!status.message().contains("secret"), "{status}");
        }
    }

    #[test]
    fn is_server_fault_of_marked_status_is_false() {
        let status = mark_caused_by_caller(Status::unavailable("ask again"));
        assert!(is_server_fault(&Status::unavailable("busy")));
        assert!(!is_server_fault(&status));
        let long = mark_caused_by_caller(Status::unavailable("x".repeat(5_000)));
        let short = limit_text(long);
        assert!(is_caused_by_caller(&short) && short.message().len() < 3_000);
        assert!(!is_server_fault(&short));
        let missing = limit_text(Status::not_found("x".repeat(5_000)));
        assert_eq!(missing.code(), Code::NotFound);
        assert!(missing.message().len() < 3_000);
    }
}
