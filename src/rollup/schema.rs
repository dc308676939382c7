//! The schemas of the operator's input and output.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::rollup_schema::{ColumnKind, RollupSchema};

/// The schema of raw readings: `id` (dictionary of text), `timestamp` (UTC microseconds), `value` (double), all
/// nullable.
pub static READINGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("id", ColumnKind::Asset.file_type(), true),
        Field::new("timestamp", ColumnKind::Time.file_type(), true),
        Field::new("value", ColumnKind::Double.file_type(), true),
    ]))
});

/// The number of columns of the output before those of the rollup.
pub const ADDRESS_COLUMNS: usize = 2;

/// Returns the schema of the output: `part` (the output file of the row), `resolution` (0 minute, 1 hour, 2 day), then
/// the columns of a data file.
pub fn output(rollup: &RollupSchema) -> SchemaRef {
    let address: [FieldRef; ADDRESS_COLUMNS] = [
        Arc::new(Field::new("part", DataType::UInt32, false)),
        Arc::new(Field::new("resolution", DataType::UInt8, false)),
    ];
    let fields = address
        .into_iter()
        .chain(rollup.file_schema().fields().iter().cloned());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
