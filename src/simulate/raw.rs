//! Writes readings as Parquet: columns `id`, `timestamp`, `value`, one file per sensor, and a second one for its late
//! readings.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBufferBuilder, DictionaryArray, Float64Array, Int32Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::error::SimulateError;
use super::faults::{self, Fault, Ticks, late_file, main_file};
use super::plan::Schedule;
use super::plant::Sensor;
use super::readings::{Readings, Rows};
use super::upload::Upload;
use crate::lake::Store;

/// The number of rows in a row group: enough for good encoding, and the maximum that is buffered of a file.
const ROW_GROUP: usize = 262_144;
/// The number of rows that are generated between two writes to the store: a few milliseconds of work.
const ROWS_PER_WRITE: usize = 98_304;

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenFile {
    /// The path, relative to the lake.
    pub file: String,
    pub readings: u64,
    pub bytes: u64,
    pub late: bool,
}

/// Returns the number of rows that a sensor's files will have together.
pub(super) fn planned_rows(schedule: &Schedule, faults: &[Fault]) -> u64 {
    schedule
        .ticks()
        .saturating_add_signed(faults.iter().map(Fault::extra_rows).sum())
}

/// Writes the files of one sensor. `written` is called with the number of rows as they are generated.
pub(super) async fn write(
    sensor: &Sensor,
    index: usize,
    schedule: &Schedule,
    lake: &Store,
    written: impl Fn(u64),
) -> Result<Vec<WrittenFile>, SimulateError> {
    let faults = faults::plan(sensor, index, schedule);
    let late = faults.iter().any(Fault::is_late);
    let id = sensor.id.to_string();
    let readings = Readings::new(sensor, Ticks::new(sensor, schedule), faults, schedule);
    let mut maker = SensorEncoder {
        readings,
        main: FileEncoder::new(&id, main_file(&sensor.tag))?,
        late: late
            .then(|| FileEncoder::new(&id, late_file(&sensor.tag)))
            .transpose()?,
    };
    let upload = |file: String| Upload::new(lake.objects(), Path::from(file));
    let mut main_upload = upload(main_file(&sensor.tag));
    let mut late_upload = late.then(|| upload(late_file(&sensor.tag)));
    loop {
        // Generating is CPU-bound, so it runs on a blocking thread.
        let burst;
        (maker, burst) = tokio::task::spawn_blocking(move || {
            let burst = maker.encode_next();
            (maker, burst)
        })
        .await
        .map_err(SimulateError::Worker)?;
        let burst = burst?;
        written(burst.rows);
        main_upload.put(burst.main).await?;
        if let Some(upload) = &mut late_upload {
            upload.put(burst.late).await?;
        }
        if !burst.has_more {
            break;
        }
    }
    let bytes = main_upload.finish().await?;
    let mut files = vec![WrittenFile {
        file: maker.main.file,
        readings: maker.main.rows,
        bytes,
        late: false,
    }];
    // After the main file: the later file wins where both have a reading.
    if let (Some(upload), Some(late)) = (late_upload, maker.late) {
        let bytes = upload.finish().await?;
        files.push(WrittenFile {
            file: late.file,
            readings: late.rows,
            bytes,
            late: true,
        });
    }
    Ok(files)
}

/// Generates the bytes of a sensor's files.
struct SensorEncoder {
    readings: Readings,
    main: FileEncoder,
    late: Option<FileEncoder>,
}

/// Bytes to be appended to the files.
struct EncodedBytes {
    main: Bytes,
    late: Bytes,
    rows: u64,
    has_more: bool,
}

