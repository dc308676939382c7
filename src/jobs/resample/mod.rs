//! The resample job: its plan, its execution, and its reports.

pub(super) mod attempt;
pub(super) mod cells;
pub(super) mod compute;
#[cfg(test)]
pub(super) mod evolution_tests;
pub(super) mod inputs;
pub(super) mod job;
pub(super) mod ledger;
pub mod plan;
pub(super) mod publish;
pub(super) mod report;
pub(super) mod rollup_files;
pub(super) mod run;
pub(super) mod survey;
