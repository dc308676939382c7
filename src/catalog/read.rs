//! Reads a catalog's files and checks the assets. All mistakes are collected, each with its place.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use twox_hash::XxHash64;

use super::asset::id_text;
use super::entries::{EntryMistake, JsonSlice, LineCounter, json_type, without_position};
use super::error::{EntryKind, Problem, Problems};
use super::read_graph::check_graph;
use super::{ASSETS_FILE, Asset, Catalog, CatalogError, GRAPH_FILE, Graph, ID_TO_ASSETS_FILE};
use crate::model::AssetId;

/// The remedy for any mistake in the file that is derived from the list of assets.
const DERIVED_FILE_REMEDY: &str =
    "this file is derived from assets.json; delete it, or generate it again";

/// The content of a catalog's files.
pub(super) struct Contents {
    pub catalog: Catalog,
    /// The index of each asset in the list.
    pub index: HashMap<AssetId, usize>,
    /// A hash of the content of the files, which depends on nothing else.
    pub fingerprint: u64,
}

/// Reads and checks the files in `folder`. Only `assets.json` must be there.
pub(super) fn read(folder: &Path) -> Result<Contents, CatalogError> {
    // All files are read before any is parsed, so that their contents are from about the same time.
    let assets = bytes(folder, ASSETS_FILE)?;
    let by_id = optional_bytes(folder, ID_TO_ASSETS_FILE)?;
    let graph = optional_bytes(folder, GRAPH_FILE)?;
    let fingerprint = fingerprint([Some(assets.as_slice()), by_id.as_deref(), graph.as_deref()]);

    let mut problems = Problems::default();
    let known = match FileText::new(folder, ASSETS_FILE, &assets, &mut problems) {
        Some(text) => check_assets(&text, &mut problems),
        None => Assets::default(),
    };
    if let Some(bytes) = by_id
        && let Some(text) = FileText::new(folder, ID_TO_ASSETS_FILE, &bytes, &mut problems)
    {
        check_by_id(&text, &known, &mut problems);
    }
    let graph = match graph {
        Some(bytes) => match FileText::new(folder, GRAPH_FILE, &bytes, &mut problems) {
            Some(text) => check_graph(&text, &known, &mut problems),
            None => Graph::default(),
        },
        None => Graph::default(),
    };
    if !problems.is_empty() {
        return Err(CatalogError::Invalid(problems));
    }
    Ok(Contents {
        catalog: Catalog {
            assets: known.list.into_iter().flatten().collect(),
            graph,
        },
        index: known.index,
        fingerprint,
    })
}

fn fingerprint(files: [Option<&[u8]>; 3]) -> u64 {
    files.into_iter().fold(0, |former, file| match file {
        Some(bytes) => XxHash64::oneshot(former, bytes),
        // A missing file must differ from an empty one.
        None => !former,
    })
}

fn bytes(folder: &Path, name: &str) -> Result<Vec<u8>, CatalogError> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|source| CatalogError::Io {
        action: "read",
        path,
        source,
    })
}

fn optional_bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, CatalogError> {
    match bytes(folder, name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(CatalogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The text of a catalog file.
pub(super) struct FileText<'a> {
    pub path: PathBuf,
    pub text: &'a str,
}

impl<'a> FileText<'a> {
    fn new(folder: &Path, name: &str, bytes: &'a [u8], problems: &mut Problems) -> Option<Self> {
        let path = folder.join(name);
        // Some editors write a UTF-8 byte order mark, which JSON does not allow.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Some(Self { path, text }),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
                problems.add(Problem {
                    line: Some(line),
                    ..Problem::of_file(&path, "it is not UTF-8 text; save it as UTF-8")
                });
                None
            }
        }
    }

    /// Reports why the file is not `expected`, which is a list or an object.
    pub fn report_wrong_form(&self, expected: &str, problems: &mut Problems) {
        let problem = match serde_json::from_str::<IgnoredAny>(self.text) {
            _ if self.text.trim().is_empty() => Problem::of_file(&self.path, "the file is empty"),
            Err(error) => Problem {
                line: Some(error.line()),
                ..Problem::of_file(
                    &self.path,
                    format!(
                        "it is not JSON: {} at column {}",
                        without_position(&error),
                        error.column()
                    ),
                )
            },
            Ok(_) => Problem::of_file(
                &self.path,
                format!("expected {expected}, found {}", json_type(self.text)),
            ),
        };
        problems.add(problem);
    }
}

