//! A permit that both the work and the watch over it can release.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fair_queue::Permit;

/// The holder of the permit of a piece of work. Cheap to clone; clones share one permit.
#[derive(Debug, Clone)]
pub(super) struct PermitSlot(Arc<Mutex<SlotState>>);

#[derive(Debug)]
struct SlotState {
    permit: Option<Permit>,
    is_abandoned: bool,
}

impl PermitSlot {
    /// Creates a slot that holds `permit`.
    pub fn new(permit: Permit) -> Self {
        Self(Arc::new(Mutex::new(SlotState {
            permit: Some(permit),
            is_abandoned: false,
        })))
    }

    /// Releases the permit, if there is one.
    pub fn release(&self) {
        let permit = self.locked().permit.take();
        drop(permit);
    }

    /// Stores another permit.
    pub fn set(&self, mut permit: Permit) {
        let mut slot = self.locked();
        if slot.is_abandoned {
            permit.abandon();
        }
        slot.permit = Some(permit);
    }

    /// Makes the permit available to others while it still counts towards the organisation's share: the work should
    /// have ended and has not.
    pub fn abandon(&self) {
        let mut slot = self.locked();
        slot.is_abandoned = true;
        if let Some(permit) = &mut slot.permit {
            permit.abandon();
        }
    }

    /// Returns a guard that releases the permit when the work ends, also by a panic.
    pub fn release_on_drop(&self) -> ReleaseOnDrop {
        ReleaseOnDrop(self.clone())
    }

    fn locked(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`PermitSlot::release_on_drop`].
#[derive(Debug)]
pub(super) struct ReleaseOnDrop(PermitSlot);

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        self.0.release();
    }
}
