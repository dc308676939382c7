//! Threads of their own for what is not answered at once: long queries, jobs, records on their way into the ledger. Where
//! there may be much to do, they are the system's second choice: what answers at once goes first.

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How much the system prefers other threads, from 0 to 19: at 10, these have a tenth of a core that others want.
const NICE: i32 = 10;

/// Whether threads let others go before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// They are as good as those that answer: for little at a time. To be put off and taken up again, some thousand times
    /// a second, costs more than it saves.
    Equal,
    /// They are the system's second choice, and what they start, such as a database's threads, is, too.
    Last,
}

/// A runtime of its own.
#[derive(Debug)]
pub struct Workers {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Workers {
    /// So many threads of this name, each with a stack of so many bytes.
    pub fn start(name: &str, threads: usize, stack: usize, turn: Turn) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_stack_size(stack)
            .thread_name(name)
            .on_thread_start(move || {
                if turn == Turn::Last {
                    step_back();
                }
            })
            .on_thread_park(crate::memory::give_back_freed)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    /// Works on `task`, and says what came of it; none if the threads have ended or it panicked. Dropped, it ends.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let _working = self.spawn(async move {
            // Nobody may be there any more.
            let _ = sender.send(task.await);
        });
        receiver.await.ok()
    }

    /// Works on `task`.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Working {
        Working(self.runtime.as_ref().map(|runtime| runtime.spawn(task)))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The default waits, which must not be where others are worked for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lets other threads go before this one.
#[expect(unsafe_code, reason = "a C function that takes two numbers")]
fn step_back() {
    // SAFETY: it touches no memory. On Linux, 0 is the calling thread. Where it fails, long queries are no slower than
    // they should be, and others are.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// What is worked on; dropped, it ends.
#[derive(Debug)]
pub struct Working(Option<JoinHandle<()>>);

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
