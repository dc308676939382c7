//! What a run says about itself, and what is known of the mirror without changing it.

use serde::Serialize;

use super::plan::TablePlan;
use super::state::TableState;
use crate::model::day_to_date;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Something was changed.
    Mirrored,
    /// All was as in the lake already.
    NothingToDo,
    /// The lake has published nothing yet; the mirror was left alone.
    NothingPublished,
    /// Only said what it would do.
    DryRun,
}

/// What was done to one table, or would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableReport {
    /// Its name.
    pub table: &'static str,
    /// The first date of its window, as YYYY-MM-DD.
    pub from: String,
    /// Dates that came from other files than before, those without rows now included.
    pub dates: usize,
    /// Rows of them in the lake; for a dry run, at most.
    pub sent: u64,
    /// Rows that were deleted because the lake does not have them, or not so.
    pub deleted: u64,
    /// Rows that were inserted.
    pub inserted: u64,
    /// Rows that were deleted because they have left the window.
    pub pruned: u64,
    /// How long it took, without pruning.
    pub seconds: f64,
    /// Rows sent a second.
    pub rows_per_second: f64,
}

impl TableReport {
    pub(super) fn of(plan: &TablePlan) -> Self {
        Self {
            table: plan.resolution.table(),
            from: day_to_date(plan.first).to_string(),
            dates: plan.dates() + plan.lost(),
            sent: plan.rows(),
            deleted: 0,
            inserted: 0,
            pruned: 0,
            seconds: 0.0,
            rows_per_second: 0.0,
        }
    }
}

/// What was done to the assets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AssetReport {
    /// Of the catalog, added.
    pub added: u64,
    /// Of the catalog, changed.
    pub changed: u64,
    /// Neither in the catalog nor with rows, removed.
    pub removed: u64,
    /// Not in the catalog, with rows: these have placeholders.
    pub unknown: Vec<String>,
    /// Why the catalog could not be used; the assets are as they were, then.
    pub catalog_problem: Option<String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The lake.
    pub lake: String,
    /// The mirror's URL, without its password.
    pub mirror: String,
    /// The lake's run whose averages are mirrored now.
    pub run: Option<u64>,
    /// Whether everything in the window was compared.
    pub full: bool,
    /// Whether the tables were made.
    pub made_tables: bool,
    /// Each table.
    pub tables: Vec<TableReport>,
    /// The assets.
    pub assets: AssetReport,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took.
    pub seconds: f64,
}

/// What is known of the mirror.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The mirror's URL, without its password.
    pub mirror: String,
    /// The lake's run that was mirrored last; none before the first.
    pub run: Option<u64>,
    /// When that run was published, RFC 3339.
    pub published_at: Option<String>,
    /// When it was mirrored last.
    pub mirrored_at: Option<String>,
    /// The lake that it was mirrored from.
    pub lake: Option<String>,
    /// The first date of each table.
    pub tables: Vec<TableWindow>,
}

/// How far back a table of the mirror goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableWindow {
    /// Its name.
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
