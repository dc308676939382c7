//! Limits of the rate of guesses: wrong passwords are delayed, right ones are never refused for what others guessed.
//!
//! The answer that a password was wrong is held back. And three gates space the attempts: one for an account at an address, one for an account, one for an address. The first attempts
//! pass at once. After some wrong passwords within an hour, attempts pass one by one, each some time after the one before.
//! Of those who wait, the latest and the oldest go by turns: a guesser who fills a gate does not keep out the one who comes
//! last, and one who keeps coming does not keep out the one who waits.
//! An attempt counts as wrong until it turns out to be right, so many at once gain nothing.
//!
//! An account that signed in from an address before is known there: its attempts pass the first gate only, and the others
//! when the password was wrong, before the answer. So nobody elsewhere can keep it out, and the delay of a wrong answer
//! tells nothing. Whether an account exists makes no difference to any of this. All is in memory: servers that share a database
//! each count for themselves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::AuthError;
use super::turns::{Party, RETRY_AFTER};
use crate::clock::Stopwatch;

/// How wrong passwords turn into delay.
#[derive(Debug, Clone, Copy)]
struct Rule {
    /// Wrong passwords that cost nothing.
    free: u32,
    /// The time between attempts after the first one that is not free; it doubles with each further one.
    first: Duration,
    /// The longest time between attempts.
    max: Duration,
}

/// An account at an address: two guesses in a second.
const PAIR: Rule = Rule {
    free: 5,
    first: Duration::from_millis(250),
    max: Duration::from_millis(500),
};
/// How long the answer is held back that a password was wrong, by the wrong ones of the account at the address: those who
/// guess are then not the ones who wait at the gate.
const HOLD: Rule = Rule {
    max: Duration::from_secs(1),
    ..PAIR
};
/// An account, from all addresses where it is not known: two guesses in a second.
const ACCOUNT: Rule = Rule {
    free: 20,
    first: Duration::from_millis(125),
    max: Duration::from_millis(500),
};
/// An address, on all accounts that are not known there: ten guesses in a second. Behind it there may be a whole plant.
const ADDRESS: Rule = Rule {
    free: 50,
    first: Duration::from_millis(100),
    max: Duration::from_millis(100),
};
/// Wrong passwords are forgotten after so long without another.
const MEMORY: Duration = Duration::from_secs(3_600);
/// Accounts and addresses that are remembered, and as many that signed in.
const MAX_RECORDS: usize = 100_000;
/// Attempts that wait at one gate; the oldest is turned away.
const MAX_WAITING: usize = 128;
/// How long an attempt waits at a gate.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The maximum length of an account's name, in characters: as that of an e-mail address.
const MAX_ACCOUNT_CHARS: usize = 254;

impl Rule {
    fn spacing(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.free + 1) else {
            return Duration::ZERO;
        };
        self.first
            .saturating_mul(1 << doublings.min(16))
            .min(self.max)
    }
}

/// What a gate is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Gate {
    Pair(String, Option<IpAddr>),
    Account(String),
    Address(IpAddr),
}

