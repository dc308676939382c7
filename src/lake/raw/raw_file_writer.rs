//! Writes ingested readings to a raw file. The file becomes visible only when all readings are written.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::canonical::{ColumnPositions, canonical_schema, convert_values};
use super::error::RawFileError;
use super::format::{ColumnNames, RawFormat};
use super::ids::IdConverter;
use super::raw_file::RawFile;
use super::reading_order::ReadingOrder;
use super::times::TimeConverter;
use crate::lake::storage::parquet_upload::{ParquetUpload, ParquetUploadError};
use crate::lake::storage::store::Store;

/// Returns the column names of ingested readings, which do not depend on the configured names of columns in files.
fn ingest_columns() -> ColumnNames {
    ColumnNames {
        id: "id".to_owned(),
        timestamp: "timestamp".to_owned(),
        value: "value".to_owned(),
    }
}

/// A raw file that is being written.
pub struct RawFileWriter {
    raw: Store,
    path: Path,
    file: ParquetUpload,
    columns: ColumnPositions,
    ids: IdConverter,
    times: TimeConverter,
    schema: SchemaRef,
}

impl RawFileWriter {
    /// Begins a file at `path` in `raw` for readings of `schema`: columns `id`, `timestamp` and `value`, of any type
    /// that raw files may have. The file's columns get the names in `format`.
    pub fn create(
        raw: &Store,
        format: &RawFormat,
        path: &str,
        schema: &Schema,
    ) -> Result<Self, RawFileError> {
        let names = &format.columns;
        let named = RawFormat {
            columns: ingest_columns(),
            ..format.clone()
        };
        let located = ColumnPositions::find(path, schema, &named, false)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_column_dictionary_enabled(ColumnPath::from(names.timestamp.as_str()), false)
            .set_column_dictionary_enabled(ColumnPath::from(names.value.as_str()), false)
            .set_column_encoding(
                ColumnPath::from(names.timestamp.as_str()),
                Encoding::DELTA_BINARY_PACKED,
            );
        let options = ArrowWriterOptions::new().with_properties(properties.build());
        let names = [&names.id, &names.timestamp, &names.value];
        let fields = canonical_schema();
        let fields = fields.fields().iter().zip(names);
        let fields = fields.map(|(field, name)| Field::new(name, field.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        // Readings are stored as they arrive, so their order is not known in advance: it decides nothing.
        let times = TimeConverter::new(format.timezone, Some(Arc::<ReadingOrder>::default()), true);
        let file = ParquetUpload::new(raw, path, Arc::clone(&schema), options);
        let file = file.map_err(|error| RawFileError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            raw: raw.clone(),
            path: Path::from(path),
            file,
            columns: located,
            ids: IdConverter::default(),
            times,
            schema,
        })
    }

    /// Converts a batch of readings to canonical form: `id` (dictionary of text), `timestamp` (UTC microseconds),
    /// `value` (double). A local time that occurs twice becomes [`AMBIGUOUS_TIME`](crate::model::AMBIGUOUS_TIME).
    pub fn to_canonical(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let ColumnPositions {
            id: Some(id),
            timestamp,
            value,
        } = self.columns
        else {
            return Err(ArrowError::SchemaError("there are no ids".to_owned()));
        };
        let ids = self.ids.convert(batch.column(id))?;
        let times = self.times.convert(batch.column(timestamp), &ids)?;
        let values = convert_values(batch.column(value))?;
        RecordBatch::try_new(Arc::clone(&self.schema), vec![ids, times, values])
    }

    /// Writes readings in [canonical](Self::to_canonical) form.
    pub async fn write(&mut self, readings: &RecordBatch) -> Result<(), ParquetUploadError> {
        self.file.write(readings).await
    }

    /// Completes the file and waits until it is on the disk, because the sender may not keep the readings. Returns the
    /// file as a listing would, or `None` if the store does not report it.
    pub async fn finish(self) -> Result<Option<RawFile>, ParquetUploadError> {
        self.file.finish().await?;
        let synced = self.raw.sync(&self.path).await;
        if synced.is_err() {
            self.raw.objects().delete(&self.path).await?;
        }
        synced?;
        let found = self.raw.objects().head(&self.path).await;
        Ok(found.ok().map(|found| {
            // Unlike a listing, the store reports the path relative to its own root.
            RawFile::from_object(ObjectMeta {
                location: self.path.clone(),
                ..found
            })
        }))
    }

    /// Aborts the upload and removes the parts that were written.
    pub async fn abort(self) {
        if let Err(error) = self.file.abort().await {
            tracing::warn!("cannot remove an unfinished file: {error}");
        }
    }
}
