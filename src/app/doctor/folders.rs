//! Checks folders that must be writable, files that must be private, and the free space on disks.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::app::disk_space::{check_writable, free_space};
use crate::auth::{AuthError, KeyRing};
use crate::config::{DatabaseKind, Settings};
use crate::lake::local_folder;

/// The permission bits of everybody except the owner.
const GROUP_AND_OTHERS_MASK: u32 = 0o077;
/// The free space, in bytes, below which runs and the journal soon fail.
const MIN_FREE_BYTES: u64 = 256 << 20;
const MIB: u64 = 1 << 20;

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![check_state_folder(&settings.state), check_keys(settings)];
    if let DatabaseKind::Sqlite(path) = settings.organisation_url.kind() {
        findings.extend(check_database_file(path));
    }
    findings.push(check_disk(settings));
    findings
}

/// Returns the permissions of a file if they include any bit of `mask`; `None` if they do not, or if there is no file.
#[cfg(unix)]
pub(super) fn excess_permissions(path: &Path, mask: u32) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & mask != 0).then_some(mode)
}

/// On other systems, the folder determines the permissions of its files.
#[cfg(not(unix))]
pub(super) fn excess_permissions(_: &Path, _: u32) -> Option<u32> {
    None
}

/// Returns the folder, or its closest parent folder that exists.
fn existing_ancestor(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = folder.ancestors().find(|place| place.exists());
    there.unwrap_or(&folder).to_owned()
}

fn check_state_folder(folder: &Path) -> Finding {
    let what = "state";
    let shown = folder.display();
    match check_writable(&existing_ancestor(folder)) {
        Err(error) => Finding::failed(
            what,
            &error,
            "give the user that runs plantlake write access, or set `state`",
        ),
        Ok(()) if folder.exists() => Finding::right(what, format!("{shown} is writable")),
        Ok(()) => Finding::right(what, format!("{shown} will be created on first use")),
    }
}

fn check_keys(settings: &Settings) -> Finding {
    let what = "signing keys";
    let folder = settings.auth.keys_dir.display();
    match KeyRing::count_keys(&settings.auth.keys_dir) {
        Ok(None | Some(0)) => Finding::right(
            what,
            format!("will be created in {folder} when a server first starts"),
        ),
        Ok(Some(count)) => Finding::right(
            what,
            format!("{count} in {folder}, readable by their owner only"),
        ),
        Err(error @ AuthError::NoRandomness) => Finding::failed(
            what,
            &error,
            "check the operating system's random number generator",
        ),
        Err(error) => Finding::failed(
            what,
            &error,
            "follow the message; `plantlake token keys list` shows the keys",
        ),
    }
}

/// Checks the permissions of the SQLite file, which contains hashes of passwords and keys.
fn check_database_file(path: &Path) -> Option<Finding> {
    let mode = excess_permissions(path, GROUP_AND_OTHERS_MASK)?;
    let shown = path.display();
    Some(Finding::wrong(
        "organisations",
        format!("{shown} can be accessed by users other than its owner (mode {mode:03o})"),
        format!("chmod go-rwx {shown}*"),
    ))
}

fn check_disk(settings: &Settings) -> Finding {
    let what = "disk";
    let lake = local_folder(&settings.lake);
    let folders = lake
        .iter()
        .map(PathBuf::as_path)
        .chain([settings.state.as_path()]);
    let mut least: Option<(&Path, u64)> = None;
    for folder in folders {
        match free_space(folder) {
            Ok(free) if least.is_none_or(|(_, known)| free < known) => least = Some((folder, free)),
            Ok(_) => {}
            Err(error) => {
                let shown = folder.display();
                return Finding::note(
                    what,
                    format!("cannot determine the free space of {shown}: {error}"),
                    "check it with df",
                );
            }
        }
    }
    let Some((folder, free)) = least else {
        return Finding::right(what, "no folder is on this machine");
    };
    let found = format!("{} MiB are free for {}", free / MIB, folder.display());
    let wanted = settings.metering.journal_size + (1 << 30);
    if free < MIN_FREE_BYTES {
        Finding::wrong(
            what,
            found,
            "free disk space now: runs and requests will fail",
        )
    } else if free < wanted {
        let mib = wanted / MIB;
        Finding::note(
            what,
            found,
            format!(
                "free disk space: the journal (`metering.journal_size`) and a run may need {mib} MiB"
            ),
        )
    } else {
        Finding::right(what, found)
    }
}
