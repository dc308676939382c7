//! Checks that a location is writable and supports the conditional writes that commits rely on. It writes a small
//! object and removes it again.

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::store::{Store, delete_if_exists};
use crate::clock;

/// The reasons why a location cannot hold a lake.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The location is not writable.
    #[error("cannot write to {location}; check the permission to write and the free space")]
    Write {
        /// The location.
        location: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// An existing object can be overwritten by a request to create it.
    #[error(
        "cannot use {location}: it creates an object that exists already, so two runs could overwrite each other's commits; \
         use an object store with conditional writes"
    )]
    NoConditionalWrites {
        /// The location.
        location: String,
    },
    /// The object that was written cannot be deleted.
    #[error(
        "cannot delete from {location}, although it is writable; check the permission to delete"
    )]
    Delete {
        /// The location.
        location: String,
        /// The store's error.
        source: object_store::Error,
    },
}

impl Store {
    /// Writes a small object, checks that creating it again fails, and deletes it. Returns the store's time of the
    /// write, if the store reports it.
    pub async fn probe(&self) -> Result<Option<DateTime<Utc>>, ProbeError> {
        let location = self.to_string();
        let objects = self.objects();
        let path = Path::from(format!(".probe-{}", clock::new_id()));
        let create = async || {
            let options = PutOptions::from(PutMode::Create);
            objects
                .put_opts(&path, PutPayload::from_static(b"probe"), options)
                .await
        };
        create().await.map_err(|source| ProbeError::Write {
            location: location.clone(),
            source,
        })?;
        let again = create().await;
        let at = objects.head(&path).await.map(|object| object.last_modified);
        let deleted = delete_if_exists(&*objects, &path).await;
        if !matches!(again, Err(object_store::Error::AlreadyExists { .. })) {
            return Err(ProbeError::NoConditionalWrites { location });
        }
        deleted.map_err(|source| ProbeError::Delete { location, source })?;
        Ok(at.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::storage::store::StoreOptions;

    #[tokio::test]
    async fn probe_leaves_no_object_behind() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        Store::open(place, &StoreOptions::new())
            .unwrap()
            .probe()
            .await
            .unwrap();
        assert_eq!(std::fs::read_dir(place).unwrap().count(), 0);
        let memory = Store::open("memory://probe", &StoreOptions::new()).unwrap();
        memory.probe().await.unwrap();
    }
}
