//! The names of the catalog of SQL, of its schemas, and of the tables that always exist.

use super::catalog_tables::CatalogTable;
use crate::model::Resolution;

/// The only catalog of SQL.
pub const CATALOG: &str = "plantlake";
/// The schema of the tables.
pub const PUBLIC: &str = "public";
/// The schema of an organisation's own users, keys, limits and usage.
pub const ACCOUNT: &str = "account";
/// The schema of expired rows.
pub const ARCHIVE: &str = "archive";
/// The schema that describes the other schemas.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// The name of the table of raw readings.
pub(super) const RAW_READINGS: &str = "raw_readings";

/// Returns the names of the tables in the schema `public`, which no view can have.
pub(super) fn public_table_names() -> Vec<&'static str> {
    let tables = Resolution::ALL.map(Resolution::table).into_iter();
    let catalog = CatalogTable::ALL.map(CatalogTable::name);
    tables.chain(catalog).chain([RAW_READINGS]).collect()
}
