//! The statements about the columns of the mirror's tables, from the templates in `sql/` and the declared columns.

use super::session::in_table;
use crate::model::Resolution;
use crate::rollup_schema::{Aggregation, Column, RollupSchema};

/// The name of a column in SQL. It is quoted, because it may be a reserved word.
pub(super) fn quoted(column: &Column) -> String {
    format!("\"{}\"", column.name)
}

fn list<'a>(
    columns: impl IntoIterator<Item = &'a Column>,
    entry: impl Fn(&Column) -> String,
) -> String {
    let entries: Vec<String> = columns.into_iter().map(entry).collect();
    entries.join(", ")
}

/// Returns the statement that copies rows to the table `target`.
pub(super) fn copy(schema: &RollupSchema, target: &str) -> String {
    let copy = include_str!("sql/copy.sql").replace("data_x", target);
    copy.replace("COLUMNS", &list(schema.columns(), quoted))
}

/// Returns the statement that creates the temporary table for comparison.
pub(super) fn create_incoming(schema: &RollupSchema) -> String {
    let definition =
        |column: &Column| format!("{} {}", quoted(column), column.kind.postgres_type());
    include_str!("sql/incoming.sql").replace("DEFINITIONS", &list(schema.columns(), definition))
}

/// Returns the statement that deletes rows that differ from the incoming ones.
pub(super) fn delete_differing(schema: &RollupSchema, resolution: Resolution) -> String {
    let values = |row: &'static str| {
        let columns = schema.columns().iter();
        let columns = columns.filter(|column| column.aggregation != Aggregation::Key);
        list(columns, move |column| format!("{row}.{}", quoted(column)))
    };
    let delete = in_table(include_str!("sql/delete_differing.sql"), resolution);
    delete
        .replace("NEW_VALUES", &values("new"))
        .replace("OLD_VALUES", &values("old"))
        .replace("COLUMNS", &list(schema.columns(), quoted))
}

/// Returns the statement that inserts the incoming rows that are missing.
pub(super) fn insert_missing(schema: &RollupSchema, resolution: Resolution) -> String {
    let insert = in_table(include_str!("sql/insert_missing.sql"), resolution);
    insert.replace("COLUMNS", &list(schema.columns(), quoted))
}

/// Returns the statement that adds a later column to a table.
pub(super) fn add_column(column: &Column, resolution: Resolution) -> String {
    in_table(include_str!("sql/add_column.sql"), resolution)
        .replace("COLUMN_NAME", &quoted(column))
        .replace("COLUMN_TYPE", column.kind.postgres_type())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_all_columns_of_the_schema() {
        let schema = RollupSchema::with_test_columns();
        let hour = Resolution::Hour;
        let statements = [
            copy(&schema, "pg_temp.mirror_incoming"),
            create_incoming(&schema),
            delete_differing(&schema, hour),
            insert_missing(&schema, hour),
        ];
        for statement in &statements {
            for column in schema.columns() {
                assert!(statement.contains(&quoted(column)), "{statement}");
            }
            let code = statement.lines().filter(|line| !line.starts_with("--"));
            let code: Vec<_> = code.collect();
            assert!(!code.join("\n").contains("COLUMNS"), "{statement}");
        }
        assert!(statements[1].contains("\"test_count\" bigint"));
        assert!(
            statements[2].contains("new.\"test_max\"") && statements[2].contains("FROM data_h")
        );
        let later: Vec<_> = schema.later_columns().collect();
        assert_eq!(
            add_column(later[0], hour).trim(),
            "ALTER TABLE data_h ADD COLUMN IF NOT EXISTS \"test_max\" double precision"
        );
    }
}
