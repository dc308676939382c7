//! Usage limits of organisations. They are changed in the same way as grants, so that servers notice within seconds.

use serde_json::json;

use super::actor::Actor;
use super::organisations::find;
use crate::model::{OrganisationId, UsageLimits};
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// New limits. `None` leaves a limit as it is; `Some(None)` removes it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LimitsChange {
    /// Sustained requests per second.
    pub requests_per_second: Option<Option<f64>>,
    /// Queries that run at the same time.
    pub concurrent_queries: Option<Option<u64>>,
    /// Billable requests in a UTC month.
    pub monthly_requests: Option<Option<u64>>,
    /// Bytes of responses in a UTC month.
    pub monthly_bytes_sent: Option<Option<u64>>,
    /// Bytes read from the lake's files in a UTC month.
    pub monthly_bytes_scanned: Option<Option<u64>>,
}

impl LimitsChange {
    /// Whether the change leaves all limits as they are.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn apply_to(&self, before: UsageLimits) -> Result<UsageLimits, StoreError> {
        let refused = |why: String| Err(StoreError::Refused(why));
        if let Some(Some(rate)) = self.requests_per_second
            && !(rate.is_finite() && rate > 0.0)
        {
            return refused(format!(
                "requests per second must be greater than 0, not {rate}; to block the organisation, deactivate it"
            ));
        }
        if self.concurrent_queries == Some(Some(0)) {
            return refused(
                "concurrent queries must be at least 1, not 0; to block the organisation, deactivate it"
                    .to_owned(),
            );
        }
        Ok(UsageLimits {
            requests_per_second: self
                .requests_per_second
                .unwrap_or(before.requests_per_second),
            concurrent_queries: self.concurrent_queries.unwrap_or(before.concurrent_queries),
            monthly_requests: self.monthly_requests.unwrap_or(before.monthly_requests),
            monthly_bytes_sent: self.monthly_bytes_sent.unwrap_or(before.monthly_bytes_sent),
            monthly_bytes_scanned: self
                .monthly_bytes_scanned
                .unwrap_or(before.monthly_bytes_scanned),
        })
    }
}

fn limits_from_row(row: &Row) -> Result<UsageLimits, StoreError> {
    Ok(UsageLimits {
        requests_per_second: row.get("requests_per_second")?,
        concurrent_queries: row.optional_count("concurrent_queries")?,
        monthly_requests: row.optional_count("monthly_requests")?,
        monthly_bytes_sent: row.optional_count("monthly_bytes_sent")?,
        monthly_bytes_scanned: row.optional_count("monthly_bytes_scanned")?,
    })
}

async fn read_limits(
    database: &mut impl Executor,
    organisation: OrganisationId,
) -> Result<UsageLimits, StoreError> {
    let limits = include_str!("../sql/organisation_limits.sql");
    let row = database.row(limits, values![organisation]).await?;
    row.as_ref()
        .map(limits_from_row)
        .transpose()
        .map(Option::unwrap_or_default)
}

impl OrganisationStore {
    /// Returns the limits of the organisations for which limits were set.
    pub async fn all_organisation_limits(
        &self,
    ) -> Result<Vec<(OrganisationId, UsageLimits)>, StoreError> {
        let rows = include_str!("../sql/organisation_limits_all.sql");
        let rows = (&self.database).rows(rows, values![]).await?;
        let rows = rows.iter().map(|row| {
            Ok((
                OrganisationId(row.id("organization_id")?),
                limits_from_row(row)?,
            ))
        });
        rows.collect()
    }

    /// Returns the limits of an organisation. A limit that was never set does not apply.
    pub async fn organisation_limits(
        &self,
        organisation: OrganisationId,
    ) -> Result<UsageLimits, StoreError> {
        read_limits(&mut &self.database, organisation).await
    }

    /// Changes the limits of an organisation. Returns the limits, and whether they changed.
    pub async fn change_organisation_limits(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        wanted: &LimitsChange,
    ) -> Result<(UsageLimits, bool), StoreError> {
        let mut change = self.begin_change(actor).await?;
        let name = find(&mut change.change, &organisation.to_string())
            .await?
            .name;
        let before = read_limits(&mut change.change, organisation).await?;
        let after = wanted.apply_to(before)?;
        if after == before {
            return Ok((before, false));
        }
        let values = values![
            organisation,
            after.requests_per_second,
            after.concurrent_queries,
            after.monthly_requests,
            after.monthly_bytes_sent,
            after.monthly_bytes_scanned,
            change.at
        ];
        change
            .change
            .execute(include_str!("../sql/organisation_limits_set.sql"), values)
            .await?;
        let details = json!({"from": before, "to": after});
        change
            .commit("org.limit", Some(organisation), &name, details)
            .await?;
        Ok((after, true))
    }
}
