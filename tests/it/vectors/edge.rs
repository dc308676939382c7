//! Tests of the index in this process: crashes, locking, and damaged files.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use fastrand::Rng;
use plantlake::catalog::VisibleAssets;
use plantlake::model::AssetId;
use plantlake::search::index::{
    EdgeIndex, IndexError, IndexQuery, Point, VectorIndex as _, WordVector,
};

use crate::vectors::oracle::{DIMENSIONS, World, direction, id, only, point, sparse};

const NAME: &str = "t1w1-first";
/// The environment variable with the folder of a child process. Without it, the tests of child processes do nothing.
const FOLDER: &str = "PLANTLAKE_TEST_VECTORS_FOLDER";
const BATCH: usize = 200;

fn open(folder: &Path) -> EdgeIndex {
    EdgeIndex::open(folder).unwrap()
}

/// Returns a point whose hash is the round in which it is put.
fn of_round(number: usize, round: u64) -> Point {
    let mut rng = Rng::with_seed(number as u64 * 1_000 + round);
    Point {
        hash: round,
        embedding: Some(direction(&mut rng, DIMENSIONS)),
        ..point(&mut rng, number, DIMENSIONS)
    }
}

fn child(test: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("vectors::edge::{test}"), "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the child has printed `times` lines with `word`, and returns them.
fn wait_for(child: &mut Child, word: &str, times: usize) -> Vec<String> {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines {
        let line = line.unwrap();
        if line.contains(word) {
            said.push(line);
            if said.len() == times {
                return said;
            }
        }
    }
    panic!("the child ended before it said {word:?} {times} times: {said:?}");
}

/// Runs in a child process: replaces the same points repeatedly, and prints a line after each round that is durable.
#[tokio::test(flavor = "multi_thread")]
async fn child_puts_forever() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let index = open(Path::new(&folder));
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    for round in 1..10_000 {
        let points = (0..BATCH).map(|number| of_round(number, round)).collect();
        index.put(NAME, points).await.unwrap();
        println!("there {round}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn put_survives_kill_completely_or_not_at_all() {
    for rounds in [1, 2, 7, 12] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("search");
        let mut child = child("child_puts_forever", &folder);
        wait_for(&mut child, "there ", rounds);
        std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(0..15)));
        child.kill().unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut rest).unwrap();
        child.wait().unwrap();
        let more = rest.lines().filter(|line| line.contains("there ")).count();
        let last = (rounds + more) as u64;
        let index = open(&folder);
        let stored = index.stored_points(NAME).await.unwrap();
        // The next round may be complete. If it was in progress, its points were removed and must be put again.
        let is_cut = stored.is_empty();
        assert!(is_cut || stored.len() == BATCH, "{}", stored.len());
        let rounds: HashSet<u64> = stored.iter().map(|stored| stored.hash).collect();
        assert!(is_cut || rounds == HashSet::from([last]) || rounds == HashSet::from([last + 1]));
        let mut world = World::default();
        let there: Vec<Point> = stored
            .iter()
            .map(|stored| {
                let number = (0..BATCH).find(|number| id(*number) == stored.id).unwrap();
                of_round(number, stored.hash)
            })
            .collect();
        world.put(&there);
        check(&index, &world).await;
        // The index works as before.
        let again: Vec<Point> = (0..BATCH).map(|number| of_round(number, 20_000)).collect();
        index.put(NAME, again.clone()).await.unwrap();
        world.put(&again);
        check(&index, &world).await;
    }
}

async fn check(index: &EdgeIndex, world: &World) {
    let mut rng = Rng::with_seed(99);
    let lookup = IndexQuery {
        embedding: Some(direction(&mut rng, DIMENSIONS)),
        words: sparse(&[(0, 1.0), (7919, 1.0), (2 * 7919, 2.0)]),
        granted: Arc::new(VisibleAssets::All),
        limit: 50,
    };
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
}

/// Simulates an interrupted change: the list of changing points still exists.
#[tokio::test(flavor = "multi_thread")]
async fn open_after_interrupted_change_removes_its_points() {
    let temp = tempfile::tempdir().unwrap();
    let index = open(temp.path());
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    let points: Vec<Point> = (0..50).map(|number| of_round(number, 1)).collect();
    index.put(NAME, points.clone()).await.unwrap();
    drop(index);
    let list = format!("{}\n{}", id(3), id(4));
    fs::write(temp.path().join(NAME).join("changing"), list).unwrap();
    let index = open(temp.path());
    let mut world = World::default();
    world.put(&points);
    world.0.remove(&id(3));
    world.0.remove(&id(4));
    assert_eq!(index.stored_points(NAME).await.unwrap().len(), 48);
    check(&index, &world).await;
    assert!(!temp.path().join(NAME).join("changing").exists());
}

