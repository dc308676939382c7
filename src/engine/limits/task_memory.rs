//! Charges tasks that operators spawn to the memory of the query that spawned them.

use std::any::Any;

use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::memory::QueryMemory;

type Output = Box<dyn Any + Send>;

struct TaskMemoryTracer;

/// Installs the tracer of spawned tasks. Later calls have no effect.
pub(in crate::engine) fn install_task_tracer() {
    // The tracer is set already if an engine was opened before.
    let _ = set_join_set_tracer(&TaskMemoryTracer);
}

impl JoinSetTracer for TaskMemoryTracer {
    fn trace_future(&self, task: BoxFuture<'static, Output>) -> BoxFuture<'static, Output> {
        match QueryMemory::current() {
            Some(memory) => memory.charge_to(task).boxed(),
            None => task,
        }
    }

    fn trace_block(
        &self,
        block: Box<dyn FnOnce() -> Output + Send>,
    ) -> Box<dyn FnOnce() -> Output + Send> {
        match QueryMemory::current() {
            Some(memory) => Box::new(move || memory.enter(block)),
            None => block,
        }
    }
}
