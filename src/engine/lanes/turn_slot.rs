//! A turn that both the work that has it and the one who watches over the work can give back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::turns::Turn;

/// Where the turn of a piece of work is. Cheap to clone; clones are one slot.
#[derive(Debug, Clone)]
pub(super) struct TurnSlot(Arc<Mutex<Slot>>);

#[derive(Debug)]
struct Slot {
    turn: Option<Turn>,
    is_abandoned: bool,
}

impl TurnSlot {
    /// A slot with a turn in it.
    pub fn new(turn: Turn) -> Self {
        Self(Arc::new(Mutex::new(Slot {
            turn: Some(turn),
            is_abandoned: false,
        })))
    }

    /// Gives the turn back, if it is there.
    pub fn release(&self) {
        let turn = self.locked().turn.take();
        drop(turn);
    }

    /// Puts another turn in.
    pub fn put(&self, mut turn: Turn) {
        let mut slot = self.locked();
        if slot.is_abandoned {
            turn.abandon();
        }
        slot.turn = Some(turn);
    }

    /// Lets others have the place, while the organisation still pays for it: the work should have ended and has not.
    pub fn abandon(&self) {
        let mut slot = self.locked();
        slot.is_abandoned = true;
        if let Some(turn) = &mut slot.turn {
            turn.abandon();
        }
    }

    /// Gives the turn back when the work ends, however it ends.
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
