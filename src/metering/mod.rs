//! Metering: every request of a known organisation becomes exactly one record in the ledger.
//!
//! A request is [opened](Meter::open) when its caller is known, and [ends](OpenRequest::end) when its response does. In
//! between, the code that sends the response counts rows and bytes. The record is in the `journal` before the client
//! knows that the response is complete. The `ledger` moves it from there to the organisation database, at once or when
//! that is available again.

mod journal;
mod ledger;
mod limit_exceeded;
mod meter;
mod meter_state;
mod quotas;
mod request;
mod response_end;
mod settings;
mod unknown_callers;

pub use journal::{JournalError, copies as journals};
pub use limit_exceeded::{LimitExceeded, RateLimitKind};
pub use meter::Meter;
pub use request::{Caller, EndOutcome, OpenRequest, StatementRefused};
pub use response_end::{EndedBy, ResponseEnd};
pub use settings::{IS_DISABLED, MeterSettings};
