//! Numbers of bytes, with or without a unit.

use super::names::check_not_empty;

/// The minimum memory of resampling, in bytes.
const MIN_MEMORY_BYTES: u64 = 64 << 20;

pub(in crate::config) fn memory(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    if bytes < MIN_MEMORY_BYTES {
        Err("is below the minimum".to_owned())
    } else {
        Ok(bytes)
    }
}

/// The minimum size of the journal, in bytes. A smaller one would be full after a few requests.
const MIN_JOURNAL_BYTES: u64 = 1 << 20;

pub(in crate::config) fn journal_size(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    match bytes < MIN_JOURNAL_BYTES {
        true => Err("is below the minimum".to_owned()),
        false => Ok(bytes),
    }
}

pub(in crate::config) fn file_size(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    match (1 << 20..=4 << 30).contains(&bytes) {
        true => Ok(bytes),
        false => Err("is out of range".to_owned()),
    }
}

/// Parses a number of bytes, with or without a unit (`512MiB`, `10GB`); the error describes the problem.
pub fn size(text: &str) -> Result<u64, String> {
    bytes(text)
}

/// Parses `1GiB`, `512 MiB`, `1.5GB`, `1073741824`. A bare `G` is refused, because it is ambiguous. The crate
/// `bytesize` would accept it, refuse `1_000`, and round what is too large down to the maximum.
fn bytes(text: &str) -> Result<u64, String> {
    check_not_empty(text)?;
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number
        .replace('_', "")
        .parse()
        .map_err(|_| "does not begin with a number".to_owned())?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        other => return Err(format!("has the unknown unit {other:?}")),
    };
    let bytes = number * unit as f64;
    if bytes > u64::MAX as f64 / 2.0 {
        Err("is above the maximum".to_owned())
    } else {
        Ok(bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_accepts_numbers_with_and_without_units() {
        for (text, expected) in [
            ("1GiB", 1 << 30),
            ("512 MiB", 512 << 20),
            ("1.5gib", 3 << 29),
            ("2GB", 2_000_000_000),
            ("1_000", 1_000),
            ("7 B", 7),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "GiB",
            "1G",
            "1 apple",
            "-1GiB",
            "1e400",
            "99999999TiB",
            "1.2.3",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(memory("63MiB").is_err());
        assert_eq!(memory("64MiB"), Ok(64 << 20));
    }
}
