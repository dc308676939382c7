//! JSON with each entry on a line of its own, so that a diff of two catalogs shows the assets that differ.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::CatalogError;

/// Returns a JSON list with each item on a line of its own.
pub(super) fn list<T: Serialize>(items: &[T]) -> Result<Vec<u8>, CatalogError> {
    let mut out = Vec::new();
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut out, item).map_err(|source| CatalogError::Encode { source })?;
    }
    out.extend_from_slice(b"\n]\n");
    Ok(out)
}

/// Returns a JSON object with each entry on a line of its own.
pub(super) fn object<T: Serialize>(entries: &BTreeMap<String, T>) -> Result<Vec<u8>, CatalogError> {
    let mut out = Vec::new();
    out.push(b'{');
    for (i, (key, value)) in entries.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut out, key).map_err(|source| CatalogError::Encode { source })?;
        out.extend_from_slice(b": ");
        serde_json::to_writer(&mut out, value).map_err(|source| CatalogError::Encode { source })?;
    }
    out.extend_from_slice(b"\n}\n");
    Ok(out)
}
