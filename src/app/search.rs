//! Creates the search from settings.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Settings;
use crate::search::Search;
use crate::search::index::{EdgeIndex, IndexError, QdrantIndex, VectorIndex};
use crate::search::models::{ModelSettings, Models};

/// Creates the search over the catalog of `settings`, without opening an index or a model. See [`Search::new`] for
/// `waits_for_embeddings`.
pub fn search(settings: &Settings, waits_for_embeddings: bool) -> Result<Search, IndexError> {
    let index: Arc<dyn VectorIndex> = match &settings.qdrant.url {
        Some(url) => {
            let qdrant = &settings.qdrant;
            let timeout = qdrant.timeout.to_std().unwrap_or_default();
            let key = qdrant.api_key.as_ref();
            let connected = QdrantIndex::connect(
                url.as_str(),
                key.map(|key| key.expose()),
                &qdrant.collection,
                timeout,
            );
            Arc::new(connected?)
        }
        None => Arc::new(EdgeIndex::open(&index_folder(settings))?),
    };
    Ok(Search::new(models(settings), index, waits_for_embeddings))
}

/// Returns the models that `settings` name.
pub fn models(settings: &Settings) -> Models {
    let search = &settings.search;
    Models::new(ModelSettings {
        folder: search.models.clone(),
        bi_encoder: search.bi_encoder.clone(),
        cross_encoder: search.cross_encoder.clone(),
    })
}

/// Returns the folder of an index that is in this process.
pub fn index_folder(settings: &Settings) -> PathBuf {
    settings.state.join("search")
}
