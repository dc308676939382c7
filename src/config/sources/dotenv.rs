//! The file `.env`: variables for this folder, with lower precedence than the real environment.
//!
//! Lines are `KEY=VALUE`, optionally after `export ` and with a comment at the end. Values may be quoted, `'as they
//! are'` or `"with \n, \t, \" and \\"`. Nothing is expanded. The file may belong to other programs too: lines that
//! neither begin with `PLANTLAKE_` nor set one of the original system's variables are ignored, even if they are
//! malformed.

use std::io::ErrorKind;

use super::environment;
use super::inputs::Inputs;
use super::legacy_variables::{self, LegacyVariables};
use crate::config::error::{ConfigError, Origin};
use crate::config::spec::setting::{ENVIRONMENT_PREFIX, RawSettings};
use crate::model::{NotText, decode_text};

/// Reads `.env` if it exists.
pub(in crate::config) fn read(
    inputs: &Inputs,
    raw: &mut RawSettings,
    parts: &mut LegacyVariables,
) -> Result<(), ConfigError> {
    let path = inputs.folder.join(".env");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        // A folder of this name is a Python environment.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            return Ok(());
        }
        Err(source) => return Err(ConfigError::Unreadable { path, source }),
    };
    let text = match decode_text(&bytes) {
        Ok(text) => text,
        // Lines of other programs need not be Unicode; ours are checked below.
        Err(NotText { line: Some(_), .. }) => String::from_utf8_lossy(&bytes),
        Err(error) => {
            return Err(ConfigError::Syntax {
                origin: Origin::DotEnv { path, line: 1 },
                message: error.to_string(),
            });
        }
    };
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let origin = Origin::DotEnv {
            path: path.clone(),
            line: number + 1,
        };
        match parse_line(line) {
            Ok(None) => {}
            Ok(Some((name, value))) if legacy_variables::is_known(name) => {
                parts.put(name, value, origin)?
            }
            Ok(Some((name, value))) => environment::put(name, value, origin, raw)?,
            Err(message) => {
                return Err(ConfigError::Syntax {
                    origin,
                    message: message.to_owned(),
                });
            }
        }
    }
    parts.assemble_urls(raw, |origin| matches!(origin, Origin::DotEnv { .. }))
}

/// Returns the variable on `line`, if it is one of ours.
fn parse_line(line: &str) -> Result<Option<(&str, String)>, &'static str> {
    let line = line.trim();
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => line,
    };
    let name = line.split('=').next().unwrap_or_default().trim_end();
    if !line.starts_with(ENVIRONMENT_PREFIX) && !legacy_variables::is_known(name) {
        return Ok(None);
    }
    if line.contains(char::REPLACEMENT_CHARACTER) {
        return Err("the line is not Unicode text");
    }
    let (name, value) = line
        .split_once('=')
        .ok_or("missing `=`; expected KEY=VALUE")?;
    Ok(Some((name.trim_end(), parse_value(value.trim_start())?)))
}

fn parse_value(text: &str) -> Result<String, &'static str> {
    let (value, rest) = if let Some(quoted) = text.strip_prefix('\'') {
        let (value, rest) = quoted.split_once('\'').ok_or("the quote is not closed")?;
        (value.to_owned(), rest)
    } else if let Some(quoted) = text.strip_prefix('"') {
        parse_escapes(quoted)?
    } else {
        // A # inside a word, as in a URL, does not begin a comment.
        let comment = text.match_indices('#').map(|(at, _)| at).find(|&at| {
            text.get(..at)
                .is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']))
        });
        (
            text.get(..comment.unwrap_or(text.len()))
                .unwrap_or(text)
                .trim_end()
                .to_owned(),
            "",
        )
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(value)
    } else {
        Err("unexpected text after the closing quote")
    }
}

/// Parses up to the closing double quote; returns the value and the rest.
fn parse_escapes(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('"' | '\\' | '$'))) => value.push(c),
                // Other escapes are kept as they are, because Windows paths are common.
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("the quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Result<Option<(&str, &str)>, ()>) {
        let found = parse_line(line);
        let found = found
            .as_ref()
            .map(|found| found.as_ref().map(|(k, v)| (*k, v.as_str())));
        assert_eq!(found.map_err(|_| ()), expected, "{line}");
    }

    #[test]
    fn parse_line_accepts_lines_of_shells_and_compose() {
        let lake = |value| Ok(Some(("PLANTLAKE_LAKE", value)));
        check("PLANTLAKE_LAKE=a", lake("a"));
        check("  export PLANTLAKE_LAKE = a b  # why", lake("a b"));
        check("PLANTLAKE_LAKE=s3://a/b#c", lake("s3://a/b#c"));
        check("PLANTLAKE_LAKE='a # \\n'  # why", lake("a # \\n"));
        check(r#"PLANTLAKE_LAKE="a\"b\\ \x" "#, lake(r#"a"b\ \x"#));
        check("PLANTLAKE_LAKE=", lake(""));
        check("PLANTLAKE_LAKE= # nothing", lake(""));
        check("PLANTLAKE_LAKE=ü=ü", lake("ü=ü"));
    }

    #[test]
    fn parse_line_ignores_variables_of_other_programs() {
        for line in [
            "",
            "# PLANTLAKE_LAKE=a",
            "PG_HOST='open",
            "exportPLANTLAKE_LAKE=a",
            "==",
        ] {
            check(line, Ok(None));
        }
    }

    #[test]
    fn parse_line_refuses_malformed_values() {
        for line in [
            "PLANTLAKE_LAKE",
            "PLANTLAKE_LAKE='a",
            "PLANTLAKE_LAKE=\"a\\",
            "PLANTLAKE_LAKE='a' b",
            "PLANTLAKE_LAKE=\u{fffd}",
            "DB_HOST='open",
        ] {
            check(line, Err(()));
        }
    }
}
