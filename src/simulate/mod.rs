//! The simulator: generates a plausible chemical plant, its catalog and its raw readings.
//!
//! Everything is derived from the [`Plan`]: the same plan and seed give the same bytes. The simulator writes:
//!
//! | file | content |
//! |---|---|
//! | `<lake>/raw/<tag>.parquet` | the readings of one sensor: `id` (string), `timestamp` (UTC, µs), `value` (double) |
//! | `<lake>/raw/<tag>_late.parquet` | its readings that arrive late or repeatedly |
//! | `<lake>/ground_truth.json` | every fault: `asset`, `tag`, `kind`, `start`, `end`, `detail` |
//! | `<lake>/simulation.json`, `<catalog>/simulation.json` | the names of the files that the simulation wrote |
//! | `<catalog>/assets.json`, `id2assets.json`, `graph.json` | the plant ([`crate::catalog`]) |
//!
//! The plan's number of assets counts those with readings, which are the sensors. Their sites, units and equipment are assets
//! as well, without readings: a search for "high-temperature reactor vessel" finds the reactor, and in the graph its sensors.

mod equipment;
mod error;
mod faults;
mod ownership;
mod plan;
mod plant;
mod random;
mod raw;
mod readings;
mod signal;
mod units;
mod upload;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use chrono::NaiveDate;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

pub use error::{OwnershipError, SimulateError};
pub use plan::{Plan, PlanError, Schedule, Shape, parse_interval};

use crate::catalog::CatalogFile;
use crate::clock::Stopwatch;
use crate::lake::Store;
use faults::{Ticks, late_file, main_file};
use ownership::{CatalogManifest, GROUND_TRUTH_FILE, LakeFile, LakeManifest};
use plant::Sensor;
use upload::Upload;

/// The number of files that are generated in parallel beyond one per processor, since some wait for the disk.
const EXTRA_PARALLEL_FILES: usize = 2;

/// The progress of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The number of readings generated so far.
    pub readings: u64,
    /// The total number of readings; it is exact from the start.
    pub readings_total: u64,
    /// The number of assets whose files are written.
    pub assets: usize,
    /// The total number of assets with readings.
    pub assets_total: usize,
}

/// The summary of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The number of assets with readings.
    pub assets: usize,
    /// The number of sites, units and equipment, which have no readings.
    pub other_assets: usize,
    /// The number of rows in all files.
    pub readings: u64,
    /// The number of files of readings, including late ones.
    pub files: usize,
    /// The number of files of late readings.
    pub late_files: usize,
    /// The total size of all files of readings, in bytes.
    pub bytes: u64,
    /// The number of faults of each kind; empty for a clean shape.
    pub faults: BTreeMap<&'static str, usize>,
    /// The first day (UTC).
    pub start: NaiveDate,
    /// The number of days.
    pub days: u32,
    /// The seed.
    pub seed: u64,
    /// The shape of the readings.
    pub shape: Shape,
    /// The number of files of an earlier simulation that were removed.
    pub removed: usize,
    /// The duration in seconds.
    pub seconds: f64,
}

/// Whether the lake contains a complete simulation. Other readings may have been added since.
pub async fn has_simulation(lake: &Store) -> Result<bool, SimulateError> {
    Ok(LakeManifest::read(lake)
        .await?
        .is_some_and(|manifest| manifest.complete))
}

