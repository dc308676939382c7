//! Shared code of the administration commands: the database, the actor, typed secrets, and the format of times.

use std::io::{BufRead, IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};

use super::exit::Exit;
use super::run_command::Context;
use crate::model::{host_name, text_from};
use crate::store::{Actor, Migrated, OrganisationStore, StoreError};

/// Opens the organisation database of the settings, and migrates its schema. A missing database is created: only for
/// commands that begin to use a database.
pub(super) async fn open(context: &Context) -> anyhow::Result<OrganisationStore> {
    let opened = OrganisationStore::open(&context.settings.organisation_url).await?;
    Ok(opened_store(context, opened))
}

/// Opens the organisation database of the settings like [`open`], but a missing one is an error, and nothing is created.
pub(super) async fn open_existing(context: &Context) -> anyhow::Result<OrganisationStore> {
    let opened = OrganisationStore::open_existing(&context.settings.organisation_url).await?;
    Ok(opened_store(context, opened))
}

/// Opens the organisation database of the settings like [`open_existing`]. Returns `None` if there is none.
pub(super) async fn open_if_exists(context: &Context) -> anyhow::Result<Option<OrganisationStore>> {
    match OrganisationStore::open_existing(&context.settings.organisation_url).await {
        Err(StoreError::Missing { .. }) => Ok(None),
        opened => Ok(Some(opened_store(context, opened?))),
    }
}

fn opened_store(
    context: &Context,
    (store, migrated): (OrganisationStore, Migrated),
) -> OrganisationStore {
    for step in &migrated.made {
        tracing::info!("organisation database: applied migration {step}");
    }
    store.with_account_limits((&context.settings.auth).into())
}

/// Returns the operator at this machine as an actor for the audit trail.
pub(super) fn operator() -> Actor {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let user = name("USER")
        .or_else(|| name("LOGNAME"))
        .or_else(|| name("USERNAME"));
    let user = user.or_else(process_owner);
    let user = user.unwrap_or_else(|| "unknown".to_owned());
    let user = match name("SUDO_USER") {
        Some(person) => format!("{person} as {user}"),
        None => user,
    };
    Actor(format!("operator {user} on {}", host_name()))
}

/// Returns the name of the owner of this process from `id -un`, because schedulers often set no environment variables.
fn process_owner() -> Option<String> {
    let id = std::process::Command::new("id").arg("-un").output().ok()?;
    let name = String::from_utf8(id.stdout).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// Reads a secret from the terminal without showing it, or from the first line of standard input if that is not a
/// terminal. With `twice`, the user must type it again.
pub(super) async fn read_secret(
    context: &Context,
    what: &'static str,
    twice: bool,
) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        return run_blocking(move || {
            let mut line = Vec::new();
            std::io::stdin().lock().read_until(b'\n', &mut line)?;
            let secret = text_from(line)?.trim_end_matches(['\r', '\n']).to_owned();
            if secret.is_empty() {
                return Err(Exit::Usage.wrap(anyhow::anyhow!(
                    "cannot read the {}: standard input is empty; write it there, or run the command in a terminal",
                    what.trim_start_matches("your ")
                )));
            }
            Ok(secret)
        })
        .await;
    }
    let typed = run_blocking(move || {
        let mut first = prompt_secret(&format!("{what}: "))?;
        while first.is_empty() {
            first = prompt_secret(&format!("{what} (it cannot be empty): "))?;
        }
        if twice && prompt_secret(&format!("{what} again: "))? != first {
            return Err(Exit::Usage.wrap(anyhow::anyhow!(
                "the two entries differ; nothing was changed"
            )));
        }
        Ok(first)
    });
    tokio::select! {
        typed = typed => typed,
        () = context.interrupt.wait() => {
            // The prompt is still blocked on another thread, and has switched off the echo of the terminal.
            let _ = std::process::Command::new("stty").arg("echo").status();
            let _ = writeln!(std::io::stderr());
            Err(interrupted())
        }
    }
}

/// Prompts on standard error, because a program may read standard output.
fn prompt_secret(prompt: &str) -> anyhow::Result<String> {
    let mut out = std::io::stderr();
    out.write_all(prompt.as_bytes())?;
    out.flush()?;
    match rpassword::read_password() {
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(interrupted()),
        typed => Ok(typed?),
    }
}

fn interrupted() -> anyhow::Error {
    Exit::Interrupted.wrap(anyhow::anyhow!("interrupted; nothing was changed"))
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Formats a time as `2026-11-24 08:00`, in UTC.
pub(super) fn format_minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}

/// Formats a time like [`format_minute`], and `None` as an empty string.
pub(super) fn format_optional_minute(time: Option<DateTime<Utc>>) -> String {
    time.map(format_minute).unwrap_or_default()
}

/// Formats a time as `2026-11-24T08:00:00Z`.
pub(super) fn format_instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns `yes` or an empty string, for tables.
pub(super) fn yes_or_blank(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "" }
}
