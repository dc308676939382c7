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
mod legacy_variables;
mod location;
mod money;
mod networks;
mod raw;
mod redact;
mod report;
mod secret;
mod settings;
mod storage;
mod table;
mod validation;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

pub use database_url::{DatabaseKind, DatabaseUrl};
pub use docs::markdown;
pub use error::{ConfigError, InvalidValue, Origin};
pub use location::Location;
pub use networks::Networks;
pub use redact::redact;
pub use report::EffectiveSetting;
pub use secret::Secret;
pub use settings::{MetricsSettings, Retention, RetentionSettings, Settings, TICKET_LIFETIME};
pub use storage::StorageSettings;
pub use table::{
    AuthSettings, ConnectionSettings, DefaultValue, LogSettings, MaintainSettings, MirrorSettings,
    QdrantSettings, ResampleSettings, SETTINGS, ScheduleSettings, SearchSettings, ServeSettings,
    SettingSpec, Type,
};
pub use value::{
    ExpiryAction, JournalFullAction, LogFormat, MAX_TOKEN_LIFETIME, TimeBound, WebhookUrl,
    duration as parse_duration, size as parse_size, timezone as parse_timezone,
};

use raw::RawSettings;

/// The settings file that is read when none is named.
pub const SETTINGS_FILE: &str = "plantlake.toml";

/// A setting given on the command line.
#[derive(Debug, Clone)]
pub struct Override {
    /// The setting, such as `lake`.
    pub key: &'static str,
    /// The flag that gave it, such as `--lake`; for messages.
    pub flag: &'static str,
    /// The value as text.
    pub value: String,
}

impl Override {
    /// Returns the override of an optional flag, if the flag was given.
    pub fn from_flag(
        key: &'static str,
        flag: &'static str,
        value: Option<impl Into<String>>,
    ) -> Option<Self> {
        value.map(|value| Self {
            key,
            flag,
            value: value.into(),
        })
    }
}

/// The sources of the settings. They are a value, so that tests need no separate process.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The folder of `plantlake.toml` and `.env`; empty for the working folder.
    pub folder: PathBuf,
    /// A settings file to read instead of `plantlake.toml`. It must exist.
    pub file: Option<PathBuf>,
    /// The process's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The settings given on the command line.
    pub overrides: Vec<Override>,
}

impl Inputs {
    /// Returns the inputs of this process: its working folder and its environment.
    pub fn from_process(file: Option<PathBuf>, overrides: Vec<Override>) -> Self {
        Self {
            folder: PathBuf::new(),
            file,
            environment: std::env::vars_os().collect(),
            overrides,
        }
    }
}

/// Settings, with the origin of each.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The validated settings.
    pub settings: Settings,
    /// The values in force with their origins, in the table's order.
    pub effective: Vec<EffectiveSetting>,
}

/// Reads every source and validates the result.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let mut raw = RawSettings::default();
    file::read(inputs, &mut raw)?;
    let mut parts = legacy_variables::LegacyVariables::default();
    dotenv::read(inputs, &mut raw, &mut parts)?;
    environment::read(inputs, &mut raw, &mut parts)?;
    for given in &inputs.overrides {
        raw.put(given.key, given.value.clone(), Origin::Flag(given.flag))?;
    }
    // Secrets are registered first, so that no error message about another setting reveals one.
    redact::register_secrets(&raw);
    let settings = Settings::from_raw(&raw)?;
    Ok(Loaded {
        effective: report::effective_settings(&raw),
        settings,
    })
}

#[cfg(test)]
mod tests;
