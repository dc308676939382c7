//! Makes a table match its plan, in the transaction of the run.
//!
//! If the same transaction has created the tables, rows are copied to them directly. Otherwise the rows of some dates are
//! copied to a temporary table; existing rows that differ are deleted, and missing rows are inserted. So if one minute of
//! a date has changed, readers and Postgres see the change of one minute.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::assets::Assets;
use super::copy_format::{HEADER, TRAILER};
use super::error::MirrorError;
use super::plan::TablePlan;
use super::progress::Progress;
use super::reader::{Chunk, Reader};
use super::session::{Link, TimedRunner, execute, for_table};
use super::statements;
use crate::lake::delta::table::Table;
use crate::lake::storage::failpoint;
use crate::model::{DateSet, MICROS_PER_DAY, Resolution};
use crate::rollup_schema::RollupSchema;

/// The maximum number of rows in one COPY, which must complete within the statement timeout.
const MAX_COPY_ROWS: u64 = 1_000_000;
/// The temporary table for comparison.
const INCOMING_TABLE: &str = "pg_temp.mirror_incoming";

/// The changes of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowCounts {
    /// The number of rows sent,
    pub sent: u64,
    /// deleted,
    pub deleted: u64,
    /// and inserted.
    pub inserted: u64,
}

/// The context shared by all tables.
pub(super) struct TableFiller<'a> {
    pub assets: &'a mut Assets,
    pub schema: &'a RollupSchema,
    /// Whether the tables were created in this transaction, and have neither rows nor keys.
    pub is_new: bool,
    pub progress: &'a dyn Progress,
}

impl TableFiller<'_> {
    /// Carries out `plan`.
    pub async fn fill(
        &mut self,
        link: &mut Link<'_>,
        table: &Arc<Table>,
        plan: &TablePlan,
    ) -> Result<RowCounts, MirrorError> {
        let mut counts = RowCounts::default();
        for unit in &plan.groups {
            let reader = Reader::start(Arc::clone(table), unit.clone());
            if self.is_new {
                let sent = self.copy(link, plan.resolution.table(), reader).await?;
                counts.sent += sent;
                counts.inserted += sent;
            } else {
                self.compare(
                    link,
                    plan.resolution,
                    &unit.dates,
                    Some(reader),
                    &mut counts,
                )
                .await?;
            }
        }
        if !self.is_new && !plan.removed.is_empty() {
            self.compare(link, plan.resolution, &plan.removed, None, &mut counts)
                .await?;
        }
        if self.is_new {
            // Gives the first queries plans as good as those of later ones.
            let analyze = for_table(include_str!("sql/analyze.sql"), plan.resolution);
            execute(link, "analysing its rows", sqlx::query(analyze)).await?;
        }
        failpoint::reach("mirror-after-table");
        Ok(counts)
    }

    /// Makes the table's rows of `dates` equal to those of the reader; deletes them if there is no reader.
    async fn compare(
        &mut self,
        link: &mut Link<'_>,
        resolution: Resolution,
        dates: &DateSet,
        reader: Option<Reader>,
        counts: &mut RowCounts,
    ) -> Result<(), MirrorError> {
        let empty = sqlx::query(include_str!("sql/incoming_empty.sql"));
        execute(link, "comparing rows", empty).await?;
        let mut sent = 0;
        if let Some(reader) = reader {
            sent = self.copy(link, INCOMING_TABLE, reader).await?;
            let analyze = sqlx::query(include_str!("sql/incoming_analyze.sql"));
            execute(link, "comparing rows", analyze).await?;
        }
        let (starts, ends) = date_bounds(dates);
        let delete = AssertSqlSafe(statements::delete_differing(self.schema, resolution));
        let delete = sqlx::query(delete).bind(starts).bind(ends);
        counts.deleted += execute(link, "deleting rows", delete).await?;
        failpoint::reach("mirror-after-delete");
        if sent > 0 {
            let insert = AssertSqlSafe(statements::insert_missing(self.schema, resolution));
            counts.inserted += execute(link, "inserting rows", sqlx::query(insert)).await?;
            failpoint::reach("mirror-after-insert");
        }
        counts.sent += sent;
        Ok(())
    }

    /// Copies the rows of the reader to the table `target`, and adds placeholders for new assets; returns the number of
    /// rows.
    async fn copy(
        &mut self,
        link: &mut Link<'_>,
        target: &str,
        mut reader: Reader,
    ) -> Result<u64, MirrorError> {
        let copy = statements::copy(self.schema, target);
        let mut seen = HashSet::new();
        let mut sent = 0;
        let mut next = reader.next().await?;
        while let Some(first) = next {
            let part = CopyPart {
                copy: &copy,
                reader: &mut reader,
                seen: &mut seen,
                progress: self.progress,
            };
            let (rows, rest) = part.send(link.connection, link.runner, first).await?;
            sent += rows;
            next = rest;
        }
        self.assets.add_placeholders(link, &seen).await?;
        failpoint::reach("mirror-after-copy");
        Ok(sent)
    }
}

