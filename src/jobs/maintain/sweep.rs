//! Deletes what nobody needs any more: data files of versions that left publication longer ago than the grace, files of
//! runs that died, old log files, records of old runs. And writes checkpoints.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::resample::{JobError, RUNS_KEPT, table_failed};
use super::report::Swept;
use crate::lake::Store;
use crate::lake::failpoint;
use crate::lake::runs::Runs;
use crate::lake::table::Table;
use crate::model::Resolution;

/// How long the log tells of each version, as is usual for Delta tables.
const LOG_KEPT: TimeDelta = TimeDelta::days(30);

/// What is to be swept.
pub(super) struct Sweep<'a> {
    pub lake: &'a Store,
    pub runs: &'a Runs,
    pub now: DateTime<Utc>,
    /// Who began to read later than this is not disturbed.
    pub since: DateTime<Utc>,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Sweep<'_> {
    /// Sweeps. Called when all is published that is to be.
    pub async fn run(&self) -> Result<Swept, JobError> {
        let mut swept = Swept::default();
        let in_use = self.runs.in_use(self.since).await?;
        let Some(oldest) = in_use.first() else {
            return Ok(swept);
        };
        for resolution in Resolution::ALL {
            let oldest = oldest.versions.of(resolution);
            self.table(self.lake, resolution, oldest, &mut swept)
                .await?;
        }
        if !self.dry_run {
            self.runs.clean_up(RUNS_KEPT, self.since).await?;
            failpoint::reach("after-cleanup");
        }
        Ok(swept)
    }

    async fn table(
        &self,
        lake: &Store,
        resolution: Resolution,
        oldest: u64,
        swept: &mut Swept,
    ) -> Result<(), JobError> {
        let failed = table_failed(resolution);
        let table = Table::open_or_create(lake, resolution).await;
        let table = table.map_err(&failed)?;
        let named = table.files_since(oldest).await.map_err(&failed)?;
        for file in table.stored_files().await.map_err(&failed)? {
            // A file that nobody names may belong to a commit that is about to come from elsewhere.
            if named.contains(&file.path) || file.modified >= self.since {
                continue;
            }
            swept.data_files += 1;
            swept.bytes += file.size;
            if !self.dry_run {
                table.delete_stored(&file).await.map_err(&failed)?;
                failpoint::reach("after-swept-file");
            }
        }
        if self.dry_run {
            return Ok(());
        }
        if !table.has_checkpoint().await.map_err(&failed)? {
            table.checkpoint().await.map_err(&failed)?;
            swept.checkpoints += 1;
            failpoint::reach("after-checkpoint");
        }
        let before = self.now - LOG_KEPT;
        swept.log_files += table.shorten_log(oldest, before).await.map_err(&failed)?;
        Ok(())
    }
}
