//! Points of the fake server: translates the requests of plantlake for the engine.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::query::Variant;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions as PayloadOptions;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions as VectorsSelection;
use qdrant_client::qdrant::{
    self, BatchResult, ClearPayloadPoints, CountPoints, CountResponse, CreateFieldIndexCollection,
    CreateVectorNameRequest, DeleteFieldIndexCollection, DeletePayloadPoints, DeletePointVectors,
    DeletePoints, DeleteVectorNameRequest, DiscoverBatchPoints, DiscoverBatchResponse,
    DiscoverPoints, DiscoverResponse, FacetCounts, FacetResponse, GetPoints, GetResponse,
    PointsOperationResponse, QueryBatchPoints, QueryBatchResponse, QueryGroupsResponse,
    QueryPointGroups, QueryPoints, QueryResponse, RecommendBatchPoints, RecommendBatchResponse,
    RecommendGroupsResponse, RecommendPointGroups, RecommendPoints, RecommendResponse,
    RetrievedPoint, ScrollPoints, ScrollResponse, SearchBatchPoints, SearchBatchResponse,
    SearchGroupsResponse, SearchMatrixOffsetsResponse, SearchMatrixPairsResponse,
    SearchMatrixPoints, SearchPointGroups, SearchPoints, SearchResponse, SetPayloadPoints,
    UpdateBatchPoints, UpdateBatchResponse, UpdatePointVectors, UpdateResult, UpdateStatus,
    UpsertPoints, Value, vector, vector_input,
};
use qdrant_edge::external::uuid::Uuid;
use qdrant_edge::{
    Condition, EdgeShard, Filter, HasVectorCondition, NamedQuery, NamedVectors, OperationError,
    PointId, PointInsertOperations, PointOperations, PointStruct, QueryEnum, QueryRequest,
    ScoringQuery, ScrollRequest, SearchParams, SparseVector, UpdateOperation, Vector,
    VectorInternal, VectorStructInternal, WithPayloadInterface, WithVector,
};
use serde_json::json;
use tonic::Status;

use super::{Fake, service};

service!(Points {
    upsert(UpsertPoints) -> PointsOperationResponse = put;
    delete(DeletePoints) -> PointsOperationResponse = remove;
    get(GetPoints) -> GetResponse;
    update_vectors(UpdatePointVectors) -> PointsOperationResponse;
    delete_vectors(DeletePointVectors) -> PointsOperationResponse;
    set_payload(SetPayloadPoints) -> PointsOperationResponse;
    overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
    delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
    clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
    create_field_index(CreateFieldIndexCollection) -> PointsOperationResponse;
    delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
    create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
    delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
    search(SearchPoints) -> SearchResponse;
    search_batch(SearchBatchPoints) -> SearchBatchResponse;
    search_groups(SearchPointGroups) -> SearchGroupsResponse;
    scroll(ScrollPoints) -> ScrollResponse = page;
    recommend(RecommendPoints) -> RecommendResponse;
    recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
    recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
    discover(DiscoverPoints) -> DiscoverResponse;
    discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
    count(CountPoints) -> CountResponse;
    update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
    query(QueryPoints) -> QueryResponse;
    query_batch(QueryBatchPoints) -> QueryBatchResponse = look_up;
    query_groups(QueryPointGroups) -> QueryGroupsResponse;
    facet(FacetCounts) -> FacetResponse;
    search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
    search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
});

fn failed(error: OperationError) -> Status {
    Status::internal(format!("Service internal error: {error}"))
}

fn not_spoken(what: &str) -> Status {
    Status::unimplemented(what.to_owned())
}

fn id(id: Option<qdrant::PointId>) -> Result<PointId, Status> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(text)) => Uuid::parse_str(&text)
            .map(PointId::Uuid)
            .map_err(|error| Status::invalid_argument(error.to_string())),
        _ => Err(not_spoken("ids other than UUIDs")),
    }
}

fn id_back(id: PointId) -> Option<qdrant::PointId> {
    match id {
        PointId::Uuid(uuid) => Some(qdrant::PointId::from(uuid.to_string())),
        PointId::NumId(number) => Some(qdrant::PointId::from(number)),
    }
}

