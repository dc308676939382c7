//! Constants while a statement is planned: those that are small are worked out once, the others when they are needed.
//!
//! The optimiser writes the constants of a plan out over and over, as parts of names, and no limit of time applies to it.

use std::cell::Cell;

use arrow::array::Array;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;

use super::costs::Costs;

/// The maximum size of a constant that is worked out while a statement is planned, in bytes.
const MAX_FOLDED_BYTES: u64 = 64 << 10;
/// The maximum number of steps that this may take.
const MAX_FOLDED_STEPS: u64 = 1 << 22;

thread_local! {
    static IS_PLANNING: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`, which plans a statement.
pub(in crate::engine) fn while_planning<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_PLANNING.set(self.0);
        }
    }
    let _before = Before(IS_PLANNING.replace(true));
    work()
}

/// Fails for a constant that is too large to be worked out while a statement is planned; the optimiser leaves it as it is
/// then.
pub(super) fn check_constant(costs: &Costs, arguments: &[ColumnarValue]) -> Result<()> {
    if !IS_PLANNING.get() {
        return Ok(());
    }
    let sizes = arguments.iter().map(|value| match value {
        ColumnarValue::Scalar(value) => value.size() as u64,
        ColumnarValue::Array(values) => values.get_array_memory_size() as u64,
    });
    let bytes = costs.total_output(1).max(sizes.sum());
    match bytes > MAX_FOLDED_BYTES || costs.total_work(1) > MAX_FOLDED_STEPS {
        true => Err(DataFusionError::Execution(
            "a large constant is left for execution".to_owned(),
        )),
        false => Ok(()),
    }
}
