//! Defaults that depend on other settings, or on the machine.

use std::path::Path;

use super::roots::{LAKE, STATE};
use super::setting::RawSettings;
use crate::config::values::MAX_THREADS;

pub(in crate::config) fn organisation_url(settings: &RawSettings) -> String {
    format!("sqlite:{}", state_path(settings, "organisation.db"))
}

pub(in crate::config) fn keys_dir(settings: &RawSettings) -> String {
    state_path(settings, "keys")
}

pub(in crate::config) fn models(settings: &RawSettings) -> String {
    state_path(settings, "models")
}

/// Returns a path in the state folder.
fn state_path(settings: &RawSettings, name: &str) -> String {
    let state = settings.effective_value(&STATE.spec).text;
    Path::new(&state).join(name).display().to_string()
}

pub(in crate::config) fn none(_: &RawSettings) -> String {
    String::new()
}

pub(in crate::config) fn raw(settings: &RawSettings) -> String {
    let mut lake = settings.effective_value(&LAKE.spec).text;
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

pub(in crate::config) fn threads(_: &RawSettings) -> String {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS)
        .to_string()
}

pub(in crate::config) fn queries(_: &RawSettings) -> String {
    std::thread::available_parallelism()
        .map_or(2, |cores| 1 + cores.get())
        .min(MAX_THREADS)
        .to_string()
}
