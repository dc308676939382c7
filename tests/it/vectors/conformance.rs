//! Tests that both indexes must pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use plantlake::catalog::VisibleAssets;
use plantlake::model::AssetId;
use plantlake::search::index::{
    Hits, IndexError, IndexQuery, Point, StoredPoint, VectorIndex, WordVector,
};

use crate::vectors::oracle::{DIMENSIONS, World, direction, id, only, point, sparse, unit, words};
use crate::vectors::place::Place;

macro_rules! on_both {
    ($($name:ident)*) => {
        mod in_this_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&crate::vectors::place::Place::folder()).await;
            })*
        }
        mod in_a_server {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&crate::vectors::place::Place::server()).await;
            })*
        }
    };
}

on_both! {
    points_are_put_replaced_and_removed
    search_matches_exhaustive_comparison
    search_returns_only_granted_assets_at_any_limit
    search_returns_all_granted_behind_nearer_others
    scores_ignore_assets_of_others
    points_without_embedding_or_words_are_found_by_the_other
    ties_are_sorted_by_id
    search_with_many_granted_matches_comparison
    one_collection_is_active_at_any_time
    missing_collection_is_reported
    index_reopened_has_the_same_points
    collection_without_embeddings_is_searched_by_words
}

const NAME: &str = "t1w1-first";

fn index_query(
    meaning: Option<Vec<f32>>,
    words: WordVector,
    granted: &Arc<VisibleAssets>,
    limit: usize,
) -> IndexQuery {
    IndexQuery {
        embedding: meaning,
        words,
        granted: Arc::clone(granted),
        limit,
    }
}

async fn make(index: &dyn VectorIndex, points: &[Point]) -> World {
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    index.put(NAME, points.to_vec()).await.unwrap();
    let mut world = World::default();
    world.put(points);
    world
}

async fn stored(index: &dyn VectorIndex) -> Vec<StoredPoint> {
    let mut stored = index.stored_points(NAME).await.unwrap();
    stored.sort_by_key(|stored| stored.id);
    stored
}

fn expected(world: &World) -> Vec<StoredPoint> {
    let stored = |point: &Point| StoredPoint {
        id: point.id,
        hash: point.hash,
        has_embedding: point.embedding.is_some(),
    };
    world.0.values().map(stored).collect()
}

fn random(rng: &mut Rng, numbers: std::ops::Range<usize>) -> Vec<Point> {
    numbers
        .map(|number| point(rng, number, DIMENSIONS))
        .collect()
}

async fn points_are_put_replaced_and_removed(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(1);
    assert_eq!(index.active_collection().await.unwrap(), None);
    let mut world = make(&*index, &random(&mut rng, 0..700)).await;
    assert_eq!(stored(&*index).await, expected(&world));
    // Creating an existing collection changes nothing.
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    assert_eq!(stored(&*index).await, expected(&world));
    let others = random(&mut rng, 500..900);
    index.put(NAME, others.clone()).await.unwrap();
    world.put(&others);
    assert_eq!(stored(&*index).await, expected(&world));
    let gone: Vec<AssetId> = (100..600).chain(5000..5010).map(id).collect();
    index.remove(NAME, &gone).await.unwrap();
    world.0.retain(|id, _| !gone.contains(id));
    assert_eq!(stored(&*index).await, expected(&world));
    index.optimise(NAME).await.unwrap();
    assert_eq!(stored(&*index).await, expected(&world));
    index.put(NAME, Vec::new()).await.unwrap();
    index.remove(NAME, &[]).await.unwrap();
    // Removed points can be added again.
    let again = random(&mut rng, 100..200);
    index.put(NAME, again.clone()).await.unwrap();
    world.put(&again);
    assert_eq!(stored(&*index).await, expected(&world));
}

