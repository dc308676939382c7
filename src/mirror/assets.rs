//! The mirror's `assets`: the current ones of the catalog, and a placeholder for each other asset that has rows.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::error::MirrorError;
use super::session::{Link, execute};
use crate::catalog::{Asset, Snapshot};

/// The number of assets in one statement.
const MAX_BATCH_ASSETS: usize = 5_000;

/// The assets of the mirror during a run.
#[derive(Debug, Default)]
pub(super) struct Assets {
    known: HashSet<Uuid>,
    /// Assets that are not in the catalog; without a catalog, those that this run added.
    pub unknown: BTreeSet<Uuid>,
    /// The number of the catalog's assets that were added.
    pub added: u64,
    /// The number of assets that were changed, including those that were removed from the catalog.
    pub changed: u64,
}

impl Assets {
    /// Writes the catalog's assets, and replaces those that it no longer has with placeholders. Without a catalog, nothing
    /// changes.
    pub async fn update(
        link: &mut Link<'_>,
        catalog: Option<&Snapshot>,
    ) -> Result<Self, MirrorError> {
        let known: Vec<Uuid> = link
            .run("reading its assets", async |connection| {
                let ids = sqlx::query_scalar(include_str!("sql/asset_ids.sql"));
                ids.fetch_all(connection).await
            })
            .await?;
        let mut assets = Self {
            known: known.into_iter().collect(),
            ..Self::default()
        };
        let Some(catalog) = catalog else {
            return Ok(assets);
        };
        let mut gone = assets.known.clone();
        for some in catalog.catalog().assets.chunks(MAX_BATCH_ASSETS) {
            for is_new in upsert_assets(link, some).await? {
                match is_new {
                    true => assets.added += 1,
                    false => assets.changed += 1,
                }
            }
            for asset in some {
                let id = Uuid::from_bytes(*asset.id.as_bytes());
                gone.remove(&id);
                assets.known.insert(id);
            }
        }
        let gone: Vec<Uuid> = gone.into_iter().collect();
        assets.changed += upsert_placeholders(link, &gone).await?;
        assets.unknown.extend(gone);
        Ok(assets)
    }

    /// Adds placeholders for those of `ids` that do not exist.
    pub async fn add_placeholders(
        &mut self,
        link: &mut Link<'_>,
        ids: &HashSet<Uuid>,
    ) -> Result<(), MirrorError> {
        let new: Vec<Uuid> = ids.difference(&self.known).copied().collect();
        upsert_placeholders(link, &new).await?;
        self.known.extend(&new);
        self.unknown.extend(new);
        Ok(())
    }

    /// Removes assets that are not in the catalog and have no rows; returns their number.
    pub async fn remove_unused(&mut self, link: &mut Link<'_>) -> Result<u64, MirrorError> {
        let unknown: Vec<Uuid> = self.unknown.iter().copied().collect();
        let mut removed = 0;
        for some in unknown.chunks(MAX_BATCH_ASSETS) {
            let ids: Vec<Uuid> = link
                .run("removing assets", async |connection| {
                    let tidy = sqlx::query_scalar(include_str!("sql/tidy.sql")).bind(some);
                    match tidy.fetch_all(connection).await {
                        // Other tables may reference assets, too. These assets stay.
                        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                            tracing::warn!(%error, "assets that are not in the catalog are kept");
                            Ok(Vec::new())
                        }
                        removed => removed,
                    }
                })
                .await?;
            removed += ids.len() as u64;
            for id in ids {
                self.unknown.remove(&id);
            }
        }
        Ok(removed)
    }
}

/// Writes the new and changed assets; returns for each of them whether it is new.
async fn upsert_assets(link: &mut Link<'_>, assets: &[Asset]) -> Result<Vec<bool>, MirrorError> {
    let ids: Vec<Uuid> = assets
        .iter()
        .map(|asset| Uuid::from_bytes(*asset.id.as_bytes()))
        .collect();
    let texts = |text: fn(&Asset) -> &String| -> Vec<String> {
        let texts = assets.iter().map(text);
        texts.map(|text| without_null(text.clone())).collect()
    };
    let specifications = assets.iter().map(|asset| {
        // The value was parsed from JSON, so it serialises.
        let value = serde_json::to_value(&asset.specifications).unwrap_or_default();
        json_without_null(value).to_string()
    });
    let set = sqlx::query_scalar(include_str!("sql/assets_set.sql"))
        .bind(ids)
        .bind(texts(|asset| &asset.name))
        .bind(texts(|asset| &asset.kind))
        .bind(texts(|asset| &asset.location))
        .bind(specifications.collect::<Vec<String>>());
    link.run("writing assets", async |connection| {
        set.fetch_all(connection).await
    })
    .await
}

/// Writes placeholders; returns the number of rows written.
async fn upsert_placeholders(link: &mut Link<'_>, ids: &[Uuid]) -> Result<u64, MirrorError> {
    let mut placed = 0;
    for some in ids.chunks(MAX_BATCH_ASSETS) {
        let place = sqlx::query(include_str!("sql/placeholders.sql")).bind(some);
        placed += execute(link, "writing assets", place).await?;
    }
    Ok(placed)
}

/// Postgres text cannot contain a null character.
fn without_null(text: String) -> String {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    }
}

fn json_without_null(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_null(text)),
        Value::Array(values) => values.into_iter().map(json_without_null).collect(),
        Value::Object(fields) => {
            let clean = |(name, value)| (without_null(name), json_without_null(value));
            fields.into_iter().map(clean).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_without_null_replaces_null_characters() {
        let dirty = json!({"a\0": ["b\0c", {"d": "\\u0000"}, 1.5, null]});
        let clean = json!({"a\u{fffd}": ["b\u{fffd}c", {"d": "\\u0000"}, 1.5, null]});
        assert_eq!(json_without_null(dirty), clean);
    }
}
