//! Checks the body of a message against the declarations in its header, before it is decoded.

use arrow::datatypes::{DataType, UnionMode};
use arrow::ipc::{BodyCompressionMethod, Buffer, CompressionType, MetadataVersion, RecordBatch};

use crate::decoding::{DecodingError, lz4};

/// The size of the prefix of compressed data that declares its decompressed length, in bytes.
const PREFIX_BYTES: usize = 8;
/// The prefix of data in a compressed body that is not compressed itself.
const NOT_COMPRESSED: i64 = -1;
/// The size of a view of a text, in bytes.
const VIEW_BYTES: usize = 16;
/// The maximum total length of the texts that the views of a message refer to, as a multiple of the length of its body.
/// Arrow validates the text of each view.
const MAX_VIEWED_PER_BYTE: u64 = 16;

/// The limits of one message.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct BodyLimits {
    /// The maximum decompressed size, in bytes.
    pub max_bytes: u64,
    /// The maximum number of rows.
    pub max_rows: u64,
    /// The minimum decompressed size of a row, in bytes.
    pub min_row_bytes: u64,
    /// Whether the body may be compressed.
    pub may_be_compressed: bool,
}

impl BodyLimits {
    /// Returns the limits for the values of a dictionary, which has no rows.
    pub fn for_dictionary(self) -> Self {
        Self {
            max_rows: u64::MAX,
            min_row_bytes: 0,
            ..self
        }
    }
}

/// Checks a body whose columns are of the types `kinds`. Returns its decompressed size in bytes.
///
/// # Errors
/// Fails if the header declares something impossible, or more than `limits` allow.
pub(in crate::server) fn check_body(
    batch: RecordBatch<'_>,
    body: &[u8],
    kinds: &[&DataType],
    version: MetadataVersion,
    limits: &BodyLimits,
) -> Result<u64, DecodingError> {
    let codec = codec(&batch, limits)?;
    let buffers: Vec<&Buffer> = batch.buffers().into_iter().flatten().collect();
    let size = decoded_size(&buffers, body, codec, limits.max_bytes)?;
    let rows = non_negative(batch.length(), "rows")?;
    let max_backed_rows = match limits.min_row_bytes {
        // A value takes at least one bit. Up to 65,536 rows may take no space, as in columns of the type Null.
        0 => size.saturating_mul(8).max(limits.max_rows.min(1 << 16)),
        bytes => size / bytes,
    };
    if rows > limits.max_rows || rows > max_backed_rows {
        return Err(DecodingError::new(format!(
            "a batch of {size} bytes declares {rows} rows; the limit is {}",
            limits.max_rows.min(max_backed_rows)
        )));
    }
    let max_values = size.saturating_mul(8).max(rows);
    for node in batch.nodes().into_iter().flatten() {
        let length = non_negative(node.length(), "values")?;
        let nulls = non_negative(node.null_count(), "nulls")?;
        if length > max_values || nulls > length {
            return Err(DecodingError::new(format!(
                "a column of a batch of {size} bytes declares {length} values, {nulls} of them null"
            )));
        }
    }
    let variadic = batch.variadicBufferCounts().into_iter().flatten();
    let mut views = ViewChecker {
        buffers: buffers.iter(),
        variadic: variadic.collect::<Vec<i64>>().into_iter(),
        body,
        is_compressed: codec.is_some(),
        // Since version 5, unions have no validity buffer.
        unions_have_nulls: version < MetadataVersion::V5,
        viewed: 0,
    };
    for kind in kinds {
        views.column(kind)?;
    }
    Ok(size)
}

fn codec(
    batch: &RecordBatch<'_>,
    limits: &BodyLimits,
) -> Result<Option<CompressionType>, DecodingError> {
    let Some(compression) = batch.compression() else {
        return Ok(None);
    };
    if !limits.may_be_compressed {
        return Err(DecodingError::new(
            "compression is not supported here; send them without compression",
        ));
    }
    match (compression.method(), compression.codec()) {
        (
            BodyCompressionMethod::BUFFER,
            codec @ (CompressionType::LZ4_FRAME | CompressionType::ZSTD),
        ) => Ok(Some(codec)),
        _ => Err(DecodingError::new(
            "unknown compression; use LZ4 or Zstandard",
        )),
    }
}

/// Returns the decompressed size of all buffers together, in bytes; at least the size of the body.
fn decoded_size(
    buffers: &[&Buffer],
    body: &[u8],
    codec: Option<CompressionType>,
    max_bytes: u64,
) -> Result<u64, DecodingError> {
    let (mut encoded, mut decoded) = (0_u64, 0_u64);
    for buffer in buffers {
        let content = buffer_content(buffer, body)?;
        encoded = encoded.saturating_add(content.len() as u64);
        // Separate buffers do not overlap, so their total size is at most that of the body.
        if encoded > body.len() as u64 {
            return Err(DecodingError::new(format!(
                "the buffers of a message have more bytes than its body of {}",
                body.len()
            )));
        }
        let size = match codec {
            Some(codec) if !content.is_empty() => decompressed_size(content, codec, max_bytes)?,
            _ => content.len() as u64,
        };
        decoded = decoded.saturating_add(size);
        if decoded > max_bytes {
            return Err(too_large(max_bytes));
        }
    }
    // Bytes that no buffer refers to count, because they were sent as well.
    Ok(decoded.max(body.len() as u64))
}

