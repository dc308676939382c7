//! Deletes rows that have left the window. It runs in separate steps after the transaction of the run: a partial deletion
//! does not harm readers of expired rows, and each step locks and logs a bounded number of rows.

use chrono::{DateTime, NaiveTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::error::MirrorError;
use super::plan::TablePlan;
use super::session::{Link, for_table};
use super::state;
use crate::lake::storage::failpoint;
use crate::model::day_to_date;

/// The maximum number of rows that one step deletes.
const MAX_STEP_ROWS: i64 = 100_000;

/// Deletes the rows of a table before its window; returns their number.
pub(super) async fn prune(link: &mut Link<'_>, plan: &TablePlan) -> Result<u64, MirrorError> {
    let before = day_to_date(plan.first).and_time(NaiveTime::MIN).and_utc();
    let mut pruned = 0;
    let mut from = Uuid::nil();
    loop {
        let (rows, last) = prune_step(link, plan, before, from).await?;
        pruned += rows;
        failpoint::reach("mirror-after-prune-step");
        match last {
            Some(last) if rows >= MAX_STEP_ROWS.unsigned_abs() => from = last,
            _ => break,
        }
    }
    state::record_pruned(link, plan.resolution).await?;
    Ok(pruned)
}

async fn prune_step(
    link: &mut Link<'_>,
    plan: &TablePlan,
    before: DateTime<Utc>,
    from: Uuid,
) -> Result<(u64, Option<Uuid>), MirrorError> {
    let sql = for_table(include_str!("sql/prune.sql"), plan.resolution);
    link.run("pruning", async |connection| {
        let step = sqlx::query(sql).bind(before).bind(from).bind(MAX_STEP_ROWS);
        let row = step.fetch_one(connection).await?;
        let rows: i64 = row.try_get("rows")?;
        Ok((rows.unsigned_abs(), row.try_get("last_asset")?))
    })
    .await
}
