//! The columns of a Delta table: those that plantlake declares, and those that it does not know.
//!
//! A table of an older version lacks later columns; the next commit adds them to its metadata. A table of a newer version,
//! or one that another program changed, has further columns; they remain, and rewritten files keep their values.

use std::sync::{Arc, LazyLock};

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use deltalake::DeltaTableError;
use deltalake::kernel::{DataType, Metadata, MetadataExt, PrimitiveType, StructField, StructType};

use super::error::TableError;
use crate::lake::storage::failpoint;
use crate::model::Resolution;
use crate::rollup_schema::{ColumnKind, RollupSchema};

/// Returns the columns of this version of plantlake, or in tests those of a later version.
pub fn current_schema() -> &'static RollupSchema {
    static LATER: LazyLock<RollupSchema> = LazyLock::new(RollupSchema::with_test_columns);
    match failpoint::has_later_columns() {
        true => &LATER,
        false => RollupSchema::declared(),
    }
}

fn delta_type(kind: ColumnKind) -> DataType {
    DataType::Primitive(match kind {
        ColumnKind::Asset => PrimitiveType::String,
        ColumnKind::Time => PrimitiveType::Timestamp,
        ColumnKind::Double => PrimitiveType::Double,
        ColumnKind::Integer => PrimitiveType::Long,
    })
}

/// Returns the columns of a new table. The partition column is the last.
pub(in crate::lake) fn delta_fields(
    schema: &RollupSchema,
    resolution: Resolution,
) -> Vec<StructField> {
    let columns = schema
        .columns()
        .iter()
        .map(|column| StructField::new(column.name, delta_type(column.kind), column.nullable));
    let partition = match resolution {
        Resolution::Minute => PrimitiveType::Date,
        Resolution::Hour => PrimitiveType::String,
        Resolution::Day => PrimitiveType::Integer,
    };
    let partition = DataType::Primitive(partition);
    columns
        .chain([StructField::new(
            resolution.partition_column(),
            partition,
            false,
        )])
        .collect()
}

/// The columns of a Delta table.
#[derive(Debug, Clone)]
pub(in crate::lake) struct TableColumns {
    /// The columns after the next commit, in their order.
    fields: Vec<StructField>,
    /// The names of the columns that the table lacks until then.
    pub missing: Vec<String>,
    /// The columns that plantlake does not know.
    pub unknown: Vec<StructField>,
}

impl TableColumns {
    /// Compares the columns of a table with the declared ones. Later columns may be missing.
    ///
    /// # Errors
    ///
    /// An original column is missing, or a declared one has another type.
    pub fn new(
        found: &StructType,
        schema: &RollupSchema,
        resolution: Resolution,
    ) -> Result<Self, TableError> {
        let unexpected = |problem| TableError::UnexpectedColumns {
            table: resolution.table(),
            problem,
        };
        let declared = delta_fields(schema, resolution);
        let mut columns = Self {
            fields: found.fields().cloned().collect(),
            missing: Vec::new(),
            unknown: found
                .fields()
                .filter(|field| declared.iter().all(|it| it.name() != field.name()))
                .cloned()
                .collect(),
        };
        // The position after the previous declared column.
        let mut next = 0;
        for field in declared {
            let (name, kind) = (field.name(), field.data_type());
            if let Some(at) = columns.fields.iter().position(|it| it.name() == name) {
                let found = columns.fields[at].data_type();
                if found != kind {
                    return Err(unexpected(format!(
                        "has a column {name} of type {found} instead of {kind}"
                    )));
                }
                next = at + 1;
                continue;
            }
            // Names of Delta columns that differ in case only are the same.
            let mut unknown = columns.unknown.iter().map(StructField::name);
            if let Some(other) = unknown.find(|other| other.eq_ignore_ascii_case(name)) {
                return Err(unexpected(format!(
                    "has a column {other} instead of {name}"
                )));
            }
            if !schema.later_columns().any(|column| column.name == name) {
                return Err(unexpected(format!("has no column {name}")));
            }
            columns.missing.push(name.clone());
            columns.fields.insert(next, field);
            next += 1;
        }
        Ok(columns)
    }

    /// Fails if rows cannot be added, because a column that plantlake does not know must not be null.
    pub fn check_insertable(&self, resolution: Resolution) -> Result<(), TableError> {
        match self.unknown.iter().find(|field| !field.is_nullable()) {
            None => Ok(()),
            Some(field) => Err(TableError::RequiredColumn {
                table: resolution.table(),
                column: field.name().clone(),
            }),
        }
    }

