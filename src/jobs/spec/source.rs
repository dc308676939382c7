//! Parses and checks the text of one job specification.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use serde::Deserialize;
use toml::Spanned;
use toml::value::{Datetime, Value};

use super::columns::{Columns, RESAMPLE};
use super::error::SpecError;
use crate::config::{parse_duration, parse_timezone};
use crate::model::{Argument, ArgumentType, JobKind, JobSpec, MissedRunPolicy, Schedule};

/// The maximum number of retries of a job.
const MAX_RETRIES: u32 = 100;
const DEFAULT_TIMEOUT: &str = "1h";
const DEFAULT_BACKOFF: &str = "1min";
const DEFAULT_RETRIES: u32 = 2;

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
pub(super) struct SpecSource<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    /// All kinds of jobs.
    pub kinds: &'a [JobKind],
}

/// The checked contents of one file.
pub(super) struct ParsedSpec {
    pub spec: JobSpec,
    pub columns: Columns,
    /// The byte offset in the file of each name in `after`.
    pub after: Vec<usize>,
}

impl SpecSource<'_> {
    /// Returns an error at a byte offset in the file.
    pub fn error_at(&self, at: usize, problem: impl Into<String>) -> SpecError {
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

    /// Parses and checks the file of the job `name`.
    pub fn parse(&self, name: &str) -> Result<ParsedSpec, SpecError> {
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
            Some(columns) if name != RESAMPLE => {
                return Err(self.error_at(
                    columns.span().start,
                    "`columns` belongs in resample.toml: it applies to every reader of raw files",
                ));
            }
            Some(columns) => self.columns(columns)?,
            None => Columns::default(),
        };
        let retries = self.retries(written.retries.as_ref())?;
        let missed = self.missed(written.missed.as_ref())?;
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
        let find = |name: &str| {
            let mut kinds = self.kinds.iter().copied();
            kinds.find(|kind| kind.name() == name)
        };
        let names = self.kinds.iter().map(|kind| format!("{:?}", kind.name()));
        let names = names.collect::<Vec<_>>().join(", ");
        let Some(written) = written else {
            let problem = format!("`kind` is missing; expected one of {names}");
            return find(name).ok_or_else(|| self.error_at(0, problem));
        };
        let kind = find(written.get_ref());
        let kind = kind.ok_or_else(|| {
            self.invalid_value("kind", written, "is unknown", &format!("one of {names}"))
        })?;
        match find(name) {
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

    fn retries(&self, written: Option<&Spanned<i64>>) -> Result<u32, SpecError> {
        let Some(number) = written else {
            return Ok(DEFAULT_RETRIES);
        };
        u32::try_from(*number.get_ref())
            .ok()
            .filter(|number| *number <= MAX_RETRIES)
            .ok_or_else(|| {
                let problem = format!(
                    "`retries` is {}; expected 0 to {MAX_RETRIES}",
                    number.get_ref()
                );
                self.error_at(number.span().start, problem)
            })
    }

    fn missed(&self, written: Option<&Spanned<String>>) -> Result<MissedRunPolicy, SpecError> {
        let Some(text) = written else {
            return Ok(MissedRunPolicy::default());
        };
        match text.get_ref().as_str() {
            "once" => Ok(MissedRunPolicy::Once),
            "skip" => Ok(MissedRunPolicy::Skip),
            _ => Err(self.invalid_value("missed", text, "is unknown", "\"once\" or \"skip\"")),
        }
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
