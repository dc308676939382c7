//! The lake and the state folder, on which the defaults of other settings depend.

use std::path::PathBuf;

use url::Url;

use super::setting::{DefaultValue, RawSettings, Setting, SettingSpec, Type, settings};
use crate::config::values as value;
use crate::config::values::location::Location;

/// The accepted locations of a lake or of raw files.
pub(super) const LOCATION: &str = "a folder, or a URL such as file:///srv/lake or s3://bucket/lake";

settings! {
    ROOTS;

    LAKE: Location, Location::parse {
        key: "lake", types: &[Type::Text], expected: LOCATION,
        default: DefaultValue::Fixed("lake"), example: "\"s3://plant/lake\"", flag: Some("--lake"),
        doc: "The root of the lake: raw files, the Delta tables and the record of runs.",
    }
    STATE: PathBuf, value::folder {
        key: "state", types: &[Type::Text], expected: "a folder on this machine",
        default: DefaultValue::Derived {
            description: "`<lake>/.state` for a lake on the local disk, else `state`",
            rule: default_state,
        },
        example: "\"/var/lib/plantlake\"", flag: Some("--state"),
        doc: "The folder of data that belongs to this machine: embedded databases, keys, journal, vectors.",
    }
}

/// Returns the default of the state folder.
fn default_state(settings: &RawSettings) -> String {
    match local_lake(settings) {
        Some(lake) => lake.join(".state").display().to_string(),
        None => "state".to_owned(),
    }
}

/// Returns the folder of a lake on the local disk; `None` for other lakes.
fn local_lake(settings: &RawSettings) -> Option<PathBuf> {
    let lake = settings.effective_value(&LAKE.spec).text;
    if !lake.contains("://") {
        return Some(PathBuf::from(lake));
    }
    Url::parse(&lake)
        .ok()
        .filter(|url| url.scheme() == "file")?
        .to_file_path()
        .ok()
}
