//! Turns: how many long queries are worked on at once, and whose is next. Organisations take turns, so that one that
//! sends many waits for itself only.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::metrics::{Lane, METRICS, Running};
use crate::model::OrganisationId;

/// Places to work in, and who waits for one. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    lane: Option<Lane>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    places: usize,
    free: usize,
    /// Places by who has them, with those that were abandoned; none that has none.
    held: HashMap<OrganisationId, usize>,
    /// Who waits, the one that was served last at the end.
    waiting: VecDeque<(OrganisationId, VecDeque<Waiter>)>,
}

#[derive(Debug)]
struct Waiter {
    has_begun: bool,
    place: oneshot::Sender<Turn>,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    /// None once it was given back.
    organisation: Option<OrganisationId>,
    is_abandoned: bool,
    _running: Option<Running>,
}

impl Turns {
    /// So many at once; those who have one count as running in `lane`.
    pub fn new(places: usize, lane: Option<Lane>) -> Self {
        let places = places.max(1);
        Self {
            lane,
            state: Arc::new(Mutex::new(State {
                places,
                free: places,
                held: HashMap::new(),
                waiting: VecDeque::new(),
            })),
        }
    }

    /// Waits for a place. Within an organisation, first come is first served; but those go before that have begun
    /// without one, and so are probably done soon.
    pub async fn wait(&self, organisation: OrganisationId, has_begun: bool) -> Turn {
        let (place, receiver) = oneshot::channel();
        {
            let mut state = self.locked();
            let waiter = Waiter { has_begun, place };
            let queue = state.waiting.iter_mut().find(|(of, _)| *of == organisation);
            match queue {
                Some((_, queue)) => {
                    let before = |other: &Waiter| other.has_begun || !has_begun;
                    queue.insert(queue.partition_point(before), waiter);
                }
                None => state
                    .waiting
                    .push_back((organisation, VecDeque::from([waiter]))),
            }
            self.serve(state);
        }
        match receiver.await {
            Ok(turn) => turn,
            // Senders go only when they have sent; a turn of nobody's is the least that can be given.
            Err(_) => self.turn(None),
        }
    }

    fn turn(&self, organisation: Option<OrganisationId>) -> Turn {
        Turn {
            turns: self.clone(),
            organisation,
            is_abandoned: false,
            _running: self.lane.map(|lane| METRICS.engine.running(lane)),
        }
    }

    /// Places that are taken, and queries that wait.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let state = self.locked();
        let waiting = state.waiting.iter().map(|(_, queue)| queue.len()).sum();
        (state.places - state.free, waiting)
    }

    /// Gives free places to those who may have them.
    fn serve(&self, mut state: std::sync::MutexGuard<'_, State>) {
        while let Some((organisation, waiter)) = state.next() {
            state.take(organisation);
            if let Err(mut turn) = waiter.place.send(self.turn(Some(organisation))) {
                // The query was cancelled. To drop the turn would lock again.
                turn.organisation = None;
                state.give_back(organisation, false);
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next waiter that may have a place: of those organisations that may, the one with the fewest, and of those
    /// the one that was served longest ago.
    fn next(&mut self) -> Option<(OrganisationId, Waiter)> {
        let candidates = self.waiting.iter().enumerate();
        let candidates = candidates.filter(|(_, (of, _))| self.may_have(*of));
        let (at, _) = candidates.min_by_key(|(_, (of, _))| self.held_by(*of))?;
        let (organisation, mut queue) = self.waiting.remove(at)?;
        let waiter = queue.pop_front()?;
        if !queue.is_empty() {
            self.waiting.push_back((organisation, queue));
        }
        Some((organisation, waiter))
    }

    /// The last place is kept for an organisation that has none: one that works for hours does not shut out another. An
    /// organisation's own share counts what it abandoned, though others have those places again.
    fn may_have(&self, organisation: OrganisationId) -> bool {
        let held = self.held_by(organisation);
        match self.free {
            0 => false,
            1 => held == 0,
            _ => held < self.places - 1,
        }
    }

    fn held_by(&self, organisation: OrganisationId) -> usize {
        self.held.get(&organisation).copied().unwrap_or(0)
    }

    fn take(&mut self, organisation: OrganisationId) {
        self.free -= 1;
        *self.held.entry(organisation).or_default() += 1;
    }

    fn give_back(&mut self, organisation: OrganisationId, was_abandoned: bool) {
        // The place of one that was abandoned is free already.
        self.free += usize::from(!was_abandoned);
        if let Some(held) = self.held.get_mut(&organisation) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&organisation);
            }
        }
    }
}

