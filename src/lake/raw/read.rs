//! Reads the readings of one file inside a time window, and few outside.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter, RowSelection,
};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::canonical::{ColumnPositions, canonical_schema, convert_values};
use super::error::{RawFileError, first_line};
use super::footer::read_page_index;
use super::format::RawFormat;
use super::ids::IdConverter;
use super::infer_order::infer_order;
use super::opened_file::{OpenedFile, catch_panic, open, panic_error};
use super::path_id::PathId;
use super::raw_file::RawFile;
use super::statistics;
use super::times::{TimeConverter, convert_times};
use crate::lake::storage::store::Store;
use crate::model::{MICROS_PER_DAY, Window};

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
    let order = infer_order(&opened, &file.path, format, want.window, want.untimed);
    let order = catch_panic(&file.path, order).await?;
    let segments = catch_panic(&file.path, plan_segments(&mut opened, file, format, want)).await?;
    // Readings of a repeated local time are needed in their order, even if some of them are outside the window.
    let slack = order.as_ref().map_or(0, |_| 2 * MICROS_PER_DAY);
    let want = ReadRequest {
        window: Window {
            start: want.window.start.saturating_sub(slack),
            end: want.window.end.saturating_add(slack),
        },
        ..want.clone()
    };
    let times = TimeConverter::new(format.timezone, order, format.marks_ambiguous);
    let converter = Arc::new(Mutex::new(Converter {
        columns: opened.columns,
        path_id: opened.path_id.clone(),
        ids: IdConverter::default(),
        times,
    }));
    let (path, format) = (file.path.clone(), format.clone());
    let batches = stream::iter(segments)
        .map(move |segment| segment_stream(&opened, segment, &path, &format, &want, &converter))
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

/// Converts the batches of a file to canonical form. Segments are read one after another and share it.
struct Converter {
    columns: ColumnPositions,
    path_id: Option<PathId>,
    ids: IdConverter,
    times: TimeConverter,
}

impl Converter {
    fn convert(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let ids: ArrayRef = match (&self.path_id, self.columns.id) {
            (_, Some(id)) => self.ids.convert(batch.column(self.position(id)))?,
            (Some(id), None) => id.column(batch.num_rows())?,
            (None, None) => return Err(ArrowError::SchemaError("it has no ids".to_owned())),
        };
        let timestamp = batch.column(self.position(self.columns.timestamp));
        let times = self.times.convert(timestamp, &ids)?;
        let values = convert_values(batch.column(self.position(self.columns.value)))?;
        RecordBatch::try_new(canonical_schema(), vec![ids, times, values])
    }

    /// Returns the position of a column of the file in its batches, which have only the columns that are read, in the
    /// order of the file.
    fn position(&self, column: usize) -> usize {
        let roots = self.columns.roots().into_iter();
        roots.filter(|&other| other < column).count()
    }
}

fn segment_stream(
    opened: &OpenedFile,
    segment: Segment,
    path: &str,
    format: &RawFormat,
    want: &ReadRequest,
    converter: &Arc<Mutex<Converter>>,
) -> Result<
    impl futures::Stream<Item = Result<RecordBatch, RawFileError>> + Send + use<>,
    RawFileError,
> {
    let located = opened.columns;
    let descriptor = opened.metadata.file_metadata().schema_descr();
    let mask = ProjectionMask::roots(descriptor, located.roots());
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
                let times = convert_times(batch.column(0), timezone)?;
                let times = times.as_primitive::<TimestampMicrosecondType>();
                Ok(BooleanArray::from_unary(times, |time| {
                    window.contains(time)
                }))
            },
        );
        builder = builder.with_row_filter(RowFilter::new(vec![Box::new(inside)]));
    }
    let fault_path = path.to_owned();
    let converter = Arc::clone(converter);
    let stream = builder
        .build()
        .map_err(|error| RawFileError::from_parquet_error(path, &error))?;
    let path = path.to_owned();
    let wrong = move |error: arrow::error::ArrowError| RawFileError::Unreadable {
        path: path.clone(),
        reason: first_line(&error.to_string()),
    };
    Ok(stream
        .map_err(move |error| RawFileError::from_parquet_error(&fault_path, &error))
        .and_then(move |batch| {
            let mut converter = converter.lock().unwrap_or_else(PoisonError::into_inner);
            let columns = converter.convert(&batch);
            drop(converter);
            std::future::ready(columns.map_err(&wrong))
        }))
}
