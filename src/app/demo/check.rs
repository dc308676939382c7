//! The demo's check of itself, by a client: each organisation is answered with all of its own and with nothing of others, it
//! finds assets, and its requests are in the ledger. What is expected comes from the catalog and the tables, not from the
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
use crate::flight::{Credential, RemoteError, RemoteServer};
use crate::lake::Store;
use crate::model::AssetId;

/// What is looked for.
pub const QUESTION: &str = "heat exchanger that cools the product";
/// A record is in the ledger within moments, and in any case within this.
const IN_THE_LEDGER: Duration = Duration::from_secs(20);
/// How long it is waited before the ledger is asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// A key that nobody has.
const NO_KEY: &str = "pl_0000000000000000_0000000000000000000000000000000000000000000";

/// What an organisation was answered.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its name.
    pub organisation: String,
    /// How many assets it sees,
    pub assets: usize,
    /// and how many of them have readings.
    pub with_readings: usize,
    /// What it finds first, and how that was ranked; none if it sees nothing.
    pub found: Option<(String, String)>,
    /// How many requests of it the ledger has.
    pub requests: i64,
}

/// What is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The server does not answer, or refuses.
    #[error("{organisation} was not answered when it asked for {what}")]
    Refused {
        /// Who asked.
        organisation: String,
        /// For what.
        what: &'static str,
        /// Why.
        source: RemoteError,
    },
    /// The answer broke off.
    #[error("the answer for {what} broke off")]
    Broken {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: DataFusionError,
    },
    /// What is expected cannot be told.
    #[error("the tables cannot be read to compare with")]
    Expected(#[from] QueryError),
    /// It is answered with something else than its own.
    #[error(
        "{organisation} must see {expected} {what} and sees {found}, {strangers} of them not its own"
    )]
    Differs {
        /// Who asked.
        organisation: String,
        /// What it asked for.
        what: &'static str,
        /// How many it should see.
        expected: usize,
        /// How many it sees.
        found: usize,
        /// How many of those it should not.
        strangers: usize,
    },
    /// Search finds nothing.
    #[error("{organisation} finds nothing for {QUESTION:?}")]
    NothingFound {
        /// Who asked.
        organisation: String,
    },
    /// Requests are not recorded.
    #[error(
        "the ledger has {found} of {asked} requests of {organisation} after {} s",
        IN_THE_LEDGER.as_secs()
    )]
    NotRecorded {
        /// Who asked.
        organisation: String,
        /// How often.
        asked: i64,
        /// How often it did according to the ledger.
        found: i64,
    },
    /// A key that nobody has was let in.
    #[error("the server answered somebody whose key does not exist")]
    StrangerLetIn,
}

/// Asks the server at `uri` as each of `tenants`, and as somebody without a key.
pub async fn check(
    uri: &str,
    tenants: &[Tenant],
    settings: &Settings,
    lake: &Store,
    catalog: &Snapshot,
) -> Result<Vec<Checked>, CheckError> {
    let session = QuerySession::open(lake, &settings.catalog, None).await?;
    let sensors = session.sql("SELECT DISTINCT asset_id FROM data_h").await?;
    let sensors = sensors.execute_stream().await.map_err(QueryError::from)?;
    let sensors = ids(texts("readings", sensors).await?.into_iter());
    let mut checked = Vec::new();
    for tenant in tenants {
        let credential = Credential::Bearer(tenant.key.clone());
        let server = RemoteServer::connect(uri, None, credential).await;
        let asking = Asking {
            tenant,
            server: server.map_err(tenant.refused("a connection"))?,
        };
        checked.push(asking.check(catalog, &sensors).await?);
    }
    let stranger = Credential::Bearer(NO_KEY.to_owned());
    let answered = match RemoteServer::connect(uri, None, stranger).await {
        Ok(server) => server.query("SELECT id FROM assets").await.is_ok(),
        Err(_) => false,
    };
    match answered {
        true => Err(CheckError::StrangerLetIn),
        false => Ok(checked),
    }
}

impl Tenant {
    fn refused(&self, what: &'static str) -> impl Fn(RemoteError) -> CheckError {
        let organisation = self.organisation.clone();
        move |source| CheckError::Refused {
            organisation: organisation.clone(),
            what,
            source,
        }
    }
}

/// A client of one organisation.
struct Asking<'a> {
    tenant: &'a Tenant,
    server: RemoteServer,
}

impl Asking<'_> {
    async fn check(
        &self,
        catalog: &Snapshot,
        sensors: &BTreeSet<AssetId>,
    ) -> Result<Checked, CheckError> {
        let own = self.tenant.assets(catalog);
        let with_readings: BTreeSet<AssetId> = own.intersection(sensors).copied().collect();
        self.sees("assets", "SELECT id FROM assets", &own).await?;
        let hours = "SELECT DISTINCT asset_id FROM data_h";
        self.sees("assets with readings", hours, &with_readings)
            .await?;
        let found = self.search(&own).await?;
        let asked = 3;
        let requests = self.recorded(asked).await?;
        Ok(Checked {
            organisation: self.tenant.organisation.clone(),
            assets: own.len(),
            with_readings: with_readings.len(),
            found,
            requests,
        })
    }

    /// Fails if the ids that answer `sql` are not just these.
    async fn sees(
        &self,
        what: &'static str,
        sql: &str,
        expected: &BTreeSet<AssetId>,
    ) -> Result<(), CheckError> {
        let found = ids(self.ask(what, sql).await?.into_iter());
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

    /// What it finds first.
    async fn search(
        &self,
        own: &BTreeSet<AssetId>,
    ) -> Result<Option<(String, String)>, CheckError> {
        let sql =
            format!("SELECT asset_id, name, ranked_by FROM search('{QUESTION}', 5) ORDER BY rank");
        let found = self.ask("what it can find", &sql).await?;
        let strangers = ids(found.iter().cloned());
        let strangers = strangers.difference(own).count();
        if strangers > 0 {
            return Err(CheckError::Differs {
                organisation: self.tenant.organisation.clone(),
                what: "results",
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

    /// How many requests the ledger has of it, once there are as many as it asked.
    async fn recorded(&self, asked: i64) -> Result<i64, CheckError> {
        let watch = Stopwatch::start();
        loop {
            let sql = "SELECT count(*) FROM account.usage";
            let counted = self.ask("its usage", sql).await?;
            let counted = counted.first().and_then(|row| row.first()?.parse().ok());
            let found: i64 = counted.unwrap_or_default();
            if found >= asked {
                return Ok(found);
            }
            if watch.elapsed() > IN_THE_LEDGER {
                return Err(CheckError::NotRecorded {
                    organisation: self.tenant.organisation.clone(),
                    asked,
                    found,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, what: &'static str, sql: &str) -> Result<Vec<Vec<String>>, CheckError> {
        let answer = self.server.query(sql).await;
        texts(what, answer.map_err(self.tenant.refused(what))?).await
    }
}

/// The rows of an answer as text.
async fn texts(
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

/// The ids in the first column.
fn ids(rows: impl Iterator<Item = Vec<String>>) -> BTreeSet<AssetId> {
    rows.filter_map(|row| AssetId::parse(row.first()?).ok())
        .collect()
}
