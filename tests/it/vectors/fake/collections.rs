//! Collections and aliases of the fake server.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    AliasDescription, ChangeAliases, CollectionClusterInfoRequest, CollectionClusterInfoResponse,
    CollectionDescription, CollectionExists, CollectionExistsRequest, CollectionExistsResponse,
    CollectionInfo, CollectionOperationResponse, CollectionStatus, CreateCollection,
    CreateShardKeyRequest, CreateShardKeyResponse, DeleteCollection, DeleteShardKeyRequest,
    DeleteShardKeyResponse, Distance, GetCollectionInfoRequest, GetCollectionInfoResponse,
    ListAliasesRequest, ListAliasesResponse, ListCollectionAliasesRequest, ListCollectionsRequest,
    ListCollectionsResponse, ListShardKeysRequest, ListShardKeysResponse, Modifier,
    UpdateCollection, UpdateCollectionClusterSetupRequest, UpdateCollectionClusterSetupResponse,
};
use qdrant_edge::{EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams};
use tonic::Status;

use super::{Fake, service};

service!(Collections {
    get(GetCollectionInfoRequest) -> GetCollectionInfoResponse = info;
    list(ListCollectionsRequest) -> ListCollectionsResponse = list_all;
    create(CreateCollection) -> CollectionOperationResponse = make;
    update(UpdateCollection) -> CollectionOperationResponse;
    delete(DeleteCollection) -> CollectionOperationResponse = drop_one;
    update_aliases(ChangeAliases) -> CollectionOperationResponse = change_aliases;
    list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
    list_aliases(ListAliasesRequest) -> ListAliasesResponse = all_aliases;
    collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
    collection_exists(CollectionExistsRequest) -> CollectionExistsResponse = exists;
    update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
    create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
    delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
    list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
});

fn done() -> Result<CollectionOperationResponse, Status> {
    Ok(CollectionOperationResponse {
        result: true,
        time: 0.0,
    })
}

impl Fake {
    fn info(&self, request: GetCollectionInfoRequest) -> Result<GetCollectionInfoResponse, Status> {
        let shard = self.found(&request.collection_name)?;
        let one_less = |left: usize| match left {
            usize::MAX => Some(usize::MAX),
            left => left.checked_sub(1),
        };
        let is_yellow = self
            .0
            .faults
            .yellow
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok();
        let status = match is_yellow {
            true => CollectionStatus::Yellow,
            false => CollectionStatus::Green,
        };
        Ok(GetCollectionInfoResponse {
            result: Some(CollectionInfo {
                status: status.into(),
                points_count: Some(shard.info().points_count as u64),
                ..CollectionInfo::default()
            }),
            time: 0.0,
        })
    }

    fn list_all(&self, _: ListCollectionsRequest) -> Result<ListCollectionsResponse, Status> {
        let contents = self.0.contents.lock().unwrap();
        let names = contents.collections.keys().cloned();
        Ok(ListCollectionsResponse {
            collections: names.map(|name| CollectionDescription { name }).collect(),
            time: 0.0,
        })
    }

    fn make(&self, request: CreateCollection) -> Result<CollectionOperationResponse, Status> {
        let name = request.collection_name;
        {
            let contents = self.0.contents.lock().unwrap();
            if contents.collections.contains_key(&name) || contents.aliases.contains_key(&name) {
                return Err(Status::already_exists(format!(
                    "Wrong input: Collection `{name}` already exists!"
                )));
            }
        }
        let sparse = request.sparse_vectors_config.unwrap_or_default().map;
        let words = sparse.get("words").and_then(|words| words.modifier);
        if sparse.len() != 1 || words != Some(Modifier::Idf.into()) {
            return Err(Status::unimplemented(
                "sparse vectors other than words by idf",
            ));
        }
        let dimensions = match request.vectors_config.and_then(|config| config.config) {
            None => None,
            Some(Config::ParamsMap(named)) if named.map.len() == 1 => {
                let meaning = named.map.get("meaning");
                let meaning =
                    meaning.filter(|meaning| meaning.distance == i32::from(Distance::Cosine));
                let meaning = meaning.ok_or_else(|| Status::unimplemented("another vector"))?;
                Some(meaning.size as usize)
            }
            Some(_) => return Err(Status::unimplemented("other vectors than meanings")),
        };
        let shard = self.shard(&name, dimensions);
        let mut contents = self.0.contents.lock().unwrap();
        contents.collections.insert(name, shard);
        done()
    }

    /// Creates a shard. Its engine cannot count document frequencies over a subset of points, so it does not weigh
    /// words.
    pub(super) fn shard(&self, name: &str, dimensions: Option<usize>) -> Arc<EdgeShard> {
        let mut config =
            EdgeConfig::builder().sparse_vector("words", EdgeSparseVectorParams::builder().build());
        if let Some(size) = dimensions {
            let meaning = EdgeVectorParams::builder(size, qdrant_edge::Distance::Cosine).build();
            config = config.vector("meaning", meaning);
        }
        let folder = tempfile::Builder::new()
            .prefix(name)
            .tempdir_in(self.0.folder.path());
        let folder = folder.unwrap().keep();
        Arc::new(EdgeShard::load(&folder, Some(config.build())).unwrap())
    }

    fn drop_one(&self, request: DeleteCollection) -> Result<CollectionOperationResponse, Status> {
        let mut contents = self.0.contents.lock().unwrap();
        contents.collections.remove(&request.collection_name);
        contents
            .aliases
            .retain(|_, collection| *collection != request.collection_name);
        done()
    }

    fn change_aliases(
        &self,
        request: ChangeAliases,
    ) -> Result<CollectionOperationResponse, Status> {
        let mut contents = self.0.contents.lock().unwrap();
        for operation in request.actions {
            let Some(Action::CreateAlias(create)) = operation.action else {
                return Err(Status::unimplemented("changing an alias otherwise"));
            };
            if contents.collections.contains_key(&create.alias_name) {
                return Err(Status::invalid_argument(format!(
                    "Wrong input: Collection `{}` already exists!",
                    create.alias_name
                )));
            }
            if !contents.collections.contains_key(&create.collection_name) {
                return Err(Status::not_found(format!(
                    "Not found: Collection `{}` doesn't exist!",
                    create.collection_name
                )));
            }
            contents
                .aliases
                .insert(create.alias_name, create.collection_name);
        }
        done()
    }

    fn all_aliases(&self, _: ListAliasesRequest) -> Result<ListAliasesResponse, Status> {
        let contents = self.0.contents.lock().unwrap();
        let aliases = contents.aliases.iter();
        Ok(ListAliasesResponse {
            aliases: aliases
                .map(|(alias, collection)| AliasDescription {
                    alias_name: alias.clone(),
                    collection_name: collection.clone(),
                })
                .collect(),
            time: 0.0,
        })
    }

    fn exists(&self, request: CollectionExistsRequest) -> Result<CollectionExistsResponse, Status> {
        let contents = self.0.contents.lock().unwrap();
        Ok(CollectionExistsResponse {
            result: Some(CollectionExists {
                exists: contents.collections.contains_key(&request.collection_name),
            }),
            time: 0.0,
        })
    }
}