    /// Adds the unknown columns of `other`, whose rows are moved to this table.
    ///
    /// # Errors
    ///
    /// Both tables have an unknown column of the same name and of different types.
    pub fn adopt(&mut self, other: &Self, resolution: Resolution) -> Result<(), TableError> {
        for field in &other.unknown {
            let name = field.name();
            let own = self.unknown.iter();
            match { own }.find(|own| own.name().eq_ignore_ascii_case(name)) {
                Some(own) if own.data_type() == field.data_type() && own.name() == name => {}
                Some(own) => {
                    return Err(TableError::ConflictingColumn {
                        table: resolution.table(),
                        column: name.clone(),
                        found: own.data_type().to_string(),
                        other: field.data_type().to_string(),
                    });
                }
                None => {
                    let field = StructField::nullable(name, field.data_type().clone());
                    self.missing.push(name.clone());
                    self.fields.push(field.clone());
                    self.unknown.push(field);
                }
            }
        }
        Ok(())
    }

    /// Returns the metadata with the missing columns; `None` if no column is missing.
    pub fn evolved_metadata(
        &self,
        metadata: &Metadata,
    ) -> Result<Option<Metadata>, DeltaTableError> {
        if self.missing.is_empty() {
            return Ok(None);
        }
        let schema = StructType::try_new(self.fields.clone())?;
        Ok(metadata.clone().with_schema(&schema).map(Some)?)
    }
}

/// Returns the schema of a file that has the rows of several files: the declared columns, and all other columns of the
/// files. The types of the latter are those of the first file that has them.
pub fn merged_file_schema<'a>(
    declared: &RollupSchema,
    files: impl IntoIterator<Item = &'a SchemaRef>,
) -> SchemaRef {
    let mut fields: Vec<FieldRef> = declared.file_schema().fields().iter().cloned().collect();
    for file in files {
        for field in file.fields() {
            if fields.iter().all(|known| known.name() != field.name()) {
                let nullable = Field::new(field.name(), field.data_type().clone(), true);
                fields.push(Arc::new(nullable));
            }
        }
    }
    Arc::new(Schema::new(fields))
}

