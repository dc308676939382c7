//! The report of a run, and the status of a mirror.

use serde::Serialize;

use super::plan::TablePlan;
use super::state::TableState;
use crate::model::day_to_date;

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The mirror was changed.
    Mirrored,
    /// The mirror was equal to the lake already.
    NothingToDo,
    /// The lake has published nothing yet; the mirror was left unchanged.
    NothingPublished,
    /// A dry run, which changed nothing.
    DryRun,
}

/// The changes of one table; in a dry run, the planned ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableReport {
    /// The table's name.
    pub table: &'static str,
    /// The first date of its window, as YYYY-MM-DD.
    pub from: String,
    /// The number of dates whose files have changed, including those that no longer have rows.
    pub dates: usize,
    /// The number of rows sent for these dates; in a dry run, an upper bound.
    pub sent: u64,
    /// The number of rows deleted because they are not in the lake, or differ from it.
    pub deleted: u64,
    /// The number of rows inserted.
    pub inserted: u64,
    /// The number of rows deleted because they left the window.
    pub pruned: u64,
    /// The duration in seconds, without pruning.
    pub seconds: f64,
    /// The number of rows sent per second.
    pub rows_per_second: f64,
}

impl TableReport {
    pub(super) fn from_plan(plan: &TablePlan) -> Self {
        Self {
            table: plan.resolution.table(),
            from: day_to_date(plan.first).to_string(),
            dates: plan.changed_dates() + plan.removed_dates(),
            sent: plan.rows(),
            deleted: 0,
            inserted: 0,
            pruned: 0,
            seconds: 0.0,
            rows_per_second: 0.0,
        }
    }
}

/// The changes of the assets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AssetReport {
    /// The number of assets of the catalog that were added.
    pub added: u64,
    /// The number of assets of the catalog that were changed.
    pub changed: u64,
    /// The number of assets removed, which are not in the catalog and have no rows.
    pub removed: u64,
    /// Assets with rows that are not in the catalog; they have placeholders.
    pub unknown: Vec<String>,
    /// The reason for which the catalog could not be read, if it could not; the assets are then unchanged.
    pub catalog_problem: Option<String>,
}

/// The report of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The outcome.
    pub outcome: Outcome,
    /// The lake.
    pub lake: String,
    /// The mirror's URL, without its password.
    pub mirror: String,
    /// The lake's run that is mirrored now.
    pub run: Option<u64>,
    /// Whether everything in the window was compared.
    pub full: bool,
    /// Whether the tables were created.
    pub made_tables: bool,
    /// The reports of the tables.
    pub tables: Vec<TableReport>,
    /// The changes of the assets.
    pub assets: AssetReport,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// The number of attempts.
    pub attempts: u32,
    /// The duration in seconds.
    pub seconds: f64,
}

/// The status of a mirror.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The mirror's URL, without its password.
    pub mirror: String,
    /// The lake's run that was mirrored last; `None` before the first.
    pub run: Option<u64>,
    /// The time at which that run was published, RFC 3339.
    pub published_at: Option<String>,
    /// The time of the last update of the mirror, RFC 3339.
    pub mirrored_at: Option<String>,
    /// The lake that it was mirrored from.
    pub lake: Option<String>,
    /// The windows of the tables.
    pub tables: Vec<TableWindow>,
}

/// The window of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableWindow {
    /// The table's name.
    pub table: &'static str,
    /// The first date, as YYYY-MM-DD.
    pub from: String,
}

impl Status {
    pub(super) fn new(mirror: String, states: &super::state::States) -> Self {
        let text = |time: chrono::DateTime<chrono::Utc>| {
            time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        };
        let any: Option<&TableState> = states.values().next();
        Self {
            mirror,
            run: any.map(|state| state.run),
            published_at: any.map(|state| text(state.published_at)),
            mirrored_at: any.map(|state| text(state.mirrored_at)),
            lake: any.map(|state| state.lake.clone()),
            tables: states
                .iter()
                .map(|(resolution, state)| TableWindow {
                    table: resolution.table(),
                    from: day_to_date(state.first).to_string(),
                })
                .collect(),
        }
    }
}
