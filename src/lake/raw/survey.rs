//! Surveys a new file: the dates of its readings, and the maximum number of minute rows that it produces.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::error::RawFileError;
use super::format::RawFormat;
use super::opened_file::{OpenedFile, catch_panic, open};
use super::raw_file::RawFile;
use super::statistics;
use super::times::for_each_instant;
use crate::lake::storage::store::Store;
use crate::model::{AssetId, DateSet, Resolution, day_of};

/// The properties of a file that are known mostly from its footer.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The number of rows.
    pub rows: u64,
    /// The dates of its readings, and possibly a few more.
    pub dates: DateSet,
    /// The time of its last reading, or a later one, in UTC microseconds; `None` if it has none.
    pub last: Option<i64>,
    /// Whether it may have readings without a plausible time.
    pub has_untimed: bool,
    /// The maximum number of minute rows that it produces.
    pub minutes: u64,
    /// The asset of all its readings, if the footer shows that there is only one.
    pub asset: Option<AssetId>,
}

/// The number of rows per date below which the time column of a row group is read to find its exact dates.
const MIN_ROWS_PER_DATE: i64 = 200;

/// Surveys a file. The dates come from the footer. They come from the time column if the footer has no statistics, or
/// if a row group spans many dates with few rows: a few late readings must not cause a whole year to be recomputed.
pub async fn survey(
    raw: &Store,
    file: &RawFile,
    format: &RawFormat,
) -> Result<Survey, RawFileError> {
    let opened = open(raw, file, format).await?;
    let mut survey = Survey {
        rows: 0,
        dates: DateSet::default(),
        last: None,
        has_untimed: false,
        minutes: 0,
        asset: None,
    };
    let mut assets = BTreeSet::new();
    let mut closer = Vec::new();
    let groups = statistics::row_group_times(&opened.schema, &opened.metadata, format);
    for (index, times) in groups.iter().enumerate() {
        let group = opened.metadata.row_group(index);
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        survey.rows = survey.rows.saturating_add(rows);
        survey.has_untimed |= !times.is_plausible(format.plausible);
        let range = times.range.map(|(min, max)| {
            (
                min.max(format.plausible.start),
                max.min(format.plausible.end - 1),
            )
        });
        let asset = match (&opened.path_id, opened.columns.id) {
            (Some(id), _) => id.asset(),
            (None, Some(id)) => {
                statistics::single_asset(&opened.schema, &opened.metadata, group, id)
            }
            (None, None) => None,
        };
        assets.insert(asset);
        let minutes = match range {
            Some((min, max)) if asset.is_some() => rows.min(
                max.saturating_sub(min).max(0) as u64 / Resolution::Minute.micros() as u64 + 2,
            ),
            _ => rows,
        };
        survey.minutes = survey.minutes.saturating_add(minutes);
        match range {
            Some((min, max)) if min > max => {}
            Some((min, max)) => {
                let span = i64::from(day_of(max)) - i64::from(day_of(min)) + 1;
                if span > 2 && group.num_rows() < span.saturating_mul(MIN_ROWS_PER_DATE) {
                    closer.push(index);
                } else {
                    survey.dates.insert_range(day_of(min), day_of(max));
                    survey.last = survey.last.max(Some(max));
                }
            }
            None => closer.push(index),
        }
    }
    if !closer.is_empty() {
        let (dates, last) =
            catch_panic(&file.path, read_dates(&opened, closer, &file.path, format)).await?;
        survey.dates.extend(&dates);
        survey.last = survey.last.max(last);
    }
    if assets.len() == 1 {
        survey.asset = assets.into_iter().next().flatten();
    }
    Ok(survey)
}

/// Returns the exact dates and the last time of some row groups, read from their time column.
async fn read_dates(
    opened: &OpenedFile,
    groups: Vec<usize>,
    path: &str,
    format: &RawFormat,
) -> Result<(DateSet, Option<i64>), RawFileError> {
    let fault =
        |error: &parquet::errors::ParquetError| RawFileError::from_parquet_error(path, error);
    let descriptor = opened.metadata.file_metadata().schema_descr();
    let metadata = ArrowReaderMetadata::try_new(
        std::sync::Arc::clone(&opened.metadata),
        ArrowReaderOptions::new(),
    )
    .map_err(|error| fault(&error))?;
    let mut stream =
        ParquetRecordBatchStreamBuilder::new_with_metadata(opened.file.clone(), metadata)
            .with_projection(ProjectionMask::roots(
                descriptor,
                [opened.columns.timestamp],
            ))
            .with_row_groups(groups)
            .with_batch_size(65_536)
            .build()
            .map_err(|error| fault(&error))?;
    let mut dates = DateSet::default();
    let (mut last_day, mut last) = (None, None);
    while let Some(batch) = stream.try_next().await.map_err(|error| fault(&error))? {
        let found = for_each_instant(batch.column(0), format.timezone, |time| {
            if !format.plausible.contains(time) {
                return;
            }
            last = last.max(Some(time));
            let day = Some(day_of(time));
            if day != last_day {
                dates.extend(&day.into_iter().collect());
                last_day = day;
            }
        });
        found.map_err(|error| RawFileError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok((dates, last))
}
