//! The layout and the writer of a table's data files.
//!
//! Rows are sorted by asset and time. Floats are PLAIN, because Spark's vectorised reader does not support
//! BYTE_STREAM_SPLIT. Assets are dictionary-encoded. Times and counts are DELTA_BINARY_PACKED and take a few bits each.
//! Pages are small and indexed, so that a query for one month of one asset reads few of them.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, SchemaRef};
use chrono::DateTime;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

use super::error::TableError;
use super::partition::Partition;
use crate::lake::storage::parquet_upload::{ParquetUpload, ParquetUploadError};
use crate::lake::storage::store::Store;
use crate::model::Resolution;
use crate::rollup_schema::{
    ASSET_COLUMN, Column, ColumnEncoding, ColumnKind, RollupSchema, TIME_COLUMN,
};

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

/// Returns the writer properties of a file that begins with `rows`. `columns` are its declared columns.
fn properties(rows: &RecordBatch, columns: &[Column]) -> WriterProperties {
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
    for column in [ASSET_COLUMN, TIME_COLUMN] {
        properties = properties
            .set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Page);
    }
    for column in columns {
        let path = ColumnPath::from(column.name);
        properties = match column.encoding {
            ColumnEncoding::Plain => properties,
            ColumnEncoding::Dictionary => properties.set_column_dictionary_enabled(path, true),
            ColumnEncoding::DeltaBinaryPacked => {
                properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
            }
        };
    }
    for (column, field) in rows.columns().iter().zip(rows.schema_ref().fields()) {
        if !is_compressible(column) {
            properties = properties.set_column_compression(
                ColumnPath::from(field.name().as_str()),
                Compression::UNCOMPRESSED,
            );
        }
    }
    properties.build()
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
    declared: RollupSchema,
    schema: SchemaRef,
    path: String,
    partition: Partition,
    rows: u64,
}

impl FileWriter {
    /// Creates a writer of rows of `schema`, which begins with the columns of `declared`.
    pub(in crate::lake) fn new(
        table: &Store,
        resolution: Resolution,
        partition: Partition,
        declared: RollupSchema,
        schema: SchemaRef,
    ) -> Self {
        let path = format!(
            "{}={}/part-{}.zstd.parquet",
            resolution.partition_column(),
            partition.as_str(),
            uuid::Uuid::new_v4()
        );
        Self {
            file: None,
            table: table.clone(),
            declared,
            schema,
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

    /// Writes rows of the file's schema, which must come in order.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<(), TableError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let failed = Self::failed(&self.path);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let options = ArrowWriterOptions::new()
                    .with_properties(properties(rows, self.declared.columns()))
                    .with_skip_arrow_metadata(true);
                let schema = SchemaRef::clone(&self.schema);
                let file = ParquetUpload::new(&self.table, &self.path, schema, options);
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
        let stats = statistics(&metadata, self.rows, self.declared.columns());
        Ok(Some(WrittenFile {
            path: self.path,
            size,
            rows: self.rows,
            partition: self.partition,
            stats,
        }))
    }
}

/// Returns a file's statistics for the Delta log, computed from those of its column chunks. `columns` are its declared
/// columns, which come first and are not nested.
fn statistics(metadata: &ParquetMetaData, rows: u64, columns: &[Column]) -> Value {
    let (mut mins, mut maxs, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (index, column) in columns.iter().enumerate() {
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
            nulls.insert(column.name.to_owned(), json!(count));
        }
        let (min, max) = match column.kind {
            ColumnKind::Asset => text_bounds(&chunks),
            ColumnKind::Time => {
                let (min, max) = integer_bounds(&chunks).unzip();
                (
                    min.and_then(format_bucket_time),
                    max.and_then(format_bucket_time),
                )
            }
            ColumnKind::Integer => {
                let (min, max) = integer_bounds(&chunks).unzip();
                (min.map(Value::from), max.map(Value::from))
            }
            ColumnKind::Double => double_bounds(&chunks),
        };
        for (bounds, bound) in [(&mut mins, min), (&mut maxs, max)] {
            let bound = bound.filter(|value| !value.is_null());
            bounds.extend(bound.map(|bound| (column.name.to_owned(), bound)));
        }
    }
    json!({ "numRecords": rows, "minValues": mins, "maxValues": maxs, "nullCount": nulls })
}

fn text_bounds(chunks: &[&Statistics]) -> (Option<Value>, Option<Value>) {
    let text = |bytes: Option<&[u8]>| {
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok().map(str::to_owned))
    };
    let mins = chunks.iter().filter_map(|it| text(it.min_bytes_opt()));
    let maxs = chunks.iter().filter_map(|it| text(it.max_bytes_opt()));
    (mins.min().map(Value::from), maxs.max().map(Value::from))
}

/// Returns the minimum and the maximum; `None` if all values are null.
fn integer_bounds(chunks: &[&Statistics]) -> Option<(i64, i64)> {
    let bounds = chunks.iter().filter_map(|chunk| match chunk {
        Statistics::Int64(values) => Some((*values.min_opt()?, *values.max_opt()?)),
        _ => None,
    });
    bounds.reduce(|(min, max), (low, high)| (min.min(low), max.max(high)))
}

fn double_bounds(chunks: &[&Statistics]) -> (Option<Value>, Option<Value>) {
    let bounds = chunks.iter().filter_map(|chunk| match chunk {
        Statistics::Double(values) => Some((*values.min_opt()?, *values.max_opt()?)),
        _ => None,
    });
    let (min, max) = bounds
        .reduce(|(min, max), (low, high)| (min.min(low), max.max(high)))
        .unzip();
    (min.map(|min| json!(min)), max.map(|max| json!(max)))
}

/// Formats a bucket's time for the Delta log. Buckets begin at whole minutes, so milliseconds are exact.
fn format_bucket_time(micros: i64) -> Option<Value> {
    let time = DateTime::from_timestamp_micros(micros)?;
    Some(Value::from(
        time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    ))
}
