//! A raw file that is made from readings as they come in: it is there when all of them are, and not before.

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

use super::canonical::{Located, canonical_schema, ids, times, values};
use super::{ColumnNames, FileFault, RawFile, RawFormat};
use crate::lake::Store;
use crate::lake::growing_file::{GrowingFile, GrowthError};

/// Columns of those who send readings, whatever they are called in files.
fn sent() -> ColumnNames {
    ColumnNames {
        id: "id".to_owned(),
        timestamp: "timestamp".to_owned(),
        value: "value".to_owned(),
    }
}

/// A raw file in the making.
pub struct Incoming {
    raw: Store,
    path: Path,
    file: GrowingFile,
    located: Located,
    format: RawFormat,
    schema: SchemaRef,
}

impl Incoming {
    /// A file at `path` below `raw`, with columns as `format` calls them, from readings of the schema `sent`: columns
    /// `id`, `timestamp` and `value`, of any type that files may have.
    pub fn begin(
        raw: &Store,
        format: &RawFormat,
        path: &str,
        schema: &Schema,
    ) -> Result<Self, FileFault> {
        let names = &format.columns;
        let named = RawFormat {
            columns: sent(),
            ..format.clone()
        };
        let located = Located::find(path, schema, &named)?;
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
        let file = GrowingFile::new(raw, path, Arc::clone(&schema), options);
        let file = file.map_err(|error| FileFault::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            raw: raw.clone(),
            path: Path::from(path),
            file,
            located,
            format: format.clone(),
            schema,
        })
    }

    /// The readings of a batch in one form: `id` (dictionary of text), `timestamp` (UTC microseconds), `value` (double).
    pub fn canonical(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let Located {
            id,
            timestamp,
            value,
        } = self.located;
        let columns = vec![
            ids(batch.column(id))?,
            times(batch.column(timestamp), self.format.timezone)?,
            values(batch.column(value))?,
        ];
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }

    /// Takes readings in their [canonical](Self::canonical) form.
    pub async fn write(&mut self, readings: &RecordBatch) -> Result<(), GrowthError> {
        self.file.write(readings).await
    }

    /// Puts the file in its place, to stay there: whoever sent the readings may not have them any more. Returns the file as
    /// it is listed; none if the store does not say.
    pub async fn finish(self) -> Result<Option<RawFile>, GrowthError> {
        self.file.finish().await?;
        let synced = self.raw.sync(&self.path).await;
        if synced.is_err() {
            self.raw.objects().delete(&self.path).await?;
        }
        synced?;
        let found = self.raw.objects().head(&self.path).await;
        Ok(found.ok().map(|found| {
            // Unlike a listing, the store names the file as seen from its own root.
            RawFile::listed(ObjectMeta {
                location: self.path.clone(),
                ..found
            })
        }))
    }

    /// Removes what was written.
    pub async fn abandon(self) {
        if let Err(error) = self.file.abandon().await {
            tracing::warn!("an unfinished file cannot be removed: {error}");
        }
    }
}
