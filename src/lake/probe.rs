//! Whether a place can be written, and keeps what commits rely on: tried out with a small object that is removed again.

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::Store;
use super::store::delete_if_there;
use crate::clock;

/// Why a place is of no use for a lake.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing can be written.
    #[error(
        "{location} cannot be written; check that you may write there, and the room that is left"
    )]
    Write {
        /// The place.
        location: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// What is there can be overwritten by who wants to create it.
    #[error(
        "{location} lets an object be created twice, so two runs could overwrite each other's commits; take an object store with conditional writes"
    )]
    NoConditions {
        /// The place.
        location: String,
    },
    /// What was written cannot be removed.
    #[error("{location} can be written, but nothing can be deleted; check the rights to delete")]
    Delete {
        /// The place.
        location: String,
        /// What the store says.
        source: object_store::Error,
    },
}

impl Store {
    /// Writes a small object, tries to create it again, which must fail, and removes it. Tells what time it was there, if the
    /// store says so.
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
        let deleted = delete_if_there(&*objects, &path).await;
        if !matches!(again, Err(object_store::Error::AlreadyExists { .. })) {
            return Err(ProbeError::NoConditions { location });
        }
        deleted.map_err(|source| ProbeError::Delete { location, source })?;
        Ok(at.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::StoreOptions;

    #[tokio::test]
    async fn nothing_is_left_behind() {
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
