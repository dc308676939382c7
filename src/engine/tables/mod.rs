//! The tables and table functions of SQL, one file each.

pub(super) mod account;
pub(super) mod account_columns;
pub(super) mod account_tables;
pub(super) mod catalog_tables;
pub(super) mod engine_table;
pub(super) mod published;
pub(super) mod raw_readings;
pub(super) mod rollup_table;
pub(super) mod table_names;
pub(super) mod usage_table;
