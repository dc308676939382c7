//! The job specifications in `jobs/<name>.toml`. They are checked when they are read, and every error names its line.

mod columns;
mod error;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{JobKind, JobSpec, read_text};
pub use columns::Columns;
use columns::RESAMPLE;
pub use error::SpecError;
use source::{ParsedSpec, SpecSource};

/// The maximum length of a job's name in characters. The name is a metric label.
const MAX_NAME_CHARS: usize = 64;

/// The part of `resample.toml` that configures how raw files are read, by jobs and by queries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResampleSpec {
    /// The names of the columns in the raw files.
    pub columns: Columns,
}

impl ResampleSpec {
    /// Reads `resample.toml` in the jobs folder. Returns the defaults if the file does not exist. `kinds` are all kinds of
    /// jobs.
    pub fn read(jobs: &Path, kinds: &[JobKind]) -> Result<Self, SpecError> {
        let path = jobs.join(format!("{RESAMPLE}.toml"));
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(SpecError::Unreadable { path, source }),
        };
        let source = SpecSource {
            path: &path,
            text: &text,
            kinds,
        };
        let columns = source.parse(RESAMPLE)?.columns;
        Ok(Self { columns })
    }
}

/// Reads all jobs in the folder, sorted by name. Returns none if the folder does not exist. `kinds` are all kinds of jobs.
pub fn read_jobs(jobs: &Path, kinds: &[JobKind]) -> Result<Vec<JobSpec>, SpecError> {
    let mut declared = BTreeMap::new();
    for path in list_files(jobs)? {
        let text = read_text(&path);
        let text = text.map_err(|source| SpecError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let source = SpecSource {
            path: &path,
            text: &text,
            kinds,
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
        let source = SpecSource { path, text, kinds };
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
mod tests;