/// One COPY, of at most [`MAX_COPY_ROWS`] rows and a chunk.
struct CopyPart<'a> {
    copy: &'a str,
    reader: &'a mut Reader,
    seen: &'a mut HashSet<Uuid>,
    progress: &'a dyn Progress,
}

impl CopyPart<'_> {
    /// Sends `first` and the following chunks; returns the number of rows, and the first chunk of the next COPY.
    async fn send(
        self,
        connection: &mut PgConnection,
        runner: &TimedRunner,
        first: Chunk,
    ) -> Result<(u64, Option<Chunk>), MirrorError> {
        const DOING: &str = "sending rows";
        let begun = connection.copy_in_raw(self.copy);
        let mut copying = runner.run(DOING, begun).await?;
        runner.run(DOING, copying.send(&HEADER[..])).await?;
        let mut sent = 0;
        let mut next = Some(first);
        while let Some(chunk) = next.take_if(|_| sent < MAX_COPY_ROWS) {
            runner.run(DOING, copying.send(&chunk.bytes[..])).await?;
            sent += chunk.rows;
            self.progress.sent(chunk.rows);
            self.seen.extend(chunk.assets);
            failpoint::reach("mirror-in-copy");
            next = match self.reader.next().await {
                Ok(next) => next,
                Err(error) => {
                    // Without an abort, the connection would wait for the rest.
                    let aborted = copying.abort("cannot read the lake");
                    runner.run(DOING, aborted).await?;
                    return Err(error);
                }
            };
        }
        runner.run(DOING, copying.send(&TRAILER[..])).await?;
        runner.run(DOING, copying.finish()).await?;
        Ok((sent, next))
    }
}

/// Returns the starts and the exclusive ends of the ranges of dates.
fn date_bounds(dates: &DateSet) -> (Vec<DateTime<Utc>>, Vec<DateTime<Utc>>) {
    let start_of = |day: i64| {
        let time = DateTime::from_timestamp_micros(day.saturating_mul(MICROS_PER_DAY));
        time.unwrap_or(DateTime::<Utc>::MAX_UTC)
    };
    let ranges = dates.ranges().iter();
    ranges
        .map(|&(first, last)| (start_of(first.into()), start_of(i64::from(last) + 1)))
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::plan::MAX_DAY;

    #[test]
    fn date_bounds_end_at_start_of_next_date() {
        let mut dates = DateSet::range(-1, 0);
        dates.insert(2);
        dates.insert(MAX_DAY);
        let (starts, ends) = date_bounds(&dates);
        let text = |times: &[DateTime<Utc>]| -> Vec<String> {
            times
                .iter()
                .map(|time| time.format("%Y-%m-%d").to_string())
                .collect()
        };
        assert_eq!(text(&starts)[..2], ["1969-12-31", "1970-01-03"]);
        assert_eq!(text(&ends)[..2], ["1970-01-02", "1970-01-04"]);
        assert!(starts[2] < ends[2] && ends[2] < DateTime::<Utc>::MAX_UTC);
    }
}
