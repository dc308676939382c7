//! Tests of the organisation database and of authentication: one suite, on SQLite and on a real Postgres server.

mod access;
mod caps;
mod chains;
mod conformance;
mod copies;
mod databases;
mod jobs;
mod same;
mod tokens;
mod usage;
