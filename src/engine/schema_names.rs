//! The names of the catalog of SQL and of its schemas.

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
