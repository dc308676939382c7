//! What both indexes must do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use plantlake::catalog::Visible;
use plantlake::model::AssetId;
use plantlake::search::index::{Hits, IndexError, Lookup, Point, Sparse, Stored, VectorIndex};

use crate::oracle::{DIMENSIONS, World, direction, id, only, point, sparse, unit, words};
use crate::place::Place;

macro_rules! on_both {
    ($($name:ident)*) => {
        mod in_this_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&crate::place::Place::folder()).await;
            })*
        }
        mod in_a_server {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&crate::place::Place::server()).await;
            })*
        }
    };
}

on_both! {
    points_are_put_replaced_and_removed
    it_answers_what_comparing_everything_does
    a_tenant_finds_only_its_own_whatever_the_limit
    ten_are_ten
    what_others_add_changes_no_score
    what_a_point_lacks_does_not_matter
    equals_come_in_the_order_of_ids
    many_may_be_granted
    one_collection_is_in_force_at_any_time
    what_is_not_there_is_missing
    it_is_there_when_it_is_opened_again
    words_alone_do
}

const NAME: &str = "t1w1-first";

fn look(meaning: Option<Vec<f32>>, words: Sparse, granted: &Arc<Visible>, limit: usize) -> Lookup {
    Lookup {
        meaning,
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

async fn stored(index: &dyn VectorIndex) -> Vec<Stored> {
    let mut stored = index.stored(NAME).await.unwrap();
    stored.sort_by_key(|stored| stored.id);
    stored
}

fn expected(world: &World) -> Vec<Stored> {
    let stored = |point: &Point| Stored {
        id: point.id,
        hash: point.hash,
        has_meaning: point.meaning.is_some(),
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
    assert_eq!(index.in_force().await.unwrap(), None);
    let mut world = make(&*index, &random(&mut rng, 0..700)).await;
    assert_eq!(stored(&*index).await, expected(&world));
    // What is there is left alone.
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
    index.settle(NAME).await.unwrap();
    assert_eq!(stored(&*index).await, expected(&world));
    index.put(NAME, Vec::new()).await.unwrap();
    index.remove(NAME, &[]).await.unwrap();
    // They can come again.
    let again = random(&mut rng, 100..200);
    index.put(NAME, again.clone()).await.unwrap();
    world.put(&again);
    assert_eq!(stored(&*index).await, expected(&world));
}

async fn it_answers_what_comparing_everything_does(place: &Place) {
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
            2 if round % 5 == 0 => index.settle(NAME).await.unwrap(),
            _ => {}
        }
        let granted = match rng.u8(0..3) {
            0 => Arc::new(Visible::All),
            _ => {
                let share = rng.f32();
                only((0..500).filter(|_| rng.f32() < share).collect::<Vec<_>>())
            }
        };
        let meaning = (rng.u8(0..4) > 0).then(|| direction(&mut rng, DIMENSIONS));
        let words = words(&mut rng, 5);
        let lookup = look(
            meaning,
            words,
            &granted,
            [1, 3, 10, 100, 1000][rng.usize(0..5)],
        );
        let hits = index.look_up(NAME, lookup.clone()).await.unwrap();
        world.check(&lookup, &hits);
    }
}

async fn a_tenant_finds_only_its_own_whatever_the_limit(place: &Place) {
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
            let lookup = look(meaning, words(&mut rng, 6), granted, limit);
            let hits = index.look_up(NAME, lookup.clone()).await.unwrap();
            let found = hits.by_meaning.iter().chain(&hits.by_words);
            assert!(found.into_iter().all(|(id, _)| granted.contains(*id)));
            world.check(&lookup, &hits);
        }
    }
    let nothing = Arc::new(Visible::Only(Vec::new()));
    let lookup = look(
        Some(direction(&mut rng, DIMENSIONS)),
        sparse(&[(0, 1.0)]),
        &nothing,
        10,
    );
    assert_eq!(index.look_up(NAME, lookup).await.unwrap(), Hits::default());
    let strangers = only(9000..9010);
    let lookup = look(
        Some(direction(&mut rng, DIMENSIONS)),
        sparse(&[(0, 1.0)]),
        &strangers,
        10,
    );
    assert_eq!(index.look_up(NAME, lookup).await.unwrap(), Hits::default());
}

