//! Tests of both vector indexes: a common suite for the index in this process and the one in a Qdrant server, and
//! tests of the faults of each.
//!
//! The server is `fake`: it implements Qdrant's protocol, and stores its points in shards of Qdrant's own engine.

mod conformance;
mod edge;
mod fake;
mod faults;
mod measure;
mod oracle;
mod place;
