//! Checks that job specifications are read, and that errors name the file and the line.

use super::*;
use crate::model::{ArgumentType, MissedRunPolicy};

/// The kinds of jobs, as in `app`.
const KINDS: [JobKind; 4] = [
    JobKind::new(
        "resample",
        &[
            ("full", ArgumentType::Boolean),
            ("from", ArgumentType::Date),
            ("to", ArgumentType::Date),
        ],
    ),
    JobKind::new("mirror", &[("full", ArgumentType::Boolean)]),
    JobKind::new("index", &[("full", ArgumentType::Boolean)]),
    JobKind::new("maintain", &[]),
];

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn jobs(files: &[(&str, &str)]) -> Result<Vec<JobSpec>, String> {
    read_jobs(folder(files).path(), &KINDS).map_err(|error| error.to_string())
}

fn columns(text: &str) -> Result<Columns, SpecError> {
    let folder = folder(&[("resample.toml", text)]);
    ResampleSpec::read(folder.path(), &KINDS).map(|spec| spec.columns)
}

#[test]
fn columns_are_mapped_and_errors_name_their_line() {
    let mapped = columns("kind = \"resample\"\n[columns]\nid = \"sensor\"\n").unwrap();
    assert_eq!(
        (mapped.id.as_str(), mapped.value.as_str()),
        ("sensor", "value")
    );
    let error = columns("\n[columns]\nvalu = \"v\"\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("line 3") && error.contains("valu"),
        "{error}"
    );
    assert!(columns("[columns]\nid = \"value\"\n").is_err());
}

#[test]
fn spec_without_file_is_default() {
    let folder = folder(&[]);
    assert_eq!(
        ResampleSpec::read(folder.path(), &KINDS).unwrap(),
        ResampleSpec::default()
    );
    assert_eq!(read_jobs(folder.path(), &KINDS).unwrap(), []);
    assert_eq!(read_jobs(&folder.path().join("none"), &KINDS).unwrap(), []);
}

#[test]
fn spec_with_all_keys_is_read() {
    let read = jobs(&[
        ("resample.toml", "schedule = \"*/15 * * * *\"\n"),
        (
            "nightly.toml",
            "kind = \"resample\"\nschedule = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"\ntimeout = \"2h\"\n\
             retries = 5\nbackoff = \"10s\"\nmissed = \"skip\"\nafter = [\"resample\"]\n\
             [arguments]\nfull = true\nfrom = 2026-01-01\nto = \"2026-12-31\"\n",
        ),
        ("notes.txt", "not a job"),
    ]);
    let [nightly, resample] = read.unwrap().try_into().unwrap();
    assert_eq!((nightly.name.as_str(), nightly.kind), ("nightly", KINDS[0]));
    assert_eq!(
        nightly.schedule.as_ref().unwrap().to_string(),
        "30 2 * * * Europe/Berlin"
    );
    assert_eq!(
        (
            nightly.timeout.as_secs(),
            nightly.retries,
            nightly.backoff.as_secs()
        ),
        (7_200, 5, 10)
    );
    assert_eq!(
        (nightly.missed, nightly.after.as_slice()),
        (MissedRunPolicy::Skip, &["resample".to_owned()][..])
    );
    assert!(nightly.is_set("full"));
    assert_eq!(nightly.date("to").unwrap().to_string(), "2026-12-31");
    assert_eq!(nightly.date("from").unwrap().to_string(), "2026-01-01");
    assert_eq!(
        (
            resample.retries,
            resample.missed,
            resample.timeout.as_secs()
        ),
        (2, MissedRunPolicy::Once, 3_600)
    );
}

#[test]
fn spec_with_error_names_file_and_line() {
    for (name, text, line, part) in [
        (
            "resample.toml",
            "\nschedule = \"61 * * * *\"",
            2,
            "`schedule` is \"61 * * * *\"",
        ),
        ("resample.toml", "schedule = 5", 1, "expected"),
        (
            "resample.toml",
            "schedule = \"0 0 30 2 *\"",
            1,
            "names no date",
        ),
        (
            "resample.toml",
            "schedule = \"0 * * * *\"\ntimezone = \"Europe/Berln\"",
            2,
            "Europe/Berlin",
        ),
        (
            "resample.toml",
            "timezone = \"UTC\"",
            1,
            "without `schedule`",
        ),
        ("resample.toml", "retries = -1", 1, "`retries` is -1"),
        ("resample.toml", "\n\ntimeout = \"5\"", 3, "no unit"),
        ("resample.toml", "backoff = \"8d\"", 1, "out of range"),
        (
            "resample.toml",
            "missed = \"twice\"",
            1,
            "\"once\" or \"skip\"",
        ),
        (
            "resample.toml",
            "kind = \"mirror\"",
            1,
            "contradicts the file name",
        ),
        (
            "resample.toml",
            "[arguments]\nfulll = true",
            2,
            "no argument `fulll`",
        ),
        (
            "resample.toml",
            "[arguments]\nfull = 1",
            2,
            "`true` or `false`",
        ),
        (
            "resample.toml",
            "[arguments]\nfrom = 2026-02-01\nto = 2026-01-01",
            2,
            "is after",
        ),
        (
            "maintain.toml",
            "[arguments]\nfull = true",
            2,
            "it has no arguments",
        ),
        ("mirror.toml", "\n[columns]\nid = \"x\"", 2, "resample.toml"),
        ("other.toml", "# nothing", 1, "`kind` is missing"),
        ("other.toml", "kind = \"copy\"", 1, "\"maintain\""),
        ("other.toml", "kind =", 1, ""),
        ("a b.toml", "kind = \"index\"", 1, "name"),
        (
            "index.toml",
            "schedule = \"0 * * * *\"\nafter = [\"resample\"]",
            2,
            "there is no resample.toml",
        ),
        (
            "index.toml",
            "after = [\"resample\"]",
            1,
            "without `schedule`",
        ),
        (
            "index.toml",
            "schedule = \"0 * * * *\"\nafter = [\n\"index\"]",
            3,
            "in turn",
        ),
    ] {
        let error = jobs(&[(name, text)]).unwrap_err();
        assert!(error.contains(name), "{text}: {error}");
        assert!(error.contains(&format!("line {line}:")), "{text}: {error}");
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn spec_with_cycle_in_after_is_rejected() {
    let one = |after: &str| {
        format!("kind = \"index\"\nschedule = \"0 * * * *\"\nafter = [\"{after}\"]\n")
    };
    let ring = [
        ("a.toml", one("b")),
        ("b.toml", one("c")),
        ("c.toml", one("a")),
    ];
    let ring: Vec<_> = ring
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    assert!(jobs(&ring).unwrap_err().contains("in turn"));
    let line = [
        ("a.toml", one("b")),
        ("b.toml", one("c")),
        (
            "c.toml",
            "kind = \"index\"\nschedule = \"0 * * * *\"".to_owned(),
        ),
    ];
    let line: Vec<_> = line
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    assert_eq!(jobs(&line).unwrap().len(), 3);
    let unscheduled = [
        ("a.toml", one("c")),
        ("c.toml", "kind = \"index\"".to_owned()),
    ];
    let unscheduled: Vec<_> = unscheduled
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    assert!(jobs(&unscheduled).unwrap_err().contains("has no schedule"));
}

/// Checks the job files that are shipped with plantlake.
#[test]
fn specs_of_repository_are_valid() {
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
    let names: Vec<_> = read_jobs(&jobs, &KINDS)
        .unwrap()
        .into_iter()
        .map(|job| job.name)
        .collect();
    assert!(names.contains(&"resample".to_owned()), "{names:?}");
}
