//! The formats of results for programs: CSV, JSON and Parquet. Nothing is written that their readers cannot read: columns
//! get different names and types that the format has, or the result is refused before anything is written.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::JsonFormat;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;

/// The error that a format does not have the type of a column.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the column {column:?} as {format}: {problem}")]
struct Unwritable {
    column: String,
    format: &'static str,
    problem: String,
}

/// Writes a result as CSV with a header line.
pub async fn write_csv(
    mut rows: SendableRecordBatchStream,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let schema = rows.schema();
    if let Some(field) = schema.fields().iter().find(|it| it.data_type().is_nested()) {
        return Err(Unwritable {
            column: field.name().clone(),
            format: "CSV",
            problem: "CSV has no lists, structs and maps; use --format json or parquet, or select their parts"
                .to_owned(),
        }
        .into());
    }
    let mut writer = arrow::csv::WriterBuilder::new()
        .with_header(true)
        .build(out);
    writer.write(&RecordBatch::new_empty(schema))?;
    while let Some(batch) = rows.try_next().await? {
        check_times(&batch, "CSV")?;
        writer.write(&batch)?;
    }
    Ok(())
}

/// Writes a result as JSON objects: one a line ([`LineDelimited`](arrow::json::writer::LineDelimited)), or in one array
/// ([`JsonArray`](arrow::json::writer::JsonArray)).
pub async fn write_json<F: JsonFormat>(
    mut rows: SendableRecordBatchStream,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let schema = json_schema(&rows.schema())?;
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, F>(out);
    while let Some(batch) = rows.try_next().await? {
        check_times(&batch, "JSON")?;
        writer.write(&convert(&batch, &schema)?)?;
    }
    writer.finish()?;
    Ok(())
}

/// Writes a result as a Parquet file.
pub async fn write_parquet(
    mut rows: SendableRecordBatchStream,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    let schema = parquet_schema(&rows.schema())?;
    let mut writer = ArrowWriter::try_new(out, Arc::clone(&schema), None)?;
    while let Some(batch) = rows.try_next().await? {
        writer.write(&convert(&batch, &schema)?)?;
    }
    writer.close()?;
    Ok(())
}

/// Fails if a time has no text because it is outside the calendar. The JSON writer puts an error in its place.
fn check_times(batch: &RecordBatch, format: &'static str) -> Result<(), Unwritable> {
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if !has_times(field.data_type()) {
            continue;
        }
        let unwritable = |problem: String| Unwritable {
            column: field.name().clone(),
            format,
            problem,
        };
        let options = FormatOptions::default().with_display_error(false);
        let formatter = ArrayFormatter::try_new(column, &options)
            .map_err(|error| unwritable(error.to_string()))?;
        for row in 0..batch.num_rows() {
            formatter.value(row).write(&mut NoText).map_err(|_| {
                unwritable("a time is outside the calendar; select it as a number, or leave it out by a condition".to_owned())
            })?;
        }
    }
    Ok(())
}

/// Discards a text.
struct NoText;

impl std::fmt::Write for NoText {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        Ok(())
    }
}

/// Whether a column of this type contains dates or times.
fn has_times(kind: &DataType) -> bool {
    match kind {
        DataType::Struct(fields) => fields.iter().any(|field| has_times(field.data_type())),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => has_times(field.data_type()),
        DataType::Dictionary(_, values) => has_times(values),
        kind => kind.is_temporal(),
    }
}

/// Returns the schema of a result as JSON. The types are those of the result.
fn json_schema(schema: &Schema) -> Result<SchemaRef, Unwritable> {
    named_apart(schema, "JSON", DataType::clone)
}

/// Returns the schema of a result in a Parquet file.
fn parquet_schema(schema: &Schema) -> Result<SchemaRef, Unwritable> {
    let schema = named_apart(schema, "Parquet", parquet_type)?;
    // The writer refuses some types, and writes the beginning of the file before it does.
    for field in schema.fields() {
        let one = Arc::new(Schema::new(vec![Arc::clone(field)]));
        let written = ArrowWriter::try_new(std::io::sink(), one, None)
            .and_then(|writer| writer.close().map(|_| ()));
        written.map_err(|error| Unwritable {
            column: field.name().clone(),
            format: "Parquet",
            problem: format!("{error}; cast it to another type"),
        })?;
    }
    Ok(schema)
}