async fn search_matches_exhaustive_comparison(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(2);
    let mut world = make(&*index, &random(&mut rng, 0..300)).await;
    for round in 0..40 {
        match rng.u8(0..4) {
            0 => {
                let (from, many) = (rng.usize(0..400), rng.usize(1..60));
                let points = random(&mut rng, from..from + many);
                index.put(NAME, points.clone()).await.unwrap();
                world.put(&points);
            }
            1 => {
                let gone: Vec<AssetId> = (0..rng.usize(1..30))
                    .map(|_| id(rng.usize(0..450)))
                    .collect();
                index.remove(NAME, &gone).await.unwrap();
                world.0.retain(|id, _| !gone.contains(id));
            }
            2 if round % 5 == 0 => index.optimise(NAME).await.unwrap(),
            _ => {}
        }
        let granted = match rng.u8(0..3) {
            0 => Arc::new(VisibleAssets::All),
            _ => {
                let share = rng.f32();
                only((0..500).filter(|_| rng.f32() < share).collect::<Vec<_>>())
            }
        };
        let meaning = (rng.u8(0..4) > 0).then(|| direction(&mut rng, DIMENSIONS));
        let words = words(&mut rng, 5);
        let lookup = index_query(
            meaning,
            words,
            &granted,
            [1, 3, 10, 100, 1000][rng.usize(0..5)],
        );
        let hits = index.search(NAME, lookup.clone()).await.unwrap();
        world.check(&lookup, &hits);
    }
}

async fn search_returns_only_granted_assets_at_any_limit(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(3);
    let world = make(&*index, &random(&mut rng, 0..400)).await;
    let tenants = [
        only((0..400).step_by(2)),
        only((1..400).step_by(2)),
        only(300..310),
    ];
    for limit in [1, 2, 9, 10, 11, 99, 400, 5000] {
        for granted in &tenants {
            let meaning = Some(direction(&mut rng, DIMENSIONS));
            let lookup = index_query(meaning, words(&mut rng, 6), granted, limit);
            let hits = index.search(NAME, lookup.clone()).await.unwrap();
            let found = hits.by_embedding.iter().chain(&hits.by_words);
            assert!(found.into_iter().all(|(id, _)| granted.contains(*id)));
            world.check(&lookup, &hits);
        }
    }
    let nothing = Arc::new(VisibleAssets::Only(Vec::new()));
    let lookup = index_query(
        Some(direction(&mut rng, DIMENSIONS)),
        sparse(&[(0, 1.0)]),
        &nothing,
        10,
    );
    assert_eq!(index.search(NAME, lookup).await.unwrap(), Hits::default());
    let strangers = only(9000..9010);
    let lookup = index_query(
        Some(direction(&mut rng, DIMENSIONS)),
        sparse(&[(0, 1.0)]),
        &strangers,
        10,
    );
    assert_eq!(index.search(NAME, lookup).await.unwrap(), Hits::default());
}

async fn search_returns_all_granted_behind_nearer_others(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(4);
    let query = direction(&mut rng, DIMENSIONS);
    // All points of others are nearer, and have a higher weight of the word.
    let mut points = random(&mut rng, 0..500);
    for (number, point) in points.iter_mut().enumerate() {
        let is_mine = number >= 490;
        let mut meaning = direction(&mut rng, DIMENSIONS);
        for (x, q) in meaning.iter_mut().zip(&query) {
            *x = *x * if is_mine { 1.0 } else { 0.01 } + q;
        }
        point.embedding = Some(unit(meaning));
        point.words = sparse(&[(5, if is_mine { 0.1 } else { 3.0 })]);
    }
    let world = make(&*index, &points).await;
    let lookup = index_query(Some(query), sparse(&[(5, 1.0)]), &only(490..500), 10);
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    assert_eq!((hits.by_embedding.len(), hits.by_words.len()), (10, 10));
    world.check(&lookup, &hits);
}

async fn scores_ignore_assets_of_others(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(5);
    make(&*index, &random(&mut rng, 0..200)).await;
    let granted = only(0..150);
    let meaning = Some(direction(&mut rng, DIMENSIONS));
    let lookup = index_query(
        meaning,
        sparse(&[(0, 1.0), (7919, 1.0), (5 * 7919, 1.0)]),
        &granted,
        50,
    );
    let before = index.search(NAME, lookup.clone()).await.unwrap();
    assert!(!before.by_words.is_empty());
    index.put(NAME, random(&mut rng, 1000..2500)).await.unwrap();
    assert_eq!(index.search(NAME, lookup.clone()).await.unwrap(), before);
    let ids: Vec<AssetId> = (1000..1800).map(id).collect();
    index.remove(NAME, &ids).await.unwrap();
    assert_eq!(index.search(NAME, lookup.clone()).await.unwrap(), before);
    index.optimise(NAME).await.unwrap();
    assert_eq!(index.search(NAME, lookup).await.unwrap(), before);
}