/// Runs in a child process: locks the folder until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn child_locks_the_folder() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let index = open(Path::new(&folder));
    index.create(NAME, None).await.unwrap();
    println!("kept");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn index_in_use_names_its_process() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = child("child_locks_the_folder", temp.path());
    wait_for(&mut child, "kept", 1);
    let index = open(temp.path());
    let refused = index.active_collection().await.unwrap_err();
    let process = child.id();
    assert!(matches!(refused, IndexError::InUse { .. }), "{refused}");
    let message = refused.to_string();
    assert!(
        message.contains(&format!("(process {process})")),
        "{message}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    // The folder is free again, also for the index that was refused.
    assert_eq!(index.active_collection().await.unwrap(), None);
    index.create(NAME, None).await.unwrap();
    let another = open(temp.path());
    let refused = another.stored_points(NAME).await.unwrap_err();
    assert!(matches!(refused, IndexError::InUse { .. }), "{refused}");
    drop(index);
    assert_eq!(another.stored_points(NAME).await.unwrap(), []);
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
    found.sort();
}

/// Copies a folder of large, sparse files.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .args(["-r", "--sparse=always"])
        .args([from, to])
        .status();
    assert!(copied.unwrap().success());
}

/// Damages each file in several ways. The damage has no effect, or causes an error, or the collection is set aside
/// and can be rebuilt.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_collection_is_set_aside_or_reported() {
    let temp = tempfile::tempdir().unwrap();
    let whole = temp.path().join("whole");
    let index = open(&whole);
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    let points: Vec<Point> = (0..100).map(|number| of_round(number, 1)).collect();
    index.put(NAME, points.clone()).await.unwrap();
    index.activate(NAME).await.unwrap();
    drop(index);
    let mut all = Vec::new();
    files(&whole.join(NAME), &mut all);
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, file) in all.iter().enumerate() {
        for damage in ["cut", "garbage", "empty", "gone"] {
            let folder = temp.path().join(format!("{number}-{damage}"));
            copy(&whole, &folder);
            let file = folder.join(file.strip_prefix(&whole).unwrap());
            let length = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
            match damage {
                "cut" => fs::write(&file, &fs::read(&file).unwrap()[..length / 2]).unwrap(),
                "garbage" => fs::write(&file, vec![0xa5; length.min(1 << 20)]).unwrap(),
                "empty" => fs::write(&file, "").unwrap(),
                _ => fs::remove_file(&file).unwrap(),
            }
            let index = open(&folder);
            let in_force = index.active_collection().await;
            let outcome = match &in_force {
                Ok(None) => "set aside",
                Ok(Some(_)) => {
                    let lookup = IndexQuery {
                        embedding: points[0].embedding.clone(),
                        words: sparse(&[(0, 1.0)]),
                        granted: Arc::new(VisibleAssets::All),
                        limit: 5,
                    };
                    let looked_up = index.search(NAME, lookup).await.map(drop);
                    match (looked_up, index.stored_points(NAME).await) {
                        (Ok(()), Ok(stored)) if stored.len() == 100 => "as ever",
                        (Ok(()), Ok(_)) => "some are missing",
                        (Err(IndexError::Local { .. }), _) | (_, Err(IndexError::Local { .. })) => {
                            "error"
                        }
                        other => panic!("{other:?}"),
                    }
                }
                Err(IndexError::Local { .. }) => "error",
                Err(error) => panic!("{error}"),
            };
            *outcomes.entry(outcome).or_default() += 1;
            if outcome == "set aside" {
                assert!(folder.join("damaged").is_dir());
                index.create(NAME, Some(DIMENSIONS)).await.unwrap();
                index.put(NAME, points.clone()).await.unwrap();
                index.activate(NAME).await.unwrap();
                assert_eq!(index.stored_points(NAME).await.unwrap().len(), 100);
            }
            drop(index);
            fs::remove_dir_all(folder).unwrap();
        }
    }
    println!("{outcomes:?}");
    assert!(outcomes.get("set aside").copied().unwrap_or_default() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_creates_nothing_before_use() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("a/b/search");
    let index = open(&folder);
    assert!(!folder.exists());
    assert_eq!(index.active_collection().await.unwrap(), None);
    drop(index);
    // A file has the path of the folder.
    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file).active_collection().await.unwrap_err();
    assert!(matches!(error, IndexError::Local { .. }), "{error}");
}

/// A small file system in a file. Creating it requires the permission to mount.
struct Disk(tempfile::TempDir);

