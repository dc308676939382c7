//! Statements before they are planned: parsed, checked and normalised.

pub(super) mod fingerprint;
pub(super) mod grouping_limits;
mod jdbc_escapes;
mod outer_using;
pub(super) mod parse_budget;
mod rewrites;
pub(super) mod simple_statement;
pub(super) mod statement;
pub(super) mod table_limits;
pub(super) mod time_zones;
pub(super) mod tokens;
mod unsupported;
