//! Reads the readings of one file inside a time window, and few outside.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Schema, TimestampMicrosecondType};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter, RowSelection,
};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::basic::Type;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use super::canonical::{self, ColumnPositions, canonical_schema};
use super::checked_reader::CheckedReader;
use super::error::{RawFileError, first_line};
use super::footer::{check_chunks, read_footer, read_page_index};
use super::format::RawFormat;
use super::listing::RawFile;
use super::statistics;
use crate::lake::storage::pinned_file::PinnedFile;
use crate::lake::storage::store::Store;
use crate::model::Window;

/// The part of a file to read.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The window of times to read. The stream may contain readings outside.
    pub window: Window,
    /// Whether readings without a plausible time are read, too.
    pub untimed: bool,
    /// The maximum number of rows in a batch.
    pub batch_rows: usize,
}

/// An opened file: its footer and the positions of its columns.
pub(super) struct OpenedFile {
    pub file: CheckedReader,
    pub metadata: Arc<ParquetMetaData>,
    /// The indices of the three columns among the leaves of the Parquet schema.
    leaves: Vec<usize>,
    /// The schema with the file's own types.
    pub schema: Arc<Schema>,
    pub columns: ColumnPositions,
    reader: ArrowReaderMetadata,
}

/// Reads the footer and checks the columns.
pub(super) async fn open(
    raw: &Store,
    file: &RawFile,
    format: &RawFormat,
) -> Result<OpenedFile, RawFileError> {
    catch_panic(&file.path, async {
        if file.size < 12 {
            return Err(RawFileError::Unreadable { path: file.path.clone(), reason: format!("it has {} bytes, too few for a Parquet file: perhaps it is still being written", file.size) });
        }
        // The store does not know an etag that was derived from time and size, so it cannot be a precondition.
        let made_up = file.etag == format!("{}-{}", file.modified, file.size);
        let etag = (!made_up).then(|| file.etag.clone());
        let mut pinned = PinnedFile::new(raw.objects(), &file.path, etag, file.size);
        let metadata = read_footer(&mut pinned, file).await?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let own = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.clone());
        let own = own.map_err(|error| RawFileError::from_parquet_error(&file.path, &error))?;
        let located = ColumnPositions::find(&file.path, own.schema(), format)?;
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
        Ok(OpenedFile { file: checked, metadata, leaves, schema, columns: located, reader })
    })
    .await
}

/// Row groups that are read in the same way.
struct Segment {
    groups: Vec<usize>,
    selection: Option<RowSelection>,
    filtered: bool,
}

/// Returns the readings of `file` inside `want.window`, in row order: `id` (dictionary of text), `timestamp` (UTC
/// microseconds), `value` (double).
pub async fn read(
    raw: &Store,
    file: &RawFile,
    format: &RawFormat,
    want: &ReadRequest,
) -> Result<BoxStream<'static, Result<RecordBatch, RawFileError>>, RawFileError> {
    let mut opened = open(raw, file, format).await?;
    let segments = catch_panic(&file.path, plan_segments(&mut opened, file, format, want)).await?;
    let (path, format, want) = (file.path.clone(), format.clone(), want.clone());
    let batches = stream::iter(segments)
        .map(move |segment| segment_stream(&opened, segment, &path, &format, &want))
        .map(|stream| {
            stream.map_or_else(
                |fault| stream::once(async { Err(fault) }).boxed(),
                StreamExt::boxed,
            )
        })
        .flatten();
    let path = file.path.clone();
    // The library has panicked on malformed bytes before; one file must not abort the whole run.
    Ok(AssertUnwindSafe(batches)
        .catch_unwind()
        .map(move |batch| batch.unwrap_or_else(|_| Err(panic_error(&path))))
        .boxed())
}