fn decompressed_size(
    content: &[u8],
    codec: CompressionType,
    max_bytes: u64,
) -> Result<u64, DecodingError> {
    let Some((prefix, compressed)) = content.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(DecodingError::new("a compressed buffer is truncated"));
    };
    let declared = match i64::from_le_bytes(*prefix) {
        NOT_COMPRESSED => return Ok(compressed.len() as u64),
        declared => non_negative(declared, "decompressed bytes")?,
    };
    if declared > max_bytes {
        return Err(too_large(max_bytes));
    }
    // Arrow decompresses at most the declared size with Zstandard, but the whole frame with LZ4.
    if codec == CompressionType::LZ4_FRAME && declared > 0 {
        let actual = lz4::frame_content_length(compressed)?;
        if actual > declared {
            return Err(DecodingError::new(format!(
                "a compressed buffer declares {declared} bytes and has {actual}"
            )));
        }
    }
    Ok(declared)
}

fn too_large(max_bytes: u64) -> DecodingError {
    DecodingError::new(format!(
        "a message has more than {max_bytes} bytes, decompressed; send batches of fewer rows"
    ))
}

fn buffer_content<'a>(buffer: &Buffer, body: &'a [u8]) -> Result<&'a [u8], DecodingError> {
    let offset = usize::try_from(buffer.offset()).ok();
    let length = usize::try_from(buffer.length()).ok();
    let content = offset.zip(length).and_then(|(offset, length)| {
        let end = offset.checked_add(length)?;
        body.get(offset..end)
    });
    content.ok_or_else(|| {
        DecodingError::new(format!(
            "a buffer of {} bytes at byte {} is not in the body of {} bytes",
            buffer.length(),
            buffer.offset(),
            body.len()
        ))
    })
}

fn non_negative(number: i64, of: &str) -> Result<u64, DecodingError> {
    u64::try_from(number).map_err(|_| DecodingError::new(format!("a batch declares {number} {of}")))
}

/// Adds up the lengths of the texts that views refer to. A view takes 16 bytes, and any number of views may refer to the
/// same long text, which is validated for each.
struct ViewChecker<'a> {
    buffers: std::slice::Iter<'a, &'a Buffer>,
    variadic: std::vec::IntoIter<i64>,
    body: &'a [u8],
    is_compressed: bool,
    unions_have_nulls: bool,
    viewed: u64,
}

impl ViewChecker<'_> {
    /// Advances over the buffers of a column, in the order in which they are sent.
    fn column(&mut self, kind: &DataType) -> Result<(), DecodingError> {
        match kind {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
                self.skip(3)
            }
            DataType::Utf8View | DataType::BinaryView => self.views(),
            DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
                self.skip(2)?;
                self.column(field.data_type())
            }
            DataType::ListView(field) | DataType::LargeListView(field) => {
                self.skip(3)?;
                self.column(field.data_type())
            }
            DataType::FixedSizeList(field, _) => {
                self.skip(1)?;
                self.column(field.data_type())
            }
            DataType::Struct(fields) => {
                self.skip(1)?;
                fields
                    .iter()
                    .try_for_each(|field| self.column(field.data_type()))
            }
            DataType::RunEndEncoded(ends, values) => {
                self.column(ends.data_type())?;
                self.column(values.data_type())
            }
            DataType::Union(fields, mode) => {
                self.skip(usize::from(self.unions_have_nulls) + 1)?;
                self.skip(usize::from(*mode == UnionMode::Dense))?;
                fields
                    .iter()
                    .try_for_each(|(_, field)| self.column(field.data_type()))
            }
            DataType::Null => Ok(()),
            _ => self.skip(2),
        }
    }

    fn skip(&mut self, count: usize) -> Result<(), DecodingError> {
        for _ in 0..count {
            self.next()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<&Buffer, DecodingError> {
        let next = self.buffers.next().copied();
        next.ok_or_else(|| DecodingError::new("a batch has fewer buffers than its schema needs"))
    }

    fn views(&mut self) -> Result<(), DecodingError> {
        if self.is_compressed {
            return Err(DecodingError::new(
                "compressed string views are not supported; send strings, or no compression",
            ));
        }
        self.skip(1)?;
        let body = self.body;
        let views = buffer_content(self.next()?, body)?;
        let (views, _) = views.as_chunks::<VIEW_BYTES>();
        for [a, b, c, d, ..] in views {
            let length = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
            self.viewed = self.viewed.saturating_add(length);
        }
        let allowed = (body.len() as u64).saturating_mul(MAX_VIEWED_PER_BYTE);
        if self.viewed > allowed {
            return Err(DecodingError::new(format!(
                "string views refer to {} bytes of text in a body of {} bytes; send strings instead",
                self.viewed,
                body.len()
            )));
        }
        let data = self.variadic.next().and_then(|it| usize::try_from(it).ok());
        match data {
            Some(count) if count <= self.buffers.len() => self.skip(count),
            _ => Err(DecodingError::new(
                "a column of views has fewer buffers than it declares",
            )),
        }
    }
}
