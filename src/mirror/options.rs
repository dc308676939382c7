//! Options of a run.

/// Options of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether to compare everything in the window, regardless of the stored hashes.
    pub full: bool,
    /// Whether only to report what would be done.
    pub dry_run: bool,
}
