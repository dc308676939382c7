//! A fair queue of permits, which limits how many long queries run at once. Organisations are served in turn, so that
//! one with many queries delays only its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::metrics::{GaugeGuard, Lane, METRICS};
use crate::model::OrganisationId;

/// A fixed number of permits, and the queue for them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct FairQueue {
    lane: Option<Lane>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    permits: usize,
    free: usize,
    /// Permits by holder, with abandoned ones; organisations without a permit have no entry.
    held_permits: HashMap<OrganisationId, usize>,
    /// The waiting queries of each organisation. The organisation that was served last is at the end.
    waiting: VecDeque<(OrganisationId, VecDeque<Waiter>)>,
}

#[derive(Debug)]
struct Waiter {
    has_started: bool,
    sender: oneshot::Sender<Permit>,
}

/// A permit to run. It is released when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    queue: FairQueue,
    /// `None` after the permit is released.
    organisation: Option<OrganisationId>,
    is_abandoned: bool,
    _running: Option<GaugeGuard>,
}

impl FairQueue {
    /// Creates a queue with `permits` permits. Holders count as running in `lane`.
    pub fn new(permits: usize, lane: Option<Lane>) -> Self {
        let places = permits.max(1);
        Self {
            lane,
            state: Arc::new(Mutex::new(State {
                permits: places,
                free: places,
                held_permits: HashMap::new(),
                waiting: VecDeque::new(),
            })),
        }
    }