/// Simulates a plant: writes its readings to `lake` and its catalog to `catalog`.
///
/// Files of an earlier simulation are replaced, or removed if this one has no such file. `progress` is called repeatedly,
/// possibly out of order; a reading counts as soon as it is generated.
///
/// # Errors
///
/// A file that no simulation wrote is in the way. Nothing is written in this case.
pub async fn simulate(
    plan: &Plan,
    lake: &Store,
    catalog: &Path,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Summary, SimulateError> {
    let watch = Stopwatch::start();
    let schedule = plan.schedule()?;
    let plant = plant::build(schedule.assets, schedule.seed);
    let catalog_files = plant.catalog.encode()?;
    // All checks come before the first write.
    let former_catalog = CatalogManifest::inspect(catalog, &catalog_files)?;
    let former = LakeManifest::inspect(lake).await?;

    let outline = Outline::new(&plant.sensors, &schedule);
    let mut known = former.map(|former| former.files).unwrap_or_default();
    let unwanted: Vec<_> = known
        .keys()
        .filter(|file| !outline.files.contains_key(*file))
        .cloned()
        .collect();
    known.extend(
        outline
            .files
            .iter()
            .map(|(file, details)| (file.clone(), *details)),
    );
    LakeManifest::new(&schedule, false, known.clone())
        .write(lake)
        .await?;
    ownership::remove(lake, unwanted.iter(), &known).await?;
    write_catalog(catalog, &schedule, &catalog_files, former_catalog)?;
    write_ground_truth(&plant.sensors, &schedule, lake).await?;
    let written = write_raw(&plant.sensors, &schedule, lake, outline.rows, progress).await?;
    let files = written
        .iter()
        .map(|file| {
            (
                file.file.clone(),
                LakeFile {
                    readings: file.readings,
                    bytes: file.bytes,
                },
            )
        })
        .collect();
    LakeManifest::new(&schedule, true, files)
        .write(lake)
        .await?;

    Ok(Summary {
        assets: plant.sensors.len(),
        other_assets: plant.catalog.assets.len() - plant.sensors.len(),
        readings: written.iter().map(|file| file.readings).sum(),
        files: written.len(),
        late_files: written.iter().filter(|file| file.late).count(),
        bytes: written.iter().map(|file| file.bytes).sum(),
        faults: outline.faults,
        start: schedule.start,
        days: schedule.days,
        seed: schedule.seed,
        shape: schedule.shape,
        removed: unwanted.len(),
        seconds: watch.seconds(),
    })
}

/// The files, rows and faults, which are known before anything is written.
#[derive(Default)]
struct Outline {
    files: BTreeMap<String, LakeFile>,
    rows: u64,
    faults: BTreeMap<&'static str, usize>,
}

impl Outline {
    fn new(sensors: &[Sensor], schedule: &Schedule) -> Self {
        let mut outline = Self::default();
        let unwritten = LakeFile {
            readings: 0,
            bytes: 0,
        };
        for (index, sensor) in sensors.iter().enumerate() {
            let faults = faults::plan(sensor, index, schedule);
            outline.rows += raw::planned_rows(schedule, &faults);
            outline.files.insert(main_file(&sensor.tag), unwritten);
            if faults.iter().any(faults::Fault::is_late) {
                outline.files.insert(late_file(&sensor.tag), unwritten);
            }
            for fault in &faults {
                *outline.faults.entry(fault.name()).or_insert(0) += 1;
            }
        }
        outline
    }
}

fn write_catalog(
    folder: &Path,
    schedule: &Schedule,
    files: &[CatalogFile],
    former: Option<CatalogManifest>,
) -> Result<(), SimulateError> {
    let manifest = CatalogManifest::new(schedule, files);
    manifest.merge(former).to_file()?.write(folder)?;
    for file in files {
        file.write(folder)?;
    }
    manifest.to_file()?.write(folder)?;
    Ok(())
}

/// Writes the ground truth: a JSON array with one line per fault; empty for a clean shape.
async fn write_ground_truth(
    sensors: &[Sensor],
    schedule: &Schedule,
    lake: &Store,
) -> Result<(), SimulateError> {
    const ENOUGH: usize = 1 << 20;
    let failed = |source| SimulateError::Manifest {
        file: GROUND_TRUTH_FILE,
        source,
    };
    let mut upload = Upload::new(lake.objects(), GROUND_TRUTH_FILE.into());
    let mut text = b"[".to_vec();
    let mut first = true;
    for (index, sensor) in sensors.iter().enumerate() {
        let ticks = Ticks::new(sensor, schedule);
        for fault in faults::plan(sensor, index, schedule) {
            text.extend_from_slice(if first { b"\n" } else { b",\n" });
            first = false;
            serde_json::to_writer(&mut text, &fault.ground_truth(sensor, &ticks))
                .map_err(failed)?;
        }
        if text.len() >= ENOUGH {
            upload.put(std::mem::take(&mut text).into()).await?;
        }
    }
    text.extend_from_slice(b"\n]\n");
    upload.put(text.into()).await?;
    upload.finish().await?;
    Ok(())
}

async fn write_raw(
    sensors: &[Sensor],
    schedule: &Schedule,
    lake: &Store,
    rows: u64,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Vec<raw::WrittenFile>, SimulateError> {
    let (made, done) = (AtomicU64::new(0), AtomicUsize::new(0));
    let tell = || {
        progress(Progress {
            readings: made.load(Ordering::Relaxed),
            readings_total: rows,
            assets: done.load(Ordering::Relaxed),
            assets_total: sensors.len(),
        });
    };
    let (made, done, tell) = (&made, &done, &tell);
    tell();
    let at_a_time =
        std::thread::available_parallelism().map_or(1, usize::from) + EXTRA_PARALLEL_FILES;
    let written: Vec<Vec<raw::WrittenFile>> = futures::stream::iter(sensors.iter().enumerate())
        .map(|(index, sensor)| async move {
            let count = |rows| {
                made.fetch_add(rows, Ordering::Relaxed);
                tell();
            };
            let files = raw::write(sensor, index, schedule, lake, count).await?;
            done.fetch_add(1, Ordering::Relaxed);
            tell();
            Ok::<_, SimulateError>(files)
        })
        .buffered(at_a_time)
        .try_collect()
        .await?;
    Ok(written.into_iter().flatten().collect())
}
