//! Scans: what is read for a query, and of whose assets.

pub(super) mod even_batches;
pub(super) mod metered_scan;
pub(super) mod page_cache;
pub(super) mod raw_scan;
pub(super) mod scan_pruning;
pub(super) mod sequential;
pub(super) mod tenant_scan;
pub(super) mod visible_filter;
