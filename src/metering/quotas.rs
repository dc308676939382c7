//! What organisations may use, held against what they use: requests in a second, queries at once, and amounts in a month.
//!
//! Servers that share a database share the limits. Amounts of the month are the ledger's sums, some two seconds old, what
//! ended here since, and what is being answered here. An answer ends when a quota is used up, at the next message: so each
//! answer may pass it by one message, and servers together by what the others answered within those two seconds. Rates and
//! queries at once are divided by demand: every second each server writes down its own, and takes the part of the limit
//! that its demand is of all. For as long as the demand shifts, or the database is away, an organisation may have up to
//! its limit on each server.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::request::EndedBy;
use crate::clock::{self, Stopwatch};
use crate::metrics::{Limit, METRICS};
use crate::model::{Month, OrganisationId, UsageLimits, UsageRecord};
use crate::store::{OrganisationStore, StoreError, UsageDemand, UsageTotals};

/// How often limits, sums and demand are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Another server's demand counts for so long.
const HEARD: TimeDelta = TimeDelta::seconds(5);
/// How much of an average the last second is.
const WEIGHT: f64 = 0.5;
/// From this part of a quota on, it is warned of.
const WARNED_FROM: f64 = 0.8;

/// What a rate is held against, each for itself: a query that was prepared is asked for as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// To answer something.
    Ask,
    /// To plan a statement for later.
    Prepare,
    /// To carry out an action, of the session or of administration.
    Act,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OverLimit {
    /// Too many within a second.
    #[error(
        "your organisation may make {limit} requests per second, and makes more; try again in a moment"
    )]
    Rate {
        /// The limit.
        limit: f64,
        /// When there will be room.
        retry_after: Duration,
    },
    /// Too many at once.
    #[error(
        "your organisation may run {limit} queries at once, and they are running; try again when one has ended"
    )]
    Concurrency {
        /// The limit.
        limit: u64,
    },
    /// Too much in a month.
    #[error(
        "your organisation has used up its quota of {quota} for {month}: {used} of {limit}; it begins anew at {}",
        resets_at.format("%Y-%m-%dT%H:%MZ")
    )]
    Quota {
        /// Which quota, such as `monthly_requests`.
        quota: &'static str,
        /// What was used.
        used: u64,
        /// What may be.
        limit: u64,
        /// The month.
        month: Month,
        /// When it begins anew.
        resets_at: DateTime<Utc>,
    },
}

impl OverLimit {
    /// Counts a refusal in the metrics.
    pub(super) fn count(&self) {
        METRICS.requests.over_limit(match self {
            Self::Rate { .. } => Limit::Rate,
            Self::Concurrency { .. } => Limit::Concurrency,
            Self::Quota { .. } => Limit::Quota,
        });
    }
}

/// What a request that is being answered has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
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
    used: HashMap<OrganisationId, Used>,
}

/// What an organisation uses.
#[derive(Debug, Default)]
struct Used {
    asks: Option<Bucket>,
    prepares: Option<Bucket>,
    acts: Option<Bucket>,
    /// Queries that run here.
    running: u64,
    /// Requests since the last look, those that were refused too.
    asked: u64,
    /// The average of that, in a second.
    demand: f64,
    /// The most queries that ran here at once since the last look.
    peak: u64,
    /// Of the other servers.
    others: UsageDemand,
    /// In the ledger, of the month.
    ledger: UsageTotals,
    /// Ended here, and perhaps not in `ledger` yet.
    here: UsageTotals,
    /// Of that, what has gone into the ledger since it was read.
    added: UsageTotals,
    /// Of what is being answered here.
    open: Counted,
    /// Bytes that queries of the month have scanned here which a quota ended before they had sent anything: nobody pays
    /// for them, but whoever has used up a quota must not read on by asking again.
    unpaid_scanned: Option<(Month, u64)>,
    /// Which quotas were warned of, and in which month.
    warned: Vec<(&'static str, Month)>,
}

/// Tokens: a request takes one, and they grow by the rate, up to what a second brings.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    since: Stopwatch,
}

