//! Evaluates the statistics of times in row groups and pages.

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, Schema, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::canonical::plain_type;
use super::created_by::has_usable_binary_statistics;
use super::format::RawFormat;
use super::repeated_periods::repeated_periods;
use super::times::{convert_times, is_local};
use crate::model::{AssetId, MICROS_PER_DAY, Window};

/// The statistics of the times in a row group or a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeStatistics {
    /// The minimum and maximum in UTC microseconds, if they are known.
    pub range: Option<(i64, i64)>,
    /// Whether it is certain that no time is null.
    pub has_no_nulls: bool,
    /// Whether there may be a local time that occurs twice.
    pub may_be_ambiguous: bool,
}

impl TimeStatistics {
    /// Whether it is certain that all times are plausible.
    pub fn is_plausible(&self, plausible: Window) -> bool {
        self.has_no_nulls
            && !self.may_be_ambiguous
            && self
                .range
                .is_some_and(|(min, max)| plausible.covers(min, max))
    }
}

/// Returns the statistics converter for the time column, if the column's types allow one.
fn time_converter<'a>(
    schema: &'a Schema,
    metadata: &'a ParquetMetaData,
    column: &str,
) -> Option<StatisticsConverter<'a>> {
    StatisticsConverter::try_new(column, schema, metadata.file_metadata().schema_descr()).ok()
}

fn time_statistics(
    mins: Option<ArrayRef>,
    maxs: Option<ArrayRef>,
    nulls: Option<&UInt64Array>,
    count: usize,
    format: &RawFormat,
    is_local: bool,
) -> Vec<TimeStatistics> {
    let micros = |column: Option<ArrayRef>| convert_times(&column?, format.timezone).ok();
    let (mins, maxs) = (micros(mins), micros(maxs));
    // Local times are not monotonic where clocks are set back, so the range is widened by a day.
    let slack = if is_local { MICROS_PER_DAY } else { 0 };
    let may_be_ambiguous = |range: Option<(i64, i64)>| {
        is_local
            && range.is_none_or(|(min, max)| {
                let periods = repeated_periods(format.timezone);
                let next = periods.partition_point(|period| period.instants().1 < min);
                periods
                    .get(next)
                    .is_some_and(|period| period.instants().0 <= max)
            })
    };
    (0..count)
        .map(|index| {
            let at = |column: &Option<ArrayRef>| {
                let column = column.as_ref()?.as_primitive::<TimestampMicrosecondType>();
                (index < column.len() && column.is_valid(index)).then(|| column.value(index))
            };
            let range = at(&mins).zip(at(&maxs)).filter(|(min, max)| min <= max);
            let range =
                range.map(|(min, max)| (min.saturating_sub(slack), max.saturating_add(slack)));
            TimeStatistics {
                range,
                may_be_ambiguous: may_be_ambiguous(range),
                has_no_nulls: nulls.is_some_and(|nulls| {
                    index < nulls.len() && nulls.is_valid(index) && nulls.value(index) == 0
                }),
            }
        })
        .collect()
}

/// Returns the asset of all rows in a row group, if the minimum and the maximum id are equal and no id is null. The order
/// by which the writer compared ids does not matter for that.
pub(super) fn single_asset(
    schema: &Schema,
    metadata: &ParquetMetaData,
    group: &RowGroupMetaData,
    root: usize,
) -> Option<AssetId> {
    // With nested columns, the indices of roots and leaves differ.
    if group.num_columns() != schema.fields().len() {
        return None;
    }
    let statistics = group.column(root).statistics()?;
    let writer = metadata.file_metadata().created_by();
    if !has_usable_binary_statistics(writer, statistics.is_min_max_deprecated()) {
        return None;
    }
    let (min, max) = (statistics.min_bytes_opt()?, statistics.max_bytes_opt()?);
    // A truncated text is not a valid asset id.
    if min != max || statistics.null_count_opt() != Some(0) {
        return None;
    }
    match plain_type(schema.field(root).data_type()) {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => None,
        DataType::FixedSizeBinary(16) => min.try_into().ok().map(AssetId::from_bytes),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            AssetId::parse(std::str::from_utf8(min).ok()?).ok()
        }
        _ => None,
    }
}

fn has_local_times(schema: &Schema, format: &RawFormat) -> bool {
    schema
        .field_with_name(&format.columns.timestamp)
        .is_ok_and(|field| is_local(field.data_type(), format.timezone))
}

/// Returns the statistics of the times in each row group.
pub(super) fn row_group_times(
    schema: &Schema,
    metadata: &ParquetMetaData,
    format: &RawFormat,
) -> Vec<TimeStatistics> {
    let column = &format.columns.timestamp;
    let groups = metadata.row_groups();
    let unknown = TimeStatistics {
        range: None,
        has_no_nulls: false,
        may_be_ambiguous: has_local_times(schema, format),
    };
    let Some(converter) = time_converter(schema, metadata, column) else {
        return vec![unknown; groups.len()];
    };
    let converter = converter.with_missing_null_counts_as_zero(false);
    let nulls = converter.row_group_null_counts(groups).ok();
    time_statistics(
        converter.row_group_mins(groups).ok(),
        converter.row_group_maxes(groups).ok(),
        nulls.as_ref(),
        groups.len(),
        format,
        has_local_times(schema, format),
    )
}

/// Returns the rows of a row group that may be inside `window` according to the page index, or `None` if the file has
/// no page index.
pub(super) fn select_rows(
    schema: &Schema,
    metadata: &ParquetMetaData,
    group: usize,
    window: Window,
    format: &RawFormat,
) -> Option<RowSelection> {
    let column = &format.columns.timestamp;
    let (columns, offsets) = (metadata.column_index()?, metadata.offset_index()?);
    let converter =
        time_converter(schema, metadata, column)?.with_missing_null_counts_as_zero(false);
    let groups = [group];
    let counts = converter
        .data_page_row_counts(offsets, metadata.row_groups(), &groups)
        .ok()??;
    let mins = converter.data_page_mins(columns, offsets, &groups).ok()?;
    let maxs = converter.data_page_maxes(columns, offsets, &groups).ok()?;
    let pages = time_statistics(
        Some(mins),
        Some(maxs),
        None,
        counts.len(),
        format,
        has_local_times(schema, format),
    );
    let selectors: Vec<RowSelector> = pages
        .iter()
        .zip(counts.values())
        .map(|(page, &rows)| {
            let rows = rows as usize;
            // A page without statistics may contain any time.
            if page
                .range
                .is_none_or(|(min, max)| window.overlaps(min, max))
            {
                RowSelector::select(rows)
            } else {
                RowSelector::skip(rows)
            }
        })
        .collect();
    Some(RowSelection::from(selectors))
}
