//! The layout and the writer of a table's data files.
//!
//! Rows are sorted by asset and time. Floats are PLAIN, because Spark's vectorised reader does not support
//! BYTE_STREAM_SPLIT. Assets are dictionary-encoded. Times and counts are DELTA_BINARY_PACKED and take a few bits each.
//! Pages are small and indexed, so that a query for one month of one asset reads few of them.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit};
use chrono::DateTime;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

use super::Store;
use super::parquet_upload::{ParquetUpload, ParquetUploadError};
use super::table::{Partition, TableError};
use crate::model::Resolution;

const MAX_ROWS_PER_GROUP: usize = 262_144;
/// The maximum number of rows in a page, which is the smallest unit that is read of a column.
pub const MAX_ROWS_PER_PAGE: u64 = 8_192;

/// A file that is written and not committed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenFile {
    /// The path relative to the table's folder.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// The number of rows.
    pub rows: u64,
    /// The partition of the file.
    pub partition: Partition,
    /// The statistics in the format of the Delta log.
    pub stats: Value,
}

/// Returns the schema of a data file: the columns of the table without its partition column.
pub fn data_file_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = vec![
            Field::new(
                "asset_id",
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
                false,
            ),
            Field::new(
                "timestamp",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                false,
            ),
            Field::new("value", DataType::Float64, false),
            Field::new("count", DataType::Int64, false),
        ];
        fields.extend(
            ["min", "max", "first", "last"].map(|name| Field::new(name, DataType::Float64, false)),
        );
        fields.push(Field::new("stddev", DataType::Float64, true));
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

/// Returns the writer properties of a file that begins with `rows`.
fn properties(rows: &RecordBatch) -> WriterProperties {
    let ascending = |column_idx| SortingColumn {
        column_idx,
        descending: false,
        nulls_first: false,
    };
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(MAX_ROWS_PER_GROUP))
        .set_data_page_row_count_limit(MAX_ROWS_PER_PAGE as usize)
        .set_write_batch_size(MAX_ROWS_PER_PAGE as usize)
        .set_sorting_columns(Some(vec![ascending(0), ascending(1)]));
    for column in ["asset_id", "timestamp"] {
        properties = properties
            .set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Page);
    }
    for column in ["timestamp", "count"] {
        properties =
            properties.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
    }
    for (column, field) in rows.columns().iter().zip(data_file_schema().fields()) {
        if !is_compressible(column) {
            properties = properties.set_column_compression(
                ColumnPath::from(field.name().as_str()),
                Compression::UNCOMPRESSED,
            );
        }
    }
    properties
        .set_column_dictionary_enabled(ColumnPath::from("asset_id"), true)
        .build()
}

/// Whether a column is worth compressing: doubles are, if their first 4,096 values compress to less than 90 %. The
/// low-order digits of full-precision measurements are noise. Compressing such values takes as long as all other work
/// on the file and saves about 5 %.
fn is_compressible(column: &dyn Array) -> bool {
    const SAMPLE_ROWS: usize = 4_096;
    let Some(doubles) = column.as_primitive_opt::<Float64Type>() else {
        return true;
    };
    let values = &doubles.values()[..doubles.len().min(SAMPLE_ROWS)];
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let compressed = zstd::bulk::compress(&bytes, 1);
    compressed.is_ok_and(|compressed| compressed.len() * 10 < bytes.len() * 9)
}

/// Writes one data file.
pub struct FileWriter {
    /// `None` until the first rows are written.
    file: Option<ParquetUpload>,
    table: Store,
    path: String,
    partition: Partition,
    rows: u64,
}

impl FileWriter {
    pub(super) fn new(table: &Store, resolution: Resolution, partition: Partition) -> Self {
        let path = format!(
            "{}={}/part-{}.zstd.parquet",
            resolution.partition_column(),
            partition.as_str(),
            uuid::Uuid::new_v4()
        );
        Self {
            file: None,
            table: table.clone(),
            path,
            partition,
            rows: 0,
        }
    }

    fn failed(path: &str) -> impl Fn(ParquetUploadError) -> TableError {
        let path = path.to_owned();
        move |error| match error {
            ParquetUploadError::Parquet(source) => TableError::Parquet {
                path: path.clone(),
                source,
            },
            ParquetUploadError::Store(source) => TableError::Store {
                path: path.clone(),
                source,
            },
        }
    }

