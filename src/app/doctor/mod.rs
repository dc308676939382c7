//! The checks of `plantlake doctor`: each tests one thing that plantlake needs, and suggests a fix.
//!
//! | file | checks |
//! |---|---|
//! | `configuration` | combinations of settings, jobs, ports, TLS |
//! | `folders` | write access, private files, free space on disks |
//! | `storage` | the lake, its raw files and tables, the catalog |
//! | `services` | databases, the search index, models |
//! | `clocks` | differences between clocks |
//!
//! Nothing is changed, except that a small file is written and removed where plantlake must be able to write. No secret
//! is printed: findings contain only texts of errors and settings, which mask secrets.

mod clocks;
mod configuration;
mod examine;
mod finding;
mod folders;
mod services;
mod storage;

pub use examine::examine;
pub use finding::{Finding, Severity};
