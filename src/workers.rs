//! Threads for what can wait: long queries, jobs. They are the system's second choice: what answers at once goes first,
//! however much there is for them to do.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How much the system prefers other threads, from 0 to 19: at 10, these have a tenth of a core that others want.
pub const NICE: i32 = 10;
/// The same for threads whose work should have ended and cannot be interrupted.
pub const NICEST: i32 = 19;

/// The maximum number of threads, for each that works, that read and write files for it: parts of the lake, and what was put
/// on disk. A merge would start one for each file. What it reads is freed by another thread, and the memory is kept by the
/// allocator until the thread that has read it allocates again.
const MAX_READERS: usize = 2;

/// A runtime of its own. What its threads start, such as a database's, is the system's second choice, too.
#[derive(Debug)]
pub struct Workers {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    threads: Threads,
}

impl Workers {
    /// So many threads of this name, each with a stack of so many bytes.
    pub fn start(name: &str, count: usize, stack: usize) -> std::io::Result<Self> {
        let threads = Threads::default();
        let (starting, stopping) = (threads.clone(), threads.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_stack_size(stack)
            .thread_name(name)
            .on_thread_start(move || starting.started())
            .on_thread_stop(move || stopping.stopped())
            .on_thread_park(crate::memory::give_back_freed)
            .max_blocking_threads(count.max(1) * MAX_READERS)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            threads,
        })
    }

    /// Lets all other threads go before these: what they work on should have ended.
    pub fn step_back_further(&self) {
        for thread in self.threads.locked().iter() {
            thread.set_nice(NICEST);
        }
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

    /// Works on `task`, whose handle can be waited for.
    pub fn spawn_task(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        self.runtime.as_ref().map(|runtime| runtime.spawn(task))
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

/// The threads of a runtime that there are now.
#[derive(Debug, Clone, Default)]
struct Threads(Arc<Mutex<HashSet<ThreadId>>>);

impl Threads {
    fn started(&self) {
        let thread = ThreadId::current();
        thread.set_nice(NICE);
        self.locked().insert(thread);
    }

    fn stopped(&self) {
        self.locked().remove(&ThreadId::current());
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<ThreadId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread as the system names it, to change its priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadId(libc::id_t);

impl ThreadId {
    /// The calling thread.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "a C function that returns a number")]
    pub fn current() -> Self {
        // SAFETY: it touches no memory and cannot fail.
        Self(unsafe { libc::gettid() }.unsigned_abs())
    }

    /// Elsewhere, the system takes 0 for the caller.
    #[cfg(not(target_os = "linux"))]
    pub fn current() -> Self {
        Self(0)
    }

    /// Lets other threads go before it, from 0 to 19. A thread that stepped back cannot come forward again.
    #[expect(unsafe_code, reason = "a C function that takes three numbers")]
    pub fn set_nice(self, nice: i32) {
        // SAFETY: it touches no memory. On Linux, an id is one thread's. Where it fails, long queries are no slower than they
        // should be, and others are.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, self.0, nice) };
    }
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
