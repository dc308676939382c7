//! Enforces the limits of organisations: requests per second, concurrent queries, and monthly quotas.
//!
//! Servers that share a database share the limits. The amounts of a month are the sums in the ledger, about two seconds
//! old, plus the requests that ended on this server since then, plus the requests in progress. A response ends at the
//! first message after a quota is used up. So each response may exceed it by one message, and several servers together by
//! what the others sent within those two seconds. Rates and concurrent queries are divided by demand: every second each
//! server writes its own demand, and takes a part of the limit in proportion to it. While the demand shifts, or while the
//! database is unavailable, an organisation may use up to its full limit on each server.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use uuid::Uuid;

use super::limit_exceeded::{LimitExceeded, RateLimitKind};
use super::response_end::EndedBy;
use crate::clock::{self, Stopwatch};
use crate::model::{Month, OrganisationId, UsageLimits, UsageRecord};
use crate::store::{OrganisationStore, StoreError, UsageDemand, UsageTotals};

/// The interval at which limits, sums and demand are read.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// The time for which the demand of another server counts after it was written.
const DEMAND_TTL: TimeDelta = TimeDelta::seconds(5);
/// The weight of the last second in the moving average of the demand.
const DEMAND_WEIGHT: f64 = 0.5;
/// The fraction of a quota from which on a warning is given.
const WARNING_FRACTION: f64 = 0.8;

/// The amounts of a request in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestAmounts {
    pub bytes_sent: u64,
    pub bytes_scanned: u64,
}

/// The limits of all organisations.
#[derive(Debug)]
pub(super) struct Quotas {
    server: Uuid,
    store: OrganisationStore,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    limits: HashMap<OrganisationId, UsageLimits>,
    used: HashMap<OrganisationId, OrganisationUsage>,
}

/// The usage of an organisation.
#[derive(Debug, Default)]
struct OrganisationUsage {
    query_bucket: Option<TokenBucket>,
    prepare_bucket: Option<TokenBucket>,
    action_bucket: Option<TokenBucket>,
    /// Queries that run on this server.
    running: u64,
    /// Requests since the last update, including refused ones.
    recent_requests: u64,
    /// The moving average of the requests per second.
    demand: f64,
    /// The maximum number of concurrent queries on this server since the last update.
    peak: u64,
    /// The demand on the other servers.
    other_servers: UsageDemand,
    /// The sums of the month in the ledger.
    ledger: UsageTotals,
    /// Requests that ended here and may not be in `ledger` yet.
    local_totals: UsageTotals,
    /// The part of these that was added to the ledger since it was last read.
    added: UsageTotals,
    /// The amounts of requests in progress here.
    open: RequestAmounts,
    /// Bytes scanned this month by queries that a quota ended before they had sent anything. They are not billed, but
    /// count towards the quota, so that an organisation cannot continue to read by repeating the query.
    unbilled_scanned: Option<(Month, u64)>,
    /// The quotas that a warning was given for, with the month.
    warned: Vec<(&'static str, Month)>,
}

/// A token bucket: a request takes one token. The tokens grow at the rate limit, up to those of one second.
#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    since: Stopwatch,
}

impl TokenBucket {
    fn take(&mut self, rate: f64) -> Result<(), Duration> {
        let grown = self.since.elapsed().as_secs_f64() * rate;
        self.tokens = (self.tokens + grown).min(rate.max(1.0));
        self.since = Stopwatch::start();
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::try_from_secs_f64((1.0 - self.tokens) / rate).unwrap_or(Duration::MAX))
    }
}

impl OrganisationUsage {
    /// Returns the fraction of the organisation's demand that is on this server.
    fn share(&self) -> f64 {
        match self.other_servers.requests_per_second {
            others if others > 0.0 => {
                let here = self.demand.max(1.0);
                here / (here + others)
            }
            _ => 1.0,
        }
    }

    /// Returns the usage of the month as far as this server knows, including requests in progress.
    fn total(&self) -> UsageTotals {
        let open = UsageTotals {
            requests: self.running,
            rows: 0,
            bytes_sent: self.open.bytes_sent,
            bytes_scanned: self
                .open
                .bytes_scanned
                .saturating_add(self.unbilled_scanned_bytes()),
        };
        self.ledger.plus(&self.local_totals).plus(&open)
    }

    fn unbilled_scanned_bytes(&self) -> u64 {
        let month = Month::containing(clock::now());
        let of_month = self.unbilled_scanned.filter(|(of, _)| *of == month);
        of_month.map_or(0, |(_, bytes)| bytes)
    }

    fn add_unbilled_scanned(&mut self, bytes: u64) {
        let all = self.unbilled_scanned_bytes().saturating_add(bytes);
        self.unbilled_scanned = Some((Month::containing(clock::now()), all));
    }

