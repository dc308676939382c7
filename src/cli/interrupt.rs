//! Ctrl-C and SIGTERM: the first asks the command to end, the second ends the process.

use std::io;

use tokio::sync::watch;

use super::Exit;

/// Tells whether the user or the system asked to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt {
    requested: watch::Receiver<bool>,
}

impl Interrupt {
    /// Takes the signals over from the operating system.
    pub(super) fn listen() -> io::Result<Self> {
        let (sender, requested) = watch::channel(false);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            signals.next().await;
            sender.send_replace(true);
            // A command that computes without a pause, or hangs, does not keep the user waiting.
            signals.next().await;
            std::process::exit(i32::from(Exit::Interrupted as u8));
        });
        Ok(Self { requested })
    }

    /// Whether to stop; for loops that compute.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Ends when the command is to stop; never, if that is not asked.
    pub async fn wait(&self) {
        if self
            .requested
            .clone()
            .wait_for(|&requested| requested)
            .await
            .is_err()
        {
            // The listener is gone, and with it the runtime: there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
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
