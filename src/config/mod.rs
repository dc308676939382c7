//! Settings: read as text from every source, then validated once into typed [`Settings`].
//!
//! The sources, in increasing precedence: the defaults, `plantlake.toml`, `.env`, the environment's `PLANTLAKE_*` (and the
//! original system's variables), flags. The table [`SETTINGS`] declares every setting once. Reading, validation, `plantlake
//! config` and `docs/settings.md` all follow from it, so a setting without documentation cannot be read.

mod error;
mod load;
mod output;
mod redact;
mod settings;
mod sources;
mod spec;
mod spelling;
mod validation;
mod values;

pub use error::{ConfigError, InvalidValue, Origin};
pub use load::{Loaded, load};
pub use output::docs::markdown;
pub use output::report::EffectiveSetting;
pub use redact::redact;
pub use settings::{MetricsSettings, Retention, RetentionSettings, Settings, TICKET_LIFETIME};
pub use sources::inputs::{Inputs, Override, SETTINGS_FILE};
pub use spec::setting::{DefaultValue, SettingSpec, Type};
pub use spec::{
    AuthSettings, ConnectionSettings, LogSettings, MaintainSettings, MirrorSettings,
    QdrantSettings, ResampleSettings, SETTINGS, ScheduleSettings, SearchSettings, ServeSettings,
};
pub use values::database_url::{DatabaseKind, DatabaseUrl};
pub use values::location::Location;
pub use values::networks::Networks;
pub use values::secret::Secret;
pub use values::storage::StorageSettings;
pub use values::{
    ExpiryAction, JournalFullAction, LogFormat, MAX_TOKEN_LIFETIME, TimeBound, WebhookUrl,
    duration as parse_duration, size as parse_size, timezone as parse_timezone,
};

#[cfg(test)]
mod tests;