impl Bucket {
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

impl Used {
    /// The part of the organisation's demand that is made here.
    fn share(&self) -> f64 {
        match self.others.requests_per_second {
            others if others > 0.0 => {
                let here = self.demand.max(1.0);
                here / (here + others)
            }
            _ => 1.0,
        }
    }

    /// What was used in the month, as far as is known here; with what is being answered.
    fn total(&self) -> UsageTotals {
        let open = UsageTotals {
            requests: self.running,
            rows: 0,
            bytes_sent: self.open.bytes_sent,
            bytes_scanned: self
                .open
                .bytes_scanned
                .saturating_add(self.unpaid_scanned()),
        };
        self.ledger.plus(&self.here).plus(&open)
    }

    fn unpaid_scanned(&self) -> u64 {
        let month = Month::of(clock::now());
        let of_month = self.unpaid_scanned.filter(|(of, _)| *of == month);
        of_month.map_or(0, |(_, bytes)| bytes)
    }

    fn add_unpaid_scanned(&mut self, bytes: u64) {
        let all = self.unpaid_scanned().saturating_add(bytes);
        self.unpaid_scanned = Some((Month::of(clock::now()), all));
    }

    /// Notes how far a request is.
    fn advance(&mut self, from: Counted, to: Counted) {
        let Counted {
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

/// The quotas of a month: their names, and what is used of each that there is.
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

fn used_up(quota: &'static str, used: u64, limit: u64, month: Month) -> OverLimit {
    OverLimit::Quota {
        quota,
        used,
        limit,
        month,
        resets_at: month.next().start(),
    }
}

impl Quotas {
    /// Nothing is limited until it was [looked](Self::keep_looking).
    pub fn new(server: Uuid, store: OrganisationStore) -> Self {
        Self {
            server,
            store,
            state: Mutex::default(),
        }
    }

    /// Lets work through, if the organisation's rate allows.
    pub fn admit(&self, organisation: OrganisationId, work: Work) -> Result<(), OverLimit> {
        let mut state = self.locked();
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
            Work::Ask => {
                used.asked += 1;
                &mut used.asks
            }
            Work::Prepare => &mut used.prepares,
            Work::Act => &mut used.acts,
        };
        let bucket = bucket.get_or_insert_with(|| Bucket {
            tokens: rate.max(1.0),
            since: Stopwatch::start(),
        });
        bucket
            .take(rate)
            .map_err(|retry_after| OverLimit::Rate { limit, retry_after })
    }

    /// Lets a query begin, if there is a place and the month's quotas are not used up. Returns what is to be warned of.
    pub fn begin(&self, organisation: OrganisationId) -> Result<Option<String>, OverLimit> {
        let month = Month::of(clock::now());
        let mut state = self.locked();
        let State { limits, used } = &mut *state;
        let limits = limits.get(&organisation).copied().unwrap_or_default();
        let used = used.entry(organisation).or_default();
        let total = used.total();
        let mut warnings = Vec::new();
        for (quota, amount, limit) in quotas(&total, &limits) {
            if amount >= limit {
                return Err(used_up(quota, amount, limit, month));
            }
            if amount as f64 >= limit as f64 * WARNED_FROM {
                warnings.push(format!("{quota} of {month}: {amount} of {limit} used"));
                if !used.warned.contains(&(quota, month)) {
                    used.warned.push((quota, month));
                    tracing::warn!(%organisation, quota, used = amount, limit, "a quota is nearly used up");
                }
            }
        }
        if let Some(limit) = limits.concurrent_queries
            && used.running + used.others.running >= limit
            // One at least, or servers could shut each other out.
            && used.running >= (limit as f64 * used.share()).floor().max(1.0) as u64
        {
            return Err(OverLimit::Concurrency { limit });
        }
        used.running += 1;
        used.peak = used.peak.max(used.running);
        Ok((!warnings.is_empty()).then(|| warnings.join("; ")))
    }

    /// Notes how far a query is, if what was used before leaves room for more.
    pub fn advance(
        &self,
        organisation: OrganisationId,
        from: Counted,
        to: Counted,
    ) -> Result<(), OverLimit> {
        let mut state = self.locked();
        let State { limits, used } = &mut *state;
        let used = used.entry(organisation).or_default();
        used.advance(from, to);
        let Some(limits) = limits.get(&organisation) else {
            return Ok(());
        };
        // A query that runs has its place among the month's requests.
        let limits = UsageLimits {
            monthly_requests: None,
            ..*limits
        };
        let total = used.total();
        match quotas(&total, &limits).find(|(_, used, limit)| used >= limit) {
            Some((quota, used, limit)) => Err(used_up(quota, used, limit, Month::of(clock::now()))),
            None => Ok(()),
        }
    }

    /// Whether an organisation can use up its quota by reading alone.
    pub fn limits_scanned(&self, organisation: OrganisationId) -> bool {
        let state = self.locked();
        let limits = state.limits.get(&organisation);
        limits.is_some_and(|limits| limits.monthly_bytes_scanned.is_some())
    }

    /// Counts a request that ended here; `counted` is what was known of it, and `ran` whether it was a query that began.
    /// One that a quota ended unpaid counts with what it has scanned.
    pub fn end(&self, record: &UsageRecord, counted: Counted, ran: bool, by: EndedBy) {
        if !record.billable && !ran {
            return;
        }
        let mut state = self.locked();
        let used = state.used.entry(record.organisation_id).or_default();
        used.advance(counted, Counted::default());
        if ran {
            used.running = used.running.saturating_sub(1);
        }
        if record.billable {
            used.here = used.here.plus(&UsageTotals::of(record));
        } else if ran && by == EndedBy::Quota {
            used.add_unpaid_scanned(record.bytes_scanned);
        }
    }

    /// Says that these, which ended here, are in the ledger now.
    pub fn added(&self, records: &[UsageRecord]) {
        let mut state = self.locked();
        for record in records
            .iter()
            .filter(|record| record.billable && record.server_id == self.server)
        {
            let used = state.used.entry(record.organisation_id).or_default();
            used.added = used.added.plus(&UsageTotals::of(record));
        }
    }

    /// Looks at what is limited and used, for as long as the future is polled.
    pub async fn keep_looking(&self) {
        let mut was_there = true;
        loop {
            let outcome = self.look().await;
            if let (Err(error), true) = (&outcome, was_there) {
                tracing::warn!(
                    "what organisations may use cannot be looked up now; limits stay as they are: {error}"
                );
            }
            was_there = outcome.is_ok();
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let limits = self.store.all_organisation_limits().await?;
        let mine = self.demand(&limits);
        if !mine.is_empty() {
            self.store
                .set_usage_demand(self.server, clock::now(), &mine)
                .await?;
        }
        // What is added from here on may or may not be in the sums; it is taken off at the next look.
        let added: HashMap<_, _> = self
            .locked()
            .used
            .iter()
            .map(|(id, used)| (*id, used.added))
            .collect();
        let totals = self.store.usage_totals(Month::of(clock::now())).await?;
        let others = match mine.is_empty() {
            true => Vec::new(),
            false => {
                self.store
                    .usage_demand_of_others(self.server, clock::now() - HEARD)
                    .await?
            }
        };
        let mut state = self.locked();
        state.limits = limits.into_iter().collect();
        for used in state.used.values_mut() {
            used.ledger = UsageTotals::default();
            used.others = UsageDemand::default();
        }
        for (organisation, total) in totals {
            state.used.entry(organisation).or_default().ledger = total;
        }
        for (organisation, demand) in others {
            state.used.entry(organisation).or_default().others = demand;
        }
        for (organisation, added) in added {
            let used = state.used.entry(organisation).or_default();
            used.here = used.here.minus(&added);
            used.added = used.added.minus(&added);
        }
        Ok(())
    }

    /// What is asked here by those who are limited.
    fn demand(
        &self,
        limits: &[(OrganisationId, UsageLimits)],
    ) -> Vec<(OrganisationId, UsageDemand)> {
        let mut state = self.locked();
        let mut found = Vec::new();
        for used in state.used.values_mut() {
            used.demand = used.demand * (1.0 - WEIGHT) + used.asked as f64 * WEIGHT;
            used.asked = 0;
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

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
