//! The names of the tables that always exist.

use super::catalog_tables::CatalogTable;
use crate::model::Resolution;

/// Returns the names of the tables in the schema `public`, which no view can have.
pub(in crate::engine) fn public_table_names() -> Vec<&'static str> {
    let tables = Resolution::ALL.map(Resolution::table).into_iter();
    let catalog = CatalogTable::ALL.map(CatalogTable::name);
    tables.chain(catalog).chain([RAW_READINGS]).collect()
}

/// The name of the table of raw readings.
pub(in crate::engine) const RAW_READINGS: &str = "raw_readings";
