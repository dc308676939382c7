//! The text of an error with its causes.

use std::error::Error;

/// Returns the text of the error and of its causes, separated by colons. Libraries often include the text of a cause
/// in that of the error; such a cause is not repeated.
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
