//! A model that is loaded at its first use.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::error::ModelError;
use super::files::{RECORD, REQUIRED};

/// A loaded model, or the error of a failed load until the files change.
#[derive(Debug)]
pub(super) struct LazyModel<T>(Mutex<State<T>>);

#[derive(Debug)]
enum State<T> {
    Untried,
    Failed { seen: Stamps, error: ModelError },
    Loaded(Arc<T>),
}

impl<T> Default for LazyModel<T> {
    fn default() -> Self {
        Self(Mutex::new(State::Untried))
    }
}

impl<T> LazyModel<T> {
    /// Returns the model in `folder`, calling `load` if it is not loaded yet. Concurrent callers wait for the load.
    pub fn get(
        &self,
        folder: &Path,
        load: impl FnOnce() -> Result<T, ModelError>,
    ) -> Result<Option<Arc<T>>, ModelError> {
        // The state under the lock is always consistent, so a poisoned lock is usable.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Loaded(model) = &*state {
            return Ok(Some(Arc::clone(model)));
        }
        // The stamps are read before the files, so a change during the load is detected at the next call.
        let stamps = Stamps::read(folder);
        if stamps.is_empty() {
            *state = State::Untried;
            return Ok(None);
        }
        if let State::Failed { seen, error } = &*state
            && *seen == stamps
        {
            return Err(error.clone());
        }
        match load() {
            Ok(model) => {
                let model = Arc::new(model);
                *state = State::Loaded(Arc::clone(&model));
                Ok(Some(model))
            }
            Err(error) => {
                *state = State::Failed {
                    seen: stamps,
                    error: error.clone(),
                };
                Err(error)
            }
        }
    }
}

/// The sizes and modification times of the files, which show changes without reading the files.
#[derive(Debug, PartialEq, Eq)]
struct Stamps(Vec<Option<(u64, Option<SystemTime>)>>);

impl Stamps {
    fn read(folder: &Path) -> Self {
        let names = REQUIRED.iter().chain([&RECORD]);
        Self(
            names
                .map(|name| {
                    let about = std::fs::metadata(folder.join(name)).ok()?;
                    Some((about.len(), about.modified().ok()))
                })
                .collect(),
        )
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lazy_model_loads_once_and_retries_a_failure_after_files_change() {
        let folder = tempfile::tempdir().unwrap();
        let slot = LazyModel::<u8>::default();
        let fails = || {
            Err(ModelError::Unrecorded {
                folder: folder.path().to_owned(),
            })
        };
        let never = || unreachable!("it must not be loaded");
        assert!(slot.get(folder.path(), never).unwrap().is_none());
        std::fs::write(folder.path().join("config.json"), "{").unwrap();
        slot.get(folder.path(), fails).unwrap_err();
        slot.get(folder.path(), never).unwrap_err();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        assert_eq!(*slot.get(folder.path(), || Ok(7)).unwrap().unwrap(), 7);
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        assert_eq!(*slot.get(folder.path(), never).unwrap().unwrap(), 7);
    }
}
