//! The declaration of every setting: name, type, default, flag and documentation.

use super::raw::RawSettings;

/// Declares the settings of a group and the list of their descriptions together, which is a part of [`SETTINGS`]: a setting
/// that is not listed cannot be read anywhere. With a name of a struct, the settings become its fields, beside nested
/// structs, and are read by its `from_raw`.
macro_rules! settings {
    ($group:ident; $($name:ident: $type:ty, $parse:path { $($field:ident: $value:expr),* $(,)? })*) => {
        $(pub(in crate::config) const $name: Setting<$type> =
            Setting { spec: SettingSpec { $($field: $value),* }, parse: $parse };)*

        /// The settings of this group, in the order in which they are shown.
        pub(super) const $group: &[SettingSpec] = &[$($name.spec),*];
    };
    (
        $group:ident => $struct:ident $({ $($nested:ident: $nested_type:ident),* })?, $about:literal;
        $($name:ident => $field:ident: $type:ty, $parse:path {
            key: $key:expr, types: $types:expr, expected: $expected:expr, default: $default:expr,
            example: $example:expr, flag: $flag:expr, doc: $doc:literal $(,)?
        })*
    ) => {
        settings! {
            $group;
            $($name: $type, $parse {
                key: $key, types: $types, expected: $expected, default: $default, example: $example,
                flag: $flag, doc: $doc
            })*
        }

        #[doc = $about]
        #[derive(Debug, Clone)]
        pub struct $struct {
            $(#[doc = $doc] pub $field: $type,)*
            $($(#[doc = concat!("See [`", stringify!($nested_type), "`].")] pub $nested: $nested_type,)*)?
        }

        impl $struct {
            /// Parses the settings. The first invalid one is reported.
            pub(in crate::config) fn from_raw(
                raw: &$crate::config::raw::RawSettings,
            ) -> Result<Self, $crate::config::ConfigError> {
                Ok(Self {
                    $($field: raw.get(&$name)?,)*
                    $($($nested: $nested_type::from_raw(raw)?,)*)?
                })
            }
        }
    };
}

mod averages;
mod installation;
mod operation;
mod server;

pub use averages::*;
pub use installation::*;
pub use operation::*;
pub use server::*;

/// The groups of settings, in the order in which they are shown.
const GROUPS: [&[SettingSpec]; 16] = [
    LOCATIONS,
    MIRROR,
    QDRANT,
    AUTH,
    SOURCES,
    RESAMPLE,
    RETENTION,
    MAINTAIN,
    SERVE,
    CONNECTIONS,
    METERING,
    SEARCH,
    SCHEDULE,
    METRICS,
    BILLING,
    LOGGING,
];

/// Every setting, in the order in which they are shown. Those of `storage.*` are not included: their names
/// are `object_store`'s.
pub const SETTINGS: &[SettingSpec] = &concatenate::<{ count(&GROUPS) }>(&GROUPS);

/// Returns the number of settings in all groups.
const fn count(groups: &[&[SettingSpec]]) -> usize {
    let (mut group, mut total) = (0, 0);
    while group < groups.len() {
        total += groups[group].len();
        group += 1;
    }
    total
}

/// Returns the settings of all groups in one array, whose length `N` is their number.
const fn concatenate<const N: usize>(groups: &[&[SettingSpec]]) -> [SettingSpec; N] {
    let mut all = [groups[0][0]; N];
    let (mut group, mut filled) = (0, 0);
    while group < groups.len() {
        let mut index = 0;
        while index < groups[group].len() {
            all[filled] = groups[group][index];
            filled += 1;
            index += 1;
        }
        group += 1;
    }
    all
}

/// The prefix of the environment variables.
pub(super) const ENVIRONMENT_PREFIX: &str = "PLANTLAKE_";

/// A value's type in the settings file. In the environment and in flags everything is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// A date or a date with time, which TOML can write without quotes.
    Date,
    /// `true` or `false`.
    Boolean,
}

/// The default of a setting.
#[derive(Clone, Copy)]
pub enum DefaultValue {
    /// A constant.
    Fixed(&'static str),
    /// A value that depends on other settings or on the machine.
    Derived {
        /// The description of the rule.
        description: &'static str,
        /// The rule.
        rule: fn(&RawSettings) -> String,
    },
}

/// The description of a setting, without its Rust type.
#[derive(Clone, Copy)]
pub struct SettingSpec {
    /// The name in the settings file; a dot separates a table from its key.
    pub key: &'static str,
    /// The types that it may have in the settings file.
    pub types: &'static [Type],
    /// The accepted values, as a phrase.
    pub expected: &'static str,
    /// The default.
    pub default: DefaultValue,
    /// An example, as written in the settings file.
    pub example: &'static str,
    /// The flag that sets it, if there is one.
    pub flag: Option<&'static str>,
    /// The description.
    pub doc: &'static str,
}

impl SettingSpec {
    /// Returns the environment variable that sets it: `resample.memory` is `PLANTLAKE_RESAMPLE_MEMORY`.
    pub fn environment_name(&self) -> String {
        environment_name(self.key)
    }
}

/// Returns the environment variable for the setting `key`.
pub(super) fn environment_name(key: &str) -> String {
    format!(
        "{ENVIRONMENT_PREFIX}{}",
        key.replace('.', "_").to_uppercase()
    )
}

/// A setting together with its Rust type.
pub(super) struct Setting<T> {
    pub(super) spec: SettingSpec,
    /// Parses the text, or returns the problem with it ("is below the minimum of 64MiB").
    pub(super) parse: fn(&str) -> Result<T, String>,
}

/// The accepted retention times.
const RETENTION_TIME: &str = "`forever`, or a duration from 1d to 36500d, such as 90d or 3652d";
