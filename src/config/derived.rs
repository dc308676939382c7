//! Defaults that depend on other settings, or on the machine.

use std::path::{Path, PathBuf};

use url::Url;

use super::raw::RawSettings;
use super::table;
use super::value::MOST_THREADS;

/// Returns the folder of a lake on the local disk; `None` for other lakes.
fn local_lake(settings: &RawSettings) -> Option<PathBuf> {
    let lake = settings.in_force(&table::LAKE.about).text;
    if !lake.contains("://") {
        return Some(PathBuf::from(lake));
    }
    Url::parse(&lake)
        .ok()
        .filter(|url| url.scheme() == "file")?
        .to_file_path()
        .ok()
}

pub(super) fn organisation_url(settings: &RawSettings) -> String {
    format!("sqlite:{}", in_state(settings, "organisation.db"))
}

pub(super) fn keys_dir(settings: &RawSettings) -> String {
    in_state(settings, "keys")
}

pub(super) fn models(settings: &RawSettings) -> String {
    in_state(settings, "models")
}

/// Returns a path in the state folder.
fn in_state(settings: &RawSettings, name: &str) -> String {
    let state = settings.in_force(&table::STATE.about).text;
    Path::new(&state).join(name).display().to_string()
}

pub(super) fn none(_: &RawSettings) -> String {
    String::new()
}

pub(super) fn state(settings: &RawSettings) -> String {
    match local_lake(settings) {
        Some(lake) => lake.join(".state").display().to_string(),
        None => "state".to_owned(),
    }
}

pub(super) fn raw(settings: &RawSettings) -> String {
    let mut lake = settings.in_force(&table::LAKE.about).text;
    if lake.contains("://") {
        // The parameters of a URL are not part of the path.
        lake.truncate(lake.find(['?', '#']).unwrap_or(lake.len()));
    }
    match lake.strip_suffix('/') {
        Some(rest) if !rest.is_empty() && !rest.ends_with('/') => format!("{rest}/raw"),
        // The root folder, or a URL that consists of its scheme only, such as `memory://`.
        Some(_) => format!("{lake}raw"),
        None => format!("{lake}/raw"),
    }
}

pub(super) fn threads(_: &RawSettings) -> String {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MOST_THREADS)
        .to_string()
}

pub(super) fn queries(_: &RawSettings) -> String {
    std::thread::available_parallelism()
        .map_or(2, |cores| 1 + cores.get())
        .min(MOST_THREADS)
        .to_string()
}
