//! Thread pools of low scheduling priority for long queries and jobs, so that the threads that serve interactive requests
//! run first under any load.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The nice value of worker threads, from 0 to 19. At 10, they get a tenth of a core that other threads compete for.
pub const NICE: i32 = 10;
/// The nice value of threads whose task is overdue and cannot be interrupted.
pub const OVERDUE_NICE: i32 = 19;

/// The maximum number of blocking threads per worker thread; they read and write lake files and spill files. A merge would
/// otherwise start one thread per file. Another thread frees what a blocking thread reads, and the allocator keeps that
/// memory until the thread that read it allocates again.
const MAX_BLOCKING_PER_WORKER: usize = 2;

/// A separate tokio runtime whose threads have the nice value [`NICE`]. Threads that they start, such as those of a database,
/// inherit it.
#[derive(Debug)]
pub struct Workers {
    /// `None` only while the struct is dropped.
    runtime: Option<Runtime>,
    threads: Threads,
}

impl Workers {
    /// Starts `count` threads called `name`, each with a stack of `stack` bytes.
    pub fn start(name: &str, count: usize, stack: usize) -> std::io::Result<Self> {
        let threads = Threads::default();
        let (starting, stopping) = (threads.clone(), threads.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_stack_size(stack)
            .thread_name(name)
            .on_thread_start(move || starting.on_start())
            .on_thread_stop(move || stopping.on_stop())
            .on_thread_park(crate::memory::release_freed_memory)
            .max_blocking_threads(count.max(1) * MAX_BLOCKING_PER_WORKER)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            threads,
        })
    }

    /// Sets all current threads to [`OVERDUE_NICE`], because their tasks are overdue.
    pub fn lower_priority(&self) {
        for thread in self.threads.locked().iter() {
            thread.set_nice(OVERDUE_NICE);
        }
    }

    /// Runs `task` and returns its result, or `None` if the threads have ended or the task panicked. If the returned future is
    /// dropped, the task is aborted.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let _working = self.spawn(async move {
            // The receiver may have been dropped.
            let _ = sender.send(task.await);
        });
        receiver.await.ok()
    }

    /// Runs `task` until it ends or the returned handle is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle {
        AbortOnDropHandle(self.runtime.as_ref().map(|runtime| runtime.spawn(task)))
    }

    /// Runs `task` and returns a handle that can be awaited. Dropping the handle does not abort the task.
    pub fn spawn_task(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        self.runtime.as_ref().map(|runtime| runtime.spawn(task))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The default drop of a runtime blocks, which is forbidden on the threads of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The live threads of a runtime.
#[derive(Debug, Clone, Default)]
struct Threads(Arc<Mutex<HashSet<ThreadId>>>);

impl Threads {
    fn on_start(&self) {
        let thread = ThreadId::current();
        thread.set_nice(NICE);
        self.locked().insert(thread);
    }

    fn on_stop(&self) {
        self.locked().remove(&ThreadId::current());
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<ThreadId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operating system's id of a thread, used to change its priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadId(libc::id_t);

impl ThreadId {
    /// Returns the id of the calling thread.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "a C function that returns a number")]
    pub fn current() -> Self {
        // SAFETY: the function accesses no memory and cannot fail.
        Self(unsafe { libc::gettid() }.unsigned_abs())
    }

    /// Returns 0, which stands for the caller on other systems.
    #[cfg(not(target_os = "linux"))]
    pub fn current() -> Self {
        Self(0)
    }

    /// Sets the nice value of the thread, from 0 to 19. Without privileges, it can only be raised.
    #[expect(unsafe_code, reason = "a C function that takes three numbers")]
    pub fn set_nice(self, nice: i32) {
        // SAFETY: the function accesses no memory. On Linux, an id belongs to one thread. If the call fails, the thread keeps
        // its priority and long queries slow down short ones.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, self.0, nice) };
    }
}

/// A running task, which is aborted when this handle is dropped.
#[derive(Debug)]
pub struct AbortOnDropHandle(Option<JoinHandle<()>>);

impl Drop for AbortOnDropHandle {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
