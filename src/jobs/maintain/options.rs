//! The options of a maintenance run.

/// The options of a maintenance run.
#[derive(Debug, Clone, Copy, Default)]
pub struct MaintainOptions {
    /// Whether to report only, without changing anything.
    pub dry_run: bool,
}
