//! Settings with a few accepted words.

/// The behaviour while requests cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalFullAction {
    /// New requests are refused.
    Refuse,
    /// New requests are answered; the unrecorded ones are counted.
    Continue,
}

pub(in crate::config) fn journal_full(text: &str) -> Result<JournalFullAction, String> {
    match text.trim() {
        "refuse" => Ok(JournalFullAction::Refuse),
        "go-on" => Ok(JournalFullAction::Continue),
        _ => Err("is not one of the accepted values".to_owned()),
    }
}

/// The treatment of expired data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryAction {
    /// Expired data is moved to the archive.
    Archive,
    /// Expired data is deleted.
    Delete,
}

pub(in crate::config) fn expiry_action(text: &str) -> Result<ExpiryAction, String> {
    match text.trim() {
        "archive" => Ok(ExpiryAction::Archive),
        "delete" => Ok(ExpiryAction::Delete),
        _ => Err("is not one of the accepted values".to_owned()),
    }
}

pub(in crate::config) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is not one of the accepted values".to_owned()),
    }
}
