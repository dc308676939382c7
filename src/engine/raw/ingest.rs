//! Ingest of readings from a client: each reading is checked, and all are stored as one raw file for the next run, or
//! refused as a whole.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use chrono::{DateTime, Utc};

use super::raw_files::RawFiles;
use crate::catalog::VisibleAssets;
use crate::lake::raw::{ContentsBuilder, RawFileError, RawFileWriter};
use crate::lake::storage::parquet_upload::ParquetUploadError;
use crate::model::{AMBIGUOUS_TIME, AssetId, DateSet, Day, day_of, day_to_date};

/// The maximum number of characters of an id that an error quotes.
const MAX_QUOTED_CHARS: usize = 64;
/// The maximum number of days (UTC) in one ingest: each day is a partition that the next run computes. Ten years fit
/// within the limit.
const MAX_DAYS: usize = 4_000;

/// The reason why readings are refused.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A column is missing.
    #[error(
        "missing column {column:?}: readings need the columns id, timestamp and value, but these have {found}"
    )]
    MissingColumn {
        /// The missing column.
        column: String,
        /// The columns that are present.
        found: String,
    },
    /// A column has a type that cannot be used.
    #[error("the column {column:?} is {found}, and must be {expected}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// The accepted types.
        expected: &'static str,
    },
    /// A column is duplicated, or cannot be converted.
    #[error("cannot convert the readings: {0}")]
    Unusable(String),
    /// The organisation may neither write nor see the asset of a reading. The error is the same for assets that do not
    /// exist and for those of other organisations.
    #[error(
        "row {row}: the asset {id} does not exist or is not granted to your organisation; nothing was kept"
    )]
    NotGranted {
        /// The row, counted from 1.
        row: usize,
        /// The asset.
        id: String,
    },
    /// The organisation may see the asset of a reading, but not write to it.
    #[error(
        "row {row}: the asset {id} is granted to your organisation for reading only; ask the operator to grant writing \
         (`plantlake org grant … --asset {id} --write`, or a rule that matches it); nothing was kept"
    )]
    ReadOnly {
        /// The row, counted from 1.
        row: usize,
        /// The asset.
        id: String,
    },
    /// The id of a reading is missing or malformed.
    #[error("row {row}: the id is {found}, and must be an asset's UUID; nothing was kept")]
    InvalidId {
        /// The row, counted from 1.
        row: usize,
        /// The value in the row.
        found: String,
    },
    /// The time of a reading is missing or implausible.
    #[error(
        "row {row}: the time is {found}, and must be from {} to {}; nothing was kept",
        instant(*.plausible.start()), instant(*.plausible.end())
    )]
    InvalidTime {
        /// The row, counted from 1.
        row: usize,
        /// The value in the row.
        found: String,
        /// The accepted times, in microseconds since the epoch.
        plausible: RangeInclusive<i64>,
    },
    /// The local time of a reading occurs twice.
    #[error(
        "row {row}: the local time occurs twice in {timezone}, because clocks are set back then, and may be either of two \
         instants; nothing was kept; send timestamps with a time zone"
    )]
    AmbiguousTime {
        /// The row, counted from 1.
        row: usize,
        /// The time zone of times without one.
        timezone: String,
    },
    /// A reading is older than the operator accepts.
    #[error(
        "row {row}: the time is {}, and readings from before {} are not accepted (serve.oldest_ingest); nothing was kept",
        instant(*.time), instant(*.oldest)
    )]
    TooOld {
        /// The row, counted from 1.
        row: usize,
        /// Its time, in microseconds since the epoch.
        time: i64,
        /// The oldest accepted time, in microseconds since the epoch.
        oldest: i64,
    },
    /// The readings have more than 4,000 distinct days (UTC).
    #[error(
        "row {row}: with {} the readings have more than {MAX_DAYS} distinct days, the limit of one ingest; nothing was kept; \
         send fewer days at once",
        day_to_date(*.day)
    )]
    TooManyDays {
        /// The row, counted from 1.
        row: usize,
        /// The date, the first beyond the limit.
        day: Day,
    },
    /// The file cannot be written.
    #[error("cannot write the readings")]
    WriteFailed(#[from] ParquetUploadError),
}

/// Returns an id as an error quotes it.
fn quoted(id: &str) -> String {
    let length = id.chars().count();
    match length <= MAX_QUOTED_CHARS {
        true => format!("{id:?}"),
        false => {
            let start: String = id.chars().take(MAX_QUOTED_CHARS).collect();
            format!("{start:?}… ({length} characters)")
        }
    }
}

fn instant(micros: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(micros).map_or_else(
        || format!("{micros} µs"),
        |time| time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string(),
    )
}

/// The assets that a sender may send readings for.
#[derive(Debug, Clone)]
pub struct IngestAssets {
    /// The assets that the sender's organisation may write to.
    pub writable: Arc<VisibleAssets>,
    /// The assets that it may see. Errors do not reveal whether other assets exist.
    pub visible: Arc<VisibleAssets>,
}

/// The access of a sender to the asset of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AssetAccess {
    Write,
    Read,
    None,
    /// The id is null or not a UUID.
    Malformed,
}

impl IngestAssets {
    fn access(&self, id: Option<&str>) -> AssetAccess {
        match id.map(AssetId::parse) {
            Some(Ok(asset)) if self.writable.contains(asset) => AssetAccess::Write,
            Some(Ok(asset)) if self.visible.contains(asset) => AssetAccess::Read,
            Some(Ok(_)) => AssetAccess::None,
            _ => AssetAccess::Malformed,
        }
    }
}

