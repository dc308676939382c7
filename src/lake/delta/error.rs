//! Errors of tables.

use deltalake::DeltaTableError;

use crate::model::Resolution;

/// The remedy for tables that cannot be used: rebuild them.
const REBUILD_REMEDY: &str = "If no raw file has expired (`plantlake archive list` shows nothing), rebuild the tables: stop the \
    servers of the lake, remove its folders data_min, data_h, data_d, published and runs, and run `plantlake resample`. \
    Otherwise restore the lake's folder from a copy";

/// The reasons why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The Delta log or a data file cannot be read or written.
    #[error("cannot {action} the Delta table {table}{}", remedy(action))]
    Delta {
        /// The name of the table.
        table: &'static str,
        /// The attempted action, as a verb.
        action: &'static str,
        /// The Delta library's error.
        source: Box<DeltaTableError>,
    },
    /// A data file cannot be read or written.
    #[error("cannot read or write the data file {path}")]
    Parquet {
        /// The path relative to the table's folder.
        path: String,
        /// The Parquet library's error.
        source: parquet::errors::ParquetError,
    },
    /// A data file cannot be stored.
    #[error("cannot store the data file {path}")]
    Store {
        /// The path relative to the table's folder.
        path: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// The published version of the table does not exist.
    #[error(
        "{table} has no version {version}, which is the published one: the table was removed or replaced. Restore it, or \
         compute all tables again by `plantlake resample --full`"
    )]
    Lost {
        /// The name of the table.
        table: &'static str,
        /// The published version.
        version: u64,
    },
    /// The table uses a Delta feature that plantlake's readers do not support.
    #[error(
        "{table} uses {feature}, which plantlake does not support: it was changed by another program. {REBUILD_REMEDY}"
    )]
    Unsupported {
        /// The name of the table.
        table: &'static str,
        /// The name of the feature.
        feature: String,
    },
    /// The table does not have the columns that plantlake writes.
    #[error(
        "{table} {problem}: it was created by another version of plantlake, or changed by another program. {REBUILD_REMEDY}"
    )]
    UnexpectedColumns {
        /// The name of the table.
        table: &'static str,
        /// The column that is missing or has another type.
        problem: String,
    },
    /// A table has a column that plantlake does not know and that must not be null.
    #[error(
        "cannot add rows to {table}: its column {column} must not be null, and this version of plantlake does not know it. \
         Use a later version, or make the column nullable"
    )]
    RequiredColumn {
        /// The name of the table.
        table: &'static str,
        /// The name of the column.
        column: String,
    },
    /// A table and its archive have a column that plantlake does not know, with different types.
    #[error(
        "cannot move rows between {table} and its archive: the column {column} has the type {found} in one and {other} in \
         the other. Give both the same type"
    )]
    ConflictingColumn {
        /// The name of the table.
        table: &'static str,
        /// The name of the column.
        column: String,
        /// The type in the table that gets the rows.
        found: String,
        /// The type in the table that has the rows.
        other: String,
    },
    /// A data file lacks an original column.
    #[error(
        "the data file {path} has no column {column}: another program wrote it. {REBUILD_REMEDY}"
    )]
    MissingColumn {
        /// The path relative to the table's folder.
        path: String,
        /// The name of the column.
        column: &'static str,
    },
    /// A later run has already committed.
    #[error("run {run} was superseded: {table} already has run {applied}")]
    Superseded {
        /// The name of the table.
        table: &'static str,
        /// The number of this run.
        run: u64,
        /// The number of the last run that committed.
        applied: u64,
    },
}

/// Returns the remedy for a failed action on a table.
pub(in crate::lake) fn remedy(action: &str) -> &'static str {
    match action {
        "commit to" => "; another program may have written to it, so run again",
        _ => "",
    }
}

pub(in crate::lake) fn delta_error(
    resolution: Resolution,
    action: &'static str,
) -> impl Fn(DeltaTableError) -> TableError {
    move |source| TableError::Delta {
        table: resolution.table(),
        action,
        source: Box::new(source),
    }
}