async fn ten_are_ten(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(4);
    let query = direction(&mut rng, DIMENSIONS);
    // The others' are all nearer, and have the word more often.
    let mut points = random(&mut rng, 0..500);
    for (number, point) in points.iter_mut().enumerate() {
        let is_mine = number >= 490;
        let mut meaning = direction(&mut rng, DIMENSIONS);
        for (x, q) in meaning.iter_mut().zip(&query) {
            *x = *x * if is_mine { 1.0 } else { 0.01 } + q;
        }
        point.meaning = Some(unit(meaning));
        point.words = sparse(&[(5, if is_mine { 0.1 } else { 3.0 })]);
    }
    let world = make(&*index, &points).await;
    let lookup = look(Some(query), sparse(&[(5, 1.0)]), &only(490..500), 10);
    let hits = index.look_up(NAME, lookup.clone()).await.unwrap();
    assert_eq!((hits.by_meaning.len(), hits.by_words.len()), (10, 10));
    world.check(&lookup, &hits);
}

async fn what_others_add_changes_no_score(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(5);
    make(&*index, &random(&mut rng, 0..200)).await;
    let granted = only(0..150);
    let meaning = Some(direction(&mut rng, DIMENSIONS));
    let lookup = look(
        meaning,
        sparse(&[(0, 1.0), (7919, 1.0), (5 * 7919, 1.0)]),
        &granted,
        50,
    );
    let before = index.look_up(NAME, lookup.clone()).await.unwrap();
    assert!(!before.by_words.is_empty());
    index.put(NAME, random(&mut rng, 1000..2500)).await.unwrap();
    assert_eq!(index.look_up(NAME, lookup.clone()).await.unwrap(), before);
    let ids: Vec<AssetId> = (1000..1800).map(id).collect();
    index.remove(NAME, &ids).await.unwrap();
    assert_eq!(index.look_up(NAME, lookup.clone()).await.unwrap(), before);
    index.settle(NAME).await.unwrap();
    assert_eq!(index.look_up(NAME, lookup).await.unwrap(), before);
}

async fn what_a_point_lacks_does_not_matter(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(6);
    let mut points = random(&mut rng, 0..40);
    for (number, point) in points.iter_mut().enumerate() {
        let meaning = direction(&mut rng, DIMENSIONS);
        point.meaning = (number % 2 == 0).then_some(meaning);
        point.words = match number % 3 {
            0 => Sparse::default(),
            _ => sparse(&[(3, 1.0)]),
        };
    }
    let mut world = make(&*index, &points).await;
    let all = Arc::new(Visible::All);
    let lookup = look(
        Some(direction(&mut rng, DIMENSIONS)),
        sparse(&[(3, 1.0)]),
        &all,
        100,
    );
    let hits = index.look_up(NAME, lookup.clone()).await.unwrap();
    assert_eq!((hits.by_meaning.len(), hits.by_words.len()), (20, 26));
    world.check(&lookup, &hits);
    // Whoever had them and has them no more, is not found by them.
    for point in &mut points {
        point.meaning = None;
        point.words = Sparse::default();
        point.hash += 1;
    }
    index.put(NAME, points[..20].to_vec()).await.unwrap();
    world.put(&points[..20]);
    let hits = index.look_up(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
    assert_eq!(stored(&*index).await, expected(&world));
    // Words that nobody has, and none.
    let unknown = look(None, sparse(&[(4711, 1.0)]), &all, 10);
    assert_eq!(index.look_up(NAME, unknown).await.unwrap(), Hits::default());
    let nothing = look(None, Sparse::default(), &all, 10);
    assert_eq!(index.look_up(NAME, nothing).await.unwrap(), Hits::default());
    let none = look(lookup.meaning, lookup.words, &all, 0);
    assert_eq!(index.look_up(NAME, none).await.unwrap(), Hits::default());
}

async fn equals_come_in_the_order_of_ids(place: &Place) {
    let index = place.index();
    let meaning = unit(vec![1.0; DIMENSIONS]);
    let equal = |number: usize| Point {
        id: id(number),
        meaning: Some(meaning.clone()),
        words: sparse(&[(1, 0.7), (2, 1.3), (3, 0.1)]),
        hash: 0,
    };
    make(&*index, &(0..600).map(equal).collect::<Vec<_>>()).await;
    let mut ids: Vec<AssetId> = (0..600).map(id).collect();
    ids.sort_unstable();
    let query = sparse(&[(1, 1.0), (2, 1.0), (3, 1.0)]);
    for limit in [1, 10, 100] {
        let lookup = look(
            Some(meaning.clone()),
            query.clone(),
            &Arc::new(Visible::All),
            limit,
        );
        let hits = index.look_up(NAME, lookup).await.unwrap();
        for list in [hits.by_meaning, hits.by_words] {
            let found: Vec<AssetId> = list.iter().map(|(id, _)| *id).collect();
            assert_eq!(found, ids[..limit]);
        }
    }
}

async fn many_may_be_granted(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(7);
    let mut points = random(&mut rng, 0..12_000);
    for (number, point) in points.iter_mut().enumerate() {
        // Those that are granted below are last by this word.
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
            let lookup = look(meaning, words, &granted, 20);
            let hits = index.look_up(NAME, lookup.clone()).await.unwrap();
            world.check(&lookup, &hits);
        }
    }
}

