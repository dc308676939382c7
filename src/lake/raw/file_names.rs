//! The names of files in the raw folder: which of them may be raw files.

use object_store::path::Path;

/// The endings of Parquet files.
const PARQUET_ENDINGS: [&str; 3] = ["parquet", "parq", "pq"];
/// The endings that some writers give to Parquet files by their compression.
const CODEC_ENDINGS: [&str; 8] = ["snappy", "gz", "gzip", "zst", "zstd", "lz4", "br", "lzo"];

/// Whether a file may be a raw file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    /// It has the ending of Parquet files.
    Parquet,
    /// It has no ending, or that of a compression: its contents decide.
    Undecided,
    /// It has another ending.
    Other,
    /// It begins with `.` or `_`, so it may be incomplete.
    Hidden,
}

/// Returns the kind of a file name, whose bytes need not be UTF-8.
pub(super) fn name_kind(name: &[u8]) -> NameKind {
    if is_hidden(name) {
        return NameKind::Hidden;
    }
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else {
        return match is_staged(name) {
            true => NameKind::Hidden,
            false => NameKind::Undecided,
        };
    };
    let ending = name.get(dot + 1..).unwrap_or_default();
    let is_one_of = |endings: &[&str]| {
        let mut endings = endings.iter();
        endings.any(|one| ending.eq_ignore_ascii_case(one.as_bytes()))
    };
    if is_one_of(&PARQUET_ENDINGS) {
        NameKind::Parquet
    } else if ending.is_empty() || is_one_of(&CODEC_ENDINGS) {
        NameKind::Undecided
    } else {
        NameKind::Other
    }
}

/// Whether the name of a file or folder begins with `.` or `_`.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    matches!(name.first(), Some(b'.' | b'_'))
}

/// Whether the name is that of an upload in progress: the local object store adds `#` and a number.
fn is_staged(name: &[u8]) -> bool {
    let hash = name.iter().rposition(|&byte| byte == b'#');
    hash.and_then(|hash| name.get(hash + 1..))
        .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// Whether a path has the ending of Parquet files.
pub(super) fn has_parquet_ending(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name_kind(name.as_bytes()) == NameKind::Parquet
}

/// Returns the reason why a file or folder of this name cannot be used; `None` if it can be.
pub(super) fn name_fault(name: &[u8]) -> Option<&'static str> {
    let Ok(name) = std::str::from_utf8(name) else {
        return Some("its name is not UTF-8; rename it");
    };
    // The object store accepts no such path.
    Path::parse(name)
        .is_err()
        .then_some("its name has a control character; rename it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_which_files_may_be_raw_files() {
        use NameKind::{Hidden, Other, Parquet, Undecided};
        for (name, kind) in [
            ("a.parquet", Parquet),
            ("a.PARQUET", Parquet),
            ("part-0.snappy.parquet", Parquet),
            ("a.parq", Parquet),
            ("a.pq", Parquet),
            ("000000_0", Undecided),
            ("plant-stream-1-2024-01-02-00-00-00-abc", Undecided),
            ("b.parquet.snappy", Undecided),
            ("a.", Undecided),
            ("a.parquet.tmp", Other),
            ("a.parquet ", Other),
            ("n.csv", Other),
            ("_a.parquet", Hidden),
            (".a.parquet", Hidden),
            ("part-0#1", Hidden),
            ("part#a", Undecided),
        ] {
            assert_eq!(name_kind(name.as_bytes()), kind, "{name}");
        }
        assert_eq!(name_fault("Füllstand.parquet".as_bytes()), None);
        for name in [
            b"F\xfcllstand.parquet".as_slice(),
            b"a\tb",
            b"a\x7fb",
            b"a\nb",
        ] {
            assert!(name_fault(name).is_some(), "{name:?}");
        }
    }
}
