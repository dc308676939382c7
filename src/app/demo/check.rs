//! The demo's check by a client: each organisation sees all of its assets and none of the others', its search finds
//! assets, and its requests are in the ledger. The expected results come from the catalog and the tables, not from the
//! server.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;

use super::accounts::Tenant;
use crate::catalog::Snapshot;
use crate::clock::Stopwatch;
use crate::config::Settings;
use crate::engine::{QueryError, QuerySession};
use crate::lake::Store;
use crate::model::AssetId;
use crate::server::{Credential, RemoteError, RemoteServer};

/// The text that is searched for.
pub const QUESTION: &str = "heat exchanger that cools the product";
/// The maximum time until a request is in the ledger, which usually takes moments.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(20);
/// The time between two queries of the ledger.
const LEDGER_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// A well-formed key that does not exist.
const UNKNOWN_KEY: &str = "pl_0000000000000000_0000000000000000000000000000000000000000000";

/// The results of an organisation's check.
#[derive(Debug, Clone)]
pub struct TenantReport {
    /// Its name.
    pub organisation: String,
    /// The number of assets that it sees.
    pub assets: usize,
    /// The number of these assets that have readings.
    pub with_readings: usize,
    /// The name of the first search result, and how it was ranked; `None` if the organisation sees no assets.
    pub found: Option<(String, String)>,
    /// The number of its requests in the ledger.
    pub requests: i64,
}

/// An error of the check.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The server does not answer, or refuses a request.
    #[error("the request of {organisation} for {what} failed")]
    Refused {
        /// The organisation that sent the request.
        organisation: String,
        /// The object of the request.
        what: &'static str,
        /// The cause.
        source: RemoteError,
    },
    /// The result stream ended early.
    #[error("the result for {what} ended early")]
    Broken {
        /// The object of the request.
        what: &'static str,
        /// The cause.
        source: DataFusionError,
    },
    /// The expected results cannot be read from the tables.
    #[error("cannot read the tables for the comparison")]
    Expected(#[from] QueryError),
    /// An organisation does not see exactly its own assets.
    #[error(
        "{organisation} should see {expected} {what} but sees {found}, {strangers} of them not its own"
    )]
    Differs {
        /// The organisation that sent the request.
        organisation: String,
        /// The object of the request.
        what: &'static str,
        /// The number of items that it should see.
        expected: usize,
        /// The number of items that it sees.
        found: usize,
        /// The number of these items that it should not see.
        strangers: usize,
    },
    /// The search finds nothing.
    #[error("{organisation} finds nothing for {QUESTION:?}")]
    NothingFound {
        /// The organisation that searched.
        organisation: String,
    },
    /// Requests are missing from the ledger.
    #[error(
        "the ledger has {found} of {asked} requests of {organisation} after {} s",
        LEDGER_TIMEOUT.as_secs()
    )]
    NotRecorded {
        /// The organisation that sent the requests.
        organisation: String,
        /// The number of requests that it sent.
        asked: i64,
        /// The number of its requests in the ledger.
        found: i64,
    },
    /// The server accepted a key that does not exist.
    #[error("the server accepted a key that does not exist")]
    UnknownKeyAccepted,
}

/// Queries the server at `uri` as each of `tenants`, and with a key that does not exist.
pub async fn check(
    uri: &str,
    tenants: &[Tenant],
    settings: &Settings,
    lake: &Store,
    catalog: &Snapshot,
) -> Result<Vec<TenantReport>, CheckError> {
    let session = QuerySession::open(lake, &settings.catalog, None).await?;
    let sensors = session.sql("SELECT DISTINCT asset_id FROM data_h").await?;
    let sensors = sensors.execute_stream().await.map_err(QueryError::from)?;
    let sensors = asset_ids(rows_as_text("readings", sensors).await?.into_iter());
    let mut checked = Vec::new();
    for tenant in tenants {
        let credential = Credential::Bearer(tenant.key.clone());
        let server = RemoteServer::connect(uri, None, credential).await;
        let asking = TenantClient {
            tenant,
            server: server.map_err(tenant.request_error("a connection"))?,
        };
        checked.push(asking.check(catalog, &sensors).await?);
    }
    let unknown_key = Credential::Bearer(UNKNOWN_KEY.to_owned());
    let answered = match RemoteServer::connect(uri, None, unknown_key).await {
        Ok(server) => server.query("SELECT id FROM assets").await.is_ok(),
        Err(_) => false,
    };
    match answered {
        true => Err(CheckError::UnknownKeyAccepted),
        false => Ok(checked),
    }
}