/// Translates a filter, which lists ids or selects the points with words.
fn filter(filter: qdrant::Filter) -> Result<Filter, Status> {
    let is_plain = filter.should.is_empty()
        && filter.must_not.is_empty()
        && filter.min_should.is_none()
        && filter.must.len() == 1;
    let condition = filter.must.into_iter().next();
    match condition.and_then(|condition| condition.condition_one_of) {
        Some(ConditionOneOf::HasId(ids)) if is_plain => {
            let ids: Result<_, Status> = ids.has_id.into_iter().map(|it| id(Some(it))).collect();
            Ok(Filter::new_must(Condition::HasId(ids?)))
        }
        Some(ConditionOneOf::HasVector(vector)) if is_plain => {
            let has_vector = vector.has_vector;
            let condition = HasVectorCondition { has_vector };
            Ok(Filter::new_must(Condition::HasVector(condition)))
        }
        _ => Err(not_spoken("another filter")),
    }
}

fn point(point: qdrant::PointStruct) -> Result<PointStruct, Status> {
    let mut vectors = NamedVectors::default();
    let named = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        Some(VectorsOptions::Vectors(named)) => named.vectors,
        None => HashMap::new(),
        Some(_) => return Err(not_spoken("vectors without names")),
    };
    for (name, vector) in named {
        let vector = match vector.vector {
            Some(vector::Vector::Dense(dense)) => Vector::new_dense(dense.data),
            Some(vector::Vector::Sparse(sparse)) => {
                Vector::new_sparse(sparse.indices, sparse.values).map_err(failed)?
            }
            _ => return Err(not_spoken("another vector")),
        };
        vectors = vectors.add_vector(name, vector);
    }
    let mut payload = serde_json::Map::new();
    for (name, value) in point.payload {
        let value = match value.kind {
            Some(Kind::StringValue(text)) => json!(text),
            Some(Kind::BoolValue(value)) => json!(value),
            _ => return Err(not_spoken("another payload")),
        };
        payload.insert(name, value);
    }
    Ok(PointStruct::new(id(point.id)?, vectors, payload.into()))
}

/// Returns the name of the searched vector, and the query vector.
fn nearest(query: &QueryPoints) -> Result<(String, VectorInternal), Status> {
    let is_plain = query.prefetch.is_empty()
        && query.score_threshold.is_none()
        && query.offset.is_none()
        && query.lookup_from.is_none();
    let variant = query.query.clone().and_then(|query| query.variant);
    let (Some(Variant::Nearest(input)), Some(using), true) = (variant, &query.using, is_plain)
    else {
        return Err(not_spoken("another query"));
    };
    let vector = match input.variant {
        Some(vector_input::Variant::Dense(dense)) => VectorInternal::Dense(dense.data),
        Some(vector_input::Variant::Sparse(sparse)) => VectorInternal::Sparse(SparseVector {
            indices: sparse.indices,
            values: sparse.values,
        }),
        _ => return Err(not_spoken("a query by another vector")),
    };
    Ok((using.clone(), vector))
}

/// Applies the inverse document frequency like a server: `N` and `n` count the points of the corpus that have words.
fn weigh(shard: &EdgeShard, corpus: Filter, words: &mut SparseVector) -> Result<(), Status> {
    let mut all = 0.0;
    let mut some: HashMap<u32, f32> = HashMap::new();
    let mut offset = None;
    loop {
        let request = ScrollRequest {
            offset,
            limit: Some(1000),
            filter: Some(corpus.clone()),
            with_payload: Some(WithPayloadInterface::Bool(false)),
            with_vector: WithVector::Selector(vec!["words".into()]),
            ..ScrollRequest::default()
        };
        let (records, next) = shard.scroll(request).map_err(failed)?;
        for record in records {
            let Some(VectorStructInternal::Named(vectors)) = record.vector else {
                continue;
            };
            if let Some(VectorInternal::Sparse(has)) = vectors.get("words") {
                all += 1.0;
                for word in &has.indices {
                    *some.entry(*word).or_default() += 1.0;
                }
            }
        }
        if next.is_none() {
            break;
        }
        offset = next;
    }
    for (word, weight) in words.indices.iter().zip(&mut words.values) {
        let some = some.get(word).copied().unwrap_or_default();
        *weight *= ((all - some + 0.5) / (some + 0.5) + 1.0_f32).ln();
    }
    Ok(())
}

impl Fake {
    fn changed(&self) -> PointsOperationResponse {
        let status = match self.0.faults.acknowledges_only.load(Ordering::SeqCst) {
            true => UpdateStatus::Acknowledged,
            false => UpdateStatus::Completed,
        };
        PointsOperationResponse {
            result: Some(UpdateResult {
                operation_id: Some(1),
                status: status.into(),
            }),
            time: 0.0,
            usage: None,
        }
    }

