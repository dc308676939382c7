//! Runs all checks.

use super::clocks::Clocks;
use super::finding::Finding;
use super::{configuration, folders, services, storage};
use crate::config::{EffectiveSetting, Settings, redact};

/// Runs all checks, in the order in which an installation is set up.
pub async fn examine(settings: &Settings, in_force: &[EffectiveSetting]) -> Vec<Finding> {
    let mut findings = configuration::check(settings, in_force).await;
    let mut clocks = Clocks::default();
    findings.extend(folders::check(settings));
    findings.extend(storage::check(settings, &mut clocks).await);
    findings.extend(services::check(settings, &mut clocks).await);
    findings.push(clocks.finding());
    for finding in &mut findings {
        finding.found = redact(&finding.found).into_owned();
        finding.todo = redact(&finding.todo).into_owned();
    }
    findings
}
