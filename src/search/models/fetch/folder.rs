//! Models in local folders and caches.

use std::fs;
use std::path::{Path, PathBuf};

use crate::search::models::files::{CONFIG, OPTIONAL, REQUIRED, WEIGHTS};

/// Returns the caches of Hugging Face on this machine.
pub(super) fn caches() -> Vec<PathBuf> {
    let named = |variable: &str| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = named("HF_HUB_CACHE")
        .or_else(|| Some(named("HF_HOME")?.join("hub")))
        .or_else(|| {
            let home =
                named("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
            Some(home?.join("huggingface/hub"))
        });
    cache.into_iter().collect()
}

/// Returns the folder of the model with this name. `folder` may be the model's own folder, a folder of models, or a
/// cache of Hugging Face.
pub(super) fn find(folder: &Path, name: &str) -> Result<PathBuf, String> {
    if !folder.is_dir() {
        return Err("there is no such folder".to_owned());
    }
    let cached = format!("models--{}", name.replace('/', "--"));
    let last = name.rsplit('/').next().unwrap_or(name);
    let own = [folder.to_owned(), folder.join(name), folder.join(last)];
    let snapshots = [folder.join(&cached), folder.join("hub").join(&cached)];
    let snapshots = snapshots.iter().filter_map(|cache| snapshot(cache));
    let mut found = own
        .into_iter()
        .chain(snapshots)
        .filter(|place| place.join(CONFIG).exists());
    let place = found
        .next()
        .ok_or_else(|| format!("no model {name} in this folder"))?;
    for file in REQUIRED {
        if !place.join(file).exists() {
            let pickle = match file == WEIGHTS && place.join("pytorch_model.bin").exists() {
                true => ", and pytorch_model.bin is not read, because such a file can run code",
                false => "",
            };
            return Err(format!("{} has no {file}{pickle}", place.display()));
        }
    }
    Ok(place)
}

/// Returns the snapshot of `refs/main` in a cache; otherwise the most recently modified one.
fn snapshot(cache: &Path) -> Option<PathBuf> {
    let snapshots = cache.join("snapshots");
    if let Ok(revision) = fs::read_to_string(cache.join("refs/main")) {
        let named = snapshots.join(revision.trim());
        if named.join(CONFIG).exists() {
            return Some(named);
        }
    }
    let entries = fs::read_dir(snapshots).ok()?.flatten();
    let dated =
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())));
    dated.max().map(|(_, path)| path)
}

/// Copies a model's files.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    for name in REQUIRED.iter().chain(&OPTIONAL) {
        let (from, to) = (from.join(name), to.join(name));
        if OPTIONAL.contains(name) && !from.exists() {
            continue;
        }
        let parent = to.parent().unwrap_or(&to);
        let copied = fs::create_dir_all(parent).and_then(|()| fs::copy(&from, &to));
        copied.map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_supports_model_folders_and_caches() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: &str, files: &[&str]| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            for file in files {
                fs::write(folder.join(file), file).unwrap();
            }
            folder
        };
        let found = |folder: &str| find(&root.path().join(folder), "org/name");
        let own = write("own", &REQUIRED);
        assert_eq!(found("own").unwrap(), own);
        let one = write("models/org/name", &REQUIRED);
        assert_eq!(found("models").unwrap(), one);
        write("cache/models--org--name/snapshots/0", &REQUIRED);
        let last = write("cache/models--org--name/snapshots/1", &REQUIRED);
        fs::create_dir_all(root.path().join("cache/models--org--name/refs")).unwrap();
        fs::write(root.path().join("cache/models--org--name/refs/main"), "1\n").unwrap();
        assert_eq!(found("cache").unwrap(), last);
        write(
            "pickle",
            &["config.json", "tokenizer.json", "pytorch_model.bin"],
        );
        let problem = found("pickle").unwrap_err();
        assert!(
            problem.contains("model.safetensors") && problem.contains("run code"),
            "{problem}"
        );
        assert!(
            found(".")
                .unwrap_err()
                .contains("no model org/name in this folder")
        );
        assert!(found("nowhere").unwrap_err().contains("no such folder"));
        let copied = root.path().join("copy");
        copy(&own, &copied).unwrap();
        assert_eq!(fs::read_dir(copied).unwrap().count(), 3);
    }
}