    fn put(&self, request: UpsertPoints) -> Result<PointsOperationResponse, Status> {
        if request.wait != Some(true) {
            return Err(not_spoken("not waiting"));
        }
        let shard = self.found(&request.collection_name)?;
        let points: Result<Vec<_>, Status> = request
            .points
            .into_iter()
            .map(|it| Ok(point(it)?.into()))
            .collect();
        let points = PointInsertOperations::PointsList(points?);
        let operation = PointOperations::UpsertPoints(points);
        shard
            .update(UpdateOperation::PointOperation(operation))
            .map_err(failed)?;
        Ok(self.changed())
    }

    fn remove(&self, request: DeletePoints) -> Result<PointsOperationResponse, Status> {
        if request.wait != Some(true) {
            return Err(not_spoken("not waiting"));
        }
        let shard = self.found(&request.collection_name)?;
        let selector = request
            .points
            .and_then(|points| points.points_selector_one_of);
        let Some(PointsSelectorOneOf::Points(list)) = selector else {
            return Err(not_spoken("removing otherwise than by id"));
        };
        let ids: Result<Vec<_>, Status> = list.ids.into_iter().map(|it| id(Some(it))).collect();
        let operation = PointOperations::DeletePoints { ids: ids? };
        shard
            .update(UpdateOperation::PointOperation(operation))
            .map_err(failed)?;
        Ok(self.changed())
    }

    fn page(&self, request: ScrollPoints) -> Result<ScrollResponse, Status> {
        let shard = self.found(&request.collection_name)?;
        let payload = request.with_payload.and_then(|with| with.selector_options);
        let vectors = request.with_vectors.and_then(|with| with.selector_options);
        if !matches!(payload, Some(PayloadOptions::Enable(true)))
            || !matches!(vectors, Some(VectorsSelection::Enable(false)))
            || request.filter.is_some()
            || request.order_by.is_some()
        {
            return Err(not_spoken("another page"));
        }
        let scroll = ScrollRequest {
            offset: match request.offset {
                Some(offset) => Some(id(Some(offset))?),
                None => None,
            },
            limit: request.limit.map(|limit| limit as usize),
            with_payload: Some(WithPayloadInterface::Bool(true)),
            ..ScrollRequest::default()
        };
        let (records, next) = shard.scroll(scroll).map_err(failed)?;
        let retrieved = records.into_iter().map(|record| {
            let payload = record.payload.map(|payload| payload.0).unwrap_or_default();
            let payload = payload.into_iter().map(|(name, value)| {
                let value = match value {
                    serde_json::Value::Bool(value) => Value::from(value),
                    other => Value::from(other.as_str().unwrap()),
                };
                (name, value)
            });
            RetrievedPoint {
                id: id_back(record.id),
                payload: payload.collect(),
                ..RetrievedPoint::default()
            }
        });
        Ok(ScrollResponse {
            result: retrieved.collect(),
            next_page_offset: next.and_then(id_back),
            ..ScrollResponse::default()
        })
    }

    fn look_up(&self, request: QueryBatchPoints) -> Result<QueryBatchResponse, Status> {
        let shard = self.found(&request.collection_name)?;
        let mut result = Vec::new();
        for query in request.query_points {
            result.push(best(&shard, query)?);
        }
        Ok(QueryBatchResponse {
            result,
            ..QueryBatchResponse::default()
        })
    }
}

fn best(shard: &EdgeShard, query: QueryPoints) -> Result<BatchResult, Status> {
    let (using, mut vector) = nearest(&query)?;
    let params = query.params.unwrap_or_default();
    match (&mut vector, params.idf.and_then(|idf| idf.corpus)) {
        (VectorInternal::Sparse(words), Some(corpus)) => weigh(shard, filter(corpus)?, words)?,
        (VectorInternal::Dense(_), None) => {}
        _ => return Err(not_spoken("idf of a dense vector, or over everything")),
    }
    let request = QueryRequest {
        prefetches: Vec::new(),
        query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery {
            query: vector,
            using: Some(using),
        }))),
        filter: query.filter.map(filter).transpose()?,
        score_threshold: None,
        limit: query.limit.unwrap_or(10) as usize,
        offset: 0,
        params: params.hnsw_ef.map(|beam| SearchParams {
            hnsw_ef: Some(beam as usize),
            ..SearchParams::default()
        }),
        with_vector: WithVector::Bool(false),
        with_payload: WithPayloadInterface::Bool(false),
    };
    let found = shard.query(request).map_err(failed)?;
    let scored = found.into_iter().map(|point| qdrant::ScoredPoint {
        id: id_back(point.id),
        score: point.score,
        version: point.version,
        ..qdrant::ScoredPoint::default()
    });
    Ok(BatchResult {
        result: scored.collect(),
    })
}
