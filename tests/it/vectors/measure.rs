//! Measures run time and memory. It asserts nothing; run it with `cargo test --release --test it vectors::measure --
//! --ignored --nocapture`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use plantlake::catalog::VisibleAssets;
use plantlake::clock::Stopwatch;
use plantlake::search::index::{EdgeIndex, IndexQuery, Point, VectorIndex as _, WordVector};

use crate::vectors::oracle::{direction, id, only, sparse, unit};

const NAME: &str = "t1w1-large";
const POINTS: usize = 100_000;
const DIMENSIONS: usize = 384;

fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or_default() / 1024
    };
    format!(
        "{} MiB, of these {} of files",
        line("VmRSS"),
        line("RssFile")
    )
}

fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => size(&entry.path()),
            false => entry.metadata().unwrap().blocks() * 512,
        })
        .sum()
}

/// A generator of embeddings and words like those of a catalog.
struct Generator {
    rng: Rng,
    centres: Vec<Vec<f32>>,
}

impl Generator {
    fn new() -> Self {
        let mut rng = Rng::with_seed(1);
        let centres = (0..500).map(|_| direction(&mut rng, DIMENSIONS)).collect();
        Self { rng, centres }
    }

    /// Returns an embedding near one of the centres.
    fn embedding(&mut self) -> Vec<f32> {
        let noise = direction(&mut self.rng, DIMENSIONS);
        let centre = &self.centres[self.rng.usize(0..self.centres.len())];
        unit(centre.iter().zip(noise).map(|(a, b)| a + 0.8 * b).collect())
    }

    /// Returns up to eight words. As in a catalog, some words are frequent and most are rare.
    fn words(&mut self) -> WordVector {
        let rng = &mut self.rng;
        let mut words: Vec<u32> = (0..8)
            .map(|place| match place {
                0..3 => rng.u32(0..20),
                3..6 => 100 + rng.u32(0..1_000),
                _ => 10_000 + rng.u32(0..100_000),
            })
            .collect();
        words.sort_unstable();
        words.dedup();
        let weighted: Vec<_> = words.iter().map(|word| (*word, 0.5 + rng.f32())).collect();
        sparse(&weighted)
    }

    fn point(&mut self, number: usize, hash: u64) -> Point {
        Point {
            id: id(number),
            embedding: Some(self.embedding()),
            words: self.words(),
            hash,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and says something in a release build only"]
async fn measure_100_000_points() {
    let temp = tempfile::tempdir().unwrap();
    let mut generator = Generator::new();
    build(temp.path(), &mut generator).await;
    let since = Stopwatch::start();
    let index = EdgeIndex::open(temp.path()).unwrap();
    index.active_collection().await.unwrap();
    println!(
        "opening took {:?}; {}, disk {} MiB",
        since.elapsed(),
        memory(),
        size(temp.path()) >> 20
    );
    let since = Stopwatch::start();
    index.stored_points(NAME).await.unwrap();
    println!(
        "reading what is stored took {:?}; {}",
        since.elapsed(),
        memory()
    );
    measure_searches(&index, &mut generator).await;
    println!("at last: {}", memory());
    measure_changes(&index, &mut generator).await;
}

/// Creates, fills, optimises and activates the index.
async fn build(folder: &Path, generator: &mut Generator) {
    let index = EdgeIndex::open(folder).unwrap();
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    println!("at first: {}", memory());
    let mut putting = Duration::ZERO;
    for batch in 0..POINTS / 512 + 1 {
        let points: Vec<Point> = (batch * 512..POINTS.min((batch + 1) * 512))
            .map(|number| generator.point(number, number as u64))
            .collect();
        let since = Stopwatch::start();
        index.put(NAME, points).await.unwrap();
        putting += since.elapsed();
    }
    println!(
        "putting took {putting:?}; {}, disk {} MiB",
        memory(),
        size(folder) >> 20
    );
    let since = Stopwatch::start();
    index.optimise(NAME).await.unwrap();
    println!(
        "optimising took {:?}; {}, disk {} MiB",
        since.elapsed(),
        memory(),
        size(folder) >> 20
    );
    index.activate(NAME).await.unwrap();
}

/// Measures searches by embedding, words and both, for grants of various sizes.
async fn measure_searches(index: &EdgeIndex, generator: &mut Generator) {
    let share = |percent: usize| only((0..POINTS).filter(move |number| number % 100 < percent));
    let grants = [
        ("all", Arc::new(VisibleAssets::All)),
        ("1%", only((0..POINTS).step_by(100))),
        ("8%", share(8)),
        ("12%", share(12)),
        ("25%", only((0..POINTS).step_by(4))),
        ("50%", only((0..POINTS).step_by(2))),
    ];
    for (name, granted) in grants {
        for (what, with_meaning, with_words) in [
            ("both", true, true),
            ("meaning", true, false),
            ("words", false, true),
        ] {
            let mut times = Vec::new();
            for _ in 0..60 {
                let lookup = IndexQuery {
                    embedding: with_meaning.then(|| generator.embedding()),
                    words: match with_words {
                        true => generator.words(),
                        false => sparse(&[]),
                    },
                    granted: Arc::clone(&granted),
                    limit: 100,
                };
                let since = Stopwatch::start();
                index.search(NAME, lookup).await.unwrap();
                times.push(since.elapsed());
            }
            let first = times[0];
            times.sort();
            println!(
                "{name:>4} {what:>8}: first {first:?}, p50 {:?}, p95 {:?}",
                times[30], times[57]
            );
        }
    }
}

/// Makes a few changes, each followed by a search: the cost of a change for the searches after it.
async fn measure_changes(index: &EdgeIndex, generator: &mut Generator) {
    let granted = only((0..POINTS).step_by(2));
    let mut times = Vec::new();
    for number in 0..20 {
        let point = generator.point(number, 0);
        index.put(NAME, vec![point]).await.unwrap();
        let lookup = IndexQuery {
            embedding: Some(generator.embedding()),
            words: generator.words(),
            granted: Arc::clone(&granted),
            limit: 100,
        };
        let since = Stopwatch::start();
        index.search(NAME, lookup).await.unwrap();
        times.push(since.elapsed());
    }
    times.sort();
    println!("50% after a change: p50 {:?}", times[10]);
    let since = Stopwatch::start();
    index.optimise(NAME).await.unwrap();
    println!("optimising again took {:?}", since.elapsed());
}
