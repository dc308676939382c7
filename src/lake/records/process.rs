//! The identity of a process on its machine, by which another process on the same machine can find that it has ended.

use serde::{Deserialize, Serialize};

/// The identity of a process. Ids of processes are reused, so it contains what distinguishes two processes with one id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessIdentity {
    /// The id of the machine's boot.
    boot: String,
    /// The namespace of process ids: containers on one machine have different ones.
    namespace: String,
    pid: u32,
    /// The time at which the process started, in clock ticks since the boot.
    started: u64,
}

impl ProcessIdentity {
    /// Returns the identity of this process; `None` if the system does not tell it.
    pub fn current() -> Option<Self> {
        Self::of_process(std::process::id())
    }

    /// Returns the identity of a process on this machine.
    pub fn of_process(pid: u32) -> Option<Self> {
        Some(Self {
            boot: boot_id()?,
            namespace: pid_namespace()?,
            pid,
            started: start_ticks(pid)?,
        })
    }

    /// Whether it is certain that the process has ended: it ran on this machine, since the same boot and in the same
    /// namespace, and no process with its id and start is there.
    pub fn has_ended(&self) -> bool {
        let is_here = boot_id().as_ref() == Some(&self.boot)
            && pid_namespace().as_ref() == Some(&self.namespace);
        if !is_here {
            return false;
        }
        match std::fs::metadata(format!("/proc/{}", self.pid)) {
            Ok(_) => start_ticks(self.pid).is_some_and(|started| started != self.started),
            // Some systems hide the processes of other users, but not this one.
            Err(error) => {
                error.kind() == std::io::ErrorKind::NotFound
                    && start_ticks(std::process::id()).is_some()
                    && !hides_processes()
            }
        }
    }
}

fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

fn pid_namespace() -> Option<String> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    link.into_os_string().into_string().ok()
}

/// Whether `/proc` shows only the processes of the same user (mount option `hidepid`).
fn hides_processes() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_hiding = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind, options) = (fields.next(), fields.next(), fields.next());
        place == Some("/proc")
            && kind == Some("proc")
            && options.is_some_and(|options| {
                options.split(',').any(|option| {
                    option.starts_with("hidepid=")
                        && !["hidepid=0", "hidepid=off"].contains(&option)
                })
            })
    };
    mounts.is_empty() || mounts.lines().any(is_hiding)
}

/// Returns the time at which a process started, in clock ticks since the boot.
fn start_ticks(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name in parentheses, may contain blanks and parentheses. The start is the 22nd.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn has_ended_only_of_provably_dead_process() {
        let this = ProcessIdentity::current().unwrap();
        assert!(!this.has_ended());
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let other = ProcessIdentity {
            pid: child.id(),
            started: start_ticks(child.id()).unwrap(),
            ..this.clone()
        };
        assert!(!other.has_ended());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.has_ended());
        // The id was given to another process, which is this one.
        let reused = ProcessIdentity {
            started: this.started + 1,
            ..this.clone()
        };
        assert!(reused.has_ended());
        for elsewhere in [
            ProcessIdentity {
                boot: "another".to_owned(),
                ..other.clone()
            },
            ProcessIdentity {
                namespace: "pid:[1]".to_owned(),
                ..other
            },
        ] {
            assert!(!elsewhere.has_ended());
        }
    }
}
