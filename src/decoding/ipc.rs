//! Bounded readers of Arrow IPC messages: they reject messages that are large or deeply nested, and declarations that are
//! out of proportion.
//!
//! Parts of a FlatBuffer may be shared, so a message of a few hundred bytes can describe a type with a billion parts.
//! Therefore the limits apply to what a message describes, not to its bytes.

use arrow::datatypes::Schema;
use arrow::ipc;
use flatbuffers::VerifierOptions;

use super::DecodingError;

/// The maximum number of fields of a schema, nested fields included.
pub const MAX_FIELDS: usize = 4_096;
/// The maximum nesting depth of types.
pub const MAX_DEPTH: usize = 20;
/// The maximum width of a fixed-size value, in bytes, and the maximum length of a fixed-size list.
pub const MAX_FIXED_SIZE: i32 = 1 << 20;
/// The maximum size of a header, in bytes; a shared part counts each time it is referenced.
const MAX_HEADER_BYTES: usize = 8 << 20;
/// The maximum number of FlatBuffer tables in a header; a shared table counts each time it is referenced.
const MAX_TABLES: usize = 64_000;

/// Parses and verifies the header of a message.
///
/// # Errors
/// Fails if `header` is not a valid message, or describes more than the limits allow.
pub fn parse_message(header: &[u8]) -> Result<ipc::Message<'_>, DecodingError> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(DecodingError::new(format!(
            "the header of a message has {} bytes, more than {MAX_HEADER_BYTES}",
            header.len()
        )));
    }
    let options = VerifierOptions {
        max_depth: 4 * MAX_DEPTH,
        max_tables: MAX_TABLES,
        max_apparent_size: MAX_HEADER_BYTES,
        ..VerifierOptions::default()
    };
    ipc::root_as_message_with_opts(&options, header)
        .map_err(|error| DecodingError::new(format!("invalid Arrow IPC message: {error}")))
}

/// Converts a schema.
///
/// # Errors
/// Fails if the schema is nested more than [`MAX_DEPTH`] levels deep, has more than [`MAX_FIELDS`] fields, or has a type of
/// an impossible fixed size or one that the library does not know.
pub fn convert_schema(schema: ipc::Schema<'_>) -> Result<Schema, DecodingError> {
    let fields = schema
        .fields()
        .ok_or_else(|| DecodingError::new("a schema has no fields"))?;
    let mut count = 0;
    for field in fields {
        check_field(field, 1, &mut count)?;
    }
    Ok(ipc::convert::fb_to_schema(schema))
}

fn check_field(
    field: ipc::Field<'_>,
    depth: usize,
    count: &mut usize,
) -> Result<(), DecodingError> {
    *count += 1;
    if *count > MAX_FIELDS {
        return Err(DecodingError::new(format!(
            "the schema has more than {MAX_FIELDS} fields"
        )));
    }
    if depth > MAX_DEPTH {
        return Err(DecodingError::new(format!(
            "the schema has types nested more than {MAX_DEPTH} levels deep"
        )));
    }
    let size = match field.type_type() {
        ipc::Type::FixedSizeBinary => field.type_as_fixed_size_binary().map(|it| it.byteWidth()),
        ipc::Type::FixedSizeList => field.type_as_fixed_size_list().map(|it| it.listSize()),
        _ => None,
    };
    if let Some(size) = size.filter(|size| !(0..=MAX_FIXED_SIZE).contains(size)) {
        return Err(DecodingError::new(format!(
            "the field {:?} has values of the fixed size {size}; it must be between 0 and {MAX_FIXED_SIZE}",
            truncated_name(field.name().unwrap_or_default())
        )));
    }
    if !is_known_type(field) {
        return Err(DecodingError::new(format!(
            "the field {:?} has a type that is not supported",
            truncated_name(field.name().unwrap_or_default())
        )));
    }
    for child in field.children().into_iter().flatten() {
        check_field(child, depth + 1, count)?;
    }
    Ok(())
}

/// Whether the library knows all types of the schema.
pub fn has_known_types(schema: ipc::Schema<'_>) -> bool {
    schema.fields().into_iter().flatten().all(are_known_types)
}

fn are_known_types(field: ipc::Field<'_>) -> bool {
    is_known_type(field) && field.children().into_iter().flatten().all(are_known_types)
}

