//! Looks into a new file: which dates its readings touch, and how much will come of it.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::read::{Opened, guarded, open};
use super::{FileFault, RawFile, RawFormat, canonical, statistics};
use crate::lake::Store;
use crate::model::{AssetId, DateSet, Resolution, day_of};

/// What is known of a file without reading its readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Rows.
    pub rows: u64,
    /// The dates that its readings touch; perhaps a few more.
    pub dates: DateSet,
    /// Whether it may have readings without a plausible time.
    pub irregular: bool,
    /// At most so many minute rows come of it.
    pub minutes: u64,
    /// The asset that all its readings are of, where the footer says so.
    pub asset: Option<AssetId>,
}

/// A row group with fewer rows for each date that it spans is looked into more closely.
const SPARSE: i64 = 200;

/// Looks into a file. The dates come from the footer, and from the time column where the footer says
/// nothing, or where its span says little: a handful of late readings must not dirty a year.
pub async fn survey(raw: &Store, file: &RawFile, format: &RawFormat) -> Result<Survey, FileFault> {
    let opened = open(raw, file, format).await?;
    let mut survey = Survey {
        rows: 0,
        dates: DateSet::default(),
        irregular: false,
        minutes: 0,
        asset: None,
    };
    let mut assets = BTreeSet::new();
    let mut closer = Vec::new();
    let groups = statistics::row_groups(&opened.schema, &opened.metadata, format);
    for (index, times) in groups.iter().enumerate() {
        let group = opened.metadata.row_group(index);
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        survey.rows = survey.rows.saturating_add(rows);
        survey.irregular |= !times.regular(format.plausible);
        let range = times.range.map(|(min, max)| {
            (
                min.max(format.plausible.start),
                max.min(format.plausible.end - 1),
            )
        });
        let asset = statistics::one_asset(&opened.schema, group, opened.located.id);
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
                if span > 2 && group.num_rows() < span.saturating_mul(SPARSE) {
                    closer.push(index);
                } else {
                    survey.dates.insert_range(day_of(min), day_of(max));
                }
            }
            None => closer.push(index),
        }
    }
    if !closer.is_empty() {
        let dates = guarded(&file.path, dates_of(&opened, closer, &file.path, format)).await?;
        survey.dates.extend(&dates);
    }
    if assets.len() == 1 {
        survey.asset = assets.into_iter().next().flatten();
    }
    Ok(survey)
}

/// The exact dates of some row groups, from their time column.
async fn dates_of(
    opened: &Opened,
    groups: Vec<usize>,
    path: &str,
    format: &RawFormat,
) -> Result<DateSet, FileFault> {
    let fault = |error: &parquet::errors::ParquetError| FileFault::of(path, error);
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
                [opened.located.timestamp],
            ))
            .with_row_groups(groups)
            .with_batch_size(65_536)
            .build()
            .map_err(|error| fault(&error))?;
    let mut dates = DateSet::default();
    let mut last = None;
    while let Some(batch) = stream.try_next().await.map_err(|error| fault(&error))? {
        let times = canonical::times(batch.column(0), format.timezone).map_err(|error| {
            FileFault::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            }
        })?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        for row in 0..times.len() {
            if times.is_valid(row) && format.plausible.contains(times.value(row)) {
                let day = Some(day_of(times.value(row)));
                if day != last {
                    dates.extend(&day.into_iter().collect());
                    last = day;
                }
            }
        }
    }
    Ok(dates)
}
