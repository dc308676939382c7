//! The job specifications in `jobs/<name>.toml`. They are checked when they are read, and every error names its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use serde::Deserialize;
use toml::Spanned;
use toml::value::{Datetime, Value};

use crate::config::{parse_duration, parse_timezone};
use crate::model::{Argument, ArgumentType, JobKind, JobSpec, MissedRunPolicy, Schedule};

/// The maximum number of retries of a job.
const MAX_RETRIES: u32 = 100;
const DEFAULT_TIMEOUT: &str = "1h";
const DEFAULT_BACKOFF: &str = "1min";
const DEFAULT_RETRIES: u32 = 2;
/// The maximum length of a job's name in characters. The name is a metric label.
const MAX_NAME_CHARS: usize = 64;

/// The reasons why a job specification cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the job spec {path}")]
    Unreadable {
        /// The path of the file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file has an invalid value.
    #[error("invalid job spec {path}, line {line}: {problem}")]
    Invalid {
        /// The path of the file.
        path: PathBuf,
        /// The line, starting with 1.
        line: usize,
        /// The description of the error.
        problem: String,
    },
}

/// The part of `resample.toml` that configures how raw files are read, by jobs and by queries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResampleSpec {
    /// The names of the columns in the raw files.
    pub columns: Columns,
}

/// The names of the columns in the raw files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The column with the asset's UUID.
    pub id: String,
    /// The column with the reading's time.
    pub timestamp: String,
    /// The column with the reading's value.
    pub value: String,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            id: "id".to_owned(),
            timestamp: "timestamp".to_owned(),
            value: "value".to_owned(),
        }
    }
}

/// A file before it is checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpecFile {
    kind: Option<Spanned<String>>,
    schedule: Option<Spanned<String>>,
    timezone: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    retries: Option<Spanned<i64>>,
    backoff: Option<Spanned<String>>,
    missed: Option<Spanned<String>>,
    after: Vec<Spanned<String>>,
    arguments: BTreeMap<Spanned<String>, Spanned<Value>>,
    columns: Option<Spanned<Columns>>,
}

/// A file with its text, for the positions in errors.
struct SpecSource<'a> {
    path: &'a Path,
    text: &'a str,
}

/// The checked contents of one file.
struct ParsedSpec {
    spec: JobSpec,
    columns: Columns,
    /// The byte offset in the file of each name in `after`.
    after: Vec<usize>,
}

