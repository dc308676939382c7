//! The index in a Qdrant server, which several processes can share.
//!
//! Collections are named `<prefix>-<collection>`. The alias `<prefix>` points to the active one, and is moved
//! atomically.
//!
//! | file | contents |
//! |---|---|
//! | `connection` | timeouts, retries, error mapping and the version check of the server |
//! | `wire` | the requests and responses |

mod connection;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use qdrant_client::qdrant::{
    CollectionStatus, CreateAliasBuilder, DeletePointsBuilder, Filter, PointStruct,
    PointsOperationResponse, QueryBatchPointsBuilder, QueryPoints, ScrollPointsBuilder,
    UpdateStatus, UpsertPointsBuilder,
};

use super::error::IndexError;
use super::granted_set_cache::GrantedSetCache;
use super::ranking::{Ranking, RequestLimits, round_to_five_digits};
use super::vector_index::{Hits, IndexQuery, Point, StoredPoint, VectorIndex};
use crate::catalog::VisibleAssets;
use crate::clock::Stopwatch;
use crate::model::AssetId;
use connection::{Connection, TimeoutClass};

/// The maximum size of an update in bytes. A server accepts 32 MiB by default; smaller updates are answered sooner.
const MAX_UPDATE_BYTES: usize = 8 << 20;
/// The maximum number of points per call.
const MAX_UPDATE_POINTS: usize = 1_000;
/// The maximum number of ids per call.
const MAX_IDS: usize = 10_000;
/// The number of points per page.
const POINTS_PER_PAGE: u32 = 5_000;
/// Each id takes about 40 bytes in a request. Additional results are transferred back.
const BOUNDS: RequestLimits = RequestLimits {
    max_listed: 8_000,
    max_results: 2_000,
};

/// The maximum wait until the server has built its graphs. It answers queries meanwhile, only slower.
const OPTIMISE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The lifetime of a cached number of points, which only determines the number of requested results.
const COUNT_LIFETIME: Duration = Duration::from_secs(60);

/// An index in a Qdrant server.
#[derive(Debug)]
pub struct QdrantIndex {
    connection: Connection,
    prefix: String,
    granted: GrantedSetCache<Arc<Filter>>,
    counts: Mutex<HashMap<String, (Stopwatch, usize)>>,
}

impl QdrantIndex {
    /// Creates an index in the server at this URL. Nothing is sent before the first use. `prefix` must not contain a
    /// hyphen, which ends it in the names of collections.
    pub fn connect(
        url: &str,
        api_key: Option<&str>,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Self, IndexError> {
        let connection = Connection::new(url, api_key, timeout)?;
        if prefix.is_empty() || prefix.contains('-') {
            return Err(connection.unsuitable(format!(
                "cannot use the prefix {prefix:?}: `qdrant_collection` must not be empty or contain a hyphen"
            )));
        }
        Ok(Self {
            connection,
            prefix: prefix.to_owned(),
            granted: GrantedSetCache::default(),
            counts: Mutex::default(),
        })
    }

    fn server_name(&self, collection: &str) -> String {
        format!("{}-{collection}", self.prefix)
    }

    /// Returns the collection with this name in the server, if it is ours.
    fn collection<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(&self.prefix)?.strip_prefix('-')
    }

    /// Returns the aliases of the server and the collections that they point to.
    async fn aliases(&self) -> Result<Vec<(String, String)>, IndexError> {
        let call = self
            .connection
            .call(TimeoutClass::Short, "", async |client| {
                client.list_aliases().await
            });
        let aliases = call.await?.aliases.into_iter();
        Ok(aliases
            .map(|alias| (alias.alias_name, alias.collection_name))
            .collect())
    }

    /// Checks that the server has completed a change, and not merely acknowledged it.
    fn check_completed(&self, response: &PointsOperationResponse) -> Result<(), IndexError> {
        let status = response.result.as_ref().map(|result| result.status());
        match status {
            Some(UpdateStatus::Completed) => Ok(()),
            _ => Err(self.connection.unavailable(format!(
                "the server did not confirm the change; its status is {}",
                status.map_or("missing", |status| status.as_str_name())
            ))),
        }
    }

    async fn upsert(&self, collection: &str, points: Vec<PointStruct>) -> Result<(), IndexError> {
        let request = UpsertPointsBuilder::new(self.server_name(collection), points)
            .wait(true)
            .build();
        let call = self
            .connection
            .call(TimeoutClass::Long, collection, async |client| {
                client.upsert_points(request.clone()).await
            });
        self.check_completed(&call.await?)
    }

