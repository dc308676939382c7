//! The names of the members of an archive.

use std::path::{Component, Path};

/// The name of the first member, the header.
pub(super) const HEADER_FILE: &str = "plantlake-backup.json";
/// The name of the last member, the digests.
pub(super) const DIGESTS_FILE: &str = "digests.json";

/// Checks that `name` is valid for a member: a relative path without hidden, empty or parent components.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 4_096 {
        return Err("it is empty or too long");
    }
    if name.split('/').any(|part| part.starts_with('.')) {
        return Err("it is hidden or leaves its folder");
    }
    if name.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    let stays = |part: Component| matches!(part, Component::Normal(_));
    let parts = name.split('/').count();
    let found = Path::new(name).components();
    // `Path::components` drops the empty component of `a//b` and the `.` of `a/./b`.
    match found.clone().count() == parts && found.clone().all(stays) {
        true => Ok(()),
        false => Err("it leaves its folder"),
    }
}
