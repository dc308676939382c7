//! The execution context of batch plans, with a limit on the memory that operators hold.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionConfig;

/// Returns a context for one plan whose operators may hold `memory` bytes; `None` means no limit.
pub fn batch_context(memory: Option<usize>, threads: usize) -> Result<Arc<TaskContext>> {
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(memory) = memory {
        runtime = runtime.with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)));
    }
    let config = SessionConfig::new().with_target_partitions(threads.max(1));
    Ok(Arc::new(
        TaskContext::default()
            .with_session_config(config)
            .with_runtime(runtime.build_arc()?),
    ))
}
