//! The sources of settings, in the order of their precedence, merged as text.

pub(super) mod dotenv;
pub(super) mod environment;
pub(super) mod file;
pub(super) mod inputs;
pub(super) mod legacy_variables;