    async fn count(&self, collection: &str) -> Result<usize, IndexError> {
        let counts = || self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, count)) = counts().get(collection)
            && since.elapsed() < COUNT_LIFETIME
        {
            return Ok(*count);
        }
        let name = self.server_name(collection);
        let call = self
            .connection
            .call(TimeoutClass::Short, collection, async |client| {
                client.collection_info(&*name).await
            });
        let count = call.await?.result.and_then(|info| info.points_count);
        let count = count.unwrap_or_default() as usize;
        let mut counts = counts();
        counts.retain(|_, (since, _)| since.elapsed() < COUNT_LIFETIME);
        counts.insert(collection.to_owned(), (Stopwatch::start(), count));
        Ok(count)
    }

    async fn query(
        &self,
        collection: &str,
        queries: Vec<QueryPoints>,
    ) -> Result<Vec<Vec<(AssetId, f32)>>, IndexError> {
        let asked = queries.len();
        let request = QueryBatchPointsBuilder::new(self.server_name(collection), queries).build();
        let call = self
            .connection
            .call(TimeoutClass::Short, collection, async |client| {
                client.query_batch(request.clone()).await
            });
        let answers = call.await?.result.into_iter();
        let answers: Vec<_> = answers
            .map(|answer| wire::to_scores(answer.result))
            .collect();
        match answers.len() == asked {
            true => Ok(answers),
            false => Err(self
                .connection
                .unsuitable("returned another number of results than of queries")),
        }
    }
}

/// One of the requested lists.
struct RankedList<'a> {
    ranking: Ranking<'a>,
    /// Whether the list needs further requests.
    is_incomplete: bool,
    is_by_words: bool,
}

#[async_trait]
impl VectorIndex for QdrantIndex {
    async fn active_collection(&self) -> Result<Option<String>, IndexError> {
        let aliases = self.aliases().await?;
        let ours = aliases.into_iter().find(|(alias, _)| *alias == self.prefix);
        let Some((alias, name)) = ours else {
            return Ok(None);
        };
        match self.collection(&name) {
            Some(collection) => Ok(Some(collection.to_owned())),
            None => Err(self.connection.unsuitable(format!(
                "has an alias {alias} of another program, for {name}; set another name in `qdrant_collection`"
            ))),
        }
    }

