//! Connection options for Postgres, whatever the connection is used for.

use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::DatabaseUrl;

/// Returns the connection options of `url`. TLS is required unless the URL sets the mode itself or the server is on
/// this machine.
pub fn connect_options(url: &DatabaseUrl) -> Result<PgConnectOptions, sqlx::Error> {
    let mut options = PgConnectOptions::from_str(url.with_password())?;
    let says_mode =
        url.with_password().contains("sslmode=") || url.with_password().contains("ssl-mode=");
    if !says_mode && !is_local(&options) {
        options = options.ssl_mode(PgSslMode::Require);
    }
    Ok(log_slow_statements_at_debug(options))
}

/// Logs slow statements at the level debug. A report over a long ledger takes a while, which is no reason for a
/// warning.
pub(in crate::store) fn log_slow_statements_at_debug<O: ConnectOptions>(options: O) -> O {
    match "debug".parse() {
        Ok(level) => options.log_slow_statements(level, Duration::from_secs(1)),
        Err(_) => options,
    }
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
