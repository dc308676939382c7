//! What the commands of administration share: the database, who acts, secrets that are typed, and how times look.

use std::io::{BufRead, IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Context, Exit};
use crate::model::this_host;
use crate::store::{Actor, OrganisationStore};

/// The organisation database of the settings, with its schema up to date.
pub(super) async fn open(context: &Context) -> anyhow::Result<OrganisationStore> {
    let (store, migrated) = OrganisationStore::open(&context.settings.organisation_url).await?;
    for step in &migrated.made {
        tracing::info!("organisation database: made step {step}");
    }
    Ok(store.with_caps((&context.settings.auth).into()))
}

/// The operator at this machine, as the audit trail has it.
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

/// What the system calls the owner of this process: schedulers often set no variables.
fn name_of_the_process_owner() -> Option<String> {
    let id = std::process::Command::new("id").arg("-un").output().ok()?;
    let name = String::from_utf8(id.stdout).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// Reads a secret: from the terminal, without showing it, or the first line of standard input. With `twice` a person
/// has to type it again.
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
                    "standard input has no {}; write it there, or run this in a terminal to be asked",
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
                "the two are not the same; nothing was changed"
            )));
        }
        Ok(first)
    });
    tokio::select! {
        typed = typed => typed,
        () = context.interrupt.wait() => {
            // The one who asks is still there, and has made the terminal silent.
            let _ = std::process::Command::new("stty").arg("echo").status();
            let _ = writeln!(std::io::stderr());
            Err(interrupted())
        }
    }
}

/// Asks on standard error: standard output may be for a program.
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

/// `2026-11-24 08:00`, UTC.
pub(super) fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M").to_string()
}

/// The same, or nothing.
pub(super) fn optional_minute(time: Option<DateTime<Utc>>) -> String {
    time.map(minute).unwrap_or_default()
}

/// `2026-11-24T08:00:00Z`.
pub(super) fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `yes` or nothing, for tables.
pub(super) fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "" }
}
