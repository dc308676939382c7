//! The Delta tables: their files, their commits, and their maintenance.

pub mod application_id;
pub mod commit;
pub mod data_file;
pub mod data_file_reader;
pub mod error;
pub mod foreign_table;
pub mod partition;
pub mod table;
pub mod table_columns;
pub mod table_maintenance;