impl SensorEncoder {
    fn encode_next(&mut self) -> Result<EncodedBytes, SimulateError> {
        let (mut rows, mut more) = (0, true);
        while more && rows < ROWS_PER_WRITE {
            let (mut main, mut late) = (Rows::default(), Rows::default());
            more = self.readings.next_chunk(&mut main, &mut late);
            rows += main.len() + late.len();
            self.main.write(main)?;
            if let Some(file) = &mut self.late {
                file.write(late)?;
            }
        }
        let last = !more;
        let late = self
            .late
            .as_mut()
            .map_or(Ok(Bytes::new()), |file| file.take_bytes(last))?;
        Ok(EncodedBytes {
            main: self.main.take_bytes(last)?,
            late,
            rows: rows as u64,
            has_more: more,
        })
    }
}

/// Generates the bytes of one file.
struct FileEncoder {
    writer: ArrowWriter<Vec<u8>>,
    schema: SchemaRef,
    id: ArrayRef,
    file: String,
    rows: u64,
}

impl FileEncoder {
    fn new(id: &str, file: String) -> Result<Self, SimulateError> {
        // In Arrow the id is a dictionary with one entry, so that it is not copied for each row. The file does not
        // contain the Arrow schema (`skip_arrow_metadata`), so readers see an ordinary string.
        let schema = Arc::new(Schema::new(vec![
            Field::new(
                "id",
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
                false,
            ),
            Field::new(
                "timestamp",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                false,
            ),
            Field::new("value", DataType::Float64, true),
        ]));
        let column = |name: &str| ColumnPath::from(name);
        let properties = WriterProperties::builder()
            // Readers parse this format. The default of the library would change the bytes with each update.
            .set_created_by(concat!("plantlake version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .set_compression(Compression::SNAPPY)
            .set_column_dictionary_enabled(column("timestamp"), false)
            .set_column_encoding(column("timestamp"), Encoding::DELTA_BINARY_PACKED)
            // Packed deltas cannot be compressed further by Snappy.
            .set_column_compression(column("timestamp"), Compression::UNCOMPRESSED)
            .set_column_dictionary_enabled(column("value"), false)
            .build();
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)
            .map_err(|source| SimulateError::Encode {
                file: file.clone(),
                source,
            })?;
        Ok(Self {
            writer,
            schema,
            id: Arc::new(StringArray::from(vec![id])),
            file,
            rows: 0,
        })
    }

    fn write(&mut self, rows: Rows) -> Result<(), SimulateError> {
        if rows.len() == 0 {
            return Ok(());
        }
        self.rows += rows.len() as u64;
        self.encode(rows).map_err(|source| SimulateError::Encode {
            file: self.file.clone(),
            source,
        })
    }

    fn encode(&mut self, rows: Rows) -> Result<(), ParquetError> {
        let count = rows.len();
        let arrow = |error: ArrowError| ParquetError::from(error);
        let keys = Int32Array::new(ScalarBuffer::from(vec![0; count]), None);
        let id =
            DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(&self.id)).map_err(arrow)?;
        let timestamp = TimestampMicrosecondArray::from(rows.timestamps).with_timezone("UTC");
        let value =
            Float64Array::try_new(rows.values.into(), nulls(count, &rows.nulls)).map_err(arrow)?;
        let batch = RecordBatch::try_new(
            Arc::clone(&self.schema),
            vec![Arc::new(id), Arc::new(timestamp), Arc::new(value)],
        )
        .map_err(arrow)?;
        self.writer.write(&batch)
    }

    /// Returns the bytes that were generated since the previous call; all remaining bytes if it is the `last` call.
    fn take_bytes(&mut self, last: bool) -> Result<Bytes, SimulateError> {
        if last {
            self.writer
                .finish()
                .map_err(|source| SimulateError::Encode {
                    file: self.file.clone(),
                    source,
                })?;
        }
        Ok(std::mem::take(self.writer.inner_mut()).into())
    }
}

fn nulls(count: usize, at: &[usize]) -> Option<NullBuffer> {
    if at.is_empty() {
        return None;
    }
    let mut valid = BooleanBufferBuilder::new(count);
    valid.append_n(count, true);
    for &row in at {
        valid.set_bit(row, false);
    }
    Some(NullBuffer::new(valid.finish()))
}
