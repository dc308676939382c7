//! The views that operators define: each file `<name>.sql` of a folder holds one query.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::sql::statement::{Query, Statement};
use crate::model::read_text;

/// The extension of view files.
const EXTENSION: &str = "sql";

/// The views in force, by name.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Views {
    by_name: BTreeMap<String, Arc<Query>>,
}

impl Views {
    /// Returns the query of the view `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Query>> {
        self.by_name.get(name)
    }

    /// Removes the view `name`.
    pub fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// Returns the names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// The folder of views. A file with an error is left out and logged; the other views stay in force.
#[derive(Debug)]
pub(in crate::engine) struct ViewFolder {
    folder: PathBuf,
    /// Names of tables, which views cannot have.
    tables: Vec<&'static str>,
}

/// The state of the files, to detect changes: path, size and modification time of each.
pub(in crate::engine) type FileStamps = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

impl ViewFolder {
    /// Creates the folder of views, which need not exist. A view must not have the name of one of the `tables`.
    pub fn new(folder: PathBuf, tables: Vec<&'static str>) -> Self {
        Self { folder, tables }
    }

    /// Reads the views if the files differ from `known`; returns `None` otherwise. Blocks on file access.
    pub fn read_if_changed(&self, known: &FileStamps) -> Option<(FileStamps, Views)> {
        let stamps = read_stamps(&self.folder);
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
                    tracing::warn!("ignored the view {}: {problem}", path.display());
                }
            }
        }
        Some((stamps, views))
    }

    fn read(&self, path: &Path) -> Result<(String, Query), String> {
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.ok_or("its name is not valid UTF-8")?.to_owned();
        let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_plain {
            return Err(
                "its name must consist of lower-case letters, digits and _, and begin with a letter"
                    .to_owned(),
            );
        }
        if self.tables.contains(&name.as_str()) {
            return Err("a table has the same name".to_owned());
        }
        let text = read_text(path).map_err(|error| error.to_string())?;
        match Statement::parse(&text) {
            Ok(Statement::Query(query)) if query.parameter_count() == 0 => Ok((name, query)),
            Ok(Statement::Query(_)) => Err("a view cannot have parameters".to_owned()),
            Ok(_) => Err("it is not a query".to_owned()),
            Err(error) => Err(match std::error::Error::source(&error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            }),
        }
    }
}

fn read_stamps(folder: &Path) -> FileStamps {
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
