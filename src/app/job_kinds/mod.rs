//! The kinds of jobs. Each has a file that declares a [`DeclaredKind`] and implements [`Job`](crate::scheduler::Job), and a
//! line in [`JOB_KINDS`]; job files, `doctor` and the help follow from the declaration.

mod index;
mod kind;
mod maintain;
mod mirror;
mod resample;

use std::path::Path;

use crate::config::Settings;
use crate::jobs::spec::{self, SpecError};
use crate::model::{JobKind, JobSpec};
use kind::{DeclaredKind, MissingSetting};

/// All kinds of jobs, in the order of the documentation.
pub(super) static JOB_KINDS: [&DeclaredKind; 4] = [
    &resample::RESAMPLE,
    &mirror::MIRROR,
    &index::INDEX,
    &maintain::MAINTAIN,
];

/// Returns the names and arguments of all kinds of jobs.
pub fn job_kinds() -> Vec<JobKind> {
    JOB_KINDS.map(|declared| declared.kind).to_vec()
}

/// Reads all declared jobs in the folder, sorted by name. Returns none if the folder does not exist.
pub fn read_jobs(folder: &Path) -> Result<Vec<JobSpec>, SpecError> {
    spec::read_jobs(folder, &job_kinds())
}

/// Returns the setting that jobs of this kind need and that is not set.
pub(super) fn missing_setting(kind: JobKind, settings: &Settings) -> Option<MissingSetting> {
    let declared = JOB_KINDS.iter().find(|declared| declared.kind == kind)?;
    (declared.missing_setting)(settings)
}

/// Returns the rows that describe the kinds of jobs in `docs/jobs.md`.
pub fn job_kind_rows() -> Vec<String> {
    JOB_KINDS.map(DeclaredKind::documentation_row).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_has_exactly_these_kinds() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/jobs.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (_, kinds) = page.split_once("\n## Kinds\n").unwrap();
        let (kinds, _) = kinds.split_once("\n## ").unwrap();
        let documented: Vec<&str> = kinds
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(documented, job_kind_rows());
        let names: Vec<String> = job_kinds().iter().map(|kind| format!("`{kind}`")).collect();
        let row = format!("| `kind` | the file's name | {} |", names.join(", "));
        assert!(page.contains(&row), "{row}");
    }

    #[test]
    fn each_kind_has_a_job_file_in_the_repository() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/jobs");
        let declared = read_jobs(Path::new(folder)).unwrap();
        for kind in job_kinds() {
            assert!(declared.iter().any(|spec| spec.kind == kind), "{kind}");
        }
    }

    #[test]
    fn arguments_of_each_kind_are_those_that_its_job_reads() {
        let names = |declared: &DeclaredKind| -> Vec<&str> {
            let arguments = declared.kind.arguments().iter();
            arguments.map(|(name, _)| *name).collect()
        };
        assert_eq!(names(&resample::RESAMPLE), ["full", "from", "to"]);
        assert_eq!(names(&mirror::MIRROR), ["full"]);
        assert_eq!(names(&index::INDEX), ["full"]);
        assert!(names(&maintain::MAINTAIN).is_empty());
    }
}
