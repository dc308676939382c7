//! An error and what caused it, in words.

use std::error::Error;

/// The error and its causes, one after the other in one text. Libraries often repeat a cause in the text of its effect; such
/// a cause is not said again.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        cause = error.source();
    }
    said
}
