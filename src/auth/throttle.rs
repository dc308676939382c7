//! Growing delays for those who guess passwords, per account and per address.
//!
//! The first few failures cost nothing; each further one doubles the time until the next attempt is looked at. An
//! attempt counts as failed from its start, so that many at once gain nothing. What is not known to exist is delayed
//! like what is. It is kept in memory: servers that share a database each count for themselves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::AuthError;

/// How failures turn into delay.
struct Rule {
    free: u32,
    longest: TimeDelta,
}

/// A person mistypes; and nobody should be able to lock another out for long.
const ACCOUNT: Rule = Rule {
    free: 5,
    longest: TimeDelta::minutes(1),
};
/// Behind one address there may be a whole plant.
const ADDRESS: Rule = Rule {
    free: 50,
    longest: TimeDelta::minutes(15),
};
/// Failures are forgotten after so long without another.
const MEMORY: TimeDelta = TimeDelta::hours(1);
/// Accounts and addresses that are remembered at most.
const MOST: usize = 100_000;

impl Rule {
    fn delay(&self, failures: u32) -> TimeDelta {
        let doublings = failures.saturating_sub(self.free);
        if doublings == 0 {
            return TimeDelta::zero();
        }
        TimeDelta::seconds(1 << (doublings - 1).min(20)).min(self.longest)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    /// By the address in lower case.
    Account(String),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Record {
    failures: u32,
    last: DateTime<Utc>,
    /// No attempt is looked at before.
    next: DateTime<Utc>,
}

/// Remembers failures.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    records: Arc<Mutex<HashMap<Who, Record>>>,
}

/// An attempt under way; it has failed unless it is said to have [succeeded](Attempt::succeeded).
#[derive(Debug)]
pub(super) struct Attempt {
    throttle: Throttle,
    account: Who,
    address: Option<Who>,
}

impl Throttle {
    /// Lets an attempt through, or says when to come again.
    pub(super) fn admit(
        &self,
        account: &str,
        address: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Attempt, AuthError> {
        // Hashes of what people type as a name would do as well; but it may be megabytes.
        let account = Who::Account(account.trim().to_lowercase().chars().take(320).collect());
        let address = address.map(|address| Who::Address(network(address)));
        let mut records = self.lock();
        let keys = [Some(&account), address.as_ref()];
        for key in keys.into_iter().flatten() {
            if let Some(record) = records.get_mut(key)
                && record.last > now
            {
                // The clock was set back: the delay stays as long as it was, and does not grow by the step.
                record.next = now + (record.next - record.last);
                record.last = now;
            }
            if let Some(record) = records.get(key)
                && record.next > now
            {
                let retry_after = (record.next - now).to_std().unwrap_or(Duration::ZERO);
                return Err(AuthError::Throttled { retry_after });
            }
        }
        if records.len() >= MOST {
            records.retain(|_, record| now - record.last < MEMORY);
            if records.len() >= MOST {
                // Those who wait longest for the next attempt stay.
                records.retain(|_, record| record.next > now);
            }
        }
        for key in keys.into_iter().flatten() {
            let rule = match key {
                Who::Account(_) => ACCOUNT,
                Who::Address(_) => ADDRESS,
            };
            let failures = match records.get(key) {
                Some(record) if now - record.last < MEMORY => record.failures.saturating_add(1),
                _ => 1,
            };
            let next = now + rule.delay(failures);
            let record = Record {
                failures,
                last: now,
                next,
            };
            records.insert(key.clone(), record);
        }
        Ok(Attempt {
            throttle: self.clone(),
            account,
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Who, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// The password was right: the account begins anew. The address loses this one failure only, or an own account
    /// would whitewash guesses at others.
    pub fn succeeded(self) {
        let mut records = self.throttle.lock();
        records.remove(&self.account);
        if let Some(address) = &self.address
            && let Some(record) = records.get_mut(address)
        {
            record.failures = record.failures.saturating_sub(1);
            record.next = record.last;
        }
    }
}

/// Whoever has an IPv6 address has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn wait(outcome: Result<Attempt, AuthError>) -> Option<u64> {
        match outcome {
            Ok(_) => None,
            Err(AuthError::Throttled { retry_after }) => Some(retry_after.as_secs()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let throttle = Throttle::default();
        for _ in 0..8 {
            let _ = throttle.admit("ada@x", None, at(10_000));
        }
        let before = wait(throttle.admit("ada@x", None, at(10_000)));
        assert!(before.is_some_and(|seconds| seconds >= 1), "{before:?}");
        assert_eq!(wait(throttle.admit("ada@x", None, at(0))), before);
        assert_eq!(wait(throttle.admit("ada@x", None, at(10))), None);
    }

    #[test]
    fn delays_of_an_account_double_up_to_a_minute_and_are_forgotten() {
        let throttle = Throttle::default();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..14 {
            let delay = wait(throttle.admit("Ada@x", None, at(now))).unwrap_or(0);
            if delay > 0 {
                now += delay as i64;
                assert_eq!(wait(throttle.admit("ada@x ", None, at(now))), None);
            }
            delays.push(delay);
        }
        let expected = [0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60];
        assert_eq!(delays, expected);
        assert_eq!(wait(throttle.admit("bob@x", None, at(now))), None);
        assert_eq!(wait(throttle.admit("ada@x", None, at(now + 3_700))), None);
        assert_eq!(wait(throttle.admit("ada@x", None, at(now + 3_700))), None);
    }

    #[test]
    fn success_begins_anew_for_the_account_but_not_for_the_address() {
        let throttle = Throttle::default();
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        for i in 0..ADDRESS.free {
            let attempt = throttle
                .admit(&format!("{i}@x"), Some(address), at(0))
                .unwrap();
            if i % 10 == 0 {
                attempt.succeeded();
            }
        }
        for _ in 0..5 {
            assert_eq!(wait(throttle.admit("a@x", Some(address), at(0))), None);
        }
        assert_eq!(wait(throttle.admit("b@x", Some(address), at(0))), None);
        // Another address of the same network has the same delay; another network has none.
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        assert_eq!(wait(throttle.admit("c@x", Some(neighbour), at(0))), Some(1));
        let other: IpAddr = "2001:db8:1::1".parse().unwrap();
        assert_eq!(wait(throttle.admit("c@x", Some(other), at(0))), None);
        let attempt = throttle.admit("z@x", None, at(0)).unwrap();
        attempt.succeeded();
        assert!(
            !throttle
                .lock()
                .contains_key(&Who::Account("z@x".to_owned()))
        );
    }

    #[test]
    fn many_at_once_gain_nothing_and_memory_is_bounded() {
        let throttle = Throttle::default();
        let admitted = (0..1_000)
            .filter(|_| throttle.admit("a@x", None, at(0)).is_ok())
            .count();
        assert_eq!(admitted, ACCOUNT.free as usize + 1);
        for i in 0..MOST + 10 {
            throttle.admit(&format!("{i}@y"), None, at(1)).unwrap();
        }
        assert!(throttle.lock().len() <= MOST);
    }
}
