//! `plantlake index`: brings the search index up to date with the catalog.

use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use serde_json::json;

use crate::app;
use crate::catalog::Snapshot;
use crate::cli::admin_target::unexpected_outcome;
use crate::cli::exit::Exit;
use crate::cli::output::{Progress, Terminal, Unit, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::search::handover::{Outcome, Request, send_request};
use crate::search::index::IndexError;
use crate::search::{IndexProgress, IndexReport, IndexStage, Search, SearchError};

const EXAMPLES: &str = "\
A server updates its index automatically, and `plantlake search` updates it before it searches. Use this command on a schedule,
or to build the index in advance. Progress is saved: an interrupted update continues where it stopped.

Examples:
  plantlake index
      Indexes new and changed assets, and removes deleted ones.
  plantlake index --full --json
      Rebuilds the index, and prints the result as JSON.";

/// Update the search index from the catalog
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct IndexArgs {
    /// Index everything again, not only what changed
    #[arg(long)]
    full: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl RunCommand for IndexArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let request = Request::Index { full: self.full };
        let report = match run_in_server(&context, &request).await? {
            Some(Outcome::Indexed(report)) => report,
            Some(Outcome::Found { .. }) => return Err(unexpected_outcome()),
            None => {
                let search = app::search(&context.settings, true)?;
                let snapshot = Snapshot::read(&context.settings.catalog)?;
                update_index(&context, &search, &snapshot, self.full).await?
            }
        };
        if self.json {
            context.terminal.line(&json!(report).to_string())?;
            return Ok(Exit::Success);
        }
        context.terminal.line(&format_report(&report))?;
        if !report.has_meanings {
            context.terminal.note(NO_MODEL_NOTE);
        }
        Ok(Exit::Success)
    }
}

/// The note that is printed if assets are found by their words only.
pub(super) const NO_MODEL_NOTE: &str =
    "Search uses words only, because no model is installed; run `plantlake models fetch`.";

pub(super) fn format_report(report: &IndexReport) -> String {
    format!(
        "{} in the index: {} updated, {} removed",
        human::counted(report.assets as u64, "asset"),
        human::count(report.indexed as u64),
        human::count(report.removed as u64),
    )
}

/// Returns the outcome of a request, if a server on this machine has the index open and accepts the request.
pub(super) async fn run_in_server(
    context: &Context,
    request: &Request,
) -> anyhow::Result<Option<Outcome>> {
    if context.settings.qdrant.url.is_some() {
        return Ok(None);
    }
    let shown = IndexProgressBars::new(context.terminal.clone());
    let folder = app::index_folder(&context.settings);
    let outcome = send_request(&folder, request, &|progress| shown.show(progress)).await;
    Ok(outcome.transpose()?)
}

/// Brings the index up to date, and shows the progress.
pub(super) async fn update_index(
    context: &Context,
    search: &Search,
    snapshot: &Snapshot,
    full: bool,
) -> anyhow::Result<IndexReport> {
    let shown = IndexProgressBars::new(context.terminal.clone());
    let outcome = search
        .index(snapshot, full, &|progress| shown.show(progress))
        .await;
    outcome.map_err(with_exit_code)
}

/// Adds the exit code to an error. An index that another process has open is refused like a lake that another run
/// writes to.
pub(super) fn with_exit_code(error: SearchError) -> anyhow::Error {
    match error {
        error @ SearchError::Index(IndexError::InUse { .. }) => Exit::Refused.wrap(error),
        error @ SearchError::Input(_) => Exit::Usage.wrap(error),
        error => error.into(),
    }
}

/// Shows one progress bar for each stage.
struct IndexProgressBars {
    terminal: Terminal,
    bar: Arc<Mutex<Option<(IndexStage, usize, Progress)>>>,
}

impl IndexProgressBars {
    fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            bar: Arc::default(),
        }
    }

    fn show(&self, progress: IndexProgress) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = bar
            .as_ref()
            .is_some_and(|(stage, ..)| *stage == progress.stage);
        if !is_same {
            let label = match progress.stage {
                IndexStage::Words => "words",
                IndexStage::Meanings => "embeddings",
                IndexStage::Settling => "optimising the index",
            };
            let total = Some(progress.total as u64);
            let shown = self.terminal.progress(label, Unit::Count("assets"), total);
            *bar = Some((progress.stage, 0, shown));
        }
        if let Some((_, done, shown)) = bar.as_mut() {
            shown.add(progress.done.saturating_sub(*done) as u64);
            *done = progress.done;
        }
    }
}
