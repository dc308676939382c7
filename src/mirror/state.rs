//! The state of the mirror at its last run, stored in Postgres in the same transaction as the rows.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::Row;

use super::error::MirrorError;
use super::plan::{DateSources, TablePlan};
use super::session::Link;
use crate::model::{Day, Resolution, day_from_date, day_to_date};

/// The state of one table at its last run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableState {
    pub lake: String,
    /// The number of the lake's run.
    pub run: u64,
    pub published_at: DateTime<Utc>,
    /// The first date in the window.
    pub first: Day,
    /// Rows before this date were deleted.
    pub pruned_to: Day,
    pub mirrored_at: DateTime<Utc>,
    /// The source of each date.
    pub dates: DateSources,
}

/// The state of each table that was ever mirrored.
pub(super) type States = BTreeMap<Resolution, TableState>;

/// Reads the states; the dates only if `with_dates`.
pub(super) async fn read(link: &mut Link<'_>, with_dates: bool) -> Result<States, MirrorError> {
    let rows = link
        .run("reading its state", async |connection| {
            let states = sqlx::query(include_str!("sql/state.sql"));
            let mut found = States::new();
            for row in states.fetch_all(&mut *connection).await? {
                let date = |column| row.try_get::<NaiveDate, _>(column).map(day_from_date);
                let Some(resolution) = resolution_of_table(row.try_get("table_name")?) else {
                    continue;
                };
                let state = TableState {
                    lake: row.try_get("lake")?,
                    run: row.try_get::<i64, _>("run")?.unsigned_abs(),
                    published_at: row.try_get("published_at")?,
                    first: date("first_date")?,
                    pruned_to: date("pruned_to")?,
                    mirrored_at: row.try_get("mirrored_at")?,
                    dates: DateSources::new(),
                };
                found.insert(resolution, state);
            }
            if !with_dates {
                return Ok(found);
            }
            let dates = sqlx::query(include_str!("sql/dates.sql"));
            for row in dates.fetch_all(connection).await? {
                let state = resolution_of_table(row.try_get("table_name")?);
                let state = state.and_then(|resolution| found.get_mut(&resolution));
                // A hash of another length was not written by plantlake. Its date counts as not mirrored.
                let source = row.try_get::<&[u8], _>("source")?.try_into();
                if let (Some(state), Ok(source)) = (state, source) {
                    let day = day_from_date(row.try_get("date")?);
                    state.dates.insert(day, source);
                }
            }
            Ok(found)
        })
        .await?;
    Ok(rows)
}

fn resolution_of_table(name: &str) -> Option<Resolution> {
    Resolution::ALL
        .into_iter()
        .find(|resolution| resolution.table() == name)
}

/// The metadata that is stored for a run.
pub(super) struct RunMetadata {
    pub lake: String,
    pub run: u64,
    pub published_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

/// Stores the state of a table that was made equal to its plan.
pub(super) async fn write(
    link: &mut Link<'_>,
    mirrored: &RunMetadata,
    plan: &TablePlan,
) -> Result<(), MirrorError> {
    let table = plan.resolution.table();
    let first = day_to_date(plan.first);
    let state = sqlx::query(include_str!("sql/state_set.sql"))
        .bind(table)
        .bind(&mirrored.lake)
        .bind(i64::try_from(mirrored.run).unwrap_or(i64::MAX))
        .bind(mirrored.published_at)
        .bind(first)
        .bind(first)
        .bind(mirrored.now);
    let forgotten: Vec<NaiveDate> = plan.obsolete.iter().map(|&day| day_to_date(day)).collect();
    let dates: Vec<NaiveDate> = plan.changed.keys().map(|&day| day_to_date(day)).collect();
    let sources: Vec<&[u8]> = plan.changed.values().map(|source| &source[..]).collect();
    link.run("writing its state", async |connection| {
        state.execute(&mut *connection).await?;
        if !forgotten.is_empty() {
            let forget = sqlx::query(include_str!("sql/dates_forget.sql"));
            let forget = forget.bind(table).bind(&forgotten);
            forget.execute(&mut *connection).await?;
        }
        if !dates.is_empty() {
            let set = sqlx::query(include_str!("sql/dates_set.sql"));
            let set = set.bind(table).bind(&dates).bind(&sources);
            set.execute(&mut *connection).await?;
        }
        Ok(())
    })
    .await
}

/// Records that all rows before the window were deleted.
pub(super) async fn record_pruned(
    link: &mut Link<'_>,
    resolution: Resolution,
) -> Result<(), MirrorError> {
    link.run("writing its state", async |connection| {
        let pruned = sqlx::query(include_str!("sql/pruned.sql")).bind(resolution.table());
        pruned.execute(connection).await.map(drop)
    })
    .await
}