/// Returns rows with the columns of `schema`: columns that they lack are null.
///
/// # Errors
///
/// A column cannot be converted without loss, or is null where it must not be.
pub fn conform_rows(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if rows.schema_ref() == schema {
        return Ok(rows.clone());
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns = schema
        .fields()
        .iter()
        .map(|field| match rows.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast_with_options(column, field.data_type(), &strict),
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
        });
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, Int32Array, StringArray};
    use arrow::datatypes::{DataType as ArrowType, Int64Type};

    use super::*;

    const RESOLUTION: Resolution = Resolution::Hour;

    fn table(fields: Vec<StructField>) -> StructType {
        StructType::try_new(fields).unwrap()
    }

    fn note(kind: PrimitiveType, nullable: bool) -> StructField {
        StructField::new("note", DataType::Primitive(kind), nullable)
    }

    fn with_note(kind: PrimitiveType, nullable: bool) -> TableColumns {
        let schema = RollupSchema::declared();
        let mut fields = delta_fields(schema, RESOLUTION);
        fields.push(note(kind, nullable));
        TableColumns::new(&table(fields), schema, RESOLUTION).unwrap()
    }

    fn names(fields: &[StructField]) -> Vec<&str> {
        fields.iter().map(|field| field.name().as_str()).collect()
    }

    #[test]
    fn columns_of_an_older_table_lack_later_ones_at_their_declared_position() {
        let later = RollupSchema::with_test_columns();
        let mut fields = delta_fields(RollupSchema::declared(), RESOLUTION);
        fields.push(note(PrimitiveType::String, true));
        let columns = TableColumns::new(&table(fields), &later, RESOLUTION).unwrap();
        assert_eq!(columns.missing, ["test_max", "test_count"]);
        assert_eq!(names(&columns.unknown), ["note"]);
        let expected = ["stddev", "test_max", "test_count", "month", "note"];
        assert_eq!(names(&columns.fields)[8..], expected);
        // Once they are added, nothing is missing.
        let evolved = table(columns.fields);
        let again = TableColumns::new(&evolved, &later, RESOLUTION).unwrap();
        assert!(again.missing.is_empty());
    }

    #[test]
    fn columns_of_a_newer_table_are_unknown_and_remain() {
        let fields = delta_fields(&RollupSchema::with_test_columns(), RESOLUTION);
        let schema = RollupSchema::declared();
        let columns = TableColumns::new(&table(fields.clone()), schema, RESOLUTION).unwrap();
        assert_eq!(names(&columns.unknown), ["test_max", "test_count"]);
        assert!(columns.missing.is_empty() && columns.check_insertable(RESOLUTION).is_ok());
        assert_eq!(columns.fields, fields);
    }

    #[test]
    fn columns_of_another_type_or_without_an_original_column_are_refused() {
        let later = RollupSchema::with_test_columns();
        let original = delta_fields(RollupSchema::declared(), RESOLUTION);
        let problem = |fields: Vec<StructField>| {
            let refused = TableColumns::new(&table(fields), &later, RESOLUTION);
            refused.unwrap_err().to_string()
        };
        let mut without_count = original.clone();
        without_count.remove(3);
        let text = problem(without_count);
        assert!(text.contains("data_h has no column count"), "{text}");
        for (name, part) in [
            (
                "test_max",
                "a column test_max of type string instead of double",
            ),
            ("Test_Max", "a column Test_Max instead of test_max"),
        ] {
            let text = DataType::Primitive(PrimitiveType::String);
            let mut fields = original.clone();
            fields.push(StructField::nullable(name, text));
            let text = problem(fields);
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn check_insertable_refuses_unknown_column_that_must_not_be_null() {
        let columns = with_note(PrimitiveType::String, false);
        let error = columns.check_insertable(RESOLUTION).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("its column note must not be null")
        );
    }

    #[test]
    fn adopt_adds_unknown_columns_and_refuses_other_types() {
        let schema = RollupSchema::declared();
        let fields = delta_fields(schema, RESOLUTION);
        let mut archive = TableColumns::new(&table(fields), schema, RESOLUTION).unwrap();
        let live = with_note(PrimitiveType::String, false);
        for _ in 0..2 {
            archive.adopt(&live, RESOLUTION).unwrap();
            assert_eq!(archive.missing, ["note"]);
        }
        let note = archive.fields.last().unwrap();
        assert!(note.name() == "note" && note.is_nullable());
        let other = with_note(PrimitiveType::Long, true);
        let error = archive.adopt(&other, RESOLUTION).unwrap_err().to_string();
        assert!(
            error.contains("note has the type string in one and long"),
            "{error}"
        );
    }

    #[test]
    fn conform_rows_fills_missing_columns_and_converts_without_loss() {
        let rows = RecordBatch::try_from_iter([
            (
                "b",
                Arc::new(StringArray::from(vec!["x", "y"])) as Arc<dyn Array>,
            ),
            ("a", Arc::new(Int32Array::from(vec![1, 2]))),
        ])
        .unwrap();
        let schema = |kind: ArrowType| {
            Arc::new(Schema::new(vec![
                Field::new("a", kind, false),
                Field::new("c", ArrowType::Float64, true),
                Field::new("b", ArrowType::Utf8, true),
            ]))
        };
        let conformed = conform_rows(&rows, &schema(ArrowType::Int64)).unwrap();
        assert_eq!(
            conformed.column(0).as_primitive::<Int64Type>().values(),
            &[1, 2]
        );
        assert_eq!(conformed.column(1).null_count(), 2);
        assert_eq!(conformed.column(2).as_string::<i32>().value(1), "y");
        // The texts of `b` are no numbers.
        let numbers = Arc::new(Schema::new(vec![Field::new("b", ArrowType::Int64, true)]));
        assert!(conform_rows(&rows, &numbers).is_err());
        let required = Arc::new(Schema::new(vec![Field::new("c", ArrowType::Int64, false)]));
        assert!(conform_rows(&rows, &required).is_err());
    }

    #[test]
    fn merged_file_schema_has_declared_columns_first_and_others_once() {
        let declared = RollupSchema::declared();
        let other = |name: &str| {
            let mut fields = vec![Field::new(name, ArrowType::Utf8, false)];
            fields.push(Field::new("value", ArrowType::Float64, false));
            Arc::new(Schema::new(fields))
        };
        let merged = merged_file_schema(declared, [&other("x"), &other("y"), &other("x")]);
        let count = declared.columns().len();
        assert_eq!(
            merged.fields()[..count],
            declared.file_schema().fields()[..]
        );
        let others = merged.fields()[count..].iter();
        let others: Vec<_> = others
            .map(|it| (it.name().as_str(), it.is_nullable()))
            .collect();
        assert_eq!(others, [("x", true), ("y", true)]);
    }
}
