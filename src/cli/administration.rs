//! Shared code of the administration commands: the database, the actor, typed secrets, and the format of times.

use std::io::{BufRead, IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Context, Exit};
use crate::model::this_host;
use crate::store::{Actor, OrganisationStore};

/// Opens the organisation database of the settings, and migrates its schema.
pub(super) async fn open(context: &Context) -> anyhow::Result<OrganisationStore> {
    let (store, migrated) = OrganisationStore::open(&context.settings.organisation_url).await?;
    for step in &migrated.made {
        tracing::info!("organisation database: applied migration {step}");
    }
    Ok(store.with_caps((&context.settings.auth).into()))
}

/// Returns the operator at this machine as an actor for the audit trail.
pub(super) fn operator() -> Actor {
    let name = |variable| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let user = name("USER")
        .or_else(|| name("LOGNAME"))
        .or_else(|| name("USERNAME"));
    let user = user.or_else(name_of_the_process_owner);
    let user = user.unwrap_or_else(|| "unknown".to_owned());
    let user = match name("SUDO_USER") {
        Some(person) => format!("{person} as {user}"),
        None => user,
    };
    Actor(format!("operator {user} on {}", this_host()))
}

/// Returns the name of the owner of this process from `id -un`, because schedulers often set no environment variables.
fn name_of_the_process_owner() -> Option<String> {
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
        return off_the_runtime(move || {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            let secret = line.trim_end_matches(['\r', '\n']).to_owned();
            if secret.is_empty() {
                return Err(Exit::Usage.because(anyhow::anyhow!(
                    "cannot read the {}: standard input is empty; write it there, or run the command in a terminal",
                    what.trim_start_matches("your ")
                )));
            }
            Ok(secret)
        })
        .await;
    }
    let typed = off_the_runtime(move || {
        let mut first = ask(&format!("{what}: "))?;
        while first.is_empty() {
            first = ask(&format!("{what} (it cannot be empty): "))?;
        }
        if twice && ask(&format!("{what} again: "))? != first {
            return Err(Exit::Usage.because(anyhow::anyhow!(
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
fn ask(prompt: &str) -> anyhow::Result<String> {
    let mut out = std::io::stderr();
    out.write_all(prompt.as_bytes())?;
    out.flush()?;
    match rpassword::read_password() {
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(interrupted()),
        typed => Ok(typed?),
    }
}

fn interrupted() -> anyhow::Error {
    Exit::Interrupted.because(anyhow::anyhow!("interrupted; nothing was changed"))
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Formats a time as `2026-11-24 08:00`, in UTC.
pub(super) fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}

/// Formats a time like [`minute`], and `None` as an empty string.
pub(super) fn optional_minute(time: Option<DateTime<Utc>>) -> String {
    time.map(minute).unwrap_or_default()
}

/// Formats a time as `2026-11-24T08:00:00Z`.
pub(super) fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns `yes` or an empty string, for tables.
pub(super) fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "" }
}