/// Returns a schema whose columns have different names and the types that `type_of` returns for them. A name that came
/// before gets a number, as in DuckDB: `id`, `id_1`.
fn named_apart(
    schema: &Schema,
    format: &'static str,
    type_of: fn(&DataType) -> DataType,
) -> Result<SchemaRef, Unwritable> {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let all: HashSet<&str> = names().collect();
    let mut used: HashSet<String> = HashSet::new();
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if let Some(name) = repeated_field(field.data_type()) {
            return Err(Unwritable {
                column: field.name().clone(),
                format,
                problem: format!("it has several fields with the name {name:?}; name them apart"),
            });
        }
        let mut name = field.name().clone();
        let mut number = 0_usize;
        while used.contains(&name) || number > 0 && all.contains(name.as_str()) {
            number += 1;
            name = format!("{}_{number}", field.name());
        }
        used.insert(name.clone());
        let kind = type_of(field.data_type());
        fields.push(Field::new(name, kind, field.is_nullable()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Returns a name that several fields of a struct within `kind` have.
fn repeated_field(kind: &DataType) -> Option<&str> {
    match kind {
        DataType::Struct(fields) => {
            let mut seen = HashSet::new();
            let repeated = fields.iter().find(|field| !seen.insert(field.name()));
            repeated.map(|field| field.name().as_str()).or_else(|| {
                fields
                    .iter()
                    .find_map(|field| repeated_field(field.data_type()))
            })
        }
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => repeated_field(field.data_type()),
        _ => None,
    }
}

/// Returns the type that a Parquet file has for a column of type `kind`, so that other readers return the same values:
/// Parquet has no intervals, which become text, no seconds, and no days in milliseconds.
fn parquet_type(kind: &DataType) -> DataType {
    let inside = |field: &FieldRef| {
        let kind = parquet_type(field.data_type());
        Arc::new(field.as_ref().clone().with_data_type(kind))
    };
    match kind {
        DataType::Interval(_) | DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(TimeUnit::Second, zone) => {
            DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
        }
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => parquet_type(value),
        DataType::RunEndEncoded(_, value) => parquet_type(value.data_type()),
        DataType::List(field) | DataType::ListView(field) | DataType::FixedSizeList(field, _) => {
            DataType::List(inside(field))
        }
        DataType::LargeList(field) | DataType::LargeListView(field) => {
            DataType::LargeList(inside(field))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inside).collect()),
        DataType::Map(field, is_sorted) => DataType::Map(inside(field), *is_sorted),
        other => other.clone(),
    }
}

/// Converts `batch` to the types of `schema`.
fn convert(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    // A value that the type cannot have is an error, not null.
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| match column.data_type() {
        kind if kind == field.data_type() => Ok(Arc::clone(column)),
        _ => cast_with_options(column, field.data_type(), &options),
    });
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns.collect::<Result<_, _>>()?,
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_apart_never_repeats_a_name() {
        for (names, expected) in [
            (vec!["id", "name"], vec!["id", "name"]),
            (vec!["id", "id", "id"], vec!["id", "id_1", "id_2"]),
            (vec!["id", "id", "id_1"], vec!["id", "id_2", "id_1"]),
            (
                vec!["id_1", "id", "id", "id_1"],
                vec!["id_1", "id", "id_2", "id_1_1"],
            ),
        ] {
            let fields = names
                .iter()
                .map(|name| Field::new(*name, DataType::Int64, true));
            let schema = Schema::new(fields.collect::<Vec<_>>());
            let schema = json_schema(&schema).unwrap();
            let found: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn parquet_schema_of_struct_with_repeated_field_is_refused() {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let twice = DataType::Struct(vec![field("a"), field("a")].into());
        let list = DataType::List(Arc::new(Field::new("item", twice, true)));
        let error = parquet_schema(&Schema::new(vec![Field::new("x", list, true)]));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("\"x\"") && error.contains("\"a\""),
            "{error}"
        );
    }
}