async fn plan_segments(
    opened: &mut OpenedFile,
    file: &RawFile,
    format: &RawFormat,
    want: &ReadRequest,
) -> Result<Vec<Segment>, RawFileError> {
    let times = statistics::row_group_times(&opened.schema, &opened.metadata, format);
    let mut segments: Vec<Segment> = Vec::new();
    let mut partial = Vec::new();
    for (group, times) in times.iter().enumerate() {
        let whole = match times.range {
            Some((min, max)) if times.is_plausible(format.plausible) || !want.untimed => {
                if !want.window.overlaps(min, max) {
                    continue;
                }
                want.window.covers(min, max)
            }
            _ => want.untimed,
        };
        match segments.last_mut() {
            Some(segment) if whole && !segment.filtered => segment.groups.push(group),
            _ => segments.push(Segment {
                groups: vec![group],
                selection: None,
                filtered: !whole,
            }),
        }
        if !whole {
            partial.push(segments.len() - 1);
        }
    }
    if partial.is_empty() {
        return Ok(segments);
    }
    let (metadata, leaves) = (Arc::clone(&opened.metadata), &opened.leaves);
    let indexed = read_page_index(opened.file.pinned(), &metadata, leaves, file).await?;
    let Some(indexed) = indexed.map(Arc::new) else {
        return Ok(segments);
    };
    for at in partial {
        let segment = &mut segments[at];
        if let Some(selection) = statistics::select_rows(
            &opened.schema,
            &indexed,
            segment.groups[0],
            want.window,
            format,
        ) {
            segment.selection = Some(selection);
            segment.filtered = false;
        }
    }
    // With the page index, the reader fetches only the selected pages.
    let options = ArrowReaderOptions::new().with_schema(Arc::clone(opened.reader.schema()));
    if let Ok(reader) = ArrowReaderMetadata::try_new(indexed, options) {
        opened.reader = reader;
    }
    Ok(segments)
}

fn segment_stream(
    opened: &OpenedFile,
    segment: Segment,
    path: &str,
    format: &RawFormat,
    want: &ReadRequest,
) -> Result<
    impl futures::Stream<Item = Result<RecordBatch, RawFileError>> + Send + use<>,
    RawFileError,
> {
    let located = opened.columns;
    let descriptor = opened.metadata.file_metadata().schema_descr();
    let mask = ProjectionMask::roots(descriptor, [located.id, located.timestamp, located.value]);
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(
        opened.file.clone(),
        opened.reader.clone(),
    )
    .with_projection(mask)
    .with_batch_size(want.batch_rows)
    .with_row_groups(segment.groups);
    if let Some(selection) = segment.selection {
        builder = builder.with_row_selection(selection);
    }
    if segment.filtered {
        let (window, timezone) = (want.window, format.timezone);
        let inside = ArrowPredicateFn::new(
            ProjectionMask::roots(descriptor, [located.timestamp]),
            move |batch| {
                let times = canonical::convert_times(batch.column(0), timezone)?;
                let times = times.as_primitive::<TimestampMicrosecondType>();
                Ok(BooleanArray::from_unary(times, |time| {
                    window.contains(time)
                }))
            },
        );
        builder = builder.with_row_filter(RowFilter::new(vec![Box::new(inside)]));
    }
    let fault_path = path.to_owned();
    let stream = builder
        .build()
        .map_err(|error| RawFileError::from_parquet_error(path, &error))?;
    let (path, timezone) = (path.to_owned(), format.timezone);
    // The projection keeps the column order of the file.
    let position = |column: usize| {
        [located.id, located.timestamp, located.value]
            .iter()
            .filter(|&&other| other < column)
            .count()
    };
    let (id, timestamp, value) = (
        position(located.id),
        position(located.timestamp),
        position(located.value),
    );
    let wrong = move |error: arrow::error::ArrowError| RawFileError::Unreadable {
        path: path.clone(),
        reason: first_line(&error.to_string()),
    };
    Ok(stream
        .map_err(move |error| RawFileError::from_parquet_error(&fault_path, &error))
        .and_then(move |batch| {
            let columns = canonical::convert_ids(batch.column(id)).and_then(|ids| {
                let times = canonical::convert_times(batch.column(timestamp), timezone)?;
                RecordBatch::try_new(
                    canonical_schema(),
                    vec![ids, times, canonical::convert_values(batch.column(value))?],
                )
            });
            std::future::ready(columns.map_err(&wrong))
        }))
}

fn panic_error(path: &str) -> RawFileError {
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
