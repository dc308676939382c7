//! The columns of the mirror's tables, compared with the declared ones. A mirror of an older version lacks later columns;
//! a run adds them. Columns that others added remain, and runs do not name them.

use sqlx::{AssertSqlSafe, Row};

use super::error::MirrorError;
use super::session::{Link, execute};
use super::statements::add_column;
use crate::model::Resolution;
use crate::rollup_schema::{Column, RollupSchema};

/// A column of a table in Postgres.
struct FoundColumn {
    name: String,
    /// The type as `format_type` names it.
    kind: String,
    is_required: bool,
    has_default: bool,
}

/// The columns that the tables lack.
#[derive(Debug, Default)]
pub(super) struct MissingColumns(Vec<(Resolution, Column)>);

impl MissingColumns {
    /// Compares the columns of the tables with those of `schema`.
    ///
    /// # Errors
    ///
    /// An original column is missing, a column has another type, or rows cannot be inserted because another column must
    /// not be null.
    pub async fn read(link: &mut Link<'_>, schema: &RollupSchema) -> Result<Self, MirrorError> {
        let url = link.runner.url.clone();
        let mut missing = Vec::new();
        for resolution in Resolution::ALL {
            let found = read_columns(link, resolution).await?;
            let lacking = compare(&found, schema);
            let lacking = lacking.map_err(|problem| MirrorError::UnexpectedColumns {
                url: url.clone(),
                table: resolution.table(),
                problem,
            })?;
            missing.extend(lacking.into_iter().map(|column| (resolution, column)));
        }
        Ok(Self(missing))
    }

    /// Returns the later columns of `schema`, which the tables of the first migration lack.
    pub fn of_new_tables(schema: &RollupSchema) -> Self {
        let columns = Resolution::ALL.into_iter().flat_map(|resolution| {
            let later = schema.later_columns().cloned();
            later.map(move |column| (resolution, column))
        });
        Self(columns.collect())
    }

    /// Whether no column is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the columns, empty.
    pub async fn add(&self, link: &mut Link<'_>) -> Result<(), MirrorError> {
        for (resolution, column) in &self.0 {
            let statement = AssertSqlSafe(add_column(column, *resolution));
            execute(link, "adding columns", sqlx::query(statement)).await?;
        }
        Ok(())
    }
}

async fn read_columns(
    link: &mut Link<'_>,
    resolution: Resolution,
) -> Result<Vec<FoundColumn>, MirrorError> {
    link.run("reading its schema", async |connection| {
        let columns = sqlx::query(include_str!("sql/columns.sql")).bind(resolution.table());
        let rows = columns.fetch_all(connection).await?;
        let columns = rows.iter().map(|row| {
            Ok(FoundColumn {
                name: row.try_get("name")?,
                kind: row.try_get("type")?,
                is_required: row.try_get("is_required")?,
                has_default: row.try_get("has_default")?,
            })
        });
        columns.collect()
    })
    .await
}

/// Returns the later columns that a table lacks, or the problem of a table that cannot be used.
fn compare(found: &[FoundColumn], schema: &RollupSchema) -> Result<Vec<Column>, String> {
    if found.is_empty() {
        return Err("does not exist".to_owned());
    }
    let mut missing = Vec::new();
    for column in schema.columns() {
        let name = column.name;
        let wanted = column.kind.postgres_type();
        match found.iter().find(|found| found.name == name) {
            Some(found) if found.kind != wanted => {
                return Err(format!(
                    "has a column {name} of type {} instead of {wanted}",
                    found.kind
                ));
            }
            Some(_) => {}
            None if column.since.is_some() => missing.push(column.clone()),
            None => return Err(format!("has no column {name}")),
        }
    }
    let is_known = |found: &&FoundColumn| schema.columns().iter().any(|it| it.name == found.name);
    let mut unknown = found.iter().filter(|found| !is_known(found));
    match unknown.find(|found| found.is_required && !found.has_default) {
        None => Ok(missing),
        Some(FoundColumn { name, .. }) => Err(format!(
            "has a column {name} that must not be null and has no default, which this version of plantlake does not know"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Vec<FoundColumn> {
        let columns = RollupSchema::declared().columns().iter();
        let found = columns.map(|column| FoundColumn {
            name: column.name.to_owned(),
            kind: column.kind.postgres_type().to_owned(),
            is_required: !column.nullable,
            has_default: false,
        });
        found.collect()
    }

    fn other(is_required: bool, has_default: bool) -> FoundColumn {
        FoundColumn {
            name: "note".to_owned(),
            kind: "text".to_owned(),
            is_required,
            has_default,
        }
    }

    #[test]
    fn compare_of_older_table_returns_later_columns() {
        let later = RollupSchema::with_test_columns();
        let missing = compare(&declared(), &later).unwrap();
        let names: Vec<_> = missing.iter().map(|column| column.name).collect();
        assert_eq!(names, ["test_max", "test_count"]);
        assert!(
            compare(&declared(), RollupSchema::declared())
                .unwrap()
                .is_empty()
        );
        let new = MissingColumns::of_new_tables(&later);
        assert_eq!(new.0.len(), 6);
        assert!(MissingColumns::of_new_tables(RollupSchema::declared()).is_empty());
    }

    #[test]
    fn compare_accepts_unknown_columns_that_inserts_need_not_name() {
        let schema = RollupSchema::declared();
        for (is_required, has_default) in [(false, false), (true, true), (false, true)] {
            let mut found = declared();
            found.push(other(is_required, has_default));
            assert!(compare(&found, schema).unwrap().is_empty());
        }
        let mut found = declared();
        found.push(other(true, false));
        let problem = compare(&found, schema).unwrap_err();
        assert!(problem.contains("note that must not be null"), "{problem}");
    }

    #[test]
    fn compare_refuses_missing_original_and_other_types() {
        let schema = RollupSchema::declared();
        let mut found = declared();
        found[3].kind = "integer".to_owned();
        assert_eq!(
            compare(&found, schema).unwrap_err(),
            "has a column count of type integer instead of bigint"
        );
        assert_eq!(compare(&[], schema).unwrap_err(), "does not exist");
        found.remove(3);
        assert_eq!(compare(&found, schema).unwrap_err(), "has no column count");
    }
}