impl Turn {
    /// Frees the place for others, though the work goes on and cannot be ended. It stays in the organisation's share, which
    /// bounds how much such work there is, until the turn is dropped.
    pub fn abandon(&mut self) {
        if self.organisation.is_some() && !self.is_abandoned {
            self.is_abandoned = true;
            let mut state = self.turns.locked();
            state.free += 1;
            self.turns.serve(state);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(organisation) = self.organisation.take() {
            let mut state = self.turns.locked();
            state.give_back(organisation, self.is_abandoned);
            self.turns.serve(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use proptest::prelude::*;

    use super::*;

    fn organisation(number: u8) -> OrganisationId {
        OrganisationId(uuid::Uuid::from_bytes([number; 16]))
    }

    fn turns_of(places: usize) -> Turns {
        Turns::new(places, None)
    }

    /// Asks for a turn, and looks once whether it came.
    fn ask(turns: &Turns, number: u8) -> Result<Turn, BoxFuture<'static, Turn>> {
        ask_for(turns, number, false)
    }

    fn ask_for(
        turns: &Turns,
        number: u8,
        has_begun: bool,
    ) -> Result<Turn, BoxFuture<'static, Turn>> {
        let turns = turns.clone();
        let waiting = async move { turns.wait(organisation(number), has_begun).await };
        let mut waiting = waiting.boxed();
        match (&mut waiting).now_or_never() {
            Some(turn) => Ok(turn),
            None => Err(waiting),
        }
    }

    fn served(turns: &Turns, number: u8) -> Turn {
        ask(turns, number).unwrap_or_else(|_| panic!("{number} has to wait"))
    }

    fn queued(turns: &Turns, number: u8) -> BoxFuture<'static, Turn> {
        let Err(waiting) = ask(turns, number) else {
            panic!("{number} does not have to wait");
        };
        waiting
    }

    #[test]
    fn one_that_has_many_does_not_shut_out_another() {
        let turns = turns_of(4);
        let first: Vec<_> = (0..3).map(|_| served(&turns, 1)).collect();
        let mut many: Vec<_> = (0..100).map(|_| queued(&turns, 1)).collect();
        // At once, though a hundred came before.
        let other = served(&turns, 2);
        let later = queued(&turns, 2);
        drop(other);
        assert!(
            later.now_or_never().is_some(),
            "it has none, and the first has three"
        );
        drop(first);
        let served = many.iter_mut().filter_map(|waiting| waiting.now_or_never());
        assert_eq!(
            served.count(),
            100,
            "each gives its turn on when it is dropped"
        );
        assert_eq!(turns.counts(), (0, 0));
    }

    #[test]
    fn organisations_take_turns() {
        let turns = turns_of(2);
        let (one, two) = (served(&turns, 1), served(&turns, 2));
        let [mut first, mut second, mut other] = [1, 1, 3].map(|number| queued(&turns, number));
        drop(one);
        let first = (&mut first).now_or_never();
        assert!(first.is_some(), "it has none, and came first");
        drop(two);
        assert!((&mut second).now_or_never().is_none(), "it has one");
        assert!((&mut other).now_or_never().is_some(), "it has none");
        // That one was dropped at once, but the last place is for others still.
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn what_has_begun_goes_before_what_has_not() {
        let turns = turns_of(1);
        let one = served(&turns, 1);
        let mut last = queued(&turns, 1);
        let mut begun = [(); 2].map(|()| ask_for(&turns, 1, true).expect_err("no place is free"));
        drop(one);
        for waiting in &mut begun {
            assert!((&mut last).now_or_never().is_none());
            assert!(waiting.now_or_never().is_some(), "and in their order");
        }
        assert!(last.now_or_never().is_some());
    }

    #[test]
    fn turn_abandoned_is_free_for_others_and_not_for_its_organisation() {
        let turns = turns_of(3);
        let mut stuck = [served(&turns, 1), served(&turns, 1)];
        for turn in &mut stuck {
            turn.abandon();
            turn.abandon();
        }
        assert_eq!(turns.counts(), (0, 0), "all places are free");
        let mut more = queued(&turns, 1);
        let others = [served(&turns, 2), served(&turns, 3), served(&turns, 4)];
        assert!((&mut more).now_or_never().is_none());
        drop(others);
        assert!((&mut more).now_or_never().is_none(), "its share is used up");
        drop(stuck);
        assert!((&mut more).now_or_never().is_some());
        drop(more);
        assert_eq!(turns.counts(), (0, 0));
    }

    #[test]
    fn a_single_place_is_for_everyone() {
        let turns = turns_of(1);
        let one = served(&turns, 1);
        let next = queued(&turns, 1);
        drop(one);
        assert!(next.now_or_never().is_some());
    }

    proptest! {
        #[test]
        fn places_are_neither_lost_nor_made(
            places in 1..6_usize,
            steps in prop::collection::vec((0..4_u8, 0..4_u8, any::<prop::sample::Index>()), 0..200),
        ) {
            let turns = turns_of(places);
            let (mut held, mut waiting): (Vec<Turn>, Vec<BoxFuture<'static, Turn>>) = Default::default();
            let mut abandoned: Vec<Turn> = Vec::new();
            for (what, number, index) in steps {
                match what {
                    0 => match ask(&turns, number) {
                        Ok(turn) => held.push(turn),
                        Err(future) => waiting.push(future),
                    },
                    1 if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                    3 if !held.is_empty() => {
                        let mut turn = held.swap_remove(index.index(held.len()));
                        turn.abandon();
                        abandoned.push(turn);
                    }
                    // Cancelled, perhaps after it was served.
                    2 if !waiting.is_empty() => drop(waiting.swap_remove(index.index(waiting.len()))),
                    _ => {}
                }
                if number == 0 {
                    waiting.retain_mut(|future| match future.now_or_never() {
                        Some(turn) => { held.push(turn); false }
                        None => true,
                    });
                }
                prop_assert!(turns.counts().0 <= places);
                prop_assert!(held.len() <= turns.counts().0);
            }
            drop(held);
            drop(abandoned);
            while let Some(future) = waiting.pop() {
                drop(future);
            }
            prop_assert_eq!(turns.counts(), (0, 0));
        }
    }
}
