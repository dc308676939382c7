//! Checks combinations of settings, the declared jobs, the ports, and TLS. Each setting by itself was validated when
//! the settings were read.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::net::TcpListener;

use super::finding::Finding;
use super::folders::excess_permissions;
use crate::app::job_kinds::{job_kinds, missing_setting, read_jobs};
use crate::clock;
use crate::config::{EffectiveSetting, Origin, Settings};
use crate::jobs::spec::ResampleSpec;
use crate::metrics::health_check;
use crate::model::host_name;
use crate::server::{Validity, check_tls};

/// The text that replaces a secret in output.
const MASK: &str = "******";
/// The permission bits of everybody except the owner and the owner's group: a service may have a group of its own.
const OTHERS_MASK: u32 = 0o007;
/// The remaining validity below which a certificate should have been renewed.
const RENEWAL_PERIOD: TimeDelta = TimeDelta::days(14);

pub(super) async fn check(settings: &Settings, in_force: &[EffectiveSetting]) -> Vec<Finding> {
    let mut findings = vec![check_origins(in_force)];
    findings.extend(check_secret_files(in_force));
    findings.push(check_jobs(settings));
    findings.push(
        check_port(
            "server port",
            "serve.listen",
            settings.serve.listen,
            settings,
        )
        .await,
    );
    findings.push(check_tls_settings(settings));
    if let Some(listen) = settings.metrics.listen {
        findings.push(check_port("metrics port", "metrics.listen", listen, settings).await);
    }
    findings
}

/// Reports where the settings come from.
fn check_origins(in_force: &[EffectiveSetting]) -> Finding {
    let set: Vec<&EffectiveSetting> = in_force
        .iter()
        .filter(|setting| setting.origin != Origin::Default)
        .collect();
    let files = list_files(set.iter().filter_map(|setting| file_of(&setting.origin)));
    let from = match files.is_empty() {
        true => "without a file".to_owned(),
        false => format!("in {files}"),
    };
    let changed = match set.len() {
        0 => "No settings changed".to_owned(),
        count => format!("{count} of {} settings changed, {from}", in_force.len()),
    };
    let version = env!("CARGO_PKG_VERSION");
    let found = format!("{changed}; plantlake {version} on {}", host_name());
    Finding::right("settings", found)
}

fn file_of(origin: &Origin) -> Option<&Path> {
    match origin {
        Origin::File { path, .. } | Origin::DotEnv { path, .. } => Some(path),
        Origin::Default | Origin::Environment(_) | Origin::Flag(_) => None,
    }
}

/// Returns the paths separated by commas, each once.
fn list_files<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let paths: BTreeSet<String> = paths.map(|path| path.display().to_string()).collect();
    let paths: Vec<String> = paths.into_iter().collect();
    paths.join(", ")
}

/// Reports files with secrets that every user of this machine can read.
fn check_secret_files(in_force: &[EffectiveSetting]) -> Option<Finding> {
    let exposed = in_force
        .iter()
        .filter(|setting| setting.secret || setting.value.contains(MASK))
        .filter_map(|setting| {
            let path = file_of(&setting.origin)?;
            excess_permissions(path, OTHERS_MASK)?;
            Some(path)
        });
    let files = list_files(exposed);
    (!files.is_empty()).then(|| {
        Finding::note(
            "settings",
            format!("{files} contains secrets, and every user of this machine can read it"),
            format!("chmod o-rwx {files}, and replace secrets that others may have read"),
        )
    })
}

fn check_jobs(settings: &Settings) -> Finding {
    let what = "jobs";
    let folder = settings.jobs.display();
    if let Err(error) = ResampleSpec::read(&settings.jobs, &job_kinds()) {
        return Finding::failed(what, &error, "correct that line");
    }
    let specs = match read_jobs(&settings.jobs) {
        Ok(specs) => specs,
        Err(error) => return Finding::failed(what, &error, "correct that line"),
    };
    let mut scheduled = specs.iter().filter(|spec| spec.schedule.is_some());
    let names: Vec<&str> = scheduled.clone().map(|spec| spec.name.as_str()).collect();
    let unusable = scheduled.find_map(|spec| Some((spec, missing_setting(spec.kind, settings)?)));
    match unusable {
        Some((spec, missing)) => Finding::wrong(
            what,
            format!("{} is scheduled, but {}", spec.name, missing.problem),
            format!(
                "set `{}`, or remove the schedule from {folder}/{}.toml",
                missing.key, spec.name
            ),
        ),
        None if names.is_empty() => Finding::note(
            what,
            format!("no job in {folder} has a schedule"),
            "no action is needed if another program runs `plantlake run`; otherwise give a job a schedule (docs/jobs.md)",
        ),
        None => Finding::right(what, format!("{} in {folder}", names.join(", "))),
    }
}