async fn points_without_embedding_or_words_are_found_by_the_other(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(6);
    let mut points = random(&mut rng, 0..40);
    for (number, point) in points.iter_mut().enumerate() {
        let meaning = direction(&mut rng, DIMENSIONS);
        point.embedding = (number % 2 == 0).then_some(meaning);
        point.words = match number % 3 {
            0 => WordVector::default(),
            _ => sparse(&[(3, 1.0)]),
        };
    }
    let mut world = make(&*index, &points).await;
    let all = Arc::new(VisibleAssets::All);
    let lookup = index_query(
        Some(direction(&mut rng, DIMENSIONS)),
        sparse(&[(3, 1.0)]),
        &all,
        100,
    );
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    assert_eq!((hits.by_embedding.len(), hits.by_words.len()), (20, 26));
    world.check(&lookup, &hits);
    // A point that loses its embedding and its words is no longer found by them.
    for point in &mut points {
        point.embedding = None;
        point.words = WordVector::default();
        point.hash += 1;
    }
    index.put(NAME, points[..20].to_vec()).await.unwrap();
    world.put(&points[..20]);
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
    assert_eq!(stored(&*index).await, expected(&world));
    // Words that no point has, and a query without words.
    let unknown = index_query(None, sparse(&[(4711, 1.0)]), &all, 10);
    assert_eq!(index.search(NAME, unknown).await.unwrap(), Hits::default());
    let nothing = index_query(None, WordVector::default(), &all, 10);
    assert_eq!(index.search(NAME, nothing).await.unwrap(), Hits::default());
    let none = index_query(lookup.embedding, lookup.words, &all, 0);
    assert_eq!(index.search(NAME, none).await.unwrap(), Hits::default());
}

async fn ties_are_sorted_by_id(place: &Place) {
    let index = place.index();
    let meaning = unit(vec![1.0; DIMENSIONS]);
    let equal = |number: usize| Point {
        id: id(number),
        embedding: Some(meaning.clone()),
        words: sparse(&[(1, 0.7), (2, 1.3), (3, 0.1)]),
        hash: 0,
    };
    make(&*index, &(0..600).map(equal).collect::<Vec<_>>()).await;
    let mut ids: Vec<AssetId> = (0..600).map(id).collect();
    ids.sort_unstable();
    let query = sparse(&[(1, 1.0), (2, 1.0), (3, 1.0)]);
    for limit in [1, 10, 100] {
        let lookup = index_query(
            Some(meaning.clone()),
            query.clone(),
            &Arc::new(VisibleAssets::All),
            limit,
        );
        let hits = index.search(NAME, lookup).await.unwrap();
        for list in [hits.by_embedding, hits.by_words] {
            let found: Vec<AssetId> = list.iter().map(|(id, _)| *id).collect();
            assert_eq!(found, ids[..limit]);
        }
    }
}

async fn search_with_many_granted_matches_comparison(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(7);
    let mut points = random(&mut rng, 0..12_000);
    for (number, point) in points.iter_mut().enumerate() {
        // The points that are granted below rank last by this word.
        point.words.dimensions.push(1_000_000);
        point
            .words
            .weights
            .push(if number < 9_000 { 0.1 } else { 5.0 });
    }
    let world = make(&*index, &points).await;
    for granted in [only(0..9_000), only((0..12_000).filter(|n| n % 4 != 3))] {
        for words in [sparse(&[(1_000_000, 1.0)]), words(&mut rng, 4)] {
            let meaning = Some(direction(&mut rng, DIMENSIONS));
            let lookup = index_query(meaning, words, &granted, 20);
            let hits = index.search(NAME, lookup.clone()).await.unwrap();
            world.check(&lookup, &hits);
        }
    }
}

