//! Names of files, folders, collections and models.

use std::path::PathBuf;

pub(in crate::config) fn check_not_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(())
    }
}

pub(in crate::config) fn name(text: &str) -> Result<String, String> {
    check_not_empty(text)?;
    Ok(text.trim().to_owned())
}

pub(in crate::config) fn folder(text: &str) -> Result<PathBuf, String> {
    check_not_empty(text)?;
    if text.contains("://") {
        return Err("is a URL".to_owned());
    }
    Ok(PathBuf::from(text))
}

pub(in crate::config) fn optional_file(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(text)
        .filter(|text| !text.trim().is_empty())
        .map(PathBuf::from))
}

const MAX_COLLECTION_NAME_BYTES: usize = 64;

/// Parses the name of a collection. It has no hyphen, because a hyphen ends it in the names of collections.
pub(in crate::config) fn collection(text: &str) -> Result<String, String> {
    check_not_empty(text)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.chars().all(is_plain) && text.len() <= MAX_COLLECTION_NAME_BYTES {
        true => Ok(text.to_owned()),
        false => Err("is too long, or contains other characters".to_owned()),
    }
}

/// Parses the name of a model on the hub. The name becomes a path, so it must not lead out of its folder.
pub(in crate::config) fn model(text: &str) -> Result<String, String> {
    check_not_empty(text)?;
    let text = text.trim();
    let is_part = |part: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain)
    };
    match text.split_once('/') {
        Some((organisation, name)) if is_part(organisation) && is_part(name) => Ok(text.to_owned()),
        _ => Err("is not the name of a model".to_owned()),
    }
}
