//! Checks `assets.json`, and `id2assets.json` against it.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use super::asset::{Asset, id_text};
use super::entries::{JsonSlice, without_position};
use super::entry_list::{EntryList, FileText};
use super::error::{EntryKind, Problem, Problems};
use crate::model::AssetId;

/// The remedy for any mistake in the file that is derived from the list of assets.
const DERIVED_FILE_REMEDY: &str =
    "this file is derived from assets.json; delete it, or generate it again";

/// The known assets, for the checks of the other files.
pub(super) struct Assets {
    /// The assets in the order of the file; `None` for an invalid entry.
    pub list: Vec<Option<Asset>>,
    /// The index of the entry that has an id.
    pub index: HashMap<AssetId, usize>,
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

/// Returns the assets, as far as they can be read. Mistakes are added to `problems`.
pub(super) fn check_assets(text: &FileText<'_>, problems: &mut Problems) -> Assets {
    let Some(parts) = JsonSlice::whole(text.text()).items() else {
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

/// Checks the assets by id against the list of assets.
pub(super) fn check_by_id(text: &FileText<'_>, known: &Assets, problems: &mut Problems) {
    let Some(members) = JsonSlice::whole(text.text()).members() else {
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
