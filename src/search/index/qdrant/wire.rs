//! The requests to a Qdrant server and its responses.

use std::collections::HashMap;

use qdrant_client::Payload;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{
    Condition, CreateCollection, CreateCollectionBuilder, Distance, Filter, IdfParamsBuilder,
    Modifier, NamedVectors, PointId, PointStruct, QueryPoints, QueryPointsBuilder, RetrievedPoint,
    ScoredPoint, SearchParamsBuilder, SparseVectorParamsBuilder, SparseVectorsConfigBuilder, Value,
    Vector, VectorParamsBuilder, VectorsConfigBuilder,
};

use crate::catalog::VisibleAssets;
use crate::model::AssetId;
use crate::search::index::vector_index::{Point, StoredPoint, WordVector};

const MEANING: &str = "meaning";
const WORDS: &str = "words";
const HASH: &str = "hash";
const HAS_MEANING: &str = "has_meaning";

/// The minimum number of candidates (`ef`) of a search in the HNSW graph.
const BEAM: u64 = 128;

/// Returns the request that creates a collection.
pub(super) fn create_collection_request(name: &str, dimensions: Option<usize>) -> CreateCollection {
    let mut words = SparseVectorsConfigBuilder::default();
    words.add_named_vector_params(
        WORDS,
        SparseVectorParamsBuilder::default().modifier(Modifier::Idf),
    );
    let mut collection = CreateCollectionBuilder::new(name).sparse_vectors_config(words);
    if let Some(dimensions) = dimensions {
        let mut meaning = VectorsConfigBuilder::default();
        let parameters = VectorParamsBuilder::new(dimensions as u64, Distance::Cosine);
        meaning.add_named_vector_params(MEANING, parameters);
        collection = collection.vectors_config(meaning);
    }
    collection.build()
}

pub(super) fn point_id(id: AssetId) -> PointId {
    PointId::from(id.to_string())
}

fn asset_id(id: Option<PointId>) -> Option<AssetId> {
    match id?.point_id_options? {
        PointIdOptions::Uuid(text) => AssetId::parse(&text).ok(),
        PointIdOptions::Num(_) => None,
    }
}

/// Returns the approximate size of a point in a request, in bytes.
pub(super) fn point_bytes(point: &Point) -> usize {
    let meaning = point.embedding.as_ref().map_or(0, Vec::len);
    4 * meaning + 10 * point.words.dimensions.len() + 150
}

/// Converts a point to the server's type.
pub(super) fn to_point_struct(point: Point) -> PointStruct {
    let has_meaning = point.embedding.is_some();
    let mut vectors = NamedVectors::default();
    if let Some(meaning) = point.embedding {
        vectors = vectors.add_vector(MEANING, Vector::new_dense(meaning));
    }
    if !point.words.dimensions.is_empty() {
        let words = Vector::new_sparse(point.words.dimensions, point.words.weights);
        vectors = vectors.add_vector(WORDS, words);
    }
    let payload = Payload::from(HashMap::from([
        (HASH, Value::from(format!("{:016x}", point.hash))),
        (HAS_MEANING, Value::from(has_meaning)),
    ]));
    PointStruct::new(point_id(point.id), vectors, payload)
}

/// Returns the metadata of a point.
pub(super) fn to_stored_point(point: RetrievedPoint) -> Option<StoredPoint> {
    let kind = |name: &str| {
        point
            .payload
            .get(name)
            .and_then(|value| value.kind.as_ref())
    };
    let hash = match kind(HASH) {
        Some(Kind::StringValue(hash)) => u64::from_str_radix(hash, 16).ok(),
        _ => None,
    };
    let has_meaning = matches!(kind(HAS_MEANING), Some(Kind::BoolValue(true)));
    Some(StoredPoint {
        id: asset_id(point.id)?,
        // A point without a hash counts as missing: 0 makes it outdated, so it is replaced or removed.
        hash: hash.unwrap_or_default(),
        has_embedding: has_meaning,
    })
}

/// Returns the ids and scores of a response.
pub(super) fn to_scores(points: Vec<ScoredPoint>) -> Vec<(AssetId, f32)> {
    let scored = |point: ScoredPoint| Some((asset_id(point.id)?, point.score));
    points.into_iter().filter_map(scored).collect()
}

/// Returns the filter that lists the granted assets. If all are granted, it selects the points with words, over which
/// document frequencies are then counted. (Without a filter, a server also counts removed points.)
pub(super) fn granted_filter(visible: &VisibleAssets) -> Filter {
    Filter::must([match visible {
        VisibleAssets::All => Condition::has_vector(WORDS),
        VisibleAssets::Only(ids) => Condition::has_id(ids.iter().map(AssetId::to_string)),
    }])
}

/// Returns the query for the nearest points by embedding.
pub(super) fn query_by_embedding(
    collection: &str,
    meaning: &[f32],
    filter: Option<Filter>,
    count: usize,
) -> QueryPoints {
    let count = count as u64;
    let parameters = SearchParamsBuilder::default().hnsw_ef(BEAM.max(count));
    let query = QueryPointsBuilder::new(collection)
        .query(meaning.to_vec())
        .using(MEANING)
        .params(parameters)
        .limit(count);
    with_filter(query, filter)
}

/// Returns the query for the best points by words. The server counts document frequencies among the points that
/// `corpus` selects.
pub(super) fn query_by_words(
    collection: &str,
    words: &WordVector,
    corpus: Filter,
    filter: Option<Filter>,
    count: usize,
) -> QueryPoints {
    let words: Vec<(u32, f32)> = words
        .dimensions
        .iter()
        .copied()
        .zip(words.weights.iter().copied())
        .collect();
    let frequencies = IdfParamsBuilder::new().corpus(corpus);
    let query = QueryPointsBuilder::new(collection)
        .query(words)
        .using(WORDS)
        .params(SearchParamsBuilder::default().idf(frequencies))
        .limit(count as u64);
    with_filter(query, filter)
}

fn with_filter(query: QueryPointsBuilder, filter: Option<Filter>) -> QueryPoints {
    match filter {
        Some(filter) => query.filter(filter).build(),
        None => query.build(),
    }
}
