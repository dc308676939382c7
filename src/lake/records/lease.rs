//! The lease that allows one run at a time on a lake: a file lock on a local lake, a conditionally written object
//! elsewhere.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::process::ProcessIdentity;
use crate::clock;
use crate::lake::storage::store::Store;
use crate::model::host_name;

/// The time without renewal after which another run may take over a remote lease.
const LEASE_TIMEOUT: TimeDelta = TimeDelta::seconds(60);
const RENEWAL_INTERVAL: Duration = Duration::from_secs(15);
const LOCK_FILE: &str = ".lease-resample.lock";
const LEASE_OBJECT: &str = "lease/resample.json";

/// The process that holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The command that it runs.
    pub command: String,
    /// The process id.
    pub pid: u32,
    /// The host name.
    pub host: String,
    /// The time at which it took the lease.
    pub since: DateTime<Utc>,
    /// The time at which a remote lease was last renewed.
    pub renewed_at: DateTime<Utc>,
    /// The identity of the process on its machine; `None` if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<ProcessIdentity>,
}

impl Holder {
    /// Returns a holder for this process, which runs `command`.
    pub fn for_process(command: &str) -> Self {
        let now = clock::now();
        Self {
            command: command.to_owned(),
            pid: std::process::id(),
            host: host_name(),
            since: now,
            renewed_at: now,
            process: ProcessIdentity::current(),
        }
    }

    /// Whether another run may take over the holder's remote lease at `now`.
    fn is_replaceable(&self, now: DateTime<Utc>) -> bool {
        now - self.renewed_at > LEASE_TIMEOUT
            || self
                .process
                .as_ref()
                .is_some_and(ProcessIdentity::has_ended)
    }

    /// Returns the error that this holder has a remote lease, with the time at which it expires unless it is renewed.
    fn into_remote_error(self, now: DateTime<Utc>) -> LeaseError {
        let left = LEASE_TIMEOUT - (now - self.renewed_at);
        let seconds = left.num_seconds().clamp(0, LEASE_TIMEOUT.num_seconds()) + 1;
        LeaseError::Held {
            holder: format!("{self}; if it was killed, its lease ends in {seconds} s"),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.since.to_rfc3339_opts(SecondsFormat::Secs, true);
        write!(
            f,
            "plantlake {}, process {} on {}, since {since}",
            self.command, self.pid, self.host
        )
    }
}

/// The reasons why a lease cannot be taken or used.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another run holds the lease.
    #[error("another run holds the lease: {holder}. Wait until it ends, or stop it")]
    Held {
        /// The holder, as far as it is known.
        holder: String,
    },
    /// The lease expired, and another run may have taken it.
    #[error(
        "the lease of this run was lost: it could not be renewed in time; nothing was published"
    )]
    Lost,
    /// The lock file cannot be used.
    #[error("cannot use the lock file {path}")]
    File {
        /// The path of the lock file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The object store fails.
    #[error("cannot use the lease {LEASE_OBJECT}")]
    Store(#[source] object_store::Error),
}

/// The exclusive right to run on a lake, until it is released or the process ends.
#[derive(Debug)]
pub struct Lease {
    kind: LeaseKind,
}

#[derive(Debug)]
enum LeaseKind {
    /// The open file holds the lock. The operating system releases it when the process ends.
    Local { _locked: File },
    Remote {
        objects: Arc<dyn ObjectStore>,
        state: Arc<RemoteState>,
        renewal: JoinHandle<()>,
        holder: Holder,
    },
}

/// The state of a remote lease, which the renewal updates.
#[derive(Debug)]
struct RemoteState {
    is_lost: AtomicBool,
    /// The time of the last renewal, in microseconds since 1970.
    renewed_micros: AtomicI64,
}

impl RemoteState {
    fn new(renewed_at: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self {
            is_lost: AtomicBool::new(false),
            renewed_micros: AtomicI64::new(renewed_at.timestamp_micros()),
        })
    }

    /// Whether another run may hold the lease: the renewal failed, or hangs, or the process was suspended.
    fn is_lost(&self) -> bool {
        let age = clock::now().timestamp_micros() - self.renewed_micros.load(Ordering::SeqCst);
        self.is_lost.load(Ordering::SeqCst) || age >= LEASE_TIMEOUT.num_seconds() * 1_000_000
    }
}