    async fn create(&self, collection: &str, dimensions: Option<usize>) -> Result<(), IndexError> {
        let name = self.server_name(collection);
        let exists = async || {
            let call = self
                .connection
                .call(TimeoutClass::Short, collection, async |client| {
                    client.collection_exists(&*name).await
                });
            call.await
        };
        if exists().await? {
            return Ok(());
        }
        let request = wire::create_collection_request(&name, dimensions);
        let call = self
            .connection
            .call(TimeoutClass::Long, collection, async |client| {
                client.create_collection(request.clone()).await
            });
        match call.await {
            Ok(_) => Ok(()),
            // Another process was faster, or this one had created it before its connection was lost.
            Err(_) if exists().await? => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn stored_points(&self, collection: &str) -> Result<Vec<StoredPoint>, IndexError> {
        let mut stored = Vec::new();
        let mut offset = None;
        loop {
            let mut request = ScrollPointsBuilder::new(self.server_name(collection))
                .limit(POINTS_PER_PAGE)
                .with_payload(true)
                .with_vectors(false);
            if let Some(offset) = offset {
                request = request.offset::<qdrant_client::qdrant::PointId>(offset);
            }
            let request = request.build();
            let call = self
                .connection
                .call(TimeoutClass::Long, collection, async |client| {
                    client.scroll(request.clone()).await
                });
            let page = call.await?;
            stored.extend(page.result.into_iter().filter_map(wire::to_stored_point));
            if page.next_page_offset.is_none() {
                return Ok(stored);
            }
            offset = page.next_page_offset;
        }
    }

    async fn put(&self, collection: &str, points: Vec<Point>) -> Result<(), IndexError> {
        // A server up to version 1.19 keeps vectors that a replaced point had and the new one lacks.
        let lacks = |point: &&Point| point.embedding.is_none() || point.words.dimensions.is_empty();
        let lacking: Vec<AssetId> = points.iter().filter(lacks).map(|point| point.id).collect();
        self.remove(collection, &lacking).await?;
        let mut batch = Vec::new();
        let mut bytes = 0;
        for point in points {
            let size = wire::point_bytes(&point);
            if !batch.is_empty()
                && (bytes + size > MAX_UPDATE_BYTES || batch.len() == MAX_UPDATE_POINTS)
            {
                self.upsert(collection, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += size;
            batch.push(wire::to_point_struct(point));
        }
        match batch.is_empty() {
            true => Ok(()),
            false => self.upsert(collection, batch).await,
        }
    }

    async fn remove(&self, collection: &str, ids: &[AssetId]) -> Result<(), IndexError> {
        for ids in ids.chunks(MAX_IDS) {
            let ids: Vec<_> = ids.iter().map(|id| wire::point_id(*id)).collect();
            let request = DeletePointsBuilder::new(self.server_name(collection))
                .points(ids)
                .wait(true)
                .build();
            let call = self
                .connection
                .call(TimeoutClass::Long, collection, async |client| {
                    client.delete_points(request.clone()).await
                });
            self.check_completed(&call.await?)?;
        }
        Ok(())
    }

    async fn optimise(&self, collection: &str) -> Result<(), IndexError> {
        let name = self.server_name(collection);
        let since = Stopwatch::start();
        let mut pause = MIN_POLL_INTERVAL;
        loop {
            let call = self
                .connection
                .call(TimeoutClass::Long, collection, async |client| {
                    client.collection_info(&*name).await
                });
            let info = call.await?.result;
            match info.map(|info| info.status()) {
                // Grey: the optimisation is pending until the next change.
                Some(CollectionStatus::Green | CollectionStatus::Grey) => return Ok(()),
                Some(CollectionStatus::Red) => {
                    return Err(self.connection.unsuitable(format!(
                        "reports a failure of the collection {name}; see the server's log"
                    )));
                }
                _ if since.elapsed() > OPTIMISE_TIMEOUT => {
                    tracing::warn!(collection = %name, "the Qdrant server is still building its index");
                    return Ok(());
                }
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(MAX_POLL_INTERVAL);
        }
    }

    async fn activate(&self, collection: &str) -> Result<(), IndexError> {
        let name = self.server_name(collection);
        let request = CreateAliasBuilder::new(&*name, &*self.prefix).build();
        let call = self
            .connection
            .call(TimeoutClass::Long, collection, async |client| {
                client.create_alias(request.clone()).await
            });
        call.await?;
        let aliased: Vec<String> = self
            .aliases()
            .await?
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        let call = self
            .connection
            .call(TimeoutClass::Short, collection, async |client| {
                client.list_collections().await
            });
        for other in call.await?.collections {
            let other = other.name;
            if other == name || self.collection(&other).is_none() || aliased.contains(&other) {
                continue;
            }
            let call = self
                .connection
                .call(TimeoutClass::Long, collection, async |client| {
                    client.delete_collection(&*other).await
                });
            match call.await {
                // Another process was faster.
                Ok(_) | Err(IndexError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn search(&self, collection: &str, lookup: IndexQuery) -> Result<Hits, IndexError> {
        let is_none_granted =
            matches!(&*lookup.granted, VisibleAssets::Only(ids) if ids.is_empty());
        if is_none_granted || lookup.limit == 0 {
            return Ok(Hits::default());
        }
        let points = match &*lookup.granted {
            VisibleAssets::Only(ids) if ids.len() > BOUNDS.max_listed => {
                self.count(collection).await?
            }
            _ => 0,
        };
        let list = |is_by_words, is_incomplete| RankedList {
            ranking: Ranking::new(&lookup.granted, lookup.limit, points, BOUNDS),
            is_incomplete,
            is_by_words,
        };
        let mut lists = [
            list(false, lookup.embedding.is_some()),
            list(true, !lookup.words.dimensions.is_empty()),
        ];
        let name = self.server_name(collection);
        while lists.iter().any(|list| list.is_incomplete) {
            let granted = self.granted.get(
                &lookup.granted,
                |_| true,
                |granted| Arc::new(wire::granted_filter(granted)),
            );
            let ask = |list: &RankedList<'_>| {
                let asked = list.ranking.next_request();
                let filter = asked.is_filtered.then(|| Filter::clone(&granted));
                match (&lookup.embedding, list.is_by_words) {
                    (Some(meaning), false) => {
                        wire::query_by_embedding(&name, meaning, filter, asked.count)
                    }
                    _ => wire::query_by_words(
                        &name,
                        &lookup.words,
                        Filter::clone(&granted),
                        filter,
                        asked.count,
                    ),
                }
            };
            let open = lists.iter().filter(|list| list.is_incomplete);
            let answers = self.query(collection, open.map(ask).collect()).await?;
            let open = lists.iter_mut().filter(|list| list.is_incomplete);
            for (list, mut answer) in open.zip(answers) {
                if list.is_by_words {
                    for (_, score) in &mut answer {
                        *score = round_to_five_digits(*score);
                    }
                }
                list.is_incomplete = !list.ranking.accept(answer);
            }
        }
        let [by_embedding, by_words] = lists.map(|list| list.ranking.into_results());
        Ok(Hits {
            by_embedding,
            by_words,
        })
    }
}
