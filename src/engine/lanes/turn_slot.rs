//! A permit that both the work and the watch over it can release.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::turns::Turn;

/// The holder of the permit of a piece of work. Cheap to clone; clones share one permit.
#[derive(Debug, Clone)]
pub(super) struct TurnSlot(Arc<Mutex<Slot>>);

#[derive(Debug)]
struct Slot {
    turn: Option<Turn>,
    is_abandoned: bool,
}

impl TurnSlot {
    /// Creates a slot that holds `permit`.
    pub fn new(turn: Turn) -> Self {
        Self(Arc::new(Mutex::new(Slot {
            turn: Some(turn),
            is_abandoned: false,
        })))
    }

    /// Releases the permit, if there is one.
    pub fn release(&self) {
        let turn = self.locked().turn.take();
        drop(turn);
    }

    /// Stores another permit.
    pub fn put(&self, mut turn: Turn) {
        let mut slot = self.locked();
        if slot.is_abandoned {
            turn.abandon();
        }
        slot.turn = Some(turn);
    }

    /// Makes the permit available to others while it still counts towards the organisation's share: the work should
    /// have ended and has not.
    pub fn abandon(&self) {
        let mut slot = self.locked();
        slot.is_abandoned = true;
        if let Some(turn) = &mut slot.turn {
            turn.abandon();
        }
    }

    /// Returns a guard that releases the permit when the work ends, also by a panic.
    pub fn release_on_drop(&self) -> ReleaseOnDrop {
        ReleaseOnDrop(self.clone())
    }

    fn locked(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`TurnSlot::release_on_drop`].
#[derive(Debug)]
pub(super) struct ReleaseOnDrop(TurnSlot);

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        self.0.release();
    }
}
