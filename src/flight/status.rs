//! How errors look to clients: a code that becomes the right exception, a text that says what to do, and nothing of
//! paths, other organisations or this program's insides. What a client may not read goes to the log, by the query's id.

use std::error::Error;
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use tokio::task::JoinError;
use tonic::{Code, Status};
use uuid::Uuid;

use super::error_text::about_data;
use crate::auth::AuthError;
use crate::engine::{Cancelled, CutShort, QueryError};
use crate::memory;
use crate::store::StoreError;

/// The header and trailer that names a call.
pub(super) const REQUEST_ID: &str = "plantlake-request-id";
/// What DataFusion puts around its errors for those who develop it; it does so too where a query is simply wrong.
const FOR_DEVELOPERS: [&str; 2] = [
    "Internal error: ",
    ".\nThis issue was likely caused by a bug in DataFusion's code. Please help us to resolve this by filing a bug report in our issue tracker: https://github.com/apache/datafusion/issues",
];

/// A code as gRPC's documentation names it.
pub(super) fn name_of(code: Code) -> &'static str {
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

/// Says of a status that asks to try again that it came about by what the caller's organisation did itself.
#[derive(Debug, thiserror::Error)]
#[error("caused by the caller's organisation")]
struct CallersDoing;

/// `status`, of which nothing is the server's fault, whatever its code is.
pub(super) fn callers_doing(mut status: Status) -> Status {
    status.set_source(Arc::new(CallersDoing));
    status
}

/// Whether a status says that it came about by what the caller's organisation did itself.
pub(super) fn is_callers_doing(status: &Status) -> bool {
    status
        .source()
        .is_some_and(|source| source.is::<CallersDoing>())
}

/// Whether a call ended so because of something on the server's side.
pub(super) fn is_ours(status: &Status) -> bool {
    let code = status.code();
    !is_callers_doing(status)
        && matches!(
            code,
            Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss
        )
}