    /// Waits for a permit. Within an organisation, queries are served in order of arrival, but queries that have begun
    /// to run without a permit come first, because they probably end soon.
    pub async fn acquire(&self, organisation: OrganisationId, has_started: bool) -> Permit {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.locked();
            let waiter = Waiter {
                has_started,
                sender,
            };
            let queue = state.waiting.iter_mut().find(|(of, _)| *of == organisation);
            match queue {
                Some((_, queue)) => {
                    let before = |other: &Waiter| other.has_started || !has_started;
                    queue.insert(queue.partition_point(before), waiter);
                }
                None => state
                    .waiting
                    .push_back((organisation, VecDeque::from([waiter]))),
            }
            self.serve_waiting(state);
        }
        match receiver.await {
            Ok(permit) => permit,
            // Senders are dropped only after they have sent, so this does not happen. A permit that counts for no
            // organisation is a safe fallback.
            Err(_) => self.new_permit(None),
        }
    }

    fn new_permit(&self, organisation: Option<OrganisationId>) -> Permit {
        Permit {
            queue: self.clone(),
            organisation,
            is_abandoned: false,
            _running: self.lane.map(|lane| METRICS.engine.track_running(lane)),
        }
    }

    /// Returns the number of permits in use, and of queries that wait.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let state = self.locked();
        let waiting = state.waiting.iter().map(|(_, queue)| queue.len()).sum();
        (state.permits - state.free, waiting)
    }

    /// Grants free permits to the waiting queries that may have one.
    fn serve_waiting(&self, mut state: std::sync::MutexGuard<'_, State>) {
        while let Some((organisation, waiter)) = state.pop_next_waiter() {
            state.take_permit(organisation);
            if let Err(mut permit) = waiter.sender.send(self.new_permit(Some(organisation))) {
                // The query was cancelled. Dropping the permit would lock again.
                permit.organisation = None;
                state.return_permit(organisation, false);
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the next query to get a permit: of the organisations that may have one, the organisation with the fewest
    /// permits, and among equals the one that was served longest ago.
    fn pop_next_waiter(&mut self) -> Option<(OrganisationId, Waiter)> {
        let candidates = self.waiting.iter().enumerate();
        let candidates = candidates.filter(|(_, (of, _))| self.is_eligible(*of));
        let (at, _) = candidates.min_by_key(|(_, (of, _))| self.permits_held_by(*of))?;
        let (organisation, mut queue) = self.waiting.remove(at)?;
        let waiter = queue.pop_front()?;
        if !queue.is_empty() {
            self.waiting.push_back((organisation, queue));
        }
        Some((organisation, waiter))
    }

    /// Whether the organisation may have a permit now. The last permit is reserved for an organisation that has none,
    /// so that long queries of one organisation do not block the others. Abandoned permits count towards an
    /// organisation's own share, although others can use them again.
    fn is_eligible(&self, organisation: OrganisationId) -> bool {
        let held = self.permits_held_by(organisation);
        match self.free {
            0 => false,
            1 => held == 0,
            _ => held < self.permits - 1,
        }
    }

    fn permits_held_by(&self, organisation: OrganisationId) -> usize {
        self.held_permits.get(&organisation).copied().unwrap_or(0)
    }

    fn take_permit(&mut self, organisation: OrganisationId) {
        self.free -= 1;
        *self.held_permits.entry(organisation).or_default() += 1;
    }

    fn return_permit(&mut self, organisation: OrganisationId, was_abandoned: bool) {
        // An abandoned permit is free already.
        self.free += usize::from(!was_abandoned);
        if let Some(held) = self.held_permits.get_mut(&organisation) {
            *held -= 1;
            if *held == 0 {
                self.held_permits.remove(&organisation);
            }
        }
    }
}

impl Permit {
    /// Makes the permit available to others although the work goes on and cannot be ended. It counts towards the
    /// organisation's share, which bounds such work, until the permit is dropped.
    pub fn abandon(&mut self) {
        if self.organisation.is_some() && !self.is_abandoned {
            self.is_abandoned = true;
            let mut state = self.queue.locked();
            state.free += 1;
            self.queue.serve_waiting(state);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(organisation) = self.organisation.take() {
            let mut state = self.queue.locked();
            state.return_permit(organisation, self.is_abandoned);
            self.queue.serve_waiting(state);
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

    fn queue_with(places: usize) -> FairQueue {
        FairQueue::new(places, None)
    }

    /// Asks for a permit and polls once.
    fn acquire(turns: &FairQueue, number: u8) -> Result<Permit, BoxFuture<'static, Permit>> {
        acquire_as(turns, number, false)
    }

    fn acquire_as(
        turns: &FairQueue,
        number: u8,
        has_begun: bool,
    ) -> Result<Permit, BoxFuture<'static, Permit>> {
        let turns = turns.clone();
        let waiting = async move { turns.acquire(organisation(number), has_begun).await };
        let mut waiting = waiting.boxed();
        match (&mut waiting).now_or_never() {
            Some(turn) => Ok(turn),
            None => Err(waiting),
        }
    }

    fn served(turns: &FairQueue, number: u8) -> Permit {
        acquire(turns, number).unwrap_or_else(|_| panic!("organisation {number} must not wait"))
    }

    fn queued(turns: &FairQueue, number: u8) -> BoxFuture<'static, Permit> {
        let Err(waiting) = acquire(turns, number) else {
            panic!("organisation {number} must wait");
        };
        waiting
    }

    #[test]
    fn organisation_with_many_queries_does_not_delay_another() {
        let turns = queue_with(4);
        let first: Vec<_> = (0..3).map(|_| served(&turns, 1)).collect();
        let mut many: Vec<_> = (0..100).map(|_| queued(&turns, 1)).collect();
        // Served at once, although a hundred queries came before.
        let other = served(&turns, 2);
        let later = queued(&turns, 2);
        drop(other);
        assert!(
            later.now_or_never().is_some(),
            "it has no permit, and the first has three"
        );
        drop(first);
        let served = many.iter_mut().filter_map(|waiting| waiting.now_or_never());
        assert_eq!(
            served.count(),
            100,
            "each permit goes to the next query when it is dropped"
        );
        assert_eq!(turns.counts(), (0, 0));
    }

    #[test]
    fn last_permit_goes_to_an_organisation_without_one() {
        let turns = queue_with(2);
        let (one, two) = (served(&turns, 1), served(&turns, 2));
        let [mut first, mut second, mut other] = [1, 1, 3].map(|number| queued(&turns, number));
        drop(one);
        let first = (&mut first).now_or_never();
        assert!(first.is_some(), "it has no permit, and came first");
        drop(two);
        assert!((&mut second).now_or_never().is_none(), "it has a permit");
        assert!((&mut other).now_or_never().is_some(), "it has no permit");
        // That permit was dropped at once, but the last one is still reserved for other organisations.
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn query_that_has_started_is_served_first() {
        let turns = queue_with(1);
        let one = served(&turns, 1);
        let mut last = queued(&turns, 1);
        let mut begun =
            [(); 2].map(|()| acquire_as(&turns, 1, true).expect_err("no permit is free"));
        drop(one);
        for waiting in &mut begun {
            assert!((&mut last).now_or_never().is_none());
            assert!(
                waiting.now_or_never().is_some(),
                "served in order of arrival"
            );
        }
        assert!(last.now_or_never().is_some());
    }

    #[test]
    fn permit_abandoned_is_free_for_others_and_not_for_its_organisation() {
        let turns = queue_with(3);
        let mut stuck = [served(&turns, 1), served(&turns, 1)];
        for turn in &mut stuck {
            turn.abandon();
            turn.abandon();
        }
        assert_eq!(turns.counts(), (0, 0), "all permits are free");
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
    fn single_permit_is_available_to_every_organisation() {
        let turns = queue_with(1);
        let one = served(&turns, 1);
        let next = queued(&turns, 1);
        drop(one);
        assert!(next.now_or_never().is_some());
    }

    proptest! {
        #[test]
        fn permits_in_use_stay_within_the_limit_and_are_all_returned(
            places in 1..6_usize,
            steps in prop::collection::vec((0..4_u8, 0..4_u8, any::<prop::sample::Index>()), 0..200),
        ) {
            let turns = queue_with(places);
            let (mut held, mut waiting): (Vec<Permit>, Vec<BoxFuture<'static, Permit>>) = Default::default();
            let mut abandoned: Vec<Permit> = Vec::new();
            for (what, number, index) in steps {
                match what {
                    0 => match acquire(&turns, number) {
                        Ok(turn) => held.push(turn),
                        Err(future) => waiting.push(future),
                    },
                    1 if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                    3 if !held.is_empty() => {
                        let mut turn = held.swap_remove(index.index(held.len()));
                        turn.abandon();
                        abandoned.push(turn);
                    }
                    // Cancelled, perhaps after it got a permit.
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
