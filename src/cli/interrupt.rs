//! Ctrl-C and SIGTERM: the first asks the command to end, the second ends the process. A thread of its own takes them, so
//! that they count whatever the others do.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Exit;

/// How long the command may take for what is still to be written, after its time to end is over.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

/// How far the end of the command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// It was asked to end.
    Requested,
    /// It should have ended by now.
    Overdue,
}

/// When the command is to have ended, counted from the request, and the exit code then.
type Limit = Option<(Duration, Exit)>;

/// Tells whether the user or the system asked to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt {
    stage: watch::Receiver<Stage>,
    limit: Arc<Mutex<Limit>>,
}

impl Interrupt {
    /// Takes the signals over from the operating system.
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

    /// Ends the process with this code if the command is still there so long after it was asked to end, and after a
    /// moment for what is still to be written.
    pub fn exit_after(&self, limit: Duration, exit: Exit) {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = Some((limit, exit));
    }

    /// Whether to stop; for loops that compute.
    pub fn is_requested(&self) -> bool {
        *self.stage.borrow() >= Stage::Requested
    }

    /// Ends when the command is to stop; never, if that is not asked.
    pub async fn wait(&self) {
        self.wait_for(Stage::Requested).await;
    }

    /// Ends when the time to stop is over.
    pub async fn wait_until_overdue(&self) {
        self.wait_for(Stage::Overdue).await;
    }

    async fn wait_for(&self, stage: Stage) {
        let mut current = self.stage.clone();
        if current.wait_for(|&current| current >= stage).await.is_err() {
            // The listener is gone, and with it the process: there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}

/// Follows the signals to the end of the process.
async fn watch_signals(mut signals: Signals, stage: &watch::Sender<Stage>, limit: &Mutex<Limit>) {
    signals.next().await;
    stage.send_replace(Stage::Requested);
    let limit = *limit.lock().unwrap_or_else(PoisonError::into_inner);
    let overdue = async {
        match limit {
            Some((limit, exit)) => {
                tokio::time::sleep(limit).await;
                stage.send_replace(Stage::Overdue);
                tokio::time::sleep(SETTLE_TIMEOUT).await;
                tracing::warn!("work that was still going on was cut off");
                exit
            }
            None => std::future::pending().await,
        }
    };
    let exit = tokio::select! {
        exit = overdue => exit,
        // A command that computes without a pause, or hangs, does not keep the user waiting.
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