    /// Writes rows of [`data_file_schema`], which must come in order.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<(), TableError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let failed = Self::failed(&self.path);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let options = ArrowWriterOptions::new()
                    .with_properties(properties(rows))
                    .with_skip_arrow_metadata(true);
                let file = ParquetUpload::new(&self.table, &self.path, data_file_schema(), options);
                none.insert(file.map_err(&failed)?)
            }
        };
        self.rows += rows.num_rows() as u64;
        file.write(rows).await.map_err(failed)
    }

    /// Closes the file. Returns `None` if no rows were written; then there is no file.
    pub async fn finish(self) -> Result<Option<WrittenFile>, TableError> {
        let Some(file) = self.file else {
            return Ok(None);
        };
        let finished = file.finish().await;
        let (metadata, size) = finished.map_err(Self::failed(&self.path))?;
        let stats = statistics(&metadata, self.rows);
        Ok(Some(WrittenFile {
            path: self.path,
            size,
            rows: self.rows,
            partition: self.partition,
            stats,
        }))
    }
}

/// Returns a file's statistics for the Delta log, computed from those of its column chunks.
fn statistics(metadata: &ParquetMetaData, rows: u64) -> Value {
    let (mut mins, mut maxs, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (index, field) in data_file_schema().fields().iter().enumerate() {
        let chunks = metadata
            .row_groups()
            .iter()
            .map(|group| group.column(index).statistics());
        let Some(chunks) = chunks.collect::<Option<Vec<&Statistics>>>() else {
            continue;
        };
        if let Some(count) = chunks
            .iter()
            .map(|chunk| chunk.null_count_opt())
            .sum::<Option<u64>>()
        {
            nulls.insert(field.name().clone(), json!(count));
        }
        let (min, max) = match field.name().as_str() {
            "asset_id" => {
                let text = |bytes: Option<&[u8]>| {
                    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned))
                };
                let min = chunks
                    .iter()
                    .filter_map(|chunk| text(chunk.min_bytes_opt()))
                    .min();
                (
                    min.map(Value::from),
                    chunks
                        .iter()
                        .filter_map(|chunk| text(chunk.max_bytes_opt()))
                        .max()
                        .map(Value::from),
                )
            }
            "timestamp" => {
                let times = chunks.iter().filter_map(|chunk| {
                    if let Statistics::Int64(times) = chunk {
                        Some((*times.min_opt()?, *times.max_opt()?))
                    } else {
                        None
                    }
                });
                let (min, max) = times.fold((i64::MAX, i64::MIN), |(min, max), (low, high)| {
                    (min.min(low), max.max(high))
                });
                (format_bucket_time(min), format_bucket_time(max))
            }
            _ => {
                let doubles: Vec<_> = chunks
                    .iter()
                    .filter_map(|chunk| match chunk {
                        Statistics::Double(values) => {
                            Some((*values.min_opt()?, *values.max_opt()?))
                        }
                        Statistics::Int64(values) => {
                            Some((*values.min_opt()? as f64, *values.max_opt()? as f64))
                        }
                        _ => None,
                    })
                    .collect();
                let min = doubles.iter().map(|range| range.0).reduce(f64::min);
                let max = doubles.iter().map(|range| range.1).reduce(f64::max);
                let number = |value: f64| {
                    if field.data_type() == &DataType::Int64 {
                        json!(value as i64)
                    } else {
                        json!(value)
                    }
                };
                (min.map(number), max.map(number))
            }
        };
        mins.extend(
            min.filter(|value| !value.is_null())
                .map(|min| (field.name().clone(), min)),
        );
        maxs.extend(
            max.filter(|value| !value.is_null())
                .map(|max| (field.name().clone(), max)),
        );
    }
    json!({ "numRecords": rows, "minValues": mins, "maxValues": maxs, "nullCount": nulls })
}

/// Formats a bucket's time for the Delta log. Buckets begin at whole minutes, so milliseconds are exact.
fn format_bucket_time(micros: i64) -> Option<Value> {
    let time = DateTime::from_timestamp_micros(micros)?;
    Some(Value::from(
        time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    ))
}
