//! The sources of settings: the folder of the files, the environment and the flags.

use std::ffi::OsString;
use std::path::PathBuf;

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
