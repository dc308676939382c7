//! Threads for what can wait: long queries, jobs. They are the system's second choice: what answers at once goes first,
//! however much there is for them to do.

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How much the system prefers other threads, from 0 to 19: at 10, these have a tenth of a core that others want.
const NICE: i32 = 10;

/// A runtime of its own. What its threads start, such as a database's, is the system's second choice, too.
#[derive(Debug)]
pub struct Workers {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Workers {
    /// So many threads of this name, each with a stack of so many bytes.
    pub fn start(name: &str, threads: usize, stack: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_stack_size(stack)
            .thread_name(name)
            .on_thread_start(step_back)
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