impl Lease {
    /// Takes the lease.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Held`] names the holder if another run has the lease.
    pub async fn take(lake: &Store, holder: Holder) -> Result<Self, LeaseError> {
        let kind = match lake.local_path() {
            Some(folder) => take_local(folder.join(LOCK_FILE), &holder)?,
            None => take_remote(lake.objects(), holder).await?,
        };
        Ok(Self { kind })
    }

    /// Fails if the lease was lost. Must be called before every step that other processes can see.
    pub fn check(&self) -> Result<(), LeaseError> {
        match &self.kind {
            LeaseKind::Local { .. } => Ok(()),
            LeaseKind::Remote { state, .. } if state.is_lost() => Err(LeaseError::Lost),
            LeaseKind::Remote { .. } => Ok(()),
        }
    }

    /// Releases the lease.
    pub async fn release(self) {
        if let LeaseKind::Remote {
            objects,
            state,
            renewal,
            holder,
        } = &self.kind
        {
            renewal.abort();
            // Delete only this run's object: if the lease was lost, another run may hold it by now.
            if !state.is_lost()
                && read(&**objects)
                    .await
                    .is_ok_and(|found| found.is_some_and(|(now, _)| is_same_run(&now, holder)))
            {
                let _ = objects.delete(&Path::from(LEASE_OBJECT)).await;
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let LeaseKind::Remote { renewal, .. } = &self.kind {
            renewal.abort();
        }
    }
}

fn take_local(path: PathBuf, holder: &Holder) -> Result<LeaseKind, LeaseError> {
    let failed = |source| LeaseError::File {
        path: path.clone(),
        source,
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let holder = serde_json::from_str::<Holder>(&text).map_or_else(
                |_| "a process that has just started".to_owned(),
                |holder| holder.to_string(),
            );
            return Err(LeaseError::Held { holder });
        }
        Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
    }
    // The text is for the error message of a run that is refused. The lock does not depend on it.
    let text = serde_json::to_string(holder).unwrap_or_default();
    file.set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(text.as_bytes()))
        .map_err(failed)?;
    Ok(LeaseKind::Local { _locked: file })
}

/// Whether both are the same run. A renewal changes only `renewed_at`.
fn is_same_run(a: &Holder, b: &Holder) -> bool {
    (a.pid, &a.host, a.since) == (b.pid, &b.host, b.since)
}

async fn read(objects: &dyn ObjectStore) -> Result<Option<(Holder, UpdateVersion)>, LeaseError> {
    let found = match objects.get(&Path::from(LEASE_OBJECT)).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(LeaseError::Store(error)),
    };
    let version = UpdateVersion {
        e_tag: found.meta.e_tag.clone(),
        version: found.meta.version.clone(),
    };
    let modified = found.meta.last_modified;
    let bytes = found.bytes().await.map_err(LeaseError::Store)?;
    let holder = serde_json::from_slice(&bytes).unwrap_or_else(|_| Holder {
        command: "(unknown)".to_owned(),
        pid: 0,
        host: "(unknown)".to_owned(),
        since: modified,
        renewed_at: modified,
        process: None,
    });
    Ok(Some((holder, version)))
}

async fn put(
    objects: &dyn ObjectStore,
    holder: &Holder,
    mode: PutMode,
) -> Result<UpdateVersion, object_store::Error> {
    let json = serde_json::to_vec(holder).unwrap_or_default();
    let options = PutOptions {
        mode,
        ..PutOptions::default()
    };
    let result = objects
        .put_opts(&Path::from(LEASE_OBJECT), json.into(), options)
        .await?;
    Ok(UpdateVersion {
        e_tag: result.e_tag,
        version: result.version,
    })
}

async fn take_remote(
    objects: Arc<dyn ObjectStore>,
    holder: Holder,
) -> Result<LeaseKind, LeaseError> {
    let taken = match read(&*objects).await? {
        None => put(&*objects, &holder, PutMode::Create).await,
        Some((other, version)) if other.is_replaceable(clock::now()) => {
            put(&*objects, &holder, PutMode::Update(version)).await
        }
        Some((other, _)) => return Err(other.into_remote_error(clock::now())),
    };
    let version = match taken {
        Ok(version) => version,
        Err(
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
        ) => {
            return Err(match read(&*objects).await? {
                Some((winner, _)) => winner.into_remote_error(clock::now()),
                None => LeaseError::Held {
                    holder: "a run that has just ended".to_owned(),
                },
            });
        }
        Err(error) => return Err(LeaseError::Store(error)),
    };
    let state = RemoteState::new(holder.renewed_at);
    let renewal = tokio::spawn(renew(
        Arc::clone(&objects),
        holder.clone(),
        version,
        Arc::clone(&state),
    ));
    Ok(LeaseKind::Remote {
        objects,
        state,
        renewal,
        holder,
    })
}

