//! Numbers of threads, connections and other things that are counted.

/// The maximum number of threads.
pub(in crate::config) const MAX_THREADS: usize = 1024;

pub(in crate::config) fn threads(text: &str) -> Result<usize, String> {
    let number: usize = text
        .trim()
        .parse()
        .map_err(|_| "is not a whole number above zero".to_owned())?;
    if (1..=MAX_THREADS).contains(&number) {
        Ok(number)
    } else {
        Err("is out of range".to_owned())
    }
}

/// The maximum of the connection settings.
const MAX_CONNECTIONS: usize = 1_000_000;
/// The minimum of the connection settings; fewer would not suffice for the connection pool of one client.
const MIN_CONNECTIONS: usize = 8;

pub(in crate::config) fn connections(text: &str) -> Result<usize, String> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| (MIN_CONNECTIONS..=MAX_CONNECTIONS).contains(number))
        .ok_or_else(|| "is out of range".to_owned())
}

/// Parses a limit from 1 to 1,000,000.
pub(in crate::config) fn count_limit(text: &str) -> Result<u64, String> {
    let number: u64 = text
        .trim()
        .parse()
        .map_err(|_| "is not a whole number above zero".to_owned())?;
    match number {
        1..=1_000_000 => Ok(number),
        _ => Err("is out of range".to_owned()),
    }
}
