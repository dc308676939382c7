//! The domain types that all layers share: resolutions, asset ids, dates and time windows, units.

mod asset_id;
mod causes;
mod dates;
mod grant;
mod hex;
mod host;
mod identity;
mod invoice;
mod job;
mod resolution;
mod schedule;
mod text;
mod text_file;
mod unit;
mod usage;
mod window;

pub use asset_id::{AssetId, MalformedAssetId};
pub use causes::with_causes;
pub use dates::{DateSet, Day, MICROS_PER_DAY, day_from_date, day_of, day_to_date};
pub use grant::{AssetGrant, Grant, GrantAccess, MalformedGrant};
pub use hex::hex;
pub use host::host_name;
pub use identity::{Email, MalformedEmail, OrganisationId, Role, SessionId, UserId};
pub use invoice::{AmountTooLarge, Currency, Invoice, InvoiceLine, Price, PriceList};
pub use job::{Argument, ArgumentType, JobKind, JobSpec, MissedRunPolicy};
pub use resolution::Resolution;
pub use schedule::{MalformedSchedule, Schedule};
pub use text::{InvalidText, TextKind, printable};
pub use text_file::{NotText, decode_text, read_text, text_from};
pub use unit::{Quantity, QuantityMismatch, Unit, is_difference, key_in_words, split_key};
pub(crate) use usage::micros;
pub use usage::{ABORTED, MalformedMonth, Month, UsageLimits, UsageRecord};
pub use window::{AMBIGUOUS_TIME, Window};
