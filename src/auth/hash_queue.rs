//! Fair queue for hashing passwords. A hash takes about 20 ms of a core and 19 MiB, and anybody may request one. So only a few
//! are computed at a time, and the other requests wait.
//!
//! There are three classes, which are served in turn: sign-ins from an address where the account signed in before, other
//! sign-ins, and passwords that are set. Within a class its parties are served in turn, however many requests each has: an
//! account at an address, an address, an organisation. So a party that floods the server delays only itself.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::AuthError;
use crate::model::OrganisationId;

/// The maximum number of waiting requests of one organisation or of one known account.
const MAX_WAITING_PER_PARTY: usize = 16;
/// The maximum number of waiting sign-ins from one address.
const MAX_WAITING_PER_ADDRESS: usize = 64;
/// The maximum number of waiting requests in total.
const MAX_WAITING: usize = 2_048;
/// The time after which a refused client may try again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The party on whose behalf a password is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Requester {
    /// An account at an address that it signed in from before.
    KnownAccount(String, Option<IpAddr>),
    /// A client at an address; `None` for this machine's command line.
    Address(Option<IpAddr>),
    /// An organisation whose users' passwords are set; `None` for an operator.
    Organisation(Option<OrganisationId>),
}

impl Requester {
    const fn class(&self) -> usize {
        match self {
            Self::KnownAccount(..) => 0,
            Self::Address(_) => 1,
            Self::Organisation(_) => 2,
        }
    }

    /// Whether the latest and the oldest request are served alternately. Among guesses from one address, the request of the
    /// rightful owner is likely to be one of these.
    const fn alternates_latest_first(&self) -> bool {
        matches!(self, Self::Address(_))
    }

    const fn max_waiting(&self) -> usize {
        match self {
            Self::Address(_) => MAX_WAITING_PER_ADDRESS,
            Self::KnownAccount(..) | Self::Organisation(_) => MAX_WAITING_PER_PARTY,
        }
    }
}

#[derive(Debug, Default)]
struct Class {
    /// Parties with waiting requests, the next one first.
    order: VecDeque<Requester>,
    queues: HashMap<Requester, VecDeque<oneshot::Sender<HashPermit>>>,
}

#[derive(Debug)]
struct State {
    /// The number of hashes that may start now.
    free: usize,
    classes: [Class; 3],
    /// The index of the class that is served next.
    next_class: usize,
    waiting: usize,
    /// The number of waiting requests that were served.
    served: u64,
}

/// The queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct HashQueue(Arc<Mutex<State>>);

/// A permit to compute one hash. Dropping it passes it to the next request.
#[derive(Debug)]
pub(super) struct HashPermit(Option<HashQueue>);

impl HashQueue {
    /// Creates a queue that allows `at_once` hashes at a time, at least one.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: at_once.max(1),
            classes: Default::default(),
            next_class: 0,
            waiting: 0,
            served: 0,
        })))
    }

    /// Waits for a permit.
    ///
    /// # Errors
    ///
    /// Too many requests are waiting.
    pub async fn acquire(&self, party: Requester) -> Result<HashPermit, AuthError> {
        let receiver = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(HashPermit(Some(self.clone())));
            }
            state.enqueue(party)?
        };
        receiver.await.map_err(|_| busy())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy() -> AuthError {
    AuthError::Busy {
        retry_after: RETRY_AFTER,
    }
}

impl State {
    fn enqueue(&mut self, party: Requester) -> Result<oneshot::Receiver<HashPermit>, AuthError> {
        let class = party.class();
        let is_full = |queue: &VecDeque<_>, party: &Requester| queue.len() >= party.max_waiting();
        let Class { order, queues } = &mut self.classes[class];
        if let Some(queue) = queues.get_mut(&party)
            && is_full(queue, &party)
        {
            let before = queue.len();
            queue.retain(|waiting| !waiting.is_closed());
            if is_full(queue, &party) {
                if !party.alternates_latest_first() {
                    return Err(busy());
                }
                // Dropping the sender makes the oldest request return `Busy`.
                queue.pop_front();
            }
            self.waiting -= before - queue.len();
        }
        if self.waiting >= MAX_WAITING {
            return Err(busy());
        }
        let (sender, receiver) = oneshot::channel();
        let queue = queues.entry(party.clone()).or_default();
        if queue.is_empty() && !order.contains(&party) {
            order.push_back(party);
        }
        queue.push_back(sender);
        self.waiting += 1;
        Ok(receiver)
    }

