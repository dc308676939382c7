//! Evaluation of constants during planning: small ones are evaluated once, large ones only at execution.
//!
//! The optimiser formats the constants of a plan again and again, as parts of names, and no time limit interrupts it
//! meanwhile.

use std::cell::Cell;

use arrow::array::Array;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;

use super::costs::Costs;

/// The maximum size of a constant that is evaluated during planning, in bytes.
const MAX_FOLDED_BYTES: u64 = 64 << 10;
/// The maximum number of steps of that evaluation.
const MAX_FOLDED_STEPS: u64 = 1 << 22;

thread_local! {
    static IS_PLANNING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, which plans a statement.
pub(in crate::engine) fn while_planning<T>(work: impl FnOnce() -> T) -> T {
    struct RestorePlanning(bool);
    impl Drop for RestorePlanning {
        fn drop(&mut self) {
            IS_PLANNING.set(self.0);
        }
    }
    let _before = RestorePlanning(IS_PLANNING.replace(true));
    work()
}

/// Fails during planning if a constant is too large to be evaluated then; the optimiser leaves the expression
/// unchanged.
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