/// A list of entries that is being checked.
pub(super) struct EntryList<'a, 'p> {
    path: &'a Path,
    kind: EntryKind,
    lines: LineCounter<'a>,
    problems: &'p mut Problems,
}

impl<'a, 'p> EntryList<'a, 'p> {
    pub fn new(text: &'a FileText<'_>, kind: EntryKind, problems: &'p mut Problems) -> Self {
        Self {
            path: &text.path,
            kind,
            lines: LineCounter::new(text.text),
            problems,
        }
    }

    /// Reports a mistake in the entry at `index`.
    pub fn report(
        &mut self,
        index: usize,
        part: JsonSlice<'_>,
        name: Option<&str>,
        field: Option<&str>,
        what: impl Into<String>,
    ) {
        let line = self.lines.line_at(part.offset);
        self.problems.add(Problem {
            kind: Some(self.kind),
            entry: Some(index + 1),
            name: name.map(str::to_owned),
            line: Some(line),
            field: field.map(str::to_owned),
            ..Problem::of_file(self.path, what)
        });
    }

    /// Parses the entry at `index`. If that fails, reports the mistake, and returns what is still readable.
    pub fn parse<T: DeserializeOwned>(
        &mut self,
        index: usize,
        part: JsonSlice<'_>,
    ) -> Result<T, PartialEntry> {
        part.object().map_err(|mistake| {
            let salvage = PartialEntry::from_part(part);
            self.report_mistake(index, part, salvage.name.as_deref(), mistake);
            salvage
        })
    }

    fn report_mistake(
        &mut self,
        index: usize,
        part: JsonSlice<'_>,
        name: Option<&str>,
        found: EntryMistake,
    ) {
        let what = match found.lines_below {
            0 => found.what,
            below => format!(
                "{} (in line {})",
                found.what,
                self.lines.line_at(part.offset) + below
            ),
        };
        self.report(index, part, name, found.field.as_deref(), what);
    }

    pub fn check_text(
        &mut self,
        index: usize,
        part: JsonSlice<'_>,
        name: Option<&str>,
        field: &str,
        text: &str,
    ) {
        if text.trim().is_empty() {
            self.report(index, part, name, Some(field), "it is empty");
        }
    }
}

/// The readable parts of an invalid entry.
pub(super) struct PartialEntry {
    pub id: Option<AssetId>,
    pub name: Option<String>,
}

impl PartialEntry {
    fn from_part(part: JsonSlice<'_>) -> Self {
        let value: serde_json::Value = serde_json::from_str(part.text).unwrap_or_default();
        let text = |field: &str| value.get(field)?.as_str();
        Self {
            id: text("id").and_then(|id| AssetId::parse(id).ok()),
            name: ["name", "id"].into_iter().find_map(text).map(str::to_owned),
        }
    }
}

/// The known assets, for the checks of the other files.
pub(super) struct Assets {
    /// The assets in the order of the file; `None` for an invalid entry.
    list: Vec<Option<Asset>>,
    /// The index of the entry that has an id.
    index: HashMap<AssetId, usize>,
    /// Whether the id of each entry is known. If not, an id that no entry has is not necessarily wrong.
    complete: bool,
}

impl Default for Assets {
    /// Returns the state for a file that cannot be read.
    fn default() -> Self {
        Self {
            list: Vec::new(),
            index: HashMap::new(),
            complete: false,
        }
    }
}

impl Assets {
    pub fn get(&self, id: AssetId) -> Option<&Asset> {
        self.list.get(*self.index.get(&id)?)?.as_ref()
    }

    pub fn is_unknown(&self, id: AssetId) -> bool {
        self.complete && !self.index.contains_key(&id)
    }
}

fn check_assets(text: &FileText<'_>, problems: &mut Problems) -> Assets {
    let Some(parts) = JsonSlice::whole(text.text).items() else {
        text.report_wrong_form("a list of assets", problems);
        return Assets::default();
    };
    let mut list = EntryList::new(text, EntryKind::Asset, problems);
    let mut known = Assets {
        list: Vec::with_capacity(parts.len()),
        index: HashMap::with_capacity(parts.len()),
        complete: true,
    };
    for (index, part) in parts.into_iter().enumerate() {
        let parsed = list.parse::<Asset>(index, part);
        let (id, name) = match &parsed {
            Ok(asset) => (Some(asset.id), Some(asset.name.as_str())),
            Err(salvage) => (salvage.id, salvage.name.as_deref()),
        };
        if let Ok(asset) = &parsed {
            check_asset(index, part, asset, &mut list);
        }
        match id {
            None => known.complete = false,
            Some(id) => match known.index.get(&id) {
                Some(&first) => {
                    let named = |asset: &Asset| format!(" ({:?})", asset.name);
                    let first_name = known.get(id).map(named).unwrap_or_default();
                    let what = format!(
                        "{id} is also the id of entry {}{first_name}; give each asset its own",
                        first + 1
                    );
                    list.report(index, part, name, Some("id"), what);
                }
                None => {
                    known.index.insert(id, index);
                }
            },
        }
        known.list.push(parsed.ok());
    }
    known
}

