//! `plantlake catalog`: checks the catalog, and follows its changes as a server does.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::catalog::{CatalogError, LiveCatalog, LiveState, Problems, Snapshot};
use crate::cli::administration::format_instant;
use crate::cli::exit::Exit;
use crate::cli::output::{Table, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::clock;

const EXAMPLES: &str = "\
The catalog is a folder with the file assets.json, and optionally id2assets.json (the same assets, keyed by id) and graph.json
(the topology). A server watches these files: a valid catalog is in force within seconds; an invalid one leaves the last valid
one in force.

Examples:
  plantlake catalog check
      Lists all errors, each with its file, entry, line and field. Exit code 1 if there are any.
  plantlake --catalog new-catalog catalog check --json | jq -r '.problems[].what'
  plantlake catalog watch
      Watches the files as a server does, and shows which version is in force, until Ctrl-C.";

/// Check the catalog of assets, or follow its changes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CatalogArgs {
    #[command(subcommand)]
    action: Action,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Action {
    /// Check the files, and count their contents
    Check,
    /// Follow the files, and show which version is in force
    Watch,
}

impl RunCommand for CatalogArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self.action {
            Action::Check => check(&context, self.json),
            Action::Watch => watch(&context, self.json).await,
        }
    }
}

fn check(context: &Context, json: bool) -> anyhow::Result<Exit> {
    let folder = &context.settings.catalog;
    let terminal = &context.terminal;
    match Snapshot::read(folder) {
        Ok(snapshot) if json => {
            let mut printed = counts_json(&snapshot);
            printed["valid"] = json!(true);
            printed["types"] = json!(types(&snapshot));
            terminal.line(&printed.to_string())?;
        }
        Ok(snapshot) => {
            terminal.line(&format!(
                "the catalog in {} is valid: {}",
                folder.display(),
                counts_text(&snapshot)
            ))?;
            let types = types(&snapshot);
            if !types.is_empty() {
                let mut table = Table::new(["type", "assets"]).numbers([1]);
                for (kind, assets) in types {
                    table.row([kind.to_owned(), human::count(assets)]);
                }
                terminal.line("")?;
                terminal.table(&table)?;
            }
        }
        Err(error) if json => {
            let mut printed = problems_json(&error.problems());
            printed["valid"] = json!(false);
            terminal.line(&printed.to_string())?;
            return Ok(Exit::Failure);
        }
        Err(CatalogError::Invalid(problems)) => {
            terminal.line(&problems.list(usize::MAX))?;
            let counted = human::counted(problems.count() as u64, "error");
            terminal.warn(&format!("{counted}; an invalid catalog is never activated"));
            return Ok(Exit::Failure);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Success)
}

async fn watch(context: &Context, json: bool) -> anyhow::Result<Exit> {
    let live = LiveCatalog::open(&context.settings.catalog).await?;
    let mut changes = live.changes();
    loop {
        let state = changes.borrow_and_update().clone();
        let said = if json {
            state_json(&state)
        } else {
            state_text(&state)
        };
        context.terminal.line(&said)?;
        changes.changed().await?;
    }
}

fn state_json(state: &LiveState) -> String {
    let mut printed = counts_json(&state.snapshot);
    printed["time"] = json!(format_instant(clock::now()));
    printed["version"] = json!(state.snapshot.version());
    printed["refused"] = match &state.problem {
        Some(problem) => problems_json(&problem.problems()),
        None => Value::Null,
    };
    printed.to_string()
}

fn state_text(state: &LiveState) -> String {
    let version = state.snapshot.version();
    let what = match &state.problem {
        Some(problem) => format!("catalog {version} stays in force: {problem}"),
        None => format!(
            "catalog {version} is in force: {}",
            counts_text(&state.snapshot)
        ),
    };
    format!("{}  {what}", format_instant(clock::now()))
}

/// Returns the counts and the fingerprint of a catalog, as JSON.
fn counts_json(snapshot: &Snapshot) -> Value {
    let catalog = snapshot.catalog();
    json!({
        "assets": catalog.assets.len(),
        "nodes": catalog.graph.nodes.len(),
        "edges": catalog.graph.edges.len(),
        "fingerprint": format!("{:016x}", snapshot.fingerprint()),
    })
}

/// Returns the counts as text.
fn counts_text(snapshot: &Snapshot) -> String {
    let catalog = snapshot.catalog();
    format!(
        "{}, {}",
        human::counted(catalog.assets.len() as u64, "asset"),
        human::counted(catalog.graph.edges.len() as u64, "edge")
    )
}

fn problems_json(problems: &Problems) -> Value {
    json!({
        "count": problems.count(),
        "problems": problems.iter().collect::<Vec<_>>(),
    })
}

/// Returns the number of assets of each type.
fn types(snapshot: &Snapshot) -> BTreeMap<&str, u64> {
    let mut types = BTreeMap::new();
    for asset in &snapshot.catalog().assets {
        *types.entry(asset.kind.as_str()).or_default() += 1;
    }
    types
}
