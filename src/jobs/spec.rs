//! `jobs/resample.toml`: what an operator declares about the resample job.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Why a job spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("the job spec {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file says something that it cannot say.
    #[error("the job spec {path} is wrong: {problem}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong.
        problem: String,
    },
}

/// The resample job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResampleSpec {
    /// `kind = "resample"`; may be left out.
    pub kind: Option<Kind>,
    /// The names of the columns in the raw files.
    pub columns: Columns,
}

/// The kinds of jobs that this file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Raw to rollups.
    Resample,
}

/// The names of the columns in the raw files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The asset's UUID.
    pub id: String,
    /// The reading's time.
    pub timestamp: String,
    /// The reading.
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

impl ResampleSpec {
    /// Reads `resample.toml` in the jobs folder; the defaults if there is none.
    pub fn read(jobs: &Path) -> Result<Self, SpecError> {
        let path = jobs.join("resample.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(SpecError::Unreadable { path, source }),
        };
        let spec: Self = toml::from_str(&text).map_err(|error| SpecError::Wrong {
            path: path.clone(),
            problem: error.to_string().trim_end().to_owned(),
        })?;
        let names = [
            &spec.columns.id,
            &spec.columns.timestamp,
            &spec.columns.value,
        ];
        if names.iter().any(|name| name.is_empty())
            || names[0] == names[1]
            || names[1] == names[2]
            || names[0] == names[2]
        {
            return Err(SpecError::Wrong {
                path,
                problem: "the three columns need three different names".to_owned(),
            });
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ResampleSpec, SpecError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("resample.toml"), text).unwrap();
        ResampleSpec::read(folder.path())
    }

    #[test]
    fn columns_are_mapped_and_mistakes_point_at_their_line() {
        let spec = read("kind = \"resample\"\n[columns]\nid = \"sensor\"\n").unwrap();
        assert_eq!(
            (spec.columns.id.as_str(), spec.columns.value.as_str()),
            ("sensor", "value")
        );
        let error = read("\n[columns]\nvalu = \"v\"\n").unwrap_err().to_string();
        assert!(
            error.contains("line 3") && error.contains("valu"),
            "{error}"
        );
        assert!(read("[columns]\nid = \"value\"\n").is_err());
    }

    #[test]
    fn no_file_means_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            ResampleSpec::read(folder.path()).unwrap(),
            ResampleSpec::default()
        );
    }
}
