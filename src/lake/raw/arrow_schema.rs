//! The Arrow schema that Arrow writers store in a footer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataBuilder};

use crate::decoding::{DecodingError, ipc};

/// Returns the metadata of a file; without its Arrow schema if this has a type that the library does not know, such as the
/// integers of 128 bits of polars. The columns then have the types of the Parquet schema.
pub(super) fn with_usable_schema(
    metadata: ParquetMetaData,
) -> Result<ParquetMetaData, DecodingError> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let mut is_known = true;
    for pair in pairs.into_iter().flatten() {
        if pair.key == ARROW_SCHEMA_META_KEY {
            is_known &= has_known_types(pair.value.as_deref().unwrap_or_default())?;
        }
    }
    Ok(match is_known {
        true => metadata,
        false => without_schema(metadata),
    })
}

/// Checks an Arrow schema, and returns whether the library knows all of its types.
fn has_known_types(encoded: &str) -> Result<bool, DecodingError> {
    // The library rejects a schema that cannot be decoded.
    let Ok(bytes) = STANDARD.decode(encoded) else {
        return Ok(true);
    };
    let message = match bytes.split_first_chunk::<8>() {
        Some(([255, 255, 255, 255, ..], message)) if !message.is_empty() => message,
        _ => &bytes,
    };
    let message = ipc::parse_message(message)?;
    let Some(schema) = message.header_as_schema() else {
        return Ok(true);
    };
    if !ipc::has_known_types(schema) {
        return Ok(false);
    }
    ipc::convert_schema(schema).map(|_| true)
}

fn without_schema(metadata: ParquetMetaData) -> ParquetMetaData {
    let file = metadata.file_metadata();
    let pairs = file.key_value_metadata().map(|pairs| {
        let others = pairs
            .iter()
            .filter(|pair| pair.key != ARROW_SCHEMA_META_KEY);
        others.cloned().collect()
    });
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        pairs,
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let groups = metadata.row_groups().to_vec();
    ParquetMetaDataBuilder::new(file)
        .set_row_groups(groups)
        .build()
}
