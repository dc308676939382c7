//! Tasks that operators start: each works on behalf of the query that started it, and is charged to its memory.

use std::any::Any;

use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::memory::QueryMemory;

type Output = Box<dyn Any + Send>;

struct TaskMemory;

/// Has tasks that operators start from now on follow their queries. Later calls have no effect.
pub(super) fn follow_tasks() {
    // Set already: by an engine that was opened before.
    let _ = set_join_set_tracer(&TaskMemory);
}

impl JoinSetTracer for TaskMemory {
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
