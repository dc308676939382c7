//! Rate limits on guesses: wrong passwords are delayed; right ones are never refused because of what others guessed.
//!
//! The reply to a wrong password is delayed. In addition, three gates space the attempts: one for an account at an address, one
//! for an account, one for an address. The first attempts pass at once. After some wrong passwords within an hour, attempts
//! pass one by one, each some time after the one before. The latest and the oldest of the waiting attempts pass alternately, so
//! that a guesser who fills a gate blocks neither the newest attempt nor one that has waited for long. An attempt counts as
//! wrong until it turns out to be right, so that parallel attempts gain nothing.
//!
//! An account is known at an address that it signed in from before. There its attempts pass only the first gate, and the other
//! gates only after a wrong password, before the reply. So nobody at another address can lock the account out, and the delay of
//! the reply reveals nothing. None of this depends on whether an account exists. All state is in memory: servers that share a
//! database each count on their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::error::AuthError;
use super::hash_queue::{RETRY_AFTER, Requester};
use crate::clock::Stopwatch;

/// The delay of attempts as a function of the number of wrong passwords.
#[derive(Debug, Clone, Copy)]
struct Rule {
    /// The number of wrong passwords without a delay.
    free_attempts: u32,
    /// The spacing of attempts after the first delayed one; it doubles with each further one.
    first: Duration,
    /// The maximum spacing.
    max: Duration,
}

/// An account at an address: two guesses per second.
const PAIR: Rule = Rule {
    free_attempts: 5,
    first: Duration::from_millis(250),
    max: Duration::from_millis(500),
};
/// The delay of the reply to a wrong password, by the number of wrong passwords of the account at the address. It makes
/// guessers wait for the reply instead of filling the gate.
const REPLY_DELAY: Rule = Rule {
    max: Duration::from_secs(1),
    ..PAIR
};
/// An account, from all addresses where it is not known: two guesses per second.
const ACCOUNT: Rule = Rule {
    free_attempts: 20,
    first: Duration::from_millis(125),
    max: Duration::from_millis(500),
};
/// An address, for all accounts that are not known there: ten guesses per second. A whole plant may share one address.
const ADDRESS: Rule = Rule {
    free_attempts: 50,
    first: Duration::from_millis(100),
    max: Duration::from_millis(100),
};
/// Wrong passwords are forgotten this long after the last one.
const FAILURE_TTL: Duration = Duration::from_secs(3_600);
/// The maximum number of gates, and of known pairs of account and address.
const MAX_RECORDS: usize = 100_000;
/// The maximum number of attempts that wait at one gate; beyond it, the oldest is refused.
const MAX_WAITING: usize = 128;
/// The maximum time that an attempt waits at a gate.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The maximum length of an account's name, in characters: that of an e-mail address.
const MAX_ACCOUNT_CHARS: usize = 254;

impl Rule {
    fn spacing(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.free_attempts + 1) else {
            return Duration::ZERO;
        };
        self.first
            .saturating_mul(1 << doublings.min(16))
            .min(self.max)
    }
}

/// The key of a gate.
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
    /// The number of wrong passwords, and the time since the last one.
    failures: u32,
    last_failure: Option<Stopwatch>,
    /// Attempts whose password is not checked yet.
    undecided: u32,
    /// The time since the last attempt passed, and the number of passed attempts.
    last_pass: Option<Stopwatch>,
    passes: u64,
    /// The numbers of the waiting attempts, the oldest first.
    waiting: Vec<u64>,
    /// Notifies the waiting attempts of a change.
    changed: Arc<Notify>,
}

impl Record {
    /// Returns the time for which the next attempt has to wait.
    fn delay(&self, rule: Rule) -> Duration {
        // Counts the next attempt as if it was wrong.
        let failures = self
            .failures
            .saturating_add(self.undecided)
            .saturating_add(1);
        let since = self.last_pass.map(|last| last.elapsed());
        rule.spacing(failures)
            .saturating_sub(since.unwrap_or(Duration::MAX))
    }

    /// Whether this waiting attempt passes next.
    fn is_next(&self, number: u64) -> bool {
        let next = match self.passes.is_multiple_of(2) {
            true => self.waiting.last(),
            false => self.waiting.first(),
        };
        next == Some(&number)
    }

    fn expire_failures(&mut self) {
        if self
            .last_failure
            .is_some_and(|last| last.elapsed() >= FAILURE_TTL)
        {
            self.failures = 0;
            self.last_failure = None;
        }
    }

    fn is_needed(&self) -> bool {
        let is_recent = self
            .last_failure
            .is_some_and(|last| last.elapsed() < FAILURE_TTL);
        is_recent || self.undecided > 0 || !self.waiting.is_empty()
    }

    /// Whether attempts are delayed or waiting.
    fn is_in_use(&self) -> bool {
        self.undecided > 0
            || !self.waiting.is_empty()
            || self
                .last_pass
                .is_some_and(|last| last.elapsed() < REPLY_DELAY.max)
    }
}

#[derive(Debug, Default)]
struct State {
    gates: HashMap<Gate, Record>,
    /// Pairs of account and address that signed in, with the time since the last sign-in.
    known_pairs: HashMap<(String, Option<IpAddr>), Stopwatch>,
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
        record.expire_failures();
        record
    }

    fn record_sign_in(&mut self, account: &str, address: Option<IpAddr>) {
        let key = (account.to_owned(), address);
        if self.known_pairs.len() >= MAX_RECORDS && !self.known_pairs.contains_key(&key) {
            let mut ages: Vec<_> = self.known_pairs.values().map(Stopwatch::elapsed).collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            self.known_pairs.retain(|_, last| last.elapsed() < median);
        }
        self.known_pairs.insert(key, Stopwatch::start());
    }
}