impl Gate {
    const fn rule(&self) -> Rule {
        match self {
            Self::Pair(..) => PAIR,
            Self::Account(_) => ACCOUNT,
            Self::Address(_) => ADDRESS,
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    /// Wrong passwords, and when the last was.
    failures: u32,
    last_failure: Option<Stopwatch>,
    /// Attempts that may still turn out to be right.
    undecided: u32,
    /// When the last attempt passed, and how many did.
    last_pass: Option<Stopwatch>,
    passes: u64,
    /// Attempts that wait, by number, the oldest first.
    waiting: Vec<u64>,
    /// Tells those who wait that something changed.
    changed: Arc<Notify>,
}

impl Record {
    /// How long the next attempt has to wait.
    fn delay(&self, rule: Rule) -> Duration {
        // With the attempt that asks, as if it was wrong.
        let failures = self
            .failures
            .saturating_add(self.undecided)
            .saturating_add(1);
        let since = self.last_pass.map(|last| last.elapsed());
        rule.spacing(failures)
            .saturating_sub(since.unwrap_or(Duration::MAX))
    }

    /// Whether it is the turn of this one of those who wait.
    fn is_next(&self, number: u64) -> bool {
        let next = match self.passes.is_multiple_of(2) {
            true => self.waiting.last(),
            false => self.waiting.first(),
        };
        next == Some(&number)
    }

    fn forget(&mut self) {
        if self
            .last_failure
            .is_some_and(|last| last.elapsed() >= MEMORY)
        {
            self.failures = 0;
            self.last_failure = None;
        }
    }

    fn is_needed(&self) -> bool {
        let is_recent = self
            .last_failure
            .is_some_and(|last| last.elapsed() < MEMORY);
        is_recent || self.undecided > 0 || !self.waiting.is_empty()
    }

    /// Whether attempts are being delayed, or wait.
    fn is_in_use(&self) -> bool {
        self.undecided > 0
            || !self.waiting.is_empty()
            || self.last_pass.is_some_and(|last| last.elapsed() < HOLD.max)
    }
}

#[derive(Debug, Default)]
struct State {
    gates: HashMap<Gate, Record>,
    /// Accounts, and where they signed in from; when the last time was.
    known: HashMap<(String, Option<IpAddr>), Stopwatch>,
    next_number: u64,
}

impl State {
    fn record(&mut self, gate: &Gate) -> &mut Record {
        if self.gates.len() >= MAX_RECORDS && !self.gates.contains_key(gate) {
            self.gates.retain(|_, record| record.is_needed());
            if self.gates.len() >= MAX_RECORDS {
                self.gates.retain(|_, record| record.is_in_use());
            }
        }
        let record = self.gates.entry(gate.clone()).or_default();
        record.forget();
        record
    }

    fn remember(&mut self, account: &str, address: Option<IpAddr>) {
        let key = (account.to_owned(), address);
        if self.known.len() >= MAX_RECORDS && !self.known.contains_key(&key) {
            let mut ages: Vec<_> = self.known.values().map(Stopwatch::elapsed).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            self.known.retain(|_, last| last.elapsed() < median);
        }
        self.known.insert(key, Stopwatch::start());
    }
}

/// Spaces attempts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Throttle(Arc<Mutex<State>>);

/// An attempt under way. Dropped, it was wrong.
#[derive(Debug)]
pub(super) struct Attempt {
    throttle: Throttle,
    account: String,
    address: Option<IpAddr>,
    /// Those that it passed and that do not know yet whether it was right.
    passed: Vec<Gate>,
    /// Those that it has to pass before it is told that it was wrong.
    ahead: Vec<Gate>,
    is_known: bool,
}

impl Throttle {
    /// Waits until the password may be checked.
    ///
    /// # Errors
    ///
    /// Too many attempts came after this one.
    pub(super) async fn admit(
        &self,
        account: &str,
        address: Option<IpAddr>,
    ) -> Result<Attempt, AuthError> {
        let account = account.trim().to_lowercase();
        // What people type as a name may be long; nobody has an address of that length.
        let account: String = account.chars().take(MAX_ACCOUNT_CHARS + 1).collect();
        let address = address.map(network);
        let is_known = {
            let state = self.locked();
            state.known.contains_key(&(account.clone(), address))
        };
        let mut others = vec![Gate::Account(account.clone())];
        others.extend(address.map(Gate::Address));
        let mut attempt = Attempt {
            throttle: self.clone(),
            passed: Vec::with_capacity(3),
            ahead: Vec::new(),
            account: account.clone(),
            address,
            is_known,
        };
        attempt.pass(Gate::Pair(account, address)).await?;
        if is_known {
            attempt.ahead = others;
            return Ok(attempt);
        }
        for gate in others {
            attempt.pass(gate).await?;
        }
        Ok(attempt)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait at a gate; left when it is dropped.
struct Place<'a> {
    throttle: &'a Throttle,
    gate: &'a Gate,
    number: u64,
}

impl<'a> Place<'a> {
    fn take(throttle: &'a Throttle, gate: &'a Gate) -> Self {
        let mut state = throttle.locked();
        state.next_number += 1;
        let number = state.next_number;
        let record = state.record(gate);
        if record.waiting.len() >= MAX_WAITING {
            record.waiting.remove(0);
            record.changed.notify_waiters();
        }
        record.waiting.push(number);
        Self {
            throttle,
            gate,
            number,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.locked();
        if let Some(record) = state.gates.get_mut(self.gate) {
            record.waiting.retain(|number| *number != self.number);
            record.changed.notify_waiters();
        }
    }
}

impl Attempt {
    /// Whose turn at hashing it is.
    pub fn party(&self) -> Party {
        match self.is_known {
            true => Party::Known(self.account.clone(), self.address),
            false => Party::Address(self.address),
        }
    }

    async fn pass(&mut self, gate: Gate) -> Result<(), AuthError> {
        let throttle = self.throttle.clone();
        let (place, since) = (Place::take(&throttle, &gate), Stopwatch::start());
        loop {
            let changed;
            let (notified, wait) = {
                let mut state = throttle.locked();
                let record = state.record(&gate);
                if !record.waiting.contains(&place.number) || since.elapsed() >= MAX_WAIT {
                    break;
                }
                let wait = record.delay(gate.rule());
                if wait.is_zero() && record.is_next(place.number) {
                    record.undecided += 1;
                    record.last_pass = Some(Stopwatch::start());
                    record.passes += 1;
                    drop(state);
                    // Leaving, it tells the others to look again.
                    drop(place);
                    self.passed.push(gate);
                    return Ok(());
                }
                changed = Arc::clone(&record.changed);
                (changed.notified(), wait)
            };
            // Where another one has to go first, it tells when it went.
            let wait = wait.max(Duration::from_millis(50)).min(MAX_WAIT);
            let _ = tokio::time::timeout(wait, notified).await;
        }
        Err(AuthError::Busy {
            retry_after: RETRY_AFTER,
        })
    }

    /// The password was right. What was wrong before stays counted: else those who sign in to an account of their own, which
    /// may have the same address in another organisation, could clear it.
    pub fn right(mut self) {
        let mut state = self.throttle.locked();
        state.remember(&self.account, self.address);
        for gate in std::mem::take(&mut self.passed) {
            if let Some(record) = state.gates.get_mut(&gate) {
                record.undecided = record.undecided.saturating_sub(1);
                record.changed.notify_waiters();
            }
        }
        drop(state);
    }

    /// The attempt was not decided, because of a failure on this side: it does not count.
    pub fn undecided(mut self) {
        self.settle(false);
    }

    /// The password was wrong: waits until that may be told.
    ///
    /// # Errors
    ///
    /// Too many attempts came after this one.
    pub async fn wrong(mut self) -> Result<(), AuthError> {
        for gate in std::mem::take(&mut self.ahead) {
            self.pass(gate).await?;
        }
        self.settle(true);
        let gate = Gate::Pair(self.account.clone(), self.address);
        let failures = {
            let state = self.throttle.locked();
            state.gates.get(&gate).map_or(0, |record| record.failures)
        };
        tokio::time::sleep(HOLD.spacing(failures)).await;
        Ok(())
    }

    fn settle(&mut self, is_wrong: bool) {
        let mut state = self.throttle.locked();
        for gate in std::mem::take(&mut self.passed) {
            if let Some(record) = state.gates.get_mut(&gate) {
                record.undecided = record.undecided.saturating_sub(1);
                if is_wrong {
                    record.failures = record.failures.saturating_add(1);
                    record.last_failure = Some(Stopwatch::start());
                }
                record.changed.notify_waiters();
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.settle(true);
    }
}

/// Whoever has an IPv6 address has its whole /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