fn check_asset(index: usize, part: JsonSlice<'_>, asset: &Asset, list: &mut EntryList<'_, '_>) {
    let name = Some(asset.name.as_str());
    list.check_text(index, part, None, "name", &asset.name);
    list.check_text(index, part, name, "type", &asset.kind);
    let facts = &asset.specifications;
    if let (Some(low), Some(high)) = (facts.range_low, facts.range_high)
        && low > high
    {
        let what = format!("{low} is greater than range_high, which is {high}");
        list.report(index, part, name, Some("specifications.range_low"), what);
    }
    if let Some(resolution) = facts.resolution
        && resolution <= 0.0
    {
        let what = format!("{resolution} is not greater than zero");
        list.report(index, part, name, Some("specifications.resolution"), what);
    }
}

/// An asset in `id2assets.json`, reduced to what must agree with `assets.json`.
#[derive(Deserialize)]
struct AssetById {
    #[serde(default)]
    id: Option<RepeatedId>,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct RepeatedId(#[serde(with = "id_text")] AssetId);

fn check_by_id(text: &FileText<'_>, known: &Assets, problems: &mut Problems) {
    let Some(members) = JsonSlice::whole(text.text).members() else {
        text.report_wrong_form("an object of assets, keyed by id", problems);
        return;
    };
    let mut list = EntryList::new(text, EntryKind::Asset, problems);
    let mut seen: HashMap<AssetId, usize> = HashMap::with_capacity(members.len());
    let mut complete = true;
    for (index, (key, part)) in members.into_iter().enumerate() {
        let mut wrong = |field: Option<&str>, what: String| {
            let what = format!("{what}; {DERIVED_FILE_REMEDY}");
            list.report(index, part, Some(&key), field, what);
        };
        let id = match AssetId::parse(&key) {
            Ok(id) => id,
            Err(error) => {
                wrong(None, format!("the key {error}"));
                complete = false;
                continue;
            }
        };
        if let Some(first) = seen.insert(id, index) {
            wrong(
                None,
                format!("entry {} has the same id as its key", first + 1),
            );
        }
        if known.is_unknown(id) {
            wrong(
                None,
                "no asset of assets.json has the id that is the key".to_owned(),
            );
        }
        let due = known.get(id).map(|asset| asset.name.as_str());
        let differs = |name: &str| {
            due.filter(|due| *due != name)
                .map(|due| format!("{name:?} is not the name in assets.json, {due:?}"))
        };
        if part.text.starts_with('"') {
            match serde_json::from_str::<Cow<'_, str>>(part.text) {
                Ok(name) => {
                    if let Some(what) = differs(&name) {
                        wrong(None, what);
                    }
                }
                Err(error) => wrong(None, without_position(&error)),
            }
            continue;
        }
        match part.object::<AssetById>() {
            Ok(asset) => {
                if let Some(RepeatedId(inside)) = asset.id
                    && inside != id
                {
                    wrong(Some("id"), format!("{inside} is not the key"));
                }
                if let Some(what) = asset.name.as_deref().and_then(differs) {
                    wrong(Some("name"), what);
                }
            }
            Err(mut mistake) => {
                mistake.what = format!("{}; {DERIVED_FILE_REMEDY}", mistake.what);
                list.report_mistake(index, part, Some(&key), mistake);
            }
        }
    }
    if !complete {
        // A key that is not an id may belong to an asset that would then be reported as missing.
        return;
    }
    for (index, asset) in known.list.iter().enumerate() {
        if let Some(asset) = asset
            && !seen.contains_key(&asset.id)
        {
            let what = format!(
                "{} is missing, which is entry {} ({:?}) of assets.json; {DERIVED_FILE_REMEDY}",
                asset.id,
                index + 1,
                asset.name
            );
            list.problems.add(Problem::of_file(list.path, what));
        }
    }
}
