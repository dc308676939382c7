//! Reads the order of a file's readings in repeated periods of local time, before the readings themselves.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int32Type;
use futures::TryStreamExt;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::error::{RawFileError, first_line};
use super::format::RawFormat;
use super::ids::IdConverter;
use super::local_times::LocalTimes;
use super::opened_file::OpenedFile;
use super::reading_order::ReadingOrder;
use super::repeated_periods::{RepeatedPeriod, repeated_periods};
use super::statistics;
use super::times::{is_local, to_micros};
use crate::model::Window;

/// The number of rows in a batch.
const BATCH_ROWS: usize = 16_384;

/// Returns the order of the readings in repeated periods. Returns `None` if the file has no local times in such periods,
/// or if none of the periods has an instant inside `window`, unless readings without a time are wanted, too.
pub(super) async fn infer_order(
    opened: &OpenedFile,
    path: &str,
    format: &RawFormat,
    window: Window,
    untimed: bool,
) -> Result<Option<Arc<ReadingOrder>>, RawFileError> {
    let kind = opened.schema.field(opened.columns.timestamp).data_type();
    if !is_local(kind, format.timezone) {
        return Ok(None);
    }
    let periods = repeated_periods(format.timezone);
    let is_wanted = |period: &RepeatedPeriod| {
        let (first, last) = period.instants();
        untimed || window.overlaps(first, last)
    };
    if !periods.iter().any(is_wanted) {
        return Ok(None);
    }
    // The same row groups are read for each window, so that all parts of a run agree.
    let times = statistics::row_group_times(&opened.schema, &opened.metadata, format);
    let groups = times
        .iter()
        .enumerate()
        .filter(|(_, times)| times.range.is_none_or(|range| overlaps(&periods, range)));
    let groups: Vec<usize> = groups.map(|(group, _)| group).collect();
    if groups.is_empty() {
        return Ok(None);
    }
    read_order(opened, groups, path, format).await.map(Some)
}

/// Whether a range of instants overlaps one of the periods.
fn overlaps(periods: &[RepeatedPeriod], (min, max): (i64, i64)) -> bool {
    let next = periods.partition_point(|period| period.instants().1 < min);
    periods
        .get(next)
        .is_some_and(|period| period.instants().0 <= max)
}

async fn read_order(
    opened: &OpenedFile,
    groups: Vec<usize>,
    path: &str,
    format: &RawFormat,
) -> Result<Arc<ReadingOrder>, RawFileError> {
    let fault =
        |error: &parquet::errors::ParquetError| RawFileError::from_parquet_error(path, error);
    let wrong = |error: arrow::error::ArrowError| RawFileError::Unreadable {
        path: path.to_owned(),
        reason: first_line(&error.to_string()),
    };
    let (id, timestamp) = (opened.columns.id, opened.columns.timestamp);
    let roots = id.into_iter().chain([timestamp]);
    let descriptor = opened.metadata.file_metadata().schema_descr();
    let mask = ProjectionMask::roots(descriptor, roots);
    let mut order = ReadingOrder::default();
    let mut ids = IdConverter::default();
    let mut local = LocalTimes::new(format.timezone);
    for section in groups.chunk_by(|one, next| one + 1 == *next) {
        order.skip_rows();
        let mut stream = ParquetRecordBatchStreamBuilder::new_with_metadata(
            opened.file.clone(),
            opened.reader.clone(),
        )
        .with_projection(mask.clone())
        .with_row_groups(section.to_vec())
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| fault(&error))?;
        while let Some(batch) = stream.try_next().await.map_err(|error| fault(&error))? {
            let before = |column: usize, other: usize| usize::from(other < column);
            let texts = match (id, &opened.path_id) {
                (Some(id), _) => ids.convert(batch.column(before(id, timestamp))),
                (None, Some(id)) => id.column(batch.num_rows()),
                (None, None) => continue,
            };
            let column = texts.map_err(&wrong)?;
            let column = column.as_dictionary::<Int32Type>();
            let texts = column.values().as_string::<i32>();
            let position = id.map_or(0, |id| before(timestamp, id));
            let times = to_micros(batch.column(position)).map_err(&wrong)?;
            for (row, time) in times.iter().enumerate() {
                let Some(time) = time else {
                    continue;
                };
                local.resolve(time);
                let Some(key) = column.key(row).filter(|&key| texts.is_valid(key)) else {
                    continue;
                };
                let period = local.repeated_period(time);
                order.add(texts.value(key), period.map(|period| (period, time)));
            }
        }
    }
    Ok(Arc::new(order))
}
