//! A setting: its declaration, and the text that the sources gave to it.

use std::collections::BTreeMap;

use crate::config::error::{ConfigError, InvalidValue, Origin};
use crate::config::redact;
use crate::config::values::{secret, storage};

/// The prefix of the environment variables.
pub(in crate::config) const ENVIRONMENT_PREFIX: &str = "PLANTLAKE_";

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
pub(in crate::config) fn environment_name(key: &str) -> String {
    format!(
        "{ENVIRONMENT_PREFIX}{}",
        key.replace('.', "_").to_uppercase()
    )
}

/// A setting together with its Rust type.
pub(in crate::config) struct Setting<T> {
    pub(in crate::config) spec: SettingSpec,
    /// Parses the text, or returns the problem with it ("is below the minimum of 64MiB").
    pub(in crate::config) parse: fn(&str) -> Result<T, String>,
}

/// Declares the settings of a group and the list of their descriptions together, which is a part of [`SETTINGS`]: a setting
/// that is not listed cannot be read anywhere. With a name of a struct, the settings become its fields, beside nested
/// structs, and are read by its `from_raw`.
macro_rules! settings {
    ($group:ident; $($name:ident: $type:ty, $parse:path { $($field:ident: $value:expr),* $(,)? })*) => {
        $(pub(in crate::config) const $name: Setting<$type> =
            Setting { spec: SettingSpec { $($field: $value),* }, parse: $parse };)*

        /// The settings of this group, in the order in which they are shown.
        pub(in crate::config) const $group: &[SettingSpec] = &[$($name.spec),*];
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
                raw: &$crate::config::spec::setting::RawSettings,
            ) -> Result<Self, $crate::config::error::ConfigError> {
                Ok(Self {
                    $($field: raw.get(&$name)?,)*
                    $($($nested: $nested_type::from_raw(raw)?,)*)?
                })
            }
        }
    };
}

pub(in crate::config) use settings;

/// A value with its origin.
#[derive(Debug, Clone)]
pub(in crate::config) struct RawValue {
    /// The setting, as its source spells it (`storage.*` has synonyms).
    pub(in crate::config) key: String,
    pub(in crate::config) text: String,
    pub(in crate::config) origin: Origin,
}

/// The merged values of all sources.
#[derive(Debug, Clone, Default)]
pub struct RawSettings {
    /// The values by canonical key.
    values: BTreeMap<String, RawValue>,
}

impl RawSettings {
    /// Adds the value of the setting with the key `canonical`; it replaces one of a source with lower precedence.
    pub(in crate::config) fn insert(
        &mut self,
        canonical: String,
        value: RawValue,
    ) -> Result<(), ConfigError> {
        if let Some(first) = self.values.get(&canonical)
            && first.origin.is_same_source(&value.origin)
        {
            return Err(ConfigError::Duplicate {
                first: first.origin.clone(),
                origin: value.origin,
                name: value.key,
            });
        }
        self.values.insert(canonical, value);
        Ok(())
    }

    /// Returns the origin of the value of `key`, if it is set.
    pub(in crate::config) fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.get(key).map(|value| &value.origin)
    }

    /// Returns the value in force; the default if it is not set.
    pub(in crate::config) fn effective_value(&self, about: &SettingSpec) -> RawValue {
        self.values
            .get(about.key)
            .cloned()
            .unwrap_or_else(|| RawValue {
                key: about.key.to_owned(),
                text: match about.default {
                    DefaultValue::Fixed(text) => text.to_owned(),
                    DefaultValue::Derived { rule, .. } => rule(self),
                },
                origin: Origin::Default,
            })
    }

    /// Returns the value in force, validated.
    pub(in crate::config) fn get<T>(&self, setting: &Setting<T>) -> Result<T, ConfigError> {
        let value = self.effective_value(&setting.spec);
        (setting.parse)(&value.text).map_err(|problem| {
            ConfigError::from(InvalidValue {
                origin: value.origin,
                key: value.key,
                found: format!(
                    "{:?}",
                    redact::mask_value(&value.text, secret::is_secret(setting.spec.key))
                ),
                problem,
                expected: setting.spec.expected,
            })
        })
    }

    /// Returns all of `storage.*`: the canonical name without the prefix, and the value.
    pub(in crate::config) fn storage(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.values
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(storage::PREFIX)?, value)))
    }
}