/// Whether the library knows the type of the field, apart from its children. It panics at others.
fn is_known_type(field: ipc::Field<'_>) -> bool {
    let is_index = |int: ipc::Int<'_>| [8, 16, 32, 64].contains(&int.bitWidth());
    let is_unit = |unit: ipc::TimeUnit| unit.variant_name().is_some();
    let children = field.children().map_or(0, |children| children.len());
    let is_known = match field.type_type() {
        ipc::Type::Int => field.type_as_int().map(is_index),
        ipc::Type::FloatingPoint => field
            .type_as_floating_point()
            .map(|it| it.precision().variant_name().is_some()),
        ipc::Type::Date => field
            .type_as_date()
            .map(|it| it.unit().variant_name().is_some()),
        ipc::Type::Time => field.type_as_time().map(|it| match it.unit() {
            ipc::TimeUnit::SECOND | ipc::TimeUnit::MILLISECOND => it.bitWidth() == 32,
            ipc::TimeUnit::MICROSECOND | ipc::TimeUnit::NANOSECOND => it.bitWidth() == 64,
            _ => false,
        }),
        ipc::Type::Timestamp => field.type_as_timestamp().map(|it| is_unit(it.unit())),
        ipc::Type::Duration => field.type_as_duration().map(|it| is_unit(it.unit())),
        ipc::Type::Interval => field
            .type_as_interval()
            .map(|it| it.unit().variant_name().is_some()),
        ipc::Type::Decimal => field.type_as_decimal().map(|it| {
            [32, 64, 128, 256].contains(&it.bitWidth())
                && u8::try_from(it.precision()).is_ok()
                && i8::try_from(it.scale()).is_ok()
        }),
        ipc::Type::Union => field
            .type_as_union()
            .map(|it| it.mode().variant_name().is_some()),
        ipc::Type::List
        | ipc::Type::LargeList
        | ipc::Type::ListView
        | ipc::Type::LargeListView
        | ipc::Type::FixedSizeList
        | ipc::Type::Map => Some(children == 1),
        ipc::Type::RunEndEncoded => Some(children == 2),
        ipc::Type::NONE => None,
        other => Some(other.variant_name().is_some()),
    };
    let has_index = field.dictionary().is_none_or(|dictionary| {
        let index = dictionary.indexType();
        index.is_some_and(is_index)
    });
    is_known.unwrap_or(false) && has_index
}

/// Returns the part of a name that an error quotes: up to 64 characters.
fn truncated_name(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use arrow::ipc::convert::IpcSchemaEncoder;
    use flatbuffers::FlatBufferBuilder;

    use super::*;

    /// Returns a message with a schema whose field has `levels` levels of `width` children each. All children of a level
    /// are one shared FlatBuffer table.
    fn shared(levels: usize, width: usize) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let empty = ipc::NullBuilder::new(&mut builder)
            .finish()
            .as_union_value();
        let mut field = ipc::FieldBuilder::new(&mut builder);
        field.add_type_type(ipc::Type::Null);
        field.add_type_(empty);
        let mut inner = field.finish();
        for _ in 0..levels {
            let children = builder.create_vector(&vec![inner; width]);
            let kind = ipc::Struct_Builder::new(&mut builder)
                .finish()
                .as_union_value();
            let mut field = ipc::FieldBuilder::new(&mut builder);
            field.add_type_type(ipc::Type::Struct_);
            field.add_type_(kind);
            field.add_children(children);
            inner = field.finish();
        }
        let fields = builder.create_vector(&[inner]);
        let mut schema = ipc::SchemaBuilder::new(&mut builder);
        schema.add_fields(fields);
        let schema = schema.finish().as_union_value();
        let mut message = ipc::MessageBuilder::new(&mut builder);
        message.add_header_type(ipc::MessageHeader::Schema);
        message.add_header(schema);
        let message = message.finish();
        builder.finish(message, None);
        builder.finished_data().to_vec()
    }

    fn converted(bytes: &[u8]) -> Result<Schema, DecodingError> {
        convert_schema(parse_message(bytes)?.header_as_schema().unwrap())
    }

    #[test]
    fn schema_with_too_many_shared_fields_is_rejected() {
        assert_eq!(converted(&shared(3, 10)).unwrap().fields().len(), 1);
        // 10,000 fields in a message of a few hundred bytes, 40^15 fields, and a nesting of 30 levels.
        for (levels, width) in [(4, 10), (15, 40), (30, 1)] {
            let bytes = shared(levels, width);
            assert!(bytes.len() < 10_000);
            assert!(converted(&bytes).is_err(), "{levels} levels of {width}");
        }
    }

    #[test]
    fn schema_with_excessive_fixed_size_is_rejected() {
        for (size, is_good) in [(16, true), (MAX_FIXED_SIZE + 1, false), (-1, false)] {
            let field = Field::new("x", DataType::FixedSizeBinary(size), true);
            let mut encoder = IpcSchemaEncoder::new();
            let built = encoder.schema_to_fb(&Schema::new(vec![field]));
            let root = flatbuffers::root::<ipc::Schema<'_>>(built.finished_data()).unwrap();
            assert_eq!(convert_schema(root).is_ok(), is_good, "{size}");
        }
    }
}
