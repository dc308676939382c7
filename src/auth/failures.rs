//! Failed sign-ins, buffered for the audit trail. Those of one account are aggregated, and the number of new entries
//! is bounded, so that guesses can fill neither the memory nor the audit trail.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::{self, Stopwatch};
use crate::model::{Email, OrganisationId, printable};
use crate::store::{FailedSignIns, OrganisationStore};

/// The interval at which due entries are written.
const WRITE_INTERVAL: Duration = Duration::from_secs(2);
/// The minimum time between two entries of one account; failures in between are aggregated in the next entry.
const MIN_ENTRY_INTERVAL: Duration = Duration::from_secs(60);
/// The maximum number of accounts of one organisation that are listed separately. The same limit applies to all
/// unknown accounts together. Failures of further accounts are counted together.
const MAX_ACCOUNTS: usize = 1_000;
/// The maximum number of entries of one organisation within an hour. The same limit applies to all unknown accounts
/// together.
const MAX_PER_HOUR: f64 = 120.0;
/// The maximum number of addresses in an entry.
const MAX_ADDRESSES: usize = 5;
/// The name of the entry that counts further accounts together.
const OTHER_ACCOUNTS: &str = "(others)";
/// The account of sign-ins whose user name is not an e-mail address, because it may be a password.
const NOT_AN_ADDRESS: &str = "(not an e-mail address)";

#[derive(Debug)]
struct Failure {
    count: u64,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    addresses: Vec<String>,
    has_more_addresses: bool,
    /// The time since the last entry was written.
    written: Option<Stopwatch>,
}

/// A token bucket that limits the number of entries.
#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    since: Stopwatch,
}

impl TokenBucket {
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
    /// By organisation (`None` for unknown accounts), then by account.
    pending: HashMap<Option<OrganisationId>, HashMap<String, Failure>>,
    allowances: HashMap<Option<OrganisationId>, TokenBucket>,
}

/// Failed sign-ins. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct SignInFailures(Arc<Mutex<State>>);

impl SignInFailures {
    /// Records a failed sign-in to `account`, of which each of these organisations has a user.
    pub fn record(&self, account: &str, address: Option<IpAddr>, organisations: &[OrganisationId]) {
        let account = loggable_account(account);
        let address = address.map_or_else(|| "local".to_owned(), |address| address.to_string());
        tracing::warn!(account, address, "a sign-in failed");
        let now = clock::now();
        let mut state = self.lock();
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

    /// Records that a key of this organisation was presented with a wrong secret.
    pub fn record_wrong_secret(&self, id: &str, organisation: OrganisationId) {
        tracing::warn!(key = id, "an API key was presented with a wrong secret");
        let now = clock::now();
        self.lock().merge(FailedSignIns {
            organisation: Some(organisation),
            account: format!("API key {}", printable(id, 64)),
            count: 1,
            first: now,
            last: now,
            addresses: Vec::new(),
            has_more_addresses: false,
        });
    }

    /// Writes entries until the future is dropped.
    pub async fn write_periodically(&self, store: &OrganisationStore) {
        let mut was_there = true;
        loop {
            tokio::time::sleep(WRITE_INTERVAL).await;
            was_there = self.write(store, false, was_there).await;
        }
    }

    /// Writes the due entries, or all of them. Returns whether that succeeded; if `warns`, a failure is logged.
    pub async fn write(&self, store: &OrganisationStore, all: bool, warns: bool) -> bool {
        let due = self.lock().take_due(all);
        if due.is_empty() {
            return true;
        }
        match store.record_failed_sign_ins(&due).await {
            Ok(()) => true,
            Err(error) => {
                if warns {
                    tracing::warn!(
                        "cannot write failed sign-ins to the audit trail; retrying: {error}"
                    );
                }
                let mut state = self.lock();
                for one in due {
                    state.merge(one);
                }
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn merge(&mut self, one: FailedSignIns) {
        let accounts = self.pending.entry(one.organisation).or_default();
        let is_known = accounts.contains_key(&one.account);
        let account = match is_known || accounts.len() < MAX_ACCOUNTS {
            true => one.account,
            false => OTHER_ACCOUNTS.to_owned(),
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

    /// Removes and returns the entries to be written now.
    fn take_due(&mut self, all: bool) -> Vec<FailedSignIns> {
        let mut due = Vec::new();
        let mut crowded = Vec::new();
        for (organisation, accounts) in &mut self.pending {
            accounts.retain(|_, failure| failure.count > 0 || !failure.is_due());
            let allowance = self.allowances.entry(*organisation);
            let allowance = allowance.or_insert_with(TokenBucket::new);
            for (account, failure) in accounts {
                if failure.count == 0 || !(failure.is_due() || all) {
                    continue;
                }
                let one = failure.take(*organisation, account.clone());
                if account == OTHER_ACCOUNTS || allowance.take() {
                    due.push(one);
                    continue;
                }
                // Too many accounts for an entry each.
                let account = OTHER_ACCOUNTS.to_owned();
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

    /// Whether the last entry was written at least [`MIN_ENTRY_INTERVAL`] ago.
    fn is_due(&self) -> bool {
        self.written
            .is_none_or(|written| written.elapsed() >= MIN_ENTRY_INTERVAL)
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

/// Returns an account as it may be logged. A text that is not an e-mail address may be a password that was typed into
/// the wrong field.
fn loggable_account(account: &str) -> String {
    match Email::parse(account) {
        Ok(email) => printable(&email.key(), 254),
        Err(_) => NOT_AN_ADDRESS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    fn due(failures: &SignInFailures, all: bool) -> Vec<FailedSignIns> {
        let mut due = failures.lock().take_due(all);
        due.sort_by(|a, b| a.account.cmp(&b.account));
        due
    }

    #[test]
    fn failures_of_one_account_become_one_entry() {
        let failures = SignInFailures::default();
        let acme = OrganisationId(uuid::Uuid::from_u128(7));
        for last in 0..40 {
            failures.record("Ada@x.y", address(last % 8), &[acme]);
        }
        failures.record("nobody@x.y", None, &[]);
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
        // A failure soon afterwards waits, and is written at the end.
        failures.record("ada@x.y", address(1), &[acme]);
        assert!(due(&failures, false).is_empty());
        assert_eq!(due(&failures, true)[0].count, 1);
    }

    #[test]
    fn many_accounts_are_bounded_and_every_failure_is_counted() {
        let failures = SignInFailures::default();
        let acme = OrganisationId(uuid::Uuid::from_u128(7));
        for number in 0..5_000 {
            failures.record(&format!("{number}@x.y"), address(1), &[]);
        }
        failures.record("ada@x.y", address(2), &[acme]);
        let mut written: Vec<_> = (0..3).flat_map(|_| due(&failures, true)).collect();
        assert!(failures.lock().pending[&None].len() <= MAX_ACCOUNTS + 1);
        assert!(
            written.len() <= MAX_PER_HOUR as usize + 5,
            "{}",
            written.len()
        );
        written.retain(|one| one.organisation.is_none());
        assert_eq!(written.iter().map(|one| one.count).sum::<u64>(), 5_000);
    }

    #[test]
    fn loggable_account_hides_text_that_may_be_a_password() {
        assert_eq!(loggable_account("correct horse battery"), NOT_AN_ADDRESS);
        assert_eq!(
            loggable_account(&format!("{}@x.y", "a".repeat(5_000))),
            NOT_AN_ADDRESS
        );
        assert_eq!(loggable_account(" Ada@X.y"), "ada@x.y");
    }
}
