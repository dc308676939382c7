//! Handles Ctrl-C and SIGTERM: the first signal asks the command to stop, the second ends the process. A separate
//! thread receives the signals, so that they take effect even if all others are busy.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::exit::Exit;

/// The time for pending writes after the time to stop has passed.
const PENDING_WRITES_TIMEOUT: Duration = Duration::from_secs(3);

/// The stage of stopping the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// The command was asked to stop.
    Requested,
    /// The time to stop has passed.
    Overdue,
}

/// The maximum time between the request to stop and the end of the command, and the exit code if it is exceeded.
type Limit = Option<(Duration, Exit)>;

/// A handle that reports whether the user or the system asked to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt {
    stage: watch::Receiver<Stage>,
    limit: Arc<Mutex<Limit>>,
}

impl Interrupt {
    /// Takes over the signals from the operating system.
    pub(super) fn listen() -> io::Result<Self> {
        let (sender, stage) = watch::channel(Stage::Running);
        let limit = Arc::new(Mutex::new(None));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = {
            let _entered = runtime.enter();
            Signals::new()?
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let of_thread = Arc::clone(&limit);
        thread.spawn(move || runtime.block_on(watch_signals(signals, &sender, &of_thread)))?;
        Ok(Self { stage, limit })
    }

    /// Ends the process with `exit` if the command is still running `limit` after it was asked to stop, and after 3 s
    /// more for pending writes.
    pub fn exit_after(&self, limit: Duration, exit: Exit) {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = Some((limit, exit));
    }

    /// Whether the command was asked to stop; for loops that compute without waiting.
    pub fn is_requested(&self) -> bool {
        *self.stage.borrow() >= Stage::Requested
    }

    /// Completes when the command is asked to stop, and never if it is not.
    pub async fn wait(&self) {
        self.wait_for(Stage::Requested).await;
    }

    /// Completes when the time to stop has passed.
    pub async fn wait_until_overdue(&self) {
        self.wait_for(Stage::Overdue).await;
    }

    async fn wait_for(&self, stage: Stage) {
        let mut current = self.stage.clone();
        if current.wait_for(|&current| current >= stage).await.is_err() {
            // The signal thread ends only with the process, so there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}

/// Handles the signals until the process ends.
async fn watch_signals(mut signals: Signals, stage: &watch::Sender<Stage>, limit: &Mutex<Limit>) {
    signals.next().await;
    stage.send_replace(Stage::Requested);
    let limit = *limit.lock().unwrap_or_else(PoisonError::into_inner);
    let overdue = async {
        match limit {
            Some((limit, exit)) => {
                tokio::time::sleep(limit).await;
                stage.send_replace(Stage::Overdue);
                tokio::time::sleep(PENDING_WRITES_TIMEOUT).await;
                tracing::warn!("aborted work that was still running");
                exit
            }
            None => std::future::pending().await,
        }
    };
    let exit = tokio::select! {
        exit = overdue => exit,
        // The user does not wait for a command that hangs or computes without a pause.
        () = signals.next() => Exit::Interrupted,
    };
    std::process::exit(i32::from(exit as u8));
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
