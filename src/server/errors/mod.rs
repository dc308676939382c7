//! Errors as clients see them: codes, texts, and panics.

pub(super) mod error_text;
pub(super) mod panics;
pub(super) mod status;