    /// Updates the amounts of a request in progress.
    fn advance(&mut self, from: RequestAmounts, to: RequestAmounts) {
        let RequestAmounts {
            bytes_sent,
            bytes_scanned,
        } = &mut self.open;
        *bytes_sent = bytes_sent
            .saturating_sub(from.bytes_sent)
            .saturating_add(to.bytes_sent);
        *bytes_scanned = bytes_scanned
            .saturating_sub(from.bytes_scanned)
            .saturating_add(to.bytes_scanned);
    }
}

/// Returns the quotas that are limited: name, amount used, limit.
fn quotas(
    total: &UsageTotals,
    limits: &UsageLimits,
) -> impl Iterator<Item = (&'static str, u64, u64)> {
    let quotas = [
        ("monthly_requests", total.requests, limits.monthly_requests),
        (
            "monthly_bytes_sent",
            total.bytes_sent,
            limits.monthly_bytes_sent,
        ),
        (
            "monthly_bytes_scanned",
            total.bytes_scanned,
            limits.monthly_bytes_scanned,
        ),
    ];
    let quotas = quotas.into_iter();
    quotas.filter_map(|(quota, used, limit)| Some((quota, used, limit?)))
}

fn quota_exceeded(quota: &'static str, used: u64, limit: u64, month: Month) -> LimitExceeded {
    LimitExceeded::Quota {
        quota,
        used,
        limit,
        month,
        resets_at: month.next().start(),
    }
}

impl Quotas {
    /// Creates quotas without limits; [`update_periodically`](Self::update_periodically) reads them.
    pub fn new(server: Uuid, store: OrganisationStore) -> Self {
        Self {
            server,
            store,
            state: Mutex::default(),
        }
    }

    /// Admits work if the organisation's rate limit allows.
    pub fn check_rate_limit(
        &self,
        organisation: OrganisationId,
        work: RateLimitKind,
    ) -> Result<(), LimitExceeded> {
        let mut state = self.lock();
        let State { limits, used } = &mut *state;
        let Some(limit) = limits
            .get(&organisation)
            .and_then(|limits| limits.requests_per_second)
        else {
            return Ok(());
        };
        let used = used.entry(organisation).or_default();
        let rate = limit * used.share();
        let bucket = match work {
            RateLimitKind::Query => {
                used.recent_requests += 1;
                &mut used.query_bucket
            }
            RateLimitKind::Prepare => &mut used.prepare_bucket,
            RateLimitKind::Action => &mut used.action_bucket,
        };
        let bucket = bucket.get_or_insert_with(|| TokenBucket {
            tokens: rate.max(1.0),
            since: Stopwatch::start(),
        });
        bucket
            .take(rate)
            .map_err(|retry_after| LimitExceeded::Rate { limit, retry_after })
    }

    /// Admits a query if a concurrent query is left and the monthly quotas are not used up. Returns a warning about quotas
    /// that are nearly used up.
    pub fn admit_query(
        &self,
        organisation: OrganisationId,
    ) -> Result<Option<String>, LimitExceeded> {
        let month = Month::containing(clock::now());
        let mut state = self.lock();
        let State { limits, used } = &mut *state;
        let limits = limits.get(&organisation).copied().unwrap_or_default();
        let used = used.entry(organisation).or_default();
        let total = used.total();
        let mut warnings = Vec::new();
        for (quota, amount, limit) in quotas(&total, &limits) {
            if amount >= limit {
                return Err(quota_exceeded(quota, amount, limit, month));
            }
            if amount as f64 >= limit as f64 * WARNING_FRACTION {
                warnings.push(format!("{quota} of {month}: {amount} of {limit} used"));
                if !used.warned.contains(&(quota, month)) {
                    used.warned.push((quota, month));
                    tracing::warn!(%organisation, quota, used = amount, limit, "a quota is nearly used up");
                }
            }
        }
        if let Some(limit) = limits.concurrent_queries
            && used.running + used.other_servers.running >= limit
            // At least one query; otherwise servers could block each other.
            && used.running >= (limit as f64 * used.share()).floor().max(1.0) as u64
        {
            return Err(LimitExceeded::Concurrency { limit });
        }
        used.running += 1;
        used.peak = used.peak.max(used.running);
        Ok((!warnings.is_empty()).then(|| warnings.join("; ")))
    }

    /// Updates the amounts of a query in progress.
    ///
    /// # Errors
    ///
    /// A quota is used up.
    pub fn advance(
        &self,
        organisation: OrganisationId,
        from: RequestAmounts,
        to: RequestAmounts,
    ) -> Result<(), LimitExceeded> {
        let mut state = self.lock();
        let State { limits, used } = &mut *state;
        let used = used.entry(organisation).or_default();
        used.advance(from, to);
        let Some(limits) = limits.get(&organisation) else {
            return Ok(());
        };
        // A running query is counted among the monthly requests already.
        let limits = UsageLimits {
            monthly_requests: None,
            ..*limits
        };
        let total = used.total();
        match quotas(&total, &limits).find(|(_, used, limit)| used >= limit) {
            Some((quota, used, limit)) => Err(quota_exceeded(
                quota,
                used,
                limit,
                Month::containing(clock::now()),
            )),
            None => Ok(()),
        }
    }

