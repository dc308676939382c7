//! The views that operators declare: each file `<name>.sql` of a folder holds one query.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::sql::{Query, Statement};

/// What a view's file ends in.
const EXTENSION: &str = "sql";

/// The views that are in force, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Views {
    by_name: BTreeMap<String, Arc<Query>>,
}

impl Views {
    /// The query of the view `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Query>> {
        self.by_name.get(name)
    }

    /// Leaves out the view `name`.
    pub fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// The folder of views. A file with a mistake is left out, and said so in the log: it fails nothing else.
#[derive(Debug)]
pub(super) struct ViewFolder {
    folder: PathBuf,
    /// Names that are taken.
    tables: Vec<&'static str>,
}

/// What tells that files have changed: path, size and time of each.
pub(super) type Stamps = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

impl ViewFolder {
    /// The views in `folder`, which need not be there. None of them may have the name of one of the `tables`.
    pub fn new(folder: PathBuf, tables: Vec<&'static str>) -> Self {
        Self { folder, tables }
    }

    /// The views, if they are others than those of `known`. Blocks.
    pub fn changed(&self, known: &Stamps) -> Option<(Stamps, Views)> {
        let stamps = stamps(&self.folder);
        if stamps == *known {
            return None;
        }
        let mut views = Views::default();
        for path in stamps.keys() {
            match self.read(path) {
                Ok((name, query)) => {
                    views.by_name.insert(name, Arc::new(query));
                }
                Err(problem) => {
                    tracing::warn!("the view {} is left out: {problem}", path.display());
                }
            }
        }
        Some((stamps, views))
    }

    fn read(&self, path: &Path) -> Result<(String, Query), String> {
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.ok_or("its name is no text")?.to_owned();
        let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_plain {
            return Err(
                "its name must be of lower-case letters, digits and _, and begin with a letter"
                    .to_owned(),
            );
        }
        if self.tables.contains(&name.as_str()) {
            return Err("there is a table of that name".to_owned());
        }
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        match Statement::parse(&text) {
            Ok(Statement::Query(query)) if query.parameters() == 0 => Ok((name, query)),
            Ok(Statement::Query(_)) => Err("a view has no parameters".to_owned()),
            Ok(_) => Err("it is not a query".to_owned()),
            Err(error) => Err(match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            }),
        }
    }
}

fn stamps(folder: &Path) -> Stamps {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let path = entry.path();
        let about = std::fs::metadata(&path)
            .ok()
            .filter(|about| about.is_file())?;
        (path.extension()? == EXTENSION).then(|| (path, (about.len(), about.modified().ok())))
    });
    files.collect()
}
