//! The declaration of a kind of job.

use std::sync::Arc;

use crate::app::resample_job::JobInputs;
use crate::config::Settings;
use crate::model::JobKind;
use crate::scheduler::Job;

/// A kind of job: all that its declarations, the scheduler, `doctor`, the help and the documentation need to know about
/// it.
pub(in crate::app) struct DeclaredKind {
    /// The name and the arguments. An argument that the job reads must be among them.
    pub kind: JobKind,
    /// The effect of the job, as `docs/jobs.md` describes it.
    pub documentation: &'static str,
    /// Returns the setting that a job of this kind needs and that is not set, for `doctor`.
    pub missing_setting: fn(&Settings) -> Option<MissingSetting>,
    /// Creates the job.
    pub create: fn(JobInputs) -> Arc<dyn Job>,
}

/// A setting without which a job cannot run.
pub(in crate::app) struct MissingSetting {
    /// The problem, such as "no mirror is configured".
    pub problem: &'static str,
    /// The key of the setting.
    pub key: &'static str,
}

impl DeclaredKind {
    /// Returns the row of the kind in the table of `docs/jobs.md`.
    pub fn documentation_row(&self) -> String {
        let arguments = self.kind.arguments().iter();
        let arguments: Vec<String> = arguments.map(|(name, _)| format!("`{name}`")).collect();
        let arguments = match arguments.is_empty() {
            true => "none".to_owned(),
            false => arguments.join(", "),
        };
        let (kind, does) = (self.kind.name(), self.documentation);
        format!("| `{kind}` | {does} | {arguments} |")
    }
}
