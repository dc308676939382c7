//! Copies the database, part by part.

use super::rows;
use super::table::Table;
use crate::store::backend::database::{StoreTransaction, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// The size at which a part is full, in bytes.
const PART_BYTES: usize = 4 << 20;

/// A part of the copy of a table.
#[derive(Debug)]
pub struct CopyPart<'a> {
    /// The table.
    pub table: &'a str,
    /// The number of the part within its table, from 1. A table without rows has one part.
    pub number: u32,
    /// The number of rows in the part.
    pub rows: u64,
    /// The text.
    pub text: &'a [u8],
}

impl OrganisationStore {
    /// Copies everything from one snapshot, and passes it to `take` part by part. Other users of the database do not
    /// wait.
    pub async fn copy<E: From<StoreError>>(
        &self,
        take: impl FnMut(CopyPart<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut snapshot = self.database.snapshot().await?;
        copy(&mut snapshot, take).await
    }
}

/// Copies everything, and passes it to `take` part by part.
pub(super) async fn copy<E: From<StoreError>>(
    snapshot: &mut StoreTransaction,
    mut take: impl FnMut(CopyPart<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for table in Table::read_all(snapshot).await? {
        let head = rows::header_line(&table.columns)?;
        let mut text = head.clone();
        let (mut number, mut count) = (1, 0);
        snapshot
            .for_each_row(
                table.select(matches!(snapshot, StoreTransaction::Postgres(_))),
                values![],
                |row| {
                    if text.len() >= PART_BYTES {
                        take(CopyPart {
                            table: table.name,
                            number,
                            rows: count,
                            text: &text,
                        })?;
                        text.truncate(head.len());
                        (number, count) = (number + 1, 0);
                    }
                    count += 1;
                    rows::write(row, &table.columns, &mut text).map_err(E::from)
                },
            )
            .await?;
        take(CopyPart {
            table: table.name,
            number,
            rows: count,
            text: &text,
        })?;
    }
    Ok(())
}
