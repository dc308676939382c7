//! Formats numbers for people: counts, sizes, durations and rates.

use std::time::Duration;

/// Formats a count with separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats a count with its noun, in the plural unless it is one: `1 file`, `2 files`.
pub fn counted(number: u64, word: &str) -> String {
    format!(
        "{} {word}{}",
        count(number),
        if number == 1 { "" } else { "s" }
    )
}

/// Formats a size in powers of 1024: `1.2 GiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = "KiB";
    for larger in UNITS.iter().skip(1) {
        // A value that would be rounded to 1024.0 is shown in the larger unit.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// Formats a size in the powers of ten in which usage is billed and limited: `1.2 GB`.
pub fn decimal_bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1000.0;
    let mut unit = "kB";
    for larger in UNITS.iter().skip(1) {
        // A value that would be rounded to 1000.0 is shown in the larger unit.
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// Formats a duration: `12 ms`, `1.23 s`, `2 min 5 s`, `3 h 20 min`, `4 d 2 h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round() as u64;
    let (large, large_unit, small, small_unit) = match seconds {
        0..3_600 => (seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => (seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => (seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    };
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// Formats a rate: `980/s`, `12.3 k/s`, `5.67 M/s`; with a unit, `5.67 M readings/s`.
pub fn rate(per_second: f64, unit: &str) -> String {
    let space = if unit.is_empty() { "" } else { " " };
    let (value, prefix) = match per_second {
        value if !value.is_finite() => (0.0, ""),
        value if value >= 1e9 => (value / 1e9, " G"),
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e4 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let decimals = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{prefix}{space}{unit}/s")
}

/// Formats a rate of bytes: `1.2 GiB/s`.
pub fn byte_rate(per_second: f64) -> String {
    // The cast saturates, and converts NaN to zero.
    format!("{}/s", bytes(per_second as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_has_thousands_separators() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
            (100_000, "100,000"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(2_000, "file"), "2,000 files");
    }

    #[test]
    fn bytes_uses_fitting_unit() {
        for (number, text) in [
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn decimal_bytes_uses_powers_of_ten() {
        for (number, text) in [
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (10_000_000_000, "10.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(decimal_bytes(number), text);
        }
    }

    #[test]
    fn duration_has_at_most_two_parts() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_230, "1.23 s"),
            (12_340, "12.3 s"),
            (59_999, "1 min"),
            (125_000, "2 min 5 s"),
            (12_000_000, "3 h 20 min"),
            (352_800_000, "4 d 2 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn rate_is_rounded_and_has_a_prefix() {
        for (number, text) in [
            (1.5, "1.50 rows/s"),
            (980.0, "980 rows/s"),
            (12_345.0, "12.3 k rows/s"),
            (f64::NAN, "0.00 rows/s"),
        ] {
            assert_eq!(rate(number, "rows"), text);
        }
        assert_eq!(rate(5_670_000.0, ""), "5.67 M/s");
        assert_eq!(byte_rate(2_048.0), "2.0 KiB/s");
    }
}
