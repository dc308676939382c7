//! The schemas of the operator's input and output.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn asset_text() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The schema of raw readings: `id` (dictionary of text), `timestamp` (UTC microseconds), `value` (double), all
/// nullable.
pub static READINGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("id", asset_text(), true),
        Field::new("timestamp", utc_micros(), true),
        Field::new("value", DataType::Float64, true),
    ]))
});

/// The columns of every rollup table without its partition column.
pub static ROLLUP: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(rollup_fields(asset_text()))));

/// The schema of the output: `part` (the output file of the row), `resolution` (0 minute, 1 hour, 2 day), then the
/// columns of [`ROLLUP`].
pub static OUTPUT: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        Field::new("part", DataType::UInt32, false),
        Field::new("resolution", DataType::UInt8, false),
    ];
    fields.extend(rollup_fields(asset_text()));
    Arc::new(Schema::new(fields))
});

fn rollup_fields(asset: DataType) -> Vec<Field> {
    let mut fields = vec![
        Field::new("asset_id", asset, false),
        Field::new("timestamp", utc_micros(), false),
        Field::new("value", DataType::Float64, false),
        Field::new("count", DataType::Int64, false),
    ];
    fields.extend(
        ["min", "max", "first", "last"].map(|name| Field::new(name, DataType::Float64, false)),
    );
    fields.push(Field::new("stddev", DataType::Float64, true));
    fields
}
