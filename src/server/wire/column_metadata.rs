//! The metadata of columns that Flight SQL defines: the names of SQL types, digits and properties. Drivers and reflection
//! of SQLAlchemy read SQL types from it, because Arrow types have other names.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field};

const CATALOG_NAME: &str = "ARROW:FLIGHT:SQL:CATALOG_NAME";
const SCHEMA_NAME: &str = "ARROW:FLIGHT:SQL:SCHEMA_NAME";
const TABLE_NAME: &str = "ARROW:FLIGHT:SQL:TABLE_NAME";
const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";
const PRECISION: &str = "ARROW:FLIGHT:SQL:PRECISION";
const SCALE: &str = "ARROW:FLIGHT:SQL:SCALE";
const IS_AUTO_INCREMENT: &str = "ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT";
const IS_CASE_SENSITIVE: &str = "ARROW:FLIGHT:SQL:IS_CASE_SENSITIVE";
const IS_READ_ONLY: &str = "ARROW:FLIGHT:SQL:IS_READ_ONLY";
const IS_SEARCHABLE: &str = "ARROW:FLIGHT:SQL:IS_SEARCHABLE";

/// The full name of a table.
pub(in crate::server) struct TableName<'a> {
    pub catalog: &'a str,
    pub schema: &'a str,
    pub table: &'a str,
}

/// Returns a column of a result, with the name and the digits of its SQL type.
pub(super) fn result_column(field: Field) -> Field {
    let metadata = type_metadata(field.data_type());
    field.with_metadata(metadata)
}

/// Returns a column of a table, with the properties of its SQL type and the name of the table.
pub(super) fn table_column(field: Field, table: &TableName<'_>) -> Field {
    let mut metadata = type_metadata(field.data_type());
    let flag = |value: bool| if value { "1" } else { "0" };
    let is_text = matches!(
        field.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let properties = [
        (CATALOG_NAME, table.catalog),
        (SCHEMA_NAME, table.schema),
        (TABLE_NAME, table.table),
        (IS_AUTO_INCREMENT, flag(false)),
        (IS_CASE_SENSITIVE, flag(is_text)),
        (IS_READ_ONLY, flag(true)),
        (IS_SEARCHABLE, flag(true)),
    ];
    metadata.extend(properties.map(|(name, value)| (name.to_owned(), value.to_owned())));
    field.with_metadata(metadata)
}

fn type_metadata(kind: &DataType) -> HashMap<String, String> {
    let mut metadata = HashMap::from([(TYPE_NAME.to_owned(), type_name(kind).to_owned())]);
    if let Some((precision, scale)) = digits(kind) {
        metadata.insert(PRECISION.to_owned(), precision.to_string());
        metadata.insert(SCALE.to_owned(), scale.to_string());
    }
    metadata
}

/// Returns the name of the SQL type of a column. An unsigned number has the name of the smallest type that has its range.
fn type_name(kind: &DataType) -> &'static str {
    match kind {
        DataType::Null => "NULL",
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 | DataType::UInt8 => "SMALLINT",
        DataType::Int32 | DataType::UInt16 => "INTEGER",
        DataType::Int64 | DataType::UInt32 => "BIGINT",
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => "DECIMAL",
        DataType::Float16 | DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "VARBINARY",
        DataType::FixedSizeBinary(_) => "BINARY",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE",
        DataType::Duration(_) | DataType::Interval(_) => "INTERVAL",
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => "ARRAY",
        DataType::Struct(_) => "STRUCT",
        DataType::Map(..) => "MAP",
        DataType::Union(..) => "UNION",
        DataType::Dictionary(_, value) => type_name(value),
        DataType::RunEndEncoded(_, value) => type_name(value.data_type()),
    }
}

/// Returns the maximum number of decimal digits of a number, and how many of them are after the point.
fn digits(kind: &DataType) -> Option<(u8, i8)> {
    match kind {
        DataType::Int8 | DataType::UInt8 => Some((3, 0)),
        DataType::Int16 | DataType::UInt16 => Some((5, 0)),
        DataType::Int32 | DataType::UInt32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::UInt64 => Some((20, 0)),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn columns_have_names_and_digits_of_sql_types() {
        let zone = || Some("UTC".into());
        for (kind, name, precision, scale) in [
            (DataType::Int64, "BIGINT", Some("19"), Some("0")),
            (DataType::UInt64, "DECIMAL", Some("20"), Some("0")),
            (
                DataType::Decimal128(10, 2),
                "DECIMAL",
                Some("10"),
                Some("2"),
            ),
            (DataType::Float64, "DOUBLE", None, None),
            (DataType::Utf8, "VARCHAR", None, None),
            (
                DataType::Timestamp(TimeUnit::Microsecond, zone()),
                "TIMESTAMP WITH TIME ZONE",
                None,
                None,
            ),
            (
                DataType::Timestamp(TimeUnit::Nanosecond, None),
                "TIMESTAMP",
                None,
                None,
            ),
        ] {
            let column = result_column(Field::new("x", kind, true));
            let found = |key| column.metadata().get(key).map(String::as_str);
            assert_eq!(found(TYPE_NAME), Some(name));
            assert_eq!(
                (found(PRECISION), found(SCALE)),
                (precision, scale),
                "{name}"
            );
            assert_eq!(found(TABLE_NAME), None);
        }
    }
}