    /// Removes and returns the next waiting request.
    fn dequeue(&mut self) -> Option<oneshot::Sender<HashPermit>> {
        for _ in 0..self.classes.len() {
            let class = &mut self.classes[self.next_class];
            self.next_class = (self.next_class + 1) % 3;
            while let Some(party) = class.order.pop_front() {
                let Some(queue) = class.queues.get_mut(&party) else {
                    continue;
                };
                self.served = self.served.wrapping_add(1);
                let next = match party.alternates_latest_first() && !self.served.is_multiple_of(2) {
                    true => queue.pop_back(),
                    false => queue.pop_front(),
                };
                if queue.is_empty() {
                    class.queues.remove(&party);
                } else {
                    class.order.push_back(party);
                }
                if next.is_some() {
                    self.waiting -= 1;
                    return next;
                }
            }
        }
        None
    }
}

impl Drop for HashPermit {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else {
            return;
        };
        let mut state = turns.lock();
        while let Some(next) = state.dequeue() {
            match next.send(HashPermit(Some(turns.clone()))) {
                Ok(()) => return,
                // The receiver is gone. The permit stays here; dropping it with its queue would lock the mutex again.
                Err(mut turn) => turn.0 = None,
            }
        }
        state.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organisation(number: u128) -> Requester {
        Requester::Organisation(Some(OrganisationId(uuid::Uuid::from_u128(number))))
    }

    fn address(last: u8) -> Requester {
        Requester::Address(Some(IpAddr::from([10, 0, 0, last])))
    }

    /// Returns the order in which these parties, by index, are served with one permit, and the indices of those that are
    /// refused.
    async fn order_of(parties: Vec<Requester>) -> (Vec<usize>, Vec<usize>) {
        let turns = HashQueue::new(1);
        let first = turns.acquire(organisation(0)).await.unwrap();
        let (served, refused) = (Arc::default(), Arc::default());
        let mut tasks = Vec::new();
        for (place, party) in parties.into_iter().enumerate() {
            let (served, refused): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) =
                (Arc::clone(&served), Arc::clone(&refused));
            let turns = turns.clone();
            tasks.push(tokio::spawn(async move {
                match turns.acquire(party).await {
                    Ok(_turn) => served.lock().unwrap().push(place),
                    Err(AuthError::Busy { .. }) => refused.lock().unwrap().push(place),
                    Err(error) => panic!("{error}"),
                }
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        futures::future::join_all(tasks).await;
        let state = turns.lock();
        assert_eq!((state.free, state.waiting), (1, 0));
        assert!(state.classes.iter().all(|class| class.queues.is_empty()));
        (
            served.lock().unwrap().clone(),
            refused.lock().unwrap().clone(),
        )
    }

    #[tokio::test]
    async fn queue_alternates_between_organisations() {
        let mut parties = vec![organisation(1); 10];
        parties.push(organisation(2));
        let (served, refused) = order_of(parties).await;
        assert_eq!(served, [0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(refused.is_empty());
    }

    #[tokio::test]
    async fn queue_alternates_between_classes() {
        let mut parties: Vec<_> = (1..=20).map(organisation).collect();
        parties.extend((1..=20).map(address));
        parties.push(Requester::KnownAccount("ada@x".to_owned(), None));
        let (served, _) = order_of(parties).await;
        let place = served.iter().position(|place| *place == 40).unwrap();
        assert!(place < 3, "{served:?}");
        let organisations = served.iter().take(20).filter(|place| **place < 20);
        assert!((9..=11).contains(&organisations.count()), "{served:?}");
    }

    #[tokio::test]
    async fn latest_sign_in_of_an_address_is_served_first_and_oldest_refused() {
        let (served, refused) = order_of(vec![address(1); MAX_WAITING_PER_ADDRESS + 1]).await;
        assert_eq!(refused, [0]);
        assert_eq!(served[0], MAX_WAITING_PER_ADDRESS);
    }

    #[tokio::test]
    async fn full_queue_of_an_organisation_refuses_requests() {
        let (served, refused) = order_of(vec![organisation(1); MAX_WAITING_PER_PARTY + 5]).await;
        assert_eq!(served.len(), MAX_WAITING_PER_PARTY);
        assert_eq!(refused.len(), 5);
    }

    #[tokio::test]
    async fn cancelled_requests_free_their_places() {
        let turns = HashQueue::new(1);
        let first = turns.acquire(organisation(1)).await.unwrap();
        for _ in 0..3 * MAX_WAITING_PER_PARTY {
            let waiting = turns.acquire(organisation(1));
            let left = tokio::time::timeout(Duration::ZERO, waiting).await;
            assert!(left.is_err(), "cancelled requests free their places");
        }
        drop(first);
        assert!(turns.acquire(organisation(1)).await.is_ok());
        assert_eq!(turns.lock().free, 1);
    }
}