async fn one_collection_is_in_force_at_any_time(place: &Place) {
    let index: Arc<dyn VectorIndex> = Arc::from(place.index());
    let mut rng = Rng::with_seed(8);
    // Generations have as many points as their number, so that a mixture would show.
    let points = random(&mut rng, 0..40);
    let name = |generation: usize| format!("t1w1-g{generation}");
    let all = Arc::new(Visible::All);
    let is_over = Arc::new(AtomicBool::new(false));
    index.create(&name(10), None).await.unwrap();
    let only_words = |point: &Point| Point {
        meaning: None,
        words: sparse(&[(1, 1.0)]),
        ..point.clone()
    };
    let some = |count: usize| points[..count].iter().map(only_words).collect::<Vec<_>>();
    index.put(&name(10), some(10)).await.unwrap();
    index.put_in_force(&name(10)).await.unwrap();
    let reader = {
        let (index, is_over) = (Arc::clone(&index), Arc::clone(&is_over));
        tokio::spawn(async move {
            let (mut answers, mut misses) = (0, 0);
            while !is_over.load(Ordering::SeqCst) {
                let collection = index
                    .in_force()
                    .await
                    .unwrap()
                    .expect("there is always one");
                let count: usize = collection.rsplit('g').next().unwrap().parse().unwrap();
                let lookup = look(None, sparse(&[(1, 1.0)]), &all, 100);
                match index.look_up(&collection, lookup).await {
                    Ok(hits) => {
                        assert_eq!(hits.by_words.len(), count);
                        answers += 1;
                    }
                    // It was replaced since.
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
        assert_eq!(index.in_force().await.unwrap(), Some(name(generation - 1)));
        index.put_in_force(&name(generation)).await.unwrap();
        assert_eq!(index.in_force().await.unwrap(), Some(name(generation)));
        let former = index.stored(&name(generation - 1)).await;
        assert!(
            matches!(former, Err(IndexError::Missing { .. })),
            "{former:?}"
        );
    }
    is_over.store(true, Ordering::SeqCst);
    reader.await.unwrap();
    // A name may come again.
    index.create(&name(11), None).await.unwrap();
    assert_eq!(index.stored(&name(11)).await.unwrap(), []);
}

async fn what_is_not_there_is_missing(place: &Place) {
    let index = place.index();
    let is_missing = |result: Result<(), IndexError>| {
        assert!(
            matches!(&result, Err(IndexError::Missing { collection }) if collection == "t1w1-none"),
            "{result:?}"
        );
    };
    let name = "t1w1-none";
    is_missing(index.stored(name).await.map(drop));
    let some = point(&mut Rng::with_seed(9), 1, DIMENSIONS);
    is_missing(index.put(name, vec![some]).await);
    is_missing(index.remove(name, &[id(1)]).await);
    is_missing(index.settle(name).await);
    is_missing(index.put_in_force(name).await);
    let lookup = look(None, sparse(&[(1, 1.0)]), &Arc::new(Visible::All), 1);
    is_missing(index.look_up(name, lookup).await.map(drop));
    assert_eq!(index.in_force().await.unwrap(), None);
}

async fn it_is_there_when_it_is_opened_again(place: &Place) {
    let mut rng = Rng::with_seed(10);
    let index = place.index();
    let mut world = make(&*index, &random(&mut rng, 0..300)).await;
    drop(index);
    // One in the making is gone on with.
    for round in 1..5 {
        let index = place.index();
        assert_eq!(stored(&*index).await, expected(&world));
        let points = random(&mut rng, round * 200..round * 200 + 300);
        index.put(NAME, points.clone()).await.unwrap();
        world.put(&points);
        if round == 2 {
            index.settle(NAME).await.unwrap();
        }
        if round >= 3 {
            index.put_in_force(NAME).await.unwrap();
        }
        drop(index);
    }
    let index = place.index();
    assert_eq!(index.in_force().await.unwrap().as_deref(), Some(NAME));
    let meaning = Some(direction(&mut rng, DIMENSIONS));
    let lookup = look(meaning, words(&mut rng, 5), &only(100..900), 30);
    let hits = index.look_up(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
}

async fn words_alone_do(place: &Place) {
    let index = place.index();
    let mut rng = Rng::with_seed(11);
    let mut points = random(&mut rng, 0..200);
    for point in &mut points {
        point.meaning = None;
    }
    index.create(NAME, None).await.unwrap();
    index.put(NAME, points.clone()).await.unwrap();
    let mut world = World::default();
    world.put(&points);
    let lookup = look(None, words(&mut rng, 6), &Arc::new(Visible::All), 50);
    let hits = index.look_up(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
}
