//! The raw files: their listing, their contents, and their readings in canonical form, whatever program wrote them.

pub mod archive_copy;
mod arrow_schema;
mod byte_lengths;
mod canonical;
mod checked_reader;
mod contents;
mod created_by;
mod decimals;
mod delta_folders;
mod error;
mod file_names;
mod footer;
mod format;
mod found_entries;
mod ids;
mod infer_order;
mod listing;
mod local_times;
mod local_walk;
mod opened_file;
mod page_header;
mod pages;
mod path_id;
mod raw_file;
mod raw_file_writer;
mod read;
mod reading_order;
mod repeated_periods;
mod statistics;
mod survey;
#[cfg(test)]
mod tests;
mod thrift;
mod times;

pub use contents::{AssetGroup, ContentsBuilder, FileContents, read_contents};
pub use error::RawFileError;
pub use format::{ColumnNames, RawFormat};
pub use found_entries::PassedOver;
pub use listing::{ListError, Listing, check_known_files, list_raw_files, list_raw_folder};
pub use raw_file::{EntryFault, RawFile};
pub use raw_file_writer::RawFileWriter;
pub use read::{ReadRequest, read};
pub use survey::{Survey, survey};
