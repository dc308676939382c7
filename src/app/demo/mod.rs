//! Sets up `plantlake demo` from nothing: a simulated plant, the organisations that share it, and the check by a client
//! that each of them sees exactly its own assets. The command line prints the progress.

mod accounts;
mod check;

use std::io::ErrorKind;
use std::time::Duration;

pub use accounts::{AccountsError, Tenant, close, open};
pub use check::{CheckError, QUESTION, TenantReport, check};

use super::disk_space::{DiskSpaceError, check_free_space, check_writable};
use crate::catalog::{CatalogError, Snapshot};
use crate::config::{DatabaseKind, Settings};
use crate::lake::{ProbeError, Store, StoreError};
use crate::simulate::{Plan, Shape, SimulateError, has_simulation};

/// The disk space that the demo needs, in bytes, with a large margin. The journal grows with the number of requests.
const MIN_FREE_BYTES: u64 = 128 << 20;

/// An error of preparing the demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The organisation database may be shared with others, whose data the demo's organisations could see.
    #[error(
        "cannot run the demo in the database {url}: it creates organisations that may see everything, so it runs in a \
         database of its own only; remove `organisation_url` from the settings, or run it in another folder"
    )]
    SharedDatabase {
        /// The URL, without its password.
        url: String,
    },
    /// The lake cannot be opened.
    #[error(transparent)]
    Lake(#[from] StoreError),
    /// The lake cannot be written.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A folder cannot be written, or its disk is full.
    #[error(transparent)]
    DiskSpace(#[from] DiskSpaceError),
    /// The record of earlier simulations cannot be read.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
}

/// Returns the plan of the plant: small enough to be simulated within moments, with a week of readings.
pub fn plan() -> Plan {
    Plan {
        assets: 20,
        days: 7,
        start: None,
        interval: Duration::from_secs(10),
        seed: 1,
        shape: Shape::Realistic,
    }
}

/// Opens the lake after testing everything that the demo will do, so that an error is reported before half of it is
/// done.
pub async fn prepare(settings: &Settings) -> Result<Store, DemoError> {
    if *settings.organisation_url.kind() == DatabaseKind::Postgres {
        let url = settings.organisation_url.to_string();
        return Err(DemoError::SharedDatabase { url });
    }
    let lake = Store::open(&settings.lake, settings.storage.options())?;
    lake.probe().await?;
    let local = lake.local_path();
    for folder in [settings.state.as_path(), settings.catalog.as_path()] {
        check_writable(folder)?;
    }
    for folder in local.into_iter().chain([settings.state.as_path()]) {
        check_free_space(folder, MIN_FREE_BYTES)?;
    }
    Ok(lake)
}

/// Whether an earlier demo or another simulation left a complete plant with its catalog.
pub async fn has_plant(lake: &Store, settings: &Settings) -> Result<bool, DemoError> {
    if !has_simulation(lake).await? {
        return Ok(false);
    }
    // An existing, invalid catalog is not replaced; opening it reports the errors.
    Ok(match Snapshot::read(&settings.catalog) {
        Err(CatalogError::Io { source, .. }) => source.kind() != ErrorKind::NotFound,
        _ => true,
    })
}
