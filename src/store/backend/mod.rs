//! The database below: SQLite or Postgres, its migrations, and its copies.

pub(super) mod database;
pub(super) mod examine;
pub(super) mod migrate;
pub(super) mod postgres;
pub(super) mod sqlite_file;
