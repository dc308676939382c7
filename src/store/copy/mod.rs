//! A copy of the whole database, identical for SQLite and Postgres.
//!
//! A copy is text, in parts of some megabytes: one line with the names of the columns, and one line for each row, as
//! JSON arrays. Ids and times are written as SQLite stores them, bytes in hexadecimal, and fractions as text, which
//! keeps every bit. Rows are in the order of their keys, byte by byte. Equal content therefore gives an equal copy, and
//! a restored database can be compared with its copy.

mod parts;
mod restore;
mod rows;
mod table;

pub use parts::CopyPart;
pub use restore::DatabaseRestore;
