//! Opens a raw file: reads its footer, and finds its columns.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::datatypes::Schema;
use futures::FutureExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use super::canonical::ColumnPositions;
use super::checked_reader::CheckedReader;
use super::error::RawFileError;
use super::file_names::has_parquet_ending;
use super::footer::{check_chunks, read_footer};
use super::format::RawFormat;
use super::path_id::PathId;
use super::raw_file::RawFile;
use crate::lake::storage::pinned_file::PinnedFile;
use crate::lake::storage::store::Store;

/// The minimum size of a Parquet file in bytes: the magic bytes twice, and the length of the footer.
const MIN_FILE_BYTES: u64 = 12;

/// An opened file: its footer and the positions of its columns.
pub(super) struct OpenedFile {
    pub file: CheckedReader,
    pub metadata: Arc<ParquetMetaData>,
    /// The indices of the three columns among the leaves of the Parquet schema.
    pub leaves: Vec<usize>,
    /// The schema with the file's own types.
    pub schema: Arc<Schema>,
    pub columns: ColumnPositions,
    pub reader: ArrowReaderMetadata,
    /// The id of all readings, if the file has no column of ids.
    pub path_id: Option<PathId>,
}

/// Reads the footer and checks the columns.
pub(super) async fn open(
    raw: &Store,
    file: &RawFile,
    format: &RawFormat,
) -> Result<OpenedFile, RawFileError> {
    if let Some(fault) = &file.fault {
        return Err(RawFileError::Unlistable {
            path: file.path.clone(),
            reason: fault.reason.clone(),
        });
    }
    catch_panic(&file.path, async {
        if file.size < MIN_FILE_BYTES {
            let (path, reason) = (file.path.clone(), format!("it has {} bytes, too few for a Parquet file: perhaps it is still being written", file.size));
            return Err(match has_parquet_ending(&path) {
                true => RawFileError::Unreadable { path, reason },
                false => RawFileError::NotParquet { path, reason },
            });
        }
        // The store does not know an etag that was derived from time and size, so it cannot be a precondition.
        let made_up = file.etag == format!("{}-{}", file.modified, file.size);
        let etag = (!made_up).then(|| file.etag.clone());
        let mut pinned = PinnedFile::new(raw.objects(), &file.path, etag, file.size);
        let path_id = PathId::find(&file.path, &format.columns.id);
        let metadata = read_footer(&mut pinned, file).await?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let own = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.clone());
        let own = own.map_err(|error| RawFileError::from_parquet_error(&file.path, &error))?;
        let located = ColumnPositions::find(&file.path, own.schema(), format, path_id.is_some())?;
        let path_id = path_id.filter(|_| located.id.is_none());
        let leaves = located.leaves(metadata.file_metadata().schema_descr());
        check_chunks(&metadata, &leaves, file.size).map_err(|reason| RawFileError::Unreadable { path: file.path.clone(), reason: reason.0 })?;
        let int96 = metadata.file_metadata().schema_descr().columns().iter().any(|column| {
            column.physical_type() == Type::INT96 && column.path().parts().first() == Some(&format.columns.timestamp)
        });
        let schema = Arc::clone(own.schema());
        let reader = match located.reader_schema(&schema, int96) {
            // If the reader does not support the better type, the column is converted later.
            Some(better) => ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.with_schema(better)).unwrap_or(own),
            None => own,
        };
        let checked = CheckedReader::new(pinned, &metadata, &leaves, file.size);
        Ok(OpenedFile { file: checked, metadata, leaves, schema, columns: located, reader, path_id })
    })
    .await
}

/// Returns the error of a file with which the Parquet library panicked.
pub(super) fn panic_error(path: &str) -> RawFileError {
    RawFileError::Unreadable {
        path: path.to_owned(),
        reason: "it is damaged in a way that the Parquet library does not expect".to_owned(),
    }
}

/// Runs `step`, and converts a panic to an error of the file.
pub(super) async fn catch_panic<T>(
    path: &str,
    step: impl Future<Output = Result<T, RawFileError>>,
) -> Result<T, RawFileError> {
    AssertUnwindSafe(step)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(panic_error(path)))
}