/// Why someone is not let in.
pub(super) fn of_auth(error: &AuthError, request: Uuid) -> Status {
    let code = match error {
        AuthError::Busy { .. } | AuthError::Ending => Code::Unavailable,
        AuthError::NoAccess(_) => Code::PermissionDenied,
        AuthError::UnfitPassword(_) | AuthError::WrongCurrentPassword => Code::InvalidArgument,
        AuthError::Store(error) => return of_store(error, request),
        AuthError::Keys(_) | AuthError::NoRandomness => {
            return hidden(error, request, "cannot check credentials");
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

/// Why the organisation database did not do it.
pub(super) fn of_store(error: &StoreError, request: Uuid) -> Status {
    if error.is_outage() {
        return hidden(error, request, "cannot reach the organisation database");
    }
    match error {
        StoreError::NotFound { .. } => Status::not_found(error.to_string()),
        StoreError::Taken { .. } => Status::already_exists(error.to_string()),
        StoreError::LimitReached { .. }
        | StoreError::LimitTooLow { .. }
        | StoreError::Unfit(_)
        | StoreError::Refused(_) => Status::invalid_argument(error.to_string()),
        _ => hidden(error, request, "the organisation database failed"),
    }
}

/// Why a query has no answer; `sql` is its text.
pub(super) fn of_query(error: &QueryError, sql: &str, request: Uuid) -> Status {
    let (code, text) = match error {
        QueryError::UnknownTable { .. } => (Code::NotFound, error.to_string()),
        QueryError::Sql(error) if matches!(error.find_root(), DataFusionError::Internal(_)) => {
            of_planning(error, request)
        }
        QueryError::Sql(error) => match of_datafusion(error, request) {
            Ok(found) => found,
            Err(status) => return status,
        },
        QueryError::Runs(_) | QueryError::Table(_) | QueryError::Catalog(_) => {
            return hidden(error, request, "cannot read the tables");
        }
        _ => (Code::InvalidArgument, error.to_string()),
    };
    let place = error.place(sql).map(|place| format!("\n{place}"));
    Status::new(code, format!("{text}{}", place.unwrap_or_default()))
}

/// Why a query failed under way.
pub(super) fn of_execution(error: &DataFusionError, request: Uuid) -> Status {
    match of_datafusion(error, request) {
        Ok((code, text)) => Status::new(code, text),
        Err(status) => status,
    }
}

/// Why an answer ends before it is whole.
pub(super) fn of_cut(cut: &CutShort, request: Uuid) -> Status {
    tracing::info!(%request, "query aborted: {cut}");
    let text = cut.to_string();
    let status = match cut {
        CutShort::Worked(_) | CutShort::Planned(_) => Status::deadline_exceeded(text),
        CutShort::Memory => out_of_memory(),
        CutShort::Waited(_) | CutShort::Lost => Status::unavailable(text),
        CutShort::Unread(_) => Status::cancelled(text),
    };
    super::call::stamped(status, request)
}

/// The query needs more memory than one may have.
pub(super) fn out_of_memory() -> Status {
    Status::resource_exhausted(CutShort::Memory.to_string())
}

/// What the planner takes for a mistake of its own: mostly types that do not go together, and nothing that would be
/// otherwise the next time.
fn of_planning(error: &DataFusionError, request: Uuid) -> (Code, String) {
    tracing::warn!(%request, "cannot plan a query: {error}");
    let text = for_clients(&error.find_root().strip_backtrace());
    let first = text.lines().next().unwrap_or_default().to_owned();
    (
        Code::Unimplemented,
        format!("cannot plan the query as written: {first}"),
    )
}

/// The text of an error without what is for others than those who ask.
fn for_clients(text: &str) -> String {
    let parts = FOR_DEVELOPERS.iter();
    parts.fold(text.to_owned(), |text, part| text.replace(part, ""))
}

/// The code and the text, or the whole status where the text is not for clients.
fn of_datafusion(error: &DataFusionError, request: Uuid) -> Result<(Code, String), Status> {
    if memory::is_exhausted() {
        return Err(out_of_memory());
    }
    // Which step of planning came upon it means nothing to those who ask.
    let root = error.find_root();
    if let DataFusionError::External(cause) = root
        && cause.is::<Cancelled>()
    {
        return Err(Status::cancelled("the query was cancelled"));
    }
    let text = || for_clients(&root.strip_backtrace());
    if matches!(
        root,
        DataFusionError::ArrowError(..) | DataFusionError::ParquetError(_)
    ) && let Some(text) = of_condition(&root.to_string())
    {
        return Ok((Code::InvalidArgument, text));
    }
    if root.to_string().contains(WRONG_PATTERN) {
        return Ok((
            Code::InvalidArgument,
            "invalid regular expression, or too large when compiled; use fewer repetitions"
                .to_owned(),
        ));
    }
    if has_panicked(error) {
        if memory::is_text_of_exhaustion(&error.to_string()) {
            return Err(out_of_memory());
        }
        tracing::error!(%request, "an expression panicked: {error}");
        let text = super::computed::broke_off().strip_backtrace();
        return Ok((Code::InvalidArgument, for_clients(&text)));
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
        DataFusionError::ArrowError(inside, _) if is_of_files(inside) => {
            Err(hidden(error, request, "the query failed on the server"))
        }
        DataFusionError::ArrowError(inside, _) => Ok((Code::InvalidArgument, of_value(inside))),
        // A function's, of its arguments: what DataFusion takes for a mistake of its own it makes again the next time.
        DataFusionError::Internal(_) => {
            tracing::warn!(%request, "cannot compute a query: {error}");
            let text = text();
            let first = text.lines().next().unwrap_or_default();
            let text = format!("cannot compute the statement: {}", about_data(first));
            Ok((Code::InvalidArgument, text))
        }
        DataFusionError::External(inside) if is_of_arguments(inside.as_ref()) => {
            Ok((Code::InvalidArgument, about_data(&inside.to_string())))
        }
        DataFusionError::Execution(_) => Ok((Code::InvalidArgument, about_data(&text()))),
        DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_) => Ok((Code::InvalidArgument, text())),
        DataFusionError::NotImplemented(_) | DataFusionError::Substrait(_) => {
            Ok((Code::Unimplemented, text()))
        }
        DataFusionError::ResourcesExhausted(_) => Err(out_of_memory()),
        _ => Err(hidden(error, request, "the query failed on the server")),
    }
}

/// Whether an expression panicked in a task of an operator.
fn has_panicked(error: &DataFusionError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // Where several partitions wait for one task, each is handed the same error.
        let shared = error.downcast_ref::<Arc<JoinError>>().map(Arc::as_ref);
        let join = error.downcast_ref::<JoinError>().or(shared);
        if join.is_some_and(JoinError::is_panic) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What DataFusion says of a condition that it works out while it reads files, and after that `Debug` of the error.
const CONDITION: &str = "Error evaluating filter predicate: ArrowError(";
/// The same where a function has refused a call.
const REFUSED_CALL: &str = "Error evaluating filter predicate: Execution(";
/// What DataFusion says, as of a mistake of its own, of a regular expression that is wrong or too large.
const WRONG_PATTERN: &str = "Regular expression did not compile";

/// What is wrong with such a condition, if that is it. The value is not told: it may be of an asset that the caller must
/// not see, as the conditions of a query have no order.
fn of_condition(error: &str) -> Option<String> {
    if error.contains(REFUSED_CALL) {
        return Some(
            "cannot evaluate a condition for all rows: a function rejects its arguments, or its result would be too large"
                .to_owned(),
        );
    }
    let (_, inside) = error.split_once(CONDITION)?;
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
        // Of files.
        _ => return None,
    })
}

/// What is wrong with a value.
fn of_value(error: &ArrowError) -> String {
    let text = about_data(&error.to_string());
    match text.contains("Error parsing timestamp") {
        true => format!(
            "{text}; write a timestamp as 2024-05-01T10:30:00, with seconds, and with Z or an offset such as +02:00 if it is \
             not in the session's time zone"
        ),
        false => text,
    }
}

/// Whether the error's text may name files.
fn is_of_files(error: &ArrowError) -> bool {
    match error {
        ArrowError::ExternalError(inside) => !is_of_arguments(inside.as_ref()),
        error => matches!(error, ArrowError::IoError(..) | ArrowError::ParquetError(_)),
    }
}

/// Whether an error that is not DataFusion's own is a function's, of its arguments. All others are of what queries read, and
/// may name files: of what is not known here, nothing is told.
fn is_of_arguments(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let is_of_text = error.is::<std::num::ParseIntError>()
        || error.is::<std::num::ParseFloatError>()
        || error.is::<std::num::TryFromIntError>()
        || error.is::<std::str::Utf8Error>()
        || error.is::<std::string::FromUtf8Error>()
        || error.is::<chrono::ParseError>();
    // Of regular expressions, which have no type here.
    let text = error.to_string();
    let is_of_pattern = ["regex parse error", "Compiled regex exceeds"]
        .iter()
        .any(|start| text.starts_with(start));
    is_of_text || is_of_pattern
}

/// An error whose text is for the operator only.
pub(super) fn hidden(error: &dyn Error, request: Uuid, what: &str) -> Status {
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
    fn a_condition_that_cannot_be_worked_out_is_the_callers_mistake_and_tells_no_value() {
        let failed = |inside: &str| {
            let text = format!("Error evaluating filter predicate: {inside}");
            let inside = ArrowError::ComputeError(text);
            let inside = parquet::errors::ParquetError::External(Box::new(inside));
            of_execution(
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
    fn a_function_that_fails_at_its_arguments_is_the_callers_mistake() {
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
            let status = of_execution(&error, Uuid::nil());
            assert_eq!(status.code(), Code::InvalidArgument, "{error:?}");
            assert!(!status.message().contains("Internal error"), "{status}");
            assert!(!is_ours(&status));
        }
        let gone = || std::io::Error::other("/secret/path");
        for error in [
            DataFusionError::IoError(gone()),
            DataFusionError::External(Box::new(gone())),
            DataFusionError::from(ArrowError::ExternalError(Box::new(gone()))),
        ] {
            let status = of_execution(&error, Uuid::nil());
            assert!(is_ours(&status), "{error:?}");
            assert!(!status.message().contains("secret"), "{status}");
        }
    }

    #[test]
    fn what_an_organisation_did_to_itself_is_not_the_servers_fault() {
        let status = callers_doing(Status::unavailable("ask again"));
        assert!(is_ours(&Status::unavailable("busy")));
        assert!(!is_ours(&status));
        let stamped = super::super::call::stamped(status.clone(), Uuid::nil());
        assert!(!is_ours(&stamped));
    }
}
