//! The writers of Parquet files whose statistics are known to be wrong.

/// Whether the statistics of text and bytes can be used that the writer `created_by` stored in a footer. `is_deprecated`
/// states whether they are in the fields `min` and `max`, which `min_value` and `max_value` replaced.
///
/// parquet-mr before 1.8.0 stored the last value as minimum and maximum (PARQUET-251). A footer that does not name its
/// writer may be one of these (PARQUET-297). The rules are those of `CorruptStatistics` in parquet-java.
pub(super) fn has_usable_binary_statistics(created_by: Option<&str>, is_deprecated: bool) -> bool {
    let created_by = created_by.unwrap_or_default().trim();
    let Some((writer, version)) = created_by.split_once(" version") else {
        return !is_deprecated && !created_by.starts_with("parquet-mr");
    };
    if writer.trim() != "parquet-mr" {
        return true;
    }
    let version = version.split('(').next().unwrap_or_default().trim();
    is_fixed(version).unwrap_or(false)
}

/// Whether a version of parquet-mr has the fix; `None` for a malformed version.
fn is_fixed(version: &str) -> Option<bool> {
    const FIRST_FIXED: [u32; 3] = [1, 8, 0];
    let mut rest = version;
    let mut numbers = [0; 3];
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix('.')?;
        }
        let digits = rest.find(|sign: char| !sign.is_ascii_digit());
        let (digits, after) = rest.split_at(digits.unwrap_or(rest.len()));
        *number = digits.parse().ok()?;
        rest = after;
    }
    // Releases of Cloudera have the fix since CDH 5.5, and candidates of 1.8.0 do not.
    let is_patched = numbers == [1, 5, 0]
        && rest.strip_prefix("-cdh5.").is_some_and(|minor| {
            let minor = minor.split('.').next().unwrap_or_default();
            minor.parse::<u32>().is_ok_and(|minor| minor >= 5)
        });
    let is_release = rest.is_empty() || rest.starts_with('+');
    Some(is_patched || numbers > FIRST_FIXED || numbers == FIRST_FIXED && is_release)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of parquet-java's `TestCorruptStatistics`, and current writers.
    #[test]
    fn statistics_of_old_and_unknown_writers_are_not_used() {
        for (created_by, is_usable) in [
            ("parquet-mr version 1.6.0 (build abcd)", false),
            ("parquet-mr version 1.4.2 (build abcd)", false),
            ("parquet-mr version 1.6.100 (build abcd)", false),
            ("parquet-mr version 1.7.999 (build abcd)", false),
            ("parquet-mr version 1.6.22rc99 (build abcd)", false),
            ("parquet-mr version 1.6.22rc99-SNAPSHOT (build abcd)", false),
            ("parquet-mr version 1.6.1-SNAPSHOT (build abcd)", false),
            ("parquet-mr version 1.6.0t-01-abcdefg (build abcd)", false),
            ("parquet-mr version 1.8.0rc4 (build abcd)", false),
            ("parquet-mr version 1.8.0-SNAPSHOT (build abcd)", false),
            ("unparseable string", false),
            ("parquet-mr", false),
            ("parquet-mr version 1.8.0 (build abcd)", true),
            ("parquet-mr version 1.8.1 (build abcd)", true),
            ("parquet-mr version 1.8.1rc3-SNAPSHOT (build abcd)", true),
            ("parquet-mr version 1.9.0 (build abcd)", true),
            ("parquet-mr version 2.0.0 (build abcd)", true),
            ("parquet-mr version 1.9.0t-01-abcdefg (build abcd)", true),
            ("parquet-mr version 1.5.0-cdh5.4.999 (build abcd)", false),
            ("parquet-mr version 1.5.0-cdh5.5.0 (build abcd)", true),
            (
                "parquet-mr version 1.5.0-cdh5.5.0-SNAPSHOT (build abcd)",
                true,
            ),
            ("parquet-mr version 1.7.0 (build abcd)", false),
            ("impala version 1.6.0 (build abcd)", true),
            ("parquet-cpp-arrow version 25.0.0", true),
            ("parquet-rs version 59.3.2", true),
            ("DuckDB version v1.4.0 (build abcd)", true),
        ] {
            let found = has_usable_binary_statistics(Some(created_by), true);
            assert_eq!(found, is_usable, "{created_by}");
        }
        assert!(!has_usable_binary_statistics(None, true));
        assert!(!has_usable_binary_statistics(Some(""), true));
        // No writer with the fault knows the newer fields.
        assert!(has_usable_binary_statistics(None, false));
        assert!(has_usable_binary_statistics(
            Some("fastparquet-python"),
            false
        ));
    }
}