/// Renews the lease until it is lost.
async fn renew(
    objects: Arc<dyn ObjectStore>,
    mut holder: Holder,
    mut version: UpdateVersion,
    state: Arc<RemoteState>,
) {
    loop {
        tokio::time::sleep(RENEWAL_INTERVAL).await;
        let renewed = Holder {
            renewed_at: clock::now(),
            ..holder.clone()
        };
        match put(&*objects, &renewed, PutMode::Update(version.clone())).await {
            Ok(next) => {
                (holder, version) = (renewed, next);
                let renewed = holder.renewed_at.timestamp_micros();
                state.renewed_micros.store(renewed, Ordering::SeqCst);
            }
            Err(
                object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. },
            ) => break,
            // A transient error: try again while there is time before the lease expires.
            Err(_) if clock::now() - holder.renewed_at < LEASE_TIMEOUT - TimeDelta::seconds(20) => {
            }
            Err(_) => break,
        }
    }
    state.is_lost.store(true, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::storage::store::StoreOptions;

    async fn second_is_refused(lake: &Store) {
        let first = Lease::take(lake, Holder::for_process("resample"))
            .await
            .unwrap();
        let error = Lease::take(lake, Holder::for_process("resample"))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id()))
                && error.contains("since 20"),
            "{error}"
        );
        first.check().unwrap();
        first.release().await;
        Lease::take(lake, Holder::for_process("resample"))
            .await
            .unwrap()
            .release()
            .await;
    }

    #[tokio::test]
    async fn lease_held_by_another_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        second_is_refused(
            &Store::open(folder.path().to_str().unwrap(), &StoreOptions::new()).unwrap(),
        )
        .await;
        second_is_refused(&Store::open("memory://lease-test/lake", &StoreOptions::new()).unwrap())
            .await;
    }

    #[test]
    fn lease_is_lost_if_its_renewal_hangs() {
        let state = |seconds| RemoteState::new(clock::now() - TimeDelta::seconds(seconds));
        assert!(!state(0).is_lost() && !state(50).is_lost());
        assert!(state(60).is_lost());
    }

    #[tokio::test]
    async fn lease_that_expired_is_taken_over() {
        let lake = Store::open("memory://lease-expired/lake", &StoreOptions::new()).unwrap();
        let dead = Holder {
            renewed_at: clock::now() - TimeDelta::seconds(61),
            ..Holder::for_process("resample")
        };
        put(&*lake.objects(), &dead, PutMode::Create).await.unwrap();
        Lease::take(&lake, Holder::for_process("resample"))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn remote_lease_of_running_process_names_the_seconds_left() {
        let lake = Store::open("memory://lease-held/lake", &StoreOptions::new()).unwrap();
        for (age, process) in [(20, ProcessIdentity::current()), (30, None)] {
            let other = Holder {
                renewed_at: clock::now() - TimeDelta::seconds(age),
                process,
                ..Holder::for_process("resample")
            };
            put(&*lake.objects(), &other, PutMode::Overwrite)
                .await
                .unwrap();
            let error = Lease::take(&lake, Holder::for_process("resample")).await;
            let error = error.unwrap_err().to_string();
            let left = 60 - age;
            assert!(
                error.contains(&format!("in {left} s"))
                    || error.contains(&format!("in {} s", left - 1)),
                "{error}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn remote_lease_of_dead_process_is_taken_over_at_once() {
        let lake = Store::open("memory://lease-dead/lake", &StoreOptions::new()).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let dead = Holder {
            pid: child.id(),
            process: ProcessIdentity::of_process(child.id()),
            ..Holder::for_process("resample")
        };
        put(&*lake.objects(), &dead, PutMode::Create).await.unwrap();
        let take = || Lease::take(&lake, Holder::for_process("resample"));
        take().await.unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        take().await.unwrap().release().await;
    }
}
