//! Settings: read as text from every source, then validated once into typed [`Settings`].
//!
//! The sources, in increasing precedence: the defaults, `plantlake.toml`, `.env`, the environment's `PLANTLAKE_*` (and the
//! original system's variables), flags. The table [`SETTINGS`] declares every setting once. Reading, validation, `plantlake
//! config` and `docs/settings.md` all follow from it, so a setting without documentation cannot be read.

mod database_url;
mod derived;
mod docs;
mod dotenv;
mod environment;
mod error;
mod file;
mod keys;
mod legacy_variables;
mod load;
mod location;
mod money;
mod networks;
mod redact;
mod report;
mod secret;
mod settings;
mod sources;
mod spec;
mod spelling;
mod storage;
mod table;
mod validation;
mod value;

pub use database_url::{DatabaseKind, DatabaseUrl};
pub use docs::markdown;
pub use error::{ConfigError, InvalidValue, Origin};
pub use load::{Loaded, load};
pub use location::Location;
pub use networks::Networks;
pub use redact::redact;
pub use report::EffectiveSetting;
pub use secret::Secret;
pub use settings::{MetricsSettings, Retention, RetentionSettings, Settings, TICKET_LIFETIME};
pub use sources::{Inputs, Override, SETTINGS_FILE};
pub use spec::{DefaultValue, SettingSpec, Type};
pub use storage::StorageSettings;
pub use table::{
    AuthSettings, ConnectionSettings, LogSettings, MaintainSettings, MirrorSettings,
    QdrantSettings, ResampleSettings, SETTINGS, ScheduleSettings, SearchSettings, ServeSettings,
};
pub use value::{
    ExpiryAction, JournalFullAction, LogFormat, MAX_TOKEN_LIFETIME, TimeBound, WebhookUrl,
    duration as parse_duration, size as parse_size, timezone as parse_timezone,
};

#[cfg(test)]
mod tests;
