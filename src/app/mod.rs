//! Puts the parts together: what a command needs of several modules that do not know each other.

mod serve;

pub use serve::{AppError, server};
