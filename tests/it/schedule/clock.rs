//! A clock for tests: its time moves only when a test advances it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use plantlake::clock::Clock;
use tokio::sync::oneshot;

#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: DateTime<Utc>,
    elapsed: Duration,
    /// The sleeping tasks, by the time at which they wake up.
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    number: u64,
}

/// Removes a sleeping task when it is dropped.
struct Asleep(FakeClock, (Duration, u64));

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().sleepers.remove(&self.1);
    }
}

impl FakeClock {
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(State {
            now,
            elapsed: Duration::ZERO,
            sleepers: BTreeMap::new(),
            number: 0,
        })))
    }

    /// Advances the clock until the next task wakes up, at most to `until`. Returns false if no task wakes up by
    /// then.
    pub fn pass(&self, until: Duration) -> bool {
        let mut state = self.0.lock().unwrap();
        let next = state.sleepers.keys().next().map(|(at, _)| *at);
        let to = next
            .map_or(until, |next| next.min(until))
            .max(state.elapsed);
        let passed = to - state.elapsed;
        state.now += TimeDelta::from_std(passed).unwrap();
        state.elapsed = to;
        while let Some(entry) = state.sleepers.first_entry() {
            if entry.key().0 > to {
                break;
            }
            // The task may have been dropped.
            let _ = entry.remove().send(());
        }
        next.is_some_and(|next| next <= until)
    }

    /// Sets the wall clock forward or back.
    pub fn jump(&self, by: TimeDelta) {
        self.0.lock().unwrap().now += by;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.lock().unwrap().now
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap().elapsed
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        let key = {
            let mut state = self.0.lock().unwrap();
            state.number += 1;
            let key = (state.elapsed.saturating_add(time), state.number);
            state.sleepers.insert(key, sender);
            key
        };
        let asleep = Asleep(self.clone(), key);
        async move {
            let _ = receiver.await;
            drop(asleep);
        }
        .boxed()
    }
}
