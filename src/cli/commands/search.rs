//! `plantlake search`: finds equipment by describing it.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::index::{NO_MODEL_NOTE, run_in_server, update_index, with_exit_code};
use super::query::print_rows;
use crate::app;
use crate::catalog::{Snapshot, VisibleAssets};
use crate::cli::admin_target::{ServerArgs, unexpected_outcome};
use crate::cli::exit::Exit;
use crate::cli::output::Table;
use crate::cli::run_command::{Context, RunCommand};
use crate::search::handover::{Outcome, Request};
use crate::search::{MAX_RESULTS, RankingMethod, SearchRequest, SearchResult};

const EXAMPLES: &str = "\
Examples:
  plantlake search \"high-temperature reactor vessel\"
  plantlake search \"what cools the reactor\" --limit 5 --json | jq -r '.[].name'
  plantlake search \"pumps over 15 kW\" --by bm25
      Ranks by words only. Without --by, the best method that the installed models allow is used
      (`plantlake models`); each row names its method.
  plantlake search \"vibration of the feed pump\" --server grpc+tls://history.example.com:50051 --as ada@northfield.example
      Searches on a server, as a user of an organisation.

In SQL:
  SELECT s.name, d.timestamp, d.value FROM search('high-temperature reactor vessel') AS s
    JOIN data_h AS d ON d.asset_id = s.asset_id WHERE d.timestamp >= '2026-01-01'";

/// Find equipment by describing it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SearchArgs {
    /// A description of the equipment, in your own words
    text: String,
    /// The maximum number of results
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=MAX_RESULTS as i64))]
    limit: u16,
    /// The ranking method [default: the best method that the available models allow]
    #[arg(long, value_enum, conflicts_with = "server")]
    by: Option<By>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// The method of ranking.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    /// The best results, re-ranked by a model that reads query and description together
    CrossEncoder,
    /// Embeddings and words, fused
    Hybrid,
    /// The similarity of the embeddings of query and description
    BiEncoder,
    /// The words that query and description share
    Bm25,
}

impl From<By> for RankingMethod {
    fn from(by: By) -> Self {
        match by {
            By::CrossEncoder => Self::CrossEncoder,
            By::Hybrid => Self::Hybrid,
            By::BiEncoder => Self::BiEncoder,
            By::Bm25 => Self::Bm25,
        }
    }
}

impl RunCommand for SearchArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        if let Some(server) = self.server.connect(&context).await? {
            let text = self.text.replace('\'', "''");
            let columns = "rank, name, type, location, score, similarity, ranked_by, asset_id";
            let sql = format!(
                "SELECT {columns} FROM search('{text}', {}) ORDER BY rank",
                self.limit
            );
            let rows = server.query(&sql).await?;
            return match self.json {
                true => super::query::print_json_list(&context, rows).await,
                false => print_rows(&context, rows).await.map(|()| Exit::Success),
            };
        }
        let snapshot = Arc::new(Snapshot::read(&context.settings.catalog)?);
        let limit = usize::from(self.limit);
        let by = self.by.map(RankingMethod::from);
        let request = Request::Search {
            text: self.text.clone(),
            limit,
            by,
        };
        let (found, has_meanings) = match run_in_server(&context, &request).await? {
            Some(Outcome::Found {
                found,
                has_meanings,
            }) => (found, has_meanings),
            Some(Outcome::Indexed(_)) => return Err(unexpected_outcome()),
            None => {
                let search = app::search(&context.settings, true)?;
                let report = update_index(&context, &search, &snapshot, false).await?;
                let ask = SearchRequest {
                    text: self.text,
                    limit,
                    granted: Arc::new(VisibleAssets::All),
                    by,
                };
                let found = search
                    .search(&ask, &snapshot)
                    .await
                    .map_err(with_exit_code)?;
                (found, report.has_meanings)
            }
        };
        if self.json {
            let rows: Vec<_> = found
                .iter()
                .map(|found| result_json(found, &snapshot))
                .collect();
            context.terminal.line(&json!(rows).to_string())?;
            return Ok(Exit::Success);
        }
        if found.is_empty() {
            context.terminal.note("No matches.");
        } else {
            context.terminal.table(&results_table(&found, &snapshot))?;
        }
        if !has_meanings {
            context.terminal.note(NO_MODEL_NOTE);
        }
        Ok(Exit::Success)
    }
}

fn result_json(found: &SearchResult, snapshot: &Snapshot) -> serde_json::Value {
    let asset = snapshot.asset(found.id);
    json!({
        "asset_id": found.id.to_string(),
        "name": asset.map(|asset| &asset.name),
        "type": asset.map(|asset| &asset.kind),
        "location": asset.map(|asset| &asset.location),
        "score": found.score,
        "similarity": found.similarity,
        "rank": found.rank,
        "ranked_by": found.ranked_by.text(),
    })
}

fn results_table(found: &[SearchResult], snapshot: &Snapshot) -> Table {
    let columns = [
        "rank",
        "name",
        "type",
        "location",
        "score",
        "similarity",
        "ranked by",
    ];
    let mut table = Table::new(columns).numbers([0, 4, 5]);
    for found in found {
        let asset = snapshot.asset(found.id);
        table.row([
            found.rank.to_string(),
            asset.map_or_else(|| found.id.to_string(), |asset| asset.name.clone()),
            asset.map_or_else(String::new, |asset| asset.kind.clone()),
            asset.map_or_else(String::new, |asset| asset.location.clone()),
            format!("{:.3}", found.score),
            found
                .similarity
                .map_or_else(String::new, |cosine| format!("{cosine:.3}")),
            found.ranked_by.text().to_owned(),
        ]);
    }
    table
}
