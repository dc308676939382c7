//! Output about settings: the report, with secrets masked, and their documentation.

pub(super) mod docs;
pub(super) mod report;