impl SpecSource<'_> {
    /// Returns an error at a byte offset in the file.
    fn error_at(&self, at: usize, problem: impl Into<String>) -> SpecError {
        let before = self.text.as_bytes().iter().take(at);
        SpecError::Invalid {
            path: self.path.to_owned(),
            line: 1 + before.filter(|&&byte| byte == b'\n').count(),
            problem: problem.into(),
        }
    }

    /// Returns the error for an invalid value.
    fn invalid_value(
        &self,
        key: &str,
        value: &Spanned<String>,
        problem: &str,
        expected: &str,
    ) -> SpecError {
        let found = value.get_ref();
        let problem = format!("`{key}` is {found:?}, which {problem}; expected {expected}");
        self.error_at(value.span().start, problem)
    }

    fn parse(&self, name: &str) -> Result<ParsedSpec, SpecError> {
        let written: SpecFile = toml::from_str(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.error_at(at, error.message().replace('\n', ", "))
        })?;
        let kind = self.kind(name, written.kind.as_ref())?;
        let schedule = self.schedule(&written)?;
        if let (Some(zone), None) = (&written.timezone, &schedule) {
            return Err(self.error_at(zone.span().start, "`timezone` is given without `schedule`"));
        }
        if let (Some(first), None) = (written.after.first(), &schedule) {
            return Err(self.error_at(
                first.span().start,
                "`after` is given without `schedule`: only scheduled runs wait for other jobs",
            ));
        }
        let columns = match written.columns {
            Some(columns) if name != JobKind::Resample.name() => {
                return Err(self.error_at(
                    columns.span().start,
                    "`columns` belongs in resample.toml: it applies to every reader of raw files",
                ));
            }
            Some(columns) => self.columns(columns)?,
            None => Columns::default(),
        };
        let retries = match &written.retries {
            None => DEFAULT_RETRIES,
            Some(number) => u32::try_from(*number.get_ref())
                .ok()
                .filter(|number| *number <= MAX_RETRIES)
                .ok_or_else(|| {
                    let problem = format!(
                        "`retries` is {}; expected 0 to {MAX_RETRIES}",
                        number.get_ref()
                    );
                    self.error_at(number.span().start, problem)
                })?,
        };
        let missed = match &written.missed {
            None => MissedRunPolicy::default(),
            Some(text) => match text.get_ref().as_str() {
                "once" => MissedRunPolicy::Once,
                "skip" => MissedRunPolicy::Skip,
                _ => {
                    return Err(self.invalid_value(
                        "missed",
                        text,
                        "is unknown",
                        "\"once\" or \"skip\"",
                    ));
                }
            },
        };
        let spec = JobSpec {
            name: name.to_owned(),
            kind,
            schedule,
            timeout: self.duration("timeout", written.timeout.as_ref(), DEFAULT_TIMEOUT)?,
            retries,
            backoff: self.duration("backoff", written.backoff.as_ref(), DEFAULT_BACKOFF)?,
            missed,
            after: written
                .after
                .iter()
                .map(|name| name.get_ref().clone())
                .collect(),
            arguments: self.arguments(kind, &written.arguments)?,
        };
        Ok(ParsedSpec {
            spec,
            columns,
            after: written.after.iter().map(|name| name.span().start).collect(),
        })
    }

    fn kind(&self, name: &str, written: Option<&Spanned<String>>) -> Result<JobKind, SpecError> {
        let names = JobKind::ALL
            .map(|kind| format!("{:?}", kind.name()))
            .join(", ");
        let Some(written) = written else {
            let problem = format!("`kind` is missing; expected one of {names}");
            return JobKind::parse(name).ok_or_else(|| self.error_at(0, problem));
        };
        let kind = JobKind::parse(written.get_ref());
        let kind = kind.ok_or_else(|| {
            self.invalid_value("kind", written, "is unknown", &format!("one of {names}"))
        })?;
        match JobKind::parse(name) {
            // `plantlake run mirror` must run a job of that kind.
            Some(other) if other != kind => {
                let problem =
                    format!("contradicts the file name: a file {name}.toml has the kind {name:?}");
                Err(self.invalid_value("kind", written, &problem, &format!("{:?}", other.name())))
            }
            _ => Ok(kind),
        }
    }

    fn schedule(&self, written: &SpecFile) -> Result<Option<Schedule>, SpecError> {
        let zone = match &written.timezone {
            None => Tz::UTC,
            Some(text) => parse_timezone(text.get_ref()).map_err(|problem| {
                let expected = "the IANA name of a time zone, such as UTC or Europe/Berlin";
                self.invalid_value("timezone", text, &problem, expected)
            })?,
        };
        let Some(text) = &written.schedule else {
            return Ok(None);
        };
        let schedule = Schedule::parse(text.get_ref(), zone).map_err(|error| {
            let expected =
                "minute, hour, day of the month, month and weekday, such as \"*/15 * * * *\"";
            self.invalid_value("schedule", text, &error.to_string(), expected)
        })?;
        Ok(Some(schedule))
    }

    fn columns(&self, columns: Spanned<Columns>) -> Result<Columns, SpecError> {
        let at = columns.span().start;
        let columns = columns.into_inner();
        let names = [&columns.id, &columns.timestamp, &columns.value];
        let alike = names[0] == names[1] || names[1] == names[2] || names[0] == names[2];
        if alike || names.iter().any(|name| name.is_empty()) {
            return Err(self.error_at(at, "the three columns need three different names"));
        }
        Ok(columns)
    }

    fn duration(
        &self,
        key: &str,
        written: Option<&Spanned<String>>,
        default: &str,
    ) -> Result<Duration, SpecError> {
        let within = TimeDelta::seconds(1)..=TimeDelta::days(7);
        let text = written.map_or(default, |text| text.get_ref());
        let read = parse_duration(text, within)
            .and_then(|read| read.to_std().map_err(|error| error.to_string()));
        read.map_err(|problem| match written {
            Some(text) => self.invalid_value(
                key,
                text,
                &problem,
                "a duration from 1s to 7d, such as 30s, 10min or 2h",
            ),
            None => self.error_at(0, problem),
        })
    }

    fn arguments(
        &self,
        kind: JobKind,
        written: &BTreeMap<Spanned<String>, Spanned<Value>>,
    ) -> Result<BTreeMap<String, Argument>, SpecError> {
        let mut arguments = BTreeMap::new();
        for (name, value) in written {
            let key = name.get_ref();
            let known = kind.arguments().iter().find(|(known, _)| known == key);
            let Some((_, wanted)) = known else {
                let names: Vec<&str> = kind.arguments().iter().map(|(name, _)| *name).collect();
                let names = match names.is_empty() {
                    true => "it has no arguments".to_owned(),
                    false => format!("its arguments are {}", names.join(", ")),
                };
                let problem = format!("a job of kind {kind} has no argument `{key}`; {names}");
                return Err(self.error_at(name.span().start, problem));
            };
            let read = match (wanted, value.get_ref()) {
                (ArgumentType::Boolean, Value::Boolean(flag)) => Some(Argument::Boolean(*flag)),
                (ArgumentType::Date, Value::Datetime(date)) => to_date_argument(date),
                (ArgumentType::Date, Value::String(date)) => date.parse().ok().map(Argument::Date),
                _ => None,
            };
            let read = read.ok_or_else(|| {
                let problem = format!(
                    "the argument `{key}` is {}; expected {}",
                    value.get_ref(),
                    wanted.expected()
                );
                self.error_at(value.span().start, problem)
            })?;
            arguments.insert(key.clone(), read);
        }
        if let (Some(Argument::Date(from)), Some(Argument::Date(to))) =
            (arguments.get("from"), arguments.get("to"))
            && from > to
        {
            let at = written
                .values()
                .map(|value| value.span().start)
                .min()
                .unwrap_or(0);
            return Err(self.error_at(
                at,
                format!("the argument `from`, {from}, is after `to`, {to}"),
            ));
        }
        Ok(arguments)
    }
}

