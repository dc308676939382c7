//! Puts the parts together: what a command needs of several modules that do not know each other.

mod search;
mod serve;

pub use search::{index_folder, models, search};
pub use serve::{AppError, server};
