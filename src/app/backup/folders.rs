//! The folders of a backup's parts.

use std::path::PathBuf;

use crate::app::serve::journal_folder;
use crate::backup::Part;
use crate::config::Settings;

/// Returns the folder of a part's files; `None` for parts that are not the files of one folder.
pub(super) fn part_folder(settings: &Settings, part: Part) -> Option<PathBuf> {
    match part {
        Part::Catalog => Some(settings.catalog.clone()),
        Part::Jobs => Some(settings.jobs.clone()),
        Part::Keys => Some(settings.auth.keys_dir.clone()),
        Part::Journal => Some(journal_folder(settings)),
        Part::Runs | Part::Database => None,
    }
}