/// Checks that a port can be bound. A port that is in use is right if a plantlake runs on this machine.
async fn check_port(
    what: &'static str,
    setting: &str,
    listen: SocketAddr,
    settings: &Settings,
) -> Finding {
    let Err(error) = TcpListener::bind(listen).await else {
        return Finding::right(what, format!("{listen} is free"));
    };
    let running = match settings.metrics.listen {
        Some(metrics) => health_check::check_health(metrics, "/healthz")
            .await
            .is_ok(),
        None => false,
    };
    match error.kind() {
        ErrorKind::AddrInUse if running => Finding::right(
            what,
            format!(
                "{listen} is in use, and plantlake is running here (if for another lake, set another port)"
            ),
        ),
        ErrorKind::AddrInUse => Finding::note(
            what,
            format!("{listen} is in use"),
            format!(
                "no action is needed if plantlake is running here; otherwise stop the other program, or set `{setting}` to \
                 another port"
            ),
        ),
        _ => Finding::wrong(
            what,
            format!("cannot listen on {listen}: {error}"),
            format!("set `{setting}` to an address of this machine and a port above 1023"),
        ),
    }
}

fn check_tls_settings(settings: &Settings) -> Finding {
    let what = "TLS";
    let serve = &settings.serve;
    let is_local = serve.listen.ip().is_loopback();
    match (&serve.tls_cert, &serve.tls_key) {
        (Some(certificate), Some(key)) => {
            match (
                check_tls(certificate, key),
                excess_permissions(key, OTHERS_MASK),
            ) {
                (Err(error), _) => Finding::failed(
                    what,
                    &error,
                    "set a certificate and its own private key, both in PEM format",
                ),
                (Ok(_), Some(mode)) => Finding::note(
                    what,
                    format!(
                        "{} can be read by every user of this machine (mode {mode:03o})",
                        key.display()
                    ),
                    format!(
                        "chmod o-rwx {}, and create a new key if others may have read it",
                        key.display()
                    ),
                ),
                (Ok(validity), None) => check_validity(certificate, validity),
            }
        }
        (None, None) if is_local => Finding::right(what, "TLS off; loopback only"),
        (None, None) if serve.allow_plaintext => Finding::note(
            what,
            format!(
                "TLS off, and {} can be reached from other machines (`serve.allow_plaintext`)",
                serve.listen
            ),
            "no action is needed if a proxy provides TLS; otherwise set `serve.tls_cert` and `serve.tls_key`",
        ),
        (None, None) => Finding::wrong(
            what,
            format!(
                "TLS off, and {} can be reached from other machines: `serve` will refuse to start",
                serve.listen
            ),
            "set `serve.tls_cert` and `serve.tls_key`",
        ),
        _ => Finding::wrong(
            what,
            "only one of `serve.tls_cert` and `serve.tls_key` is set",
            "set the other, too",
        ),
    }
}

/// Reports how long a certificate is valid that matches its key.
fn check_validity(certificate: &Path, validity: Option<Validity>) -> Finding {
    const RENEW: &str = "renew it: a running server reloads changed files";
    let what = "TLS";
    let shown = certificate.display();
    let Some(Validity { from, until }) = validity else {
        return Finding::right(what, format!("{shown} matches its key"));
    };
    let now = clock::now();
    let day = |instant: DateTime<Utc>| instant.format("%Y-%m-%d %H:%M UTC");
    if until <= now {
        return Finding::wrong(what, format!("{shown} expired on {}", day(until)), RENEW);
    }
    if now < from {
        let found = format!("{shown} is not valid before {}", day(from));
        let todo = "check this machine's clock, or use the previous certificate until then";
        return Finding::wrong(what, found, todo);
    }
    let found = format!("{shown} matches its key, valid until {}", day(until));
    match until - now < RENEWAL_PERIOD {
        true => Finding::note(what, found, RENEW),
        false => Finding::right(what, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_several_settings_is_listed_once() {
        let settings = ["a.toml", ".env", "a.toml"].map(|path| EffectiveSetting {
            key: "lake".to_owned(),
            value: "lake".to_owned(),
            origin: Origin::File {
                path: path.into(),
                line: 1,
            },
            secret: false,
        });
        let finding = check_origins(&settings);
        let expected = "3 of 3 settings changed, in .env, a.toml;";
        assert!(finding.found.starts_with(expected), "{}", finding.found);
    }
}
