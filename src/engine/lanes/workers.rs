//! The threads that long queries are worked on by. They are the system's second choice: what answers at once goes first,
//! however much is being worked on.

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How much the system prefers other threads, from 0 to 19: at 10, these have a tenth of a core that others want.
const NICE: i32 = 10;

/// A runtime of its own.
#[derive(Debug)]
pub(super) struct Workers {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Workers {
    /// So many threads, each with a stack of so many bytes.
    pub fn start(threads: usize, stack: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_stack_size(stack)
            .thread_name("query")
            .on_thread_start(step_back)
            .on_thread_park(crate::memory::give_back_freed)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
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
pub(super) struct Working(Option<JoinHandle<()>>);

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
