//! Reads the rows of data files. A file of an older version lacks later columns, which are null then; a file of a newer
//! version, or one that another program wrote, has further columns.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;

use super::error::TableError;
use super::partition::DataFile;
use super::table::Table;
use super::table_columns::{conform_rows, merged_file_schema};
use crate::lake::storage::pinned_file::PinnedFile;
use crate::rollup_schema::{Column, RollupSchema};

/// The number of rows in a batch, unless the caller needs another.
const BATCH_ROWS: usize = 65_536;

/// The rows of a data file in their order.
pub struct FileRows {
    /// The declared columns, then the other columns of the file.
    pub schema: SchemaRef,
    /// The rows, with the columns of `schema`.
    pub batches: BoxStream<'static, Result<RecordBatch, TableError>>,
}

impl Table {
    /// Reads the declared columns of a file. Later columns that the file lacks are null.
    pub async fn read_file(&self, file: &DataFile) -> Result<FileRows, TableError> {
        self.open_file(file, BATCH_ROWS, false).await
    }

    /// Reads all columns of a file, to write its rows into another file.
    pub async fn read_whole_file(&self, file: &DataFile) -> Result<FileRows, TableError> {
        self.open_file(file, BATCH_ROWS, true).await
    }

    /// Reads all columns of a file in batches of at most `rows`.
    pub async fn read_whole_file_in_batches(
        &self,
        file: &DataFile,
        rows: usize,
    ) -> Result<FileRows, TableError> {
        self.open_file(file, rows, true).await
    }

    async fn open_file(
        &self,
        file: &DataFile,
        rows: usize,
        with_unknown: bool,
    ) -> Result<FileRows, TableError> {
        let path = file.path.clone();
        let failed = move |source| TableError::Parquet {
            path: path.clone(),
            source,
        };
        let declared = self.schema();
        let mut reader = PinnedFile::new(self.store.objects(), &file.path, None, file.size);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let footer = ArrowReaderMetadata::load_async(&mut reader, options).await;
        let footer = footer.map_err(&failed)?;
        let stored = requested_schema(footer.schema(), declared);
        check_original_columns(&stored, declared, &file.path)?;
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(&stored));
        let footer = ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options);
        let footer = footer.map_err(&failed)?;
        let descriptor = footer.metadata().file_metadata().schema_descr();
        let (schema, mask) = match with_unknown {
            true => (
                merged_file_schema(declared, [&stored]),
                ProjectionMask::all(),
            ),
            false => {
                let fields = stored.fields().iter().enumerate();
                let known = fields.filter(|(_, field)| find_column(declared, field).is_some());
                let known = known.map(|(at, _)| at);
                (
                    Arc::clone(declared.file_schema()),
                    ProjectionMask::roots(descriptor, known),
                )
            }
        };
        let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer)
            .with_projection(mask)
            .with_batch_size(rows)
            .build()
            .map_err(&failed)?;
        let target = Arc::clone(&schema);
        let batches = stream.map_err(failed.clone()).map(move |batch| {
            conform_rows(&batch?, &target)
                .map_err(|error| failed(ParquetError::ArrowError(error.to_string())))
        });
        Ok(FileRows {
            schema,
            batches: batches.boxed(),
        })
    }
}

fn find_column<'a>(declared: &'a RollupSchema, field: &FieldRef) -> Option<&'a Column> {
    let mut columns = declared.columns().iter();
    columns.find(|column| column.name == field.name())
}

/// Returns the schema of a file with the declared types. The Parquet library reports an error if it cannot read a column
/// as its declared type.
fn requested_schema(stored: &SchemaRef, declared: &RollupSchema) -> SchemaRef {
    let fields = stored
        .fields()
        .iter()
        .map(|field| match find_column(declared, field) {
            Some(column) => {
                let field = field.as_ref().clone();
                Arc::new(field.with_data_type(column.kind.file_type()))
            }
            None => Arc::clone(field),
        });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn check_original_columns(
    stored: &Schema,
    declared: &RollupSchema,
    path: &str,
) -> Result<(), TableError> {
    let mut original = declared.columns().iter().filter(|it| it.since.is_none());
    match original.find(|column| stored.index_of(column.name).is_err()) {
        None => Ok(()),
        Some(column) => Err(TableError::MissingColumn {
            path: path.to_owned(),
            column: column.name,
        }),
    }
}