/// Spaces attempts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Throttle(Arc<Mutex<State>>);

/// An attempt in progress. If it is dropped, it counts as wrong.
#[derive(Debug)]
pub(super) struct Attempt {
    throttle: Throttle,
    account: String,
    address: Option<IpAddr>,
    /// The gates that it passed, and that still count it as undecided.
    passed_gates: Vec<Gate>,
    /// The gates that it has to pass before a wrong password is reported.
    remaining_gates: Vec<Gate>,
    is_known: bool,
}

impl Throttle {
    /// Waits until the password may be checked.
    ///
    /// # Errors
    ///
    /// More than [`MAX_WAITING`] newer attempts wait at a gate, or the attempt waited for [`MAX_WAIT`].
    pub(super) async fn admit(
        &self,
        account: &str,
        address: Option<IpAddr>,
    ) -> Result<Attempt, AuthError> {
        let account = account.trim().to_lowercase();
        // The text may have any length, but no e-mail address is longer than the limit.
        let account: String = account.chars().take(MAX_ACCOUNT_CHARS + 1).collect();
        let address = address.map(network);
        let is_known = {
            let state = self.lock();
            state.known_pairs.contains_key(&(account.clone(), address))
        };
        let mut others = vec![Gate::Account(account.clone())];
        others.extend(address.map(Gate::Address));
        let mut attempt = Attempt {
            throttle: self.clone(),
            passed_gates: Vec::with_capacity(3),
            remaining_gates: Vec::new(),
            account: account.clone(),
            address,
            is_known,
        };
        attempt.pass(Gate::Pair(account, address)).await?;
        if is_known {
            attempt.remaining_gates = others;
            return Ok(attempt);
        }
        for gate in others {
            attempt.pass(gate).await?;
        }
        Ok(attempt)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A position among the attempts that wait at a gate; dropping it removes it.
struct WaitingSlot<'a> {
    throttle: &'a Throttle,
    gate: &'a Gate,
    number: u64,
}

impl<'a> WaitingSlot<'a> {
    fn enqueue(throttle: &'a Throttle, gate: &'a Gate) -> Self {
        let mut state = throttle.lock();
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

impl Drop for WaitingSlot<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.lock();
        if let Some(record) = state.gates.get_mut(self.gate) {
            record.waiting.retain(|number| *number != self.number);
            record.changed.notify_waiters();
        }
    }
}

impl Attempt {
    /// The party that the hash is computed for.
    pub fn requester(&self) -> Requester {
        match self.is_known {
            true => Requester::KnownAccount(self.account.clone(), self.address),
            false => Requester::Address(self.address),
        }
    }

    async fn pass(&mut self, gate: Gate) -> Result<(), AuthError> {
        let throttle = self.throttle.clone();
        let (place, since) = (WaitingSlot::enqueue(&throttle, &gate), Stopwatch::start());
        loop {
            let changed;
            let (notified, wait) = {
                let mut state = throttle.lock();
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
                    // Dropping the place wakes the other waiting attempts.
                    drop(place);
                    self.passed_gates.push(gate);
                    return Ok(());
                }
                changed = Arc::clone(&record.changed);
                (changed.notified(), wait)
            };
            // If another attempt passes first, its place wakes this one when it is dropped.
            let wait = wait.max(Duration::from_millis(50)).min(MAX_WAIT);
            let _ = tokio::time::timeout(wait, notified).await;
        }
        Err(AuthError::Busy {
            retry_after: RETRY_AFTER,
        })
    }

    /// Reports that the password was right. Earlier wrong ones stay counted. Otherwise a user with the same address in another
    /// organisation could clear the count by signing in to an account of their own.
    pub fn succeed(mut self) {
        let mut state = self.throttle.lock();
        state.record_sign_in(&self.account, self.address);
        for gate in std::mem::take(&mut self.passed_gates) {
            if let Some(record) = state.gates.get_mut(&gate) {
                record.undecided = record.undecided.saturating_sub(1);
                record.changed.notify_waiters();
            }
        }
        drop(state);
    }

    /// Reports that the password could not be checked because of a failure of the server. The attempt does not count.
    pub fn cancel(mut self) {
        self.leave_gates(false);
    }

    /// Reports that the password was wrong, and waits until the reply may be sent.
    ///
    /// # Errors
    ///
    /// More than [`MAX_WAITING`] newer attempts wait at a gate, or the attempt waited for [`MAX_WAIT`].
    pub async fn fail(mut self) -> Result<(), AuthError> {
        for gate in std::mem::take(&mut self.remaining_gates) {
            self.pass(gate).await?;
        }
        self.leave_gates(true);
        let gate = Gate::Pair(self.account.clone(), self.address);
        let failures = {
            let state = self.throttle.lock();
            state.gates.get(&gate).map_or(0, |record| record.failures)
        };
        tokio::time::sleep(REPLY_DELAY.spacing(failures)).await;
        Ok(())
    }

    fn leave_gates(&mut self, is_wrong: bool) {
        let mut state = self.throttle.lock();
        for gate in std::mem::take(&mut self.passed_gates) {
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
        self.leave_gates(true);
    }
}

/// Returns the /64 network of an IPv6 address, since its owner usually has the whole network, or the IPv4 address itself.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
