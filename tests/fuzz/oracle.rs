//! Checks replies for faults that no input may cause: panics, hangs, leaks, invalid answers and high memory use.

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use arrow::datatypes::Schema;
use arrow_flight::FlightData;
use arrow_flight::utils::flight_data_to_batches;
use tonic::{Code, Status};

use crate::input::{Caller, Input};
use crate::send::Exchange;
use crate::wire::Reply;

/// The panics of all threads of this process since the last check: the location, and the message with a backtrace.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// The ids, names and locations that the organisation of [`Caller::Boilers`] has no grant for. The second text is a part of
/// the first: an input without it cannot have made the server echo the first.
const SECRETS: [(&str, &str); 5] = [
    ("22222222-0000-4000-8000-000000000002", "2222"),
    ("33333333-0000-4000-8000-000000000003", "3333"),
    ("PT-7 reactor", "pt-7"),
    ("R-7 reactor", "r-7"),
    ("Reactor hall", "hall"),
];

/// Parts of error texts that report a bug in a library.
const MISTAKES: [&str; 3] = ["Internal error", "caused by a bug", "panicked"];
/// Parts of the server's texts for internal errors, whose details are in the log only.
const HIDDEN: [&str; 1] = ["failed on the server"];

/// Parts of tonic's texts for calls that are not valid gRPC and never reach the server.
const OF_TONIC: [&str; 8] = [
    "failed to decode Protobuf message",
    "protocol error",
    "Unexpected EOF decoding stream",
    "h2 protocol error",
    "transport error",
    "Missing request message",
    "Error decompressing",
    "grpc-status header missing",
];

/// The maximum peak memory of the process, in KiB.
const MAX_MEMORY_KIB: u64 = 3 << 20;

/// A deviation from the expected behaviour.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The name, which inputs with the same finding share.
    pub name: String,
    /// The details.
    pub about: String,
    /// Whether this must not happen. Bugs in libraries are no faults if the server returns an error and continues.
    pub is_fault: bool,
}

impl Finding {
    /// Returns a finding that must not happen.
    fn fault(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            about: about.into(),
            is_fault: true,
        }
    }

    /// Returns a finding about a bug in a library that affected one call only.
    fn contained(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self {
            is_fault: false,
            ..Self::fault(name, about)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.name, self.about)
    }
}

/// Records every panic from now on, because tokio and the server's threads turn panics into errors or ignore them.
pub fn watch_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        let about = format!("{panic}\n{}", Backtrace::force_capture());
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        panics.push((place.unwrap_or_default(), about));
        drop(panics);
        usual(panic);
    }));
}

/// Returns the findings of an input and its replies, and the panics since the last call.
pub fn judge(input: &Input, exchange: &Exchange) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    // Source paths of libraries are absolute, paths of this crate are relative.
    for (place, about) in panics.drain(..) {
        let name = format!(
            "panic at {}",
            place.rsplit(".io-").next().unwrap_or_default()
        );
        found.push(match place.starts_with('/') && is_refused(exchange) {
            true => Finding::contained(name, about),
            false => Finding::fault(name, about),
        });
    }
    drop(panics);
    for reply in &exchange.replies {
        if reply.hangs {
            found.push(Finding::fault(format!("hang of {:?}", input.way), ""));
        }
        if let Some(status) = &reply.status {
            found.extend(judge_status(input, status));
        }
        if input.caller == Caller::Boilers {
            found.extend(judge_secrets(input, reply));
        }
    }
    found.extend(judge_answer(exchange));
    found.extend(judge_memory());
    found
}

/// Whether the last call ended with `Unavailable` or `InvalidArgument`.
fn is_refused(exchange: &Exchange) -> bool {
    let last = exchange
        .replies
        .last()
        .and_then(|reply| reply.status.as_ref());
    last.is_some_and(|status| matches!(status.code(), Code::Unavailable | Code::InvalidArgument))
}

fn judge_status(input: &Input, status: &Status) -> Option<Finding> {
    let text = status.message();
    let sends_messages = !input.messages.is_empty() || !input.way.is_sql();
    let is_tonics = sends_messages && OF_TONIC.iter().any(|known| text.contains(known));
    if HIDDEN.iter().any(|part| text.contains(part)) {
        return Some(Finding::contained(
            "an error whose text is in the log",
            text,
        ));
    }
    let is_mistake = MISTAKES.iter().any(|part| text.contains(part));
    let is_unforeseen = matches!(
        status.code(),
        Code::Internal | Code::Unknown | Code::DataLoss
    );
    if is_tonics || !(is_mistake || is_unforeseen) {
        return None;
    }
    let class: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
    let class: String = class.chars().take(60).collect();
    let name = format!("{:?}: {class}", status.code());
    Some(Finding::fault(name, text))
}

fn judge_secrets(input: &Input, reply: &Reply) -> Option<Finding> {
    let asked = input.text.to_lowercase();
    let sent = || input.messages.iter().map(|message| message.0.as_slice());
    for (secret, part) in SECRETS {
        if asked.contains(part) || sent().any(|bytes| contains(bytes, part.as_bytes())) {
            continue;
        }
        let messages = reply.messages.iter();
        let is_revealed = messages
            .clone()
            .any(|message| contains(message, secret.as_bytes()))
            || reply
                .status
                .as_ref()
                .is_some_and(|status| status.message().contains(secret));
        if is_revealed {
            return Some(Finding::fault("leak", format!("{secret:?} was revealed")));
        }
    }
    None
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Checks that the answer can be decoded and has the announced schema.
fn judge_answer(exchange: &Exchange) -> Option<Finding> {
    let answer = exchange.answer.as_ref()?;
    let schema = Schema::try_from(answer.first()?);
    let schema = match schema {
        Ok(schema) => schema,
        Err(error) => return Some(Finding::fault("answer without a schema", error.to_string())),
    };
    if let Some(info) = &exchange.announced {
        match info.clone().try_decode_schema() {
            Ok(announced) if announced == schema => {}
            Ok(announced) => {
                let about = format!("announced {announced:?}, came {schema:?}");
                return Some(Finding::fault("answer of another schema", about));
            }
            Err(error) => return Some(Finding::fault("announced no schema", error.to_string())),
        }
    }
    let rows = flight_data_to_batches(&answer.clone());
    let error = rows.err()?;
    Some(Finding::fault(
        "answer that cannot be read",
        error.to_string(),
    ))
}

/// Checks the peak memory of the process since the last finding of this kind.
fn judge_memory() -> Option<Finding> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let most = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let most: u64 = most.trim().trim_end_matches(" kB").parse().ok()?;
    if most <= MAX_MEMORY_KIB {
        return None;
    }
    // This resets the peak.
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(Finding::fault("memory", format!("{most} KiB were taken")))
}

/// Returns the number of rows of an answer.
pub fn rows(answer: &[FlightData]) -> usize {
    let batches = flight_data_to_batches(answer).unwrap_or_default();
    batches.iter().map(|batch| batch.num_rows()).sum()
}
