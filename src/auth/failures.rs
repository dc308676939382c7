//! Failed sign-ins, on their way into the audit trail. Those of one account are taken together, and new entries are
//! bounded: whoever guesses can fill neither memory nor the trail.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::{self, Stopwatch};
use crate::model::{Email, OrganisationId, printable};
use crate::store::{FailedSignIns, OrganisationStore};

/// How often entries are written.
const EVERY: Duration = Duration::from_secs(2);
/// After an entry of an account, so long all is taken together in the next one.
const APART: Duration = Duration::from_secs(60);
/// Accounts of an organisation that are told apart, and as many that there are not; the failures of others are counted
/// together.
const MAX_ACCOUNTS: usize = 1_000;
/// Entries that an organisation has within an hour, and as many for accounts that there are not.
const MAX_PER_HOUR: f64 = 120.0;
/// Addresses that an entry names.
const MAX_ADDRESSES: usize = 5;
/// The account of those who are counted together.
const OTHERS: &str = "(others)";
/// The account of those who gave something else than an e-mail address, which may be a password.
const NO_ADDRESS: &str = "(not an e-mail address)";

#[derive(Debug)]
struct Failure {
    count: u64,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    addresses: Vec<String>,
    has_more_addresses: bool,
    /// When the last entry was written.
    written: Option<Stopwatch>,
}

/// Entries that may be written: tokens that grow with time.
#[derive(Debug)]
struct Allowance {
    tokens: f64,
    since: Stopwatch,
}

impl Allowance {
    fn new() -> Self {
        Self {
            tokens: MAX_PER_HOUR,
            since: Stopwatch::start(),
        }
    }

    fn take(&mut self) -> bool {
        let grown = self.since.elapsed().as_secs_f64() * MAX_PER_HOUR / 3_600.0;
        self.tokens = (self.tokens + grown).min(MAX_PER_HOUR);
        self.since = Stopwatch::start();
        let is_allowed = self.tokens >= 1.0;
        if is_allowed {
            self.tokens -= 1.0;
        }
        is_allowed
    }
}

#[derive(Debug, Default)]
struct State {
    /// By organisation, none for accounts that there are not, and by account.
    pending: HashMap<Option<OrganisationId>, HashMap<String, Failure>>,
    allowances: HashMap<Option<OrganisationId>, Allowance>,
}

/// Failed sign-ins. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures(Arc<Mutex<State>>);

impl Failures {
    /// Notes a failed sign-in to `account`, which a user of each of these organisations has.
    pub fn note(&self, account: &str, address: Option<IpAddr>, organisations: &[OrganisationId]) {
        let account = presentable(account);
        let address = address.map_or_else(|| "local".to_owned(), |address| address.to_string());
        tracing::warn!(account, address, "a sign-in failed");
        let now = clock::now();
        let mut state = self.locked();
        let nobody = organisations.is_empty().then_some(None);
        for organisation in organisations.iter().copied().map(Some).chain(nobody) {
            state.merge(FailedSignIns {
                organisation,
                account: account.clone(),
                count: 1,
                first: now,
                last: now,
                addresses: vec![address.clone()],
                has_more_addresses: false,
            });
        }
    }

    /// Notes that a key of this organisation was presented with a wrong secret.
    pub fn note_key(&self, id: &str, organisation: OrganisationId) {
        tracing::warn!(key = id, "an API key was presented with a wrong secret");
        let now = clock::now();
        self.locked().merge(FailedSignIns {
            organisation: Some(organisation),
            account: format!("API key {}", printable(id, 64)),
            count: 1,
            first: now,
            last: now,
            addresses: Vec::new(),
            has_more_addresses: false,
        });
    }

    /// Writes entries, for as long as the future is polled.
    pub async fn keep_writing(&self, store: &OrganisationStore) {
        let mut was_there = true;
        loop {
            tokio::time::sleep(EVERY).await;
            was_there = self.write(store, false, was_there).await;
        }
    }