fn to_date_argument(date: &Datetime) -> Option<Argument> {
    match (date.date, date.time, date.offset) {
        (Some(date), None, None) => date.to_string().parse().ok().map(Argument::Date),
        _ => None,
    }
}

impl ResampleSpec {
    /// Reads `resample.toml` in the jobs folder. Returns the defaults if the file does not exist.
    pub fn read(jobs: &Path) -> Result<Self, SpecError> {
        let path = jobs.join("resample.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(SpecError::Unreadable { path, source }),
        };
        let source = SpecSource {
            path: &path,
            text: &text,
        };
        let columns = source.parse(JobKind::Resample.name())?.columns;
        Ok(Self { columns })
    }
}

/// Reads all jobs in the folder, sorted by name. Returns none if the folder does not exist.
pub fn read_jobs(jobs: &Path) -> Result<Vec<JobSpec>, SpecError> {
    let mut declared = BTreeMap::new();
    for path in list_files(jobs)? {
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| SpecError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let source = SpecSource {
            path: &path,
            text: &text,
        };
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let name = stem.filter(|name| is_valid_name(name)).ok_or_else(|| {
            source.error_at(
                0,
                "its name is not a valid job name; use at most 64 letters, digits, - and _",
            )
        })?;
        declared.insert(name.clone(), (path.clone(), source.parse(&name)?, text));
    }
    for (path, job, text) in declared.values() {
        let source = SpecSource { path, text };
        for (name, at) in job.spec.after.iter().zip(&job.after) {
            let problem = match declared.get(name) {
                None => format!("`after` names {name:?}, but there is no {name}.toml"),
                Some((_, other, _)) if other.spec.schedule.is_none() => {
                    format!("`after` names {name:?}, which has no schedule")
                }
                Some(_) if is_after(&declared, name, &job.spec.name) => {
                    format!("`after` names {name:?}, which waits for this job in turn")
                }
                Some(_) => continue,
            };
            return Err(source.error_at(*at, problem));
        }
    }
    Ok(declared.into_values().map(|(_, job, _)| job.spec).collect())
}

/// Returns the paths of all job files in the folder, sorted.
fn list_files(jobs: &Path) -> Result<Vec<PathBuf>, SpecError> {
    let failed = |source| SpecError::Unreadable {
        path: jobs.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(jobs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_CHARS
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Whether `name` runs after `other`, directly or through other jobs.
fn is_after(
    declared: &BTreeMap<String, (PathBuf, ParsedSpec, String)>,
    name: &str,
    other: &str,
) -> bool {
    let mut seen = vec![name];
    let mut at = 0;
    while let Some(name) = seen.get(at).copied() {
        if name == other {
            return true;
        }
        let next = declared.get(name).map(|(_, job, _)| &job.spec.after);
        for name in next.into_iter().flatten() {
            if !seen.contains(&name.as_str()) {
                seen.push(name);
            }
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn jobs(files: &[(&str, &str)]) -> Result<Vec<JobSpec>, String> {
        read_jobs(folder(files).path()).map_err(|error| error.to_string())
    }

    fn columns(text: &str) -> Result<Columns, SpecError> {
        let folder = folder(&[("resample.toml", text)]);
        ResampleSpec::read(folder.path()).map(|spec| spec.columns)
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
            ResampleSpec::read(folder.path()).unwrap(),
            ResampleSpec::default()
        );
        assert_eq!(read_jobs(folder.path()).unwrap(), []);
        assert_eq!(read_jobs(&folder.path().join("none")).unwrap(), []);
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
        assert_eq!(
            (nightly.name.as_str(), nightly.kind),
            ("nightly", JobKind::Resample)
        );
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
                "mirror.toml",
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
        let names: Vec<_> = read_jobs(&jobs)
            .unwrap()
            .into_iter()
            .map(|job| job.name)
            .collect();
        assert!(names.contains(&"resample".to_owned()), "{names:?}");
    }
}