async fn one_collection_is_active_at_any_time(place: &Place) {
    let index: Arc<dyn VectorIndex> = Arc::from(place.index());
    let mut rng = Rng::with_seed(8);
    // The number of points of a generation is its number, so that a mixture is detected.
    let points = random(&mut rng, 0..40);
    let name = |generation: usize| format!("t1w1-g{generation}");
    let all = Arc::new(VisibleAssets::All);
    let is_over = Arc::new(AtomicBool::new(false));
    index.create(&name(10), None).await.unwrap();
    let only_words = |point: &Point| Point {
        embedding: None,
        words: sparse(&[(1, 1.0)]),
        ..point.clone()
    };
    let some = |count: usize| points[..count].iter().map(only_words).collect::<Vec<_>>();
    index.put(&name(10), some(10)).await.unwrap();
    index.activate(&name(10)).await.unwrap();
    let reader = {
        let (index, is_over) = (Arc::clone(&index), Arc::clone(&is_over));
        tokio::spawn(async move {
            let (mut answers, mut misses) = (0, 0);
            while !is_over.load(Ordering::SeqCst) {
                let collection = index
                    .active_collection()
                    .await
                    .unwrap()
                    .expect("there is always one");
                let count: usize = collection.rsplit('g').next().unwrap().parse().unwrap();
                let lookup = index_query(None, sparse(&[(1, 1.0)]), &all, 100);
                match index.search(&collection, lookup).await {
                    Ok(hits) => {
                        assert_eq!(hits.by_words.len(), count);
                        answers += 1;
                    }
                    // The collection was replaced in between.
                    Err(IndexError::Missing { .. }) => misses += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(answers > misses, "{answers} {misses}");
        })
    };
    for generation in 11..25 {
        index.create(&name(generation), None).await.unwrap();
        index
            .put(&name(generation), some(generation))
            .await
            .unwrap();
        assert_eq!(
            index.active_collection().await.unwrap(),
            Some(name(generation - 1))
        );
        index.activate(&name(generation)).await.unwrap();
        assert_eq!(
            index.active_collection().await.unwrap(),
            Some(name(generation))
        );
        let former = index.stored_points(&name(generation - 1)).await;
        assert!(
            matches!(former, Err(IndexError::Missing { .. })),
            "{former:?}"
        );
    }
    is_over.store(true, Ordering::SeqCst);
    reader.await.unwrap();
    // A name can be used again.
    index.create(&name(11), None).await.unwrap();
    assert_eq!(index.stored_points(&name(11)).await.unwrap(), []);
}

async fn missing_collection_is_reported(place: &Place) {
    let index = place.index();
    let is_missing = |result: Result<(), IndexError>| {
        assert!(
            matches!(&result, Err(IndexError::Missing { collection }) if collection == "t1w1-none"),
            "{result:?}"
        );
    };
    let name = "t1w1-none";
    is_missing(index.stored_points(name).await.map(drop));
    let some = point(&mut Rng::with_seed(9), 1, DIMENSIONS);
    is_missing(index.put(name, vec![some]).await);
    is_missing(index.remove(name, &[id(1)]).await);
    is_missing(index.optimise(name).await);
    is_missing(index.activate(name).await);
    let lookup = index_query(None, sparse(&[(1, 1.0)]), &Arc::new(VisibleAssets::All), 1);
    is_missing(index.search(name, lookup).await.map(drop));
    assert_eq!(index.active_collection().await.unwrap(), None);
}

async fn index_reopened_has_the_same_points(place: &Place) {
    let mut rng = Rng::with_seed(10);
    let index = place.index();
    let mut world = make(&*index, &random(&mut rng, 0..300)).await;
    drop(index);
    // A collection under construction is continued.
    for round in 1..5 {
        let index = place.index();
        assert_eq!(stored(&*index).await, expected(&world));
        let points = random(&mut rng, round * 200..round * 200 + 300);
        index.put(NAME, points.clone()).await.unwrap();
        world.put(&points);
        if round == 2 {
            index.optimise(NAME).await.unwrap();
        }
        if round >= 3 {
            index.activate(NAME).await.unwrap();
        }
        drop(index);
    }
    let index = place.index();
    assert_eq!(
        index.active_collection().await.unwrap().as_deref(),
        Some(NAME)
    );
    let meaning = Some(direction(&mut rng, DIMENSIONS));
    let lookup = index_query(meaning, words(&mut rng, 5), &only(100..900), 30);
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
}

async fn collection_without_embeddings_is_searched_by_words(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(11);
    let mut points = random(&mut rng, 0..200);
    for point in &mut points {
        point.embedding = None;
    }
    index.create(NAME, None).await.unwrap();
    index.put(NAME, points.clone()).await.unwrap();
    let mut world = World::default();
    world.put(&points);
    let lookup = index_query(None, words(&mut rng, 6), &Arc::new(VisibleAssets::All), 50);
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
}
