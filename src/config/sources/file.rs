//! The settings file: TOML, each value with its line number.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::inputs::{Inputs, SETTINGS_FILE};
use crate::config::error::{ConfigError, InvalidValue, Origin};
use crate::config::redact;
use crate::config::spec::SETTINGS;
use crate::config::spec::keys::{KnownKey, find_key};
use crate::config::spec::setting::{RawSettings, Type};
use crate::config::values::{secret, storage};
use crate::model::read_text;

const STORAGE_EXPECTED: &str = "text, a whole number, or true or false";

/// Reads the given file, or `plantlake.toml` if it exists.
pub(in crate::config) fn read(inputs: &Inputs, raw: &mut RawSettings) -> Result<(), ConfigError> {
    let path = inputs
        .folder
        .join(inputs.file.as_deref().unwrap_or(Path::new(SETTINGS_FILE)));
    match read_text(&path) {
        Ok(text) => parse(&text, &path, raw),
        Err(error) if error.kind() == ErrorKind::NotFound && inputs.file.is_none() => Ok(()),
        Err(source) => Err(ConfigError::Unreadable { path, source }),
    }
}

/// The text of a settings file, with the path for origins.
struct Source<'a> {
    text: &'a str,
    path: PathBuf,
}

impl Source<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset);
        Origin::File {
            path: self.path.clone(),
            line: 1 + before.filter(|&&byte| byte == b'\n').count(),
        }
    }
}

fn parse(text: &str, path: &Path, raw: &mut RawSettings) -> Result<(), ConfigError> {
    let source = Source {
        text,
        path: path.to_owned(),
    };
    // The full text of the parser's error quotes the line, which may hold a secret; its message does not.
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        origin: source.origin(error.span().map_or(0, |span| span.start)),
        message: format!("invalid TOML: {}", error.message().replace('\n', ", ")),
    })?;
    flatten(&source, "", table.get_ref(), raw)
}

fn flatten(
    source: &Source<'_>,
    prefix: &str,
    table: &DeTable<'_>,
    raw: &mut RawSettings,
) -> Result<(), ConfigError> {
    // In the order of the file, so that the first mistake is reported.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let key = format!("{prefix}{}", name.get_ref());
        let origin = source.origin(name.span().start);
        match (find_key(&key), value.get_ref()) {
            // A table is a group, unless a setting has the same name.
            (None, DeValue::Table(group)) if !group.is_empty() => {
                flatten(source, &format!("{key}."), group, raw)?;
            }
            (None, DeValue::Table(_)) if is_group(&key) => {}
            (None, _) if is_group(&key) => {
                return Err(wrong_type(&key, value, origin, "a table with settings"));
            }
            (meaning, _) => {
                let text = match meaning {
                    // `put` returns an error with the nearest name.
                    None => Some(String::new()),
                    Some(KnownKey::Storage(_)) => scalar_text(value),
                    Some(KnownKey::Setting(about)) => typed_text(value, about.types),
                };
                let expected = match find_key(&key) {
                    Some(KnownKey::Setting(about)) => about.expected,
                    _ => STORAGE_EXPECTED,
                };
                let text = text.ok_or_else(|| wrong_type(&key, value, origin.clone(), expected))?;
                raw.put(&key, text, origin)?;
            }
        }
    }
    Ok(())
}

/// Whether `key` is the name of a table that contains settings.
fn is_group(key: &str) -> bool {
    let prefix = format!("{key}.");
    prefix == storage::PREFIX || SETTINGS.iter().any(|about| about.key.starts_with(&prefix))
}

fn typed_text(value: &Spanned<DeValue<'_>>, types: &[Type]) -> Option<String> {
    let kind = match value.get_ref() {
        DeValue::String(_) => Type::Text,
        DeValue::Integer(_) => Type::Integer,
        DeValue::Datetime(_) => Type::Date,
        DeValue::Boolean(_) => Type::Boolean,
        _ => return None,
    };
    if types.contains(&kind) {
        text_of(value.get_ref())
    } else {
        None
    }
}

fn scalar_text(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        value @ (DeValue::String(_) | DeValue::Integer(_) | DeValue::Boolean(_)) => text_of(value),
        _ => None,
    }
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i128::from_str_radix(&digits, number.radix())
                .ok()
                .map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn wrong_type(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    origin: Origin,
    expected: &'static str,
) -> ConfigError {
    let kind = match value.get_ref() {
        DeValue::String(_) => "is text",
        DeValue::Integer(_) => "is a number",
        DeValue::Float(_) => "is a number with a fraction",
        DeValue::Boolean(_) => "is true or false",
        DeValue::Datetime(_) => "is a date or time",
        DeValue::Array(_) => "is a list",
        DeValue::Table(_) => "is a table",
    };
    let found = match (value.get_ref(), text_of(value.get_ref())) {
        (DeValue::String(_), Some(text)) => {
            format!("{:?}", redact::mask_value(&text, secret::is_secret(key)))
        }
        (_, Some(text)) => redact::mask_value(&text, secret::is_secret(key)),
        (DeValue::Array(_), None) => "[…]".to_owned(),
        (_, None) => "{…}".to_owned(),
    };
    InvalidValue {
        origin,
        key: key.to_owned(),
        found,
        problem: kind.to_owned(),
        expected,
    }
    .into()
}
