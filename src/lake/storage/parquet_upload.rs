//! A Parquet file that is written as its rows arrive. Rows are encoded in memory and uploaded in one request, or in
//! several parts if the file grows beyond one. The file becomes visible only when it is finished.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::store::Store;

/// The maximum size in bytes of a file that is written in one request, and the size of a part of a larger file.
const PART_BYTES: usize = 8 << 20;

/// The reasons why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ParquetUploadError {
    /// Rows cannot be encoded.
    #[error("cannot encode rows")]
    Parquet(#[from] ParquetError),
    /// The store rejects the file.
    #[error("cannot store the file")]
    Store(#[from] object_store::Error),
}

/// A file that is being written.
pub(in crate::lake) struct ParquetUpload {
    writer: ArrowWriter<Vec<u8>>,
    objects: Arc<dyn ObjectStore>,
    upload: Option<WriteMultipart>,
    location: Path,
}

impl ParquetUpload {
    /// Begins a file with rows of `schema` at `path` in `folder`.
    pub fn new(
        folder: &Store,
        path: &str,
        schema: SchemaRef,
        options: ArrowWriterOptions,
    ) -> Result<Self, ParquetUploadError> {
        let buffer = Vec::with_capacity(PART_BYTES);
        Ok(Self {
            writer: ArrowWriter::try_new_with_options(buffer, schema, options)?,
            objects: folder.objects(),
            upload: None,
            location: Path::from(path),
        })
    }

    /// Encodes rows, and uploads a part when enough bytes are encoded.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetUploadError> {
        self.writer.write(rows)?;
        if self.writer.inner().len() < PART_BYTES {
            return Ok(());
        }
        let part = std::mem::take(self.writer.inner_mut());
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => {
                let upload = self.objects.put_multipart(&self.location).await?;
                none.insert(WriteMultipart::new_with_chunk_size(upload, PART_BYTES))
            }
        };
        upload.wait_for_capacity(2).await?;
        upload.put(part.into());
        Ok(())
    }

    /// Completes the file. Returns its metadata and its size in bytes.
    pub async fn finish(mut self) -> Result<(ParquetMetaData, u64), ParquetUploadError> {
        let metadata = self.writer.finish()?;
        let size = self.writer.bytes_written() as u64;
        let rest = std::mem::take(self.writer.inner_mut());
        match self.upload {
            Some(mut upload) => {
                upload.put(rest.into());
                upload.finish().await?;
            }
            None => {
                let rest = PutPayload::from(rest);
                self.objects.put(&self.location, rest).await?;
            }
        }
        Ok((metadata, size))
    }

    /// Aborts the upload and removes the parts that were written.
    pub async fn abort(self) -> Result<(), ParquetUploadError> {
        if let Some(upload) = self.upload {
            upload.abort().await?;
        }
        Ok(())
    }
}