impl Tenant {
    fn request_error(&self, what: &'static str) -> impl Fn(RemoteError) -> CheckError {
        let organisation = self.organisation.clone();
        move |source| CheckError::Refused {
            organisation: organisation.clone(),
            what,
            source,
        }
    }
}

/// A client of one organisation.
struct TenantClient<'a> {
    tenant: &'a Tenant,
    server: RemoteServer,
}

impl TenantClient<'_> {
    async fn check(
        &self,
        catalog: &Snapshot,
        sensors: &BTreeSet<AssetId>,
    ) -> Result<TenantReport, CheckError> {
        let own = self.tenant.assets(catalog);
        let with_readings: BTreeSet<AssetId> = own.intersection(sensors).copied().collect();
        self.check_ids("assets", "SELECT id FROM assets", &own)
            .await?;
        let hours = "SELECT DISTINCT asset_id FROM data_h";
        self.check_ids("assets with readings", hours, &with_readings)
            .await?;
        let found = self.search(&own).await?;
        let asked = 3;
        let requests = self.wait_for_requests(asked).await?;
        Ok(TenantReport {
            organisation: self.tenant.organisation.clone(),
            assets: own.len(),
            with_readings: with_readings.len(),
            found,
            requests,
        })
    }

    /// Checks that `sql` returns exactly the ids `expected`.
    async fn check_ids(
        &self,
        what: &'static str,
        sql: &str,
        expected: &BTreeSet<AssetId>,
    ) -> Result<(), CheckError> {
        let found = asset_ids(self.query(what, sql).await?.into_iter());
        if found == *expected {
            return Ok(());
        }
        Err(CheckError::Differs {
            organisation: self.tenant.organisation.clone(),
            what,
            expected: expected.len(),
            found: found.len(),
            strangers: found.difference(expected).count(),
        })
    }

    /// Returns the name of the first search result, and how it was ranked.
    async fn search(
        &self,
        own: &BTreeSet<AssetId>,
    ) -> Result<Option<(String, String)>, CheckError> {
        let sql =
            format!("SELECT asset_id, name, ranked_by FROM search('{QUESTION}', 5) ORDER BY rank");
        let found = self.query("search results", &sql).await?;
        let strangers = asset_ids(found.iter().cloned());
        let strangers = strangers.difference(own).count();
        if strangers > 0 {
            return Err(CheckError::Differs {
                organisation: self.tenant.organisation.clone(),
                what: "search results",
                expected: own.len().min(5),
                found: found.len(),
                strangers,
            });
        }
        match found.into_iter().next() {
            Some(best) => {
                let mut columns = best.into_iter().skip(1);
                Ok(columns.next().zip(columns.next()))
            }
            None if own.is_empty() => Ok(None),
            None => Err(CheckError::NothingFound {
                organisation: self.tenant.organisation.clone(),
            }),
        }
    }

    /// Returns the number of the organisation's requests in the ledger, once it is at least `asked`.
    async fn wait_for_requests(&self, asked: i64) -> Result<i64, CheckError> {
        let watch = Stopwatch::start();
        loop {
            let sql = "SELECT count(*) FROM account.usage";
            let counted = self.query("its usage", sql).await?;
            let counted = counted.first().and_then(|row| row.first()?.parse().ok());
            let found: i64 = counted.unwrap_or_default();
            if found >= asked {
                return Ok(found);
            }
            if watch.elapsed() > LEDGER_TIMEOUT {
                return Err(CheckError::NotRecorded {
                    organisation: self.tenant.organisation.clone(),
                    asked,
                    found,
                });
            }
            tokio::time::sleep(LEDGER_POLL_INTERVAL).await;
        }
    }

    async fn query(&self, what: &'static str, sql: &str) -> Result<Vec<Vec<String>>, CheckError> {
        let answer = self.server.query(sql).await;
        rows_as_text(what, answer.map_err(self.tenant.request_error(what))?).await
    }
}

/// Returns the rows of a result as text.
async fn rows_as_text(
    what: &'static str,
    answer: SendableRecordBatchStream,
) -> Result<Vec<Vec<String>>, CheckError> {
    let broken = |source| CheckError::Broken { what, source };
    let batches: Vec<_> = answer.try_collect().await.map_err(broken)?;
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| cast(column, &DataType::Utf8));
        let columns: Vec<ArrayRef> = columns
            .collect::<Result<_, _>>()
            .map_err(|error| broken(error.into()))?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.as_string::<i32>());
            rows.push(cells.map(|column| column.value(row).to_owned()).collect());
        }
    }
    Ok(rows)
}

/// Returns the ids in the first column.
fn asset_ids(rows: impl Iterator<Item = Vec<String>>) -> BTreeSet<AssetId> {
    rows.filter_map(|row| AssetId::parse(row.first()?).ok())
        .collect()
}
