//! The filter and the format of the log.

use tracing_subscriber::EnvFilter;

use super::names::check_not_empty;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

pub(in crate::config) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.trim() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is not a format".to_owned()),
    }
}

pub(in crate::config) fn log_filter(text: &str) -> Result<String, String> {
    check_not_empty(text)?;
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| format!("is not a filter ({error})"))?;
    // A misspelled level would be parsed as the name of a module, and silence everything.
    let bare = !text.contains(['=', ',', '[', ':']);
    if bare
        && text
            .parse::<tracing_subscriber::filter::LevelFilter>()
            .is_err()
        && text != "plantlake"
    {
        return Err("is not a level".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filter_refuses_misspelled_level() {
        for good in [
            "warn",
            "off",
            "plantlake=debug",
            "warn,plantlake::lake=trace",
        ] {
            assert!(log_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "wran", "plantlake=loud"] {
            assert!(log_filter(bad).is_err(), "{bad}");
        }
    }
}