/// The accepted times of readings, in microseconds since the epoch.
#[derive(Debug, Clone)]
pub struct IngestTimes {
    /// The plausible times, of which averages are computed.
    pub plausible: RangeInclusive<i64>,
    /// The oldest time that the operator accepts; `None` for no limit.
    pub oldest: Option<i64>,
}

/// An ingest in progress.
pub struct Ingest {
    files: Arc<RawFiles>,
    file: RawFileWriter,
    allowed: IngestAssets,
    times: IngestTimes,
    rows: usize,
    days: DateSet,
    day_count: usize,
    contents: ContentsBuilder,
}

impl Ingest {
    /// Begins an ingest of readings with this schema, of the `allowed` assets and `times`. They become the file `path`
    /// of `files`.
    ///
    /// # Errors
    /// [`IngestError::MissingColumn`], [`IngestError::WrongType`] or [`IngestError::Unusable`] if the schema does not
    /// fit.
    pub(in crate::engine) fn begin(
        files: Arc<RawFiles>,
        path: &str,
        schema: &Schema,
        allowed: IngestAssets,
        times: IngestTimes,
    ) -> Result<Self, IngestError> {
        let file = RawFileWriter::create(&files.raw, &files.format, path, schema);
        let file = file.map_err(|fault| match fault {
            RawFileError::MissingColumn { column, found, .. } => {
                IngestError::MissingColumn { column, found }
            }
            RawFileError::WrongType {
                column,
                found,
                expected,
                ..
            } => IngestError::WrongType {
                column,
                found,
                expected,
            },
            RawFileError::Unreadable { reason, .. } => IngestError::Unusable(reason),
            other => IngestError::Unusable(other.to_string()),
        })?;
        Ok(Self {
            files,
            file,
            allowed,
            times,
            rows: 0,
            days: DateSet::default(),
            day_count: 0,
            contents: ContentsBuilder::default(),
        })
    }

    /// Checks the readings of a batch and writes them to the file.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), IngestError> {
        let unusable = |error: ArrowError| IngestError::Unusable(error.to_string());
        let readings = self.file.to_canonical(batch).map_err(unusable)?;
        self.check_assets(&readings)?;
        self.check_times(&readings)?;
        self.rows = self.rows.saturating_add(readings.num_rows());
        self.contents.add(&readings);
        Ok(self.file.write(&readings).await?)
    }

    /// Completes the file and returns the number of readings. Without readings, no file is created.
    pub async fn finish(self) -> Result<usize, IngestError> {
        if self.rows == 0 {
            self.file.abort().await;
            return Ok(0);
        }
        if let Some(file) = self.file.finish().await? {
            self.files.insert_written(&file, self.contents.finish());
        }
        Ok(self.rows)
    }

    /// Discards the file.
    pub async fn abort(self) {
        self.file.abort().await;
    }

    fn check_assets(&self, readings: &RecordBatch) -> Result<(), IngestError> {
        let ids = readings.column(0).as_dictionary::<Int32Type>();
        let texts = ids.values().as_string::<i32>();
        // Access to each distinct id; dictionary values that no row uses do not matter.
        let allowed = texts.iter().map(|text| self.allowed.access(text));
        let allowed: Vec<AssetAccess> = allowed.collect();
        for (row, key) in ids.keys().iter().enumerate() {
            let key = key.and_then(|key| usize::try_from(key).ok());
            let access = key.and_then(|key| allowed.get(key));
            if access == Some(&AssetAccess::Write) {
                continue;
            }
            let row = self.rows + row + 1;
            let text = key.filter(|&key| texts.is_valid(key));
            let text = text.map(|key| texts.value(key));
            return Err(match (access, text) {
                (Some(AssetAccess::Read), Some(id)) => IngestError::ReadOnly {
                    row,
                    id: id.to_owned(),
                },
                (Some(AssetAccess::None), Some(id)) => IngestError::NotGranted {
                    row,
                    id: id.to_owned(),
                },
                (_, found) => IngestError::InvalidId {
                    row,
                    found: found.map_or_else(|| "null".to_owned(), quoted),
                },
            });
        }
        Ok(())
    }

    fn check_times(&mut self, readings: &RecordBatch) -> Result<(), IngestError> {
        let times = readings
            .column(1)
            .as_primitive::<TimestampMicrosecondType>();
        let plausible = &self.times.plausible;
        let mut last = None;
        for (row, time) in times.iter().enumerate() {
            let row = self.rows + row + 1;
            if time == Some(AMBIGUOUS_TIME) {
                return Err(IngestError::AmbiguousTime {
                    row,
                    timezone: self.files.format.timezone.to_string(),
                });
            }
            let Some(time) = time.filter(|time| plausible.contains(time)) else {
                return Err(IngestError::InvalidTime {
                    row,
                    found: time.map_or_else(|| "null".to_owned(), instant),
                    plausible: plausible.clone(),
                });
            };
            if let Some(oldest) = self.times.oldest.filter(|&oldest| time < oldest) {
                return Err(IngestError::TooOld { row, time, oldest });
            }
            let day = day_of(time);
            if last.replace(day) == Some(day) || self.days.contains(day) {
                continue;
            }
            if self.day_count == MAX_DAYS {
                return Err(IngestError::TooManyDays { row, day });
            }
            self.days.insert(day);
            self.day_count += 1;
        }
        Ok(())
    }
}
impl RawFiles {
    /// Begins an ingest of readings that become the raw file `path`; see [`Ingest`].
    pub(in crate::engine) fn ingest(
        self: &Arc<Self>,
        path: &str,
        schema: &Schema,
        allowed: IngestAssets,
        times: IngestTimes,
    ) -> std::result::Result<Ingest, IngestError> {
        Ingest::begin(Arc::clone(self), path, schema, allowed, times)
    }
}