    /// Writes what is due, or all. Returns whether that was possible; `warns` of the contrary.
    pub async fn write(&self, store: &OrganisationStore, all: bool, warns: bool) -> bool {
        let due = self.locked().take_due(all);
        if due.is_empty() {
            return true;
        }
        match store.note_failed_sign_ins(&due).await {
            Ok(()) => true,
            Err(error) => {
                if warns {
                    tracing::warn!(
                        "failed sign-ins cannot be written into the audit trail now: {error}"
                    );
                }
                let mut state = self.locked();
                for one in due {
                    state.merge(one);
                }
                false
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn merge(&mut self, one: FailedSignIns) {
        let accounts = self.pending.entry(one.organisation).or_default();
        let is_known = accounts.contains_key(&one.account);
        let account = match is_known || accounts.len() < MAX_ACCOUNTS {
            true => one.account,
            false => OTHERS.to_owned(),
        };
        let failure = accounts
            .entry(account)
            .or_insert_with(|| Failure::new(one.first));
        if failure.count == 0 || one.first < failure.first {
            failure.first = one.first;
        }
        failure.count = failure.count.saturating_add(one.count);
        failure.last = failure.last.max(one.last);
        failure.has_more_addresses |= one.has_more_addresses;
        for address in one.addresses {
            if failure.addresses.contains(&address) {
                continue;
            }
            match failure.addresses.len() < MAX_ADDRESSES {
                true => failure.addresses.push(address),
                false => failure.has_more_addresses = true,
            }
        }
    }

    /// What is to be written now.
    fn take_due(&mut self, all: bool) -> Vec<FailedSignIns> {
        let mut due = Vec::new();
        let mut crowded = Vec::new();
        for (organisation, accounts) in &mut self.pending {
            accounts.retain(|_, failure| failure.count > 0 || !failure.is_old());
            let allowance = self.allowances.entry(*organisation);
            let allowance = allowance.or_insert_with(Allowance::new);
            for (account, failure) in accounts {
                if failure.count == 0 || !(failure.is_old() || all) {
                    continue;
                }
                let one = failure.take(*organisation, account.clone());
                if account == OTHERS || allowance.take() {
                    due.push(one);
                    continue;
                }
                // There are too many accounts for an entry each.
                let account = OTHERS.to_owned();
                crowded.push(FailedSignIns { account, ..one });
            }
        }
        self.pending.retain(|_, accounts| !accounts.is_empty());
        for one in crowded {
            self.merge(one);
        }
        due
    }
}

impl Failure {
    fn new(first: DateTime<Utc>) -> Self {
        Self {
            count: 0,
            first,
            last: first,
            addresses: Vec::new(),
            has_more_addresses: false,
            written: None,
        }
    }

    /// Whether the last entry was written some time ago.
    fn is_old(&self) -> bool {
        self.written
            .is_none_or(|written| written.elapsed() >= APART)
    }

    fn take(&mut self, organisation: Option<OrganisationId>, account: String) -> FailedSignIns {
        self.written = Some(Stopwatch::start());
        FailedSignIns {
            organisation,
            account,
            count: std::mem::take(&mut self.count),
            first: self.first,
            last: self.last,
            addresses: std::mem::take(&mut self.addresses),
            has_more_addresses: std::mem::take(&mut self.has_more_addresses),
        }
    }
}

/// An account as it may be logged: what is no e-mail address may be a password that was typed into the wrong field.
fn presentable(account: &str) -> String {
    match Email::parse(account) {
        Ok(email) => printable(&email.key(), 254),
        Err(_) => NO_ADDRESS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    fn due(failures: &Failures, all: bool) -> Vec<FailedSignIns> {
        let mut due = failures.locked().take_due(all);
        due.sort_by(|a, b| a.account.cmp(&b.account));
        due
    }

    #[test]
    fn failures_of_an_account_become_one_entry() {
        let failures = Failures::default();
        let acme = OrganisationId(uuid::Uuid::from_u128(7));
        for last in 0..40 {
            failures.note("Ada@x.y", address(last % 8), &[acme]);
        }
        failures.note("nobody@x.y", None, &[]);
        let [ada, nobody] = due(&failures, false).try_into().unwrap();
        assert_eq!(
            (ada.account.as_str(), ada.count, ada.organisation),
            ("ada@x.y", 40, Some(acme))
        );
        assert_eq!(
            (ada.addresses.len(), ada.has_more_addresses),
            (MAX_ADDRESSES, true)
        );
        assert_eq!(
            (nobody.count, nobody.organisation, nobody.addresses),
            (1, None, vec!["local".to_owned()])
        );
        // What comes soon after waits, and is written at the end.
        failures.note("ada@x.y", address(1), &[acme]);
        assert!(due(&failures, false).is_empty());
        assert_eq!(due(&failures, true)[0].count, 1);
    }

    #[test]
    fn floods_of_accounts_are_bounded_and_all_are_counted() {
        let failures = Failures::default();
        let acme = OrganisationId(uuid::Uuid::from_u128(7));
        for number in 0..5_000 {
            failures.note(&format!("{number}@x.y"), address(1), &[]);
        }
        failures.note("ada@x.y", address(2), &[acme]);
        let mut written: Vec<_> = (0..3).flat_map(|_| due(&failures, true)).collect();
        assert!(failures.locked().pending[&None].len() <= MAX_ACCOUNTS + 1);
        assert!(
            written.len() <= MAX_PER_HOUR as usize + 5,
            "{}",
            written.len()
        );
        written.retain(|one| one.organisation.is_none());
        assert_eq!(written.iter().map(|one| one.count).sum::<u64>(), 5_000);
    }

    #[test]
    fn what_may_be_a_password_is_not_named() {
        assert_eq!(presentable("correct horse battery"), NO_ADDRESS);
        assert_eq!(
            presentable(&format!("{}@x.y", "a".repeat(5_000))),
            NO_ADDRESS
        );
        assert_eq!(presentable(" Ada@X.y"), "ada@x.y");
    }
}
