//! The raw files: their listing, their contents, and their readings in canonical form, whatever program wrote them.

pub mod archive_copy;
mod byte_lengths;
mod canonical;
mod checked_reader;
mod contents;
mod decimals;
mod error;
mod footer;
mod format;
mod listing;
mod local_times;
mod page_header;
mod pages;
mod raw_file_writer;
mod read;
mod statistics;
mod survey;
#[cfg(test)]
mod tests;
mod thrift;

pub use contents::{AssetGroup, ContentsBuilder, FileContents, read_contents};
pub use error::RawFileError;
pub use format::{ColumnNames, RawFormat};
pub use listing::{ListError, RawFile, list_raw_files};
pub use raw_file_writer::RawFileWriter;
pub use read::{ReadRequest, read};
pub use survey::{Survey, survey};