    /// Whether the quota of scanned bytes is limited, so that a query can use it up without sending anything.
    pub fn has_scan_quota(&self, organisation: OrganisationId) -> bool {
        let state = self.lock();
        let limits = state.limits.get(&organisation);
        limits.is_some_and(|limits| limits.monthly_bytes_scanned.is_some())
    }

    /// Counts a request that ended here. `counted` is its last known amount; `ran` is whether it was a query that began.
    /// If a quota ended it before it became billable, its scanned bytes count.
    pub fn end(&self, record: &UsageRecord, counted: RequestAmounts, ran: bool, by: EndedBy) {
        if !record.billable && !ran {
            return;
        }
        let mut state = self.lock();
        let used = state.used.entry(record.organisation_id).or_default();
        used.advance(counted, RequestAmounts::default());
        if ran {
            used.running = used.running.saturating_sub(1);
        }
        if record.billable {
            used.local_totals = used.local_totals.plus(&UsageTotals::from_record(record));
        } else if ran && by == EndedBy::Quota {
            used.add_unbilled_scanned(record.bytes_scanned);
        }
    }

    /// Records that these requests are in the ledger, if they ended here.
    pub fn added(&self, records: &[UsageRecord]) {
        let mut state = self.lock();
        for record in records
            .iter()
            .filter(|record| record.billable && record.server_id == self.server)
        {
            let used = state.used.entry(record.organisation_id).or_default();
            used.added = used.added.plus(&UsageTotals::from_record(record));
        }
    }

    /// Reads limits and usage at intervals, until the future is dropped.
    pub async fn update_periodically(&self) {
        let mut was_there = true;
        loop {
            let outcome = self.update().await;
            if let (Err(error), true) = (&outcome, was_there) {
                tracing::warn!(
                    "cannot read the limits of organisations; the last known limits stay in force: {error}"
                );
            }
            was_there = outcome.is_ok();
            tokio::time::sleep(UPDATE_INTERVAL).await;
        }
    }

    async fn update(&self) -> Result<(), StoreError> {
        let limits = self.store.all_organisation_limits().await?;
        let mine = self.demand(&limits);
        if !mine.is_empty() {
            self.store
                .set_usage_demand(self.server, clock::now(), &mine)
                .await?;
        }
        // Records that are added from now on may or may not be in the sums. They are subtracted at the next update.
        let added: HashMap<_, _> = self
            .lock()
            .used
            .iter()
            .map(|(id, used)| (*id, used.added))
            .collect();
        let totals = self
            .store
            .usage_totals(Month::containing(clock::now()))
            .await?;
        let others = match mine.is_empty() {
            true => Vec::new(),
            false => {
                self.store
                    .usage_demand_of_others(self.server, clock::now() - DEMAND_TTL)
                    .await?
            }
        };
        let mut state = self.lock();
        state.limits = limits.into_iter().collect();
        for used in state.used.values_mut() {
            used.ledger = UsageTotals::default();
            used.other_servers = UsageDemand::default();
        }
        for (organisation, total) in totals {
            state.used.entry(organisation).or_default().ledger = total;
        }
        for (organisation, demand) in others {
            state.used.entry(organisation).or_default().other_servers = demand;
        }
        for (organisation, added) in added {
            let used = state.used.entry(organisation).or_default();
            used.local_totals = used.local_totals.minus(&added);
            used.added = used.added.minus(&added);
        }
        Ok(())
    }

    /// Returns the demand on this server of organisations with shared limits.
    fn demand(
        &self,
        limits: &[(OrganisationId, UsageLimits)],
    ) -> Vec<(OrganisationId, UsageDemand)> {
        let mut state = self.lock();
        let mut found = Vec::new();
        for used in state.used.values_mut() {
            used.demand =
                used.demand * (1.0 - DEMAND_WEIGHT) + used.recent_requests as f64 * DEMAND_WEIGHT;
            used.recent_requests = 0;
        }
        for (organisation, limits) in limits {
            let is_shared =
                limits.requests_per_second.is_some() || limits.concurrent_queries.is_some();
            if let Some(used) = state.used.get_mut(organisation)
                && is_shared
            {
                let requests_per_second = if used.demand < 0.01 { 0.0 } else { used.demand };
                let running = std::mem::replace(&mut used.peak, used.running);
                if requests_per_second > 0.0 || running > 0 {
                    found.push((
                        *organisation,
                        UsageDemand {
                            requests_per_second,
                            running,
                        },
                    ));
                }
            }
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