impl Disk {
    fn make(megabytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::File::create(&image)
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let does = |program: &str, arguments: &[&str], paths: &[&Path]| {
            let mut command = Command::new(program);
            let command = command.args(arguments).args(paths).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let is_made = does("mkfs.ext4", &["-q", "-O", "^has_journal"], &[&image])
            && does("mount", &["-o", "loop"], &[&image, &disk]);
        is_made.then_some(Self(folder))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn put_on_full_disk_fails_and_keeps_earlier_points() {
    const LARGE: usize = 2048;
    let Some(disk) = Disk::make(400) else {
        println!("no disk can be made here");
        return;
    };
    let folder = disk.path().join("search");
    let index = open(&folder);
    let mut rng = Rng::with_seed(14);
    index.create(NAME, Some(LARGE)).await.unwrap();
    let mut world = World::default();
    let error = loop {
        let from = world.0.len();
        let points: Vec<Point> = (from..from + 200)
            .map(|number| point(&mut rng, number, LARGE))
            .collect();
        match index.put(NAME, points.clone()).await {
            Ok(()) => world.put(&points),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, IndexError::Local { .. }), "{error}");
    assert!(
        error.to_string().contains("MiB left") && !world.0.is_empty(),
        "{error}"
    );
    let lookup = IndexQuery {
        embedding: Some(direction(&mut rng, LARGE)),
        words: sparse(&[(0, 1.0), (7919, 1.0)]),
        granted: Arc::new(VisibleAssets::All),
        limit: 20,
    };
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
    // Another file takes the remaining space.
    let others = disk.path().join("others");
    assert!(fs::write(&others, vec![1; 400 << 20]).is_err());
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
    assert_eq!(
        index.stored_points(NAME).await.unwrap().len(),
        world.0.len()
    );
    let some = point(&mut rng, 0, LARGE);
    for refused in [
        index.put(NAME, vec![some]).await,
        index.remove(NAME, &[id(0)]).await,
        index.optimise(NAME).await,
    ] {
        assert!(
            matches!(refused, Err(IndexError::Local { .. })),
            "{refused:?}"
        );
    }
    fs::remove_file(others).unwrap();
    drop(index);
    let index = open(&folder);
    let hits = index.search(NAME, lookup.clone()).await.unwrap();
    world.check(&lookup, &hits);
}

/// The vectors are large, so that a segment with few points gets a graph.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_point_in_optimised_segment_loses_former_vectors() {
    const LARGE: usize = 2048;
    let temp = tempfile::tempdir().unwrap();
    let index = open(temp.path());
    let mut rng = Rng::with_seed(12);
    let mut world = World::default();
    index.create(NAME, Some(LARGE)).await.unwrap();
    let points: Vec<Point> = (0..1_500)
        .map(|number| point(&mut rng, number, LARGE))
        .collect();
    index.put(NAME, points.clone()).await.unwrap();
    world.put(&points);
    index.optimise(NAME).await.unwrap();
    let mut bare = points[..100].to_vec();
    for (number, point) in bare.iter_mut().enumerate() {
        match number % 2 {
            0 => point.embedding = None,
            _ => point.words = WordVector::default(),
        }
    }
    index.put(NAME, bare.clone()).await.unwrap();
    world.put(&bare);
    let gone: Vec<AssetId> = (200..300).map(id).collect();
    index.remove(NAME, &gone).await.unwrap();
    world.0.retain(|id, _| !gone.contains(id));
    for settled in [false, true] {
        for granted in [Arc::new(VisibleAssets::All), only(0..700)] {
            for point in points.iter().step_by(50) {
                let lookup = IndexQuery {
                    embedding: point.embedding.clone(),
                    words: point.words.clone(),
                    granted: Arc::clone(&granted),
                    limit: 10,
                };
                let hits = index.search(NAME, lookup.clone()).await.unwrap();
                world.check(&lookup, &hits);
            }
        }
        if !settled {
            index.optimise(NAME).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_search_finds_19_of_20_nearest() {
    const POINTS: usize = 20_000;
    const WIDE: usize = 256;
    let temp = tempfile::tempdir().unwrap();
    let index = open(temp.path());
    let mut rng = Rng::with_seed(13);
    let centres: Vec<Vec<f32>> = (0..200).map(|_| direction(&mut rng, WIDE)).collect();
    let near = |rng: &mut Rng| {
        let centre = &centres[rng.usize(0..centres.len())];
        let noise = direction(rng, WIDE);
        crate::vectors::oracle::unit(centre.iter().zip(noise).map(|(a, b)| a + 0.7 * b).collect())
    };
    let mut world = World::default();
    index.create(NAME, Some(WIDE)).await.unwrap();
    for batch in 0..POINTS / 1_000 {
        let points: Vec<Point> = (batch * 1_000..(batch + 1) * 1_000)
            .map(|number| Point {
                id: id(number),
                embedding: Some(near(&mut rng)),
                words: WordVector::default(),
                hash: 0,
            })
            .collect();
        index.put(NAME, points.clone()).await.unwrap();
        world.put(&points);
    }
    index.optimise(NAME).await.unwrap();
    for granted in [
        Arc::new(VisibleAssets::All),
        only((0..POINTS).step_by(2)),
        only(0..500),
    ] {
        let (mut found, mut all) = (0, 0);
        for _ in 0..10 {
            let lookup = IndexQuery {
                embedding: Some(near(&mut rng)),
                words: WordVector::default(),
                granted: Arc::clone(&granted),
                limit: 20,
            };
            let meaning = lookup.embedding.clone().unwrap();
            let hits = index.search(NAME, lookup).await.unwrap().by_embedding;
            let hits: HashSet<AssetId> = hits.iter().map(|(id, _)| *id).collect();
            let right = world.by_meaning(&meaning, &granted);
            found += right[..20]
                .iter()
                .filter(|(id, _)| hits.contains(id))
                .count();
            all += 20;
        }
        println!("{found} of {all}");
        assert!(found * 20 >= all * 19, "{found} of {all}");
    }
}
