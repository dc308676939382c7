//! The output of commands: results go to standard output; notes, progress and errors go to standard error.
//!
//! No other code writes to either. Thus a pipe that closes early is handled here, and lines do not overwrite progress
//! bars.

pub mod csv;
mod error;
pub mod human;
mod progress;
mod replaced_file;
pub mod result_file;
mod table;
mod terminal;

pub use error::{OutputError, is_closed_output};
pub use progress::{Progress, Unit};
pub use replaced_file::ReplacedFile;
pub use table::{Align, Table};
pub use terminal::Terminal;
