//! Tests of the files that a simulation replaces, removes, or refuses to change.

use std::sync::Mutex;
use std::time::Duration;

use chrono::NaiveDate;
use plantlake::lake::{Store, StoreOptions};
use plantlake::simulate::{OwnershipError, Plan, Shape, SimulateError, simulate};

use crate::simulate::place::{Place, plan};

/// Checks that the simulation is refused with an error that names `file`, and that nothing changes.
async fn refused(place: &Place, plan: &Plan, file: &str) {
    let before = place.files();
    let error = place.simulate(plan).await.unwrap_err();
    assert!(matches!(error, SimulateError::Ownership(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(file) && (text.contains("--lake DIR") || text.contains("--catalog DIR")),
        "{text}"
    );
    assert!(place.files() == before, "{file}: nothing is touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_refuses_to_replace_foreign_files() {
    let small = Plan {
        assets: 2,
        days: 1,
        interval: Duration::from_secs(600),
        ..plan()
    };
    for file in [
        "lake/raw/mine.parquet",
        "lake/raw/2024/01/deep.parquet",
        "lake/raw/LT-101.parquet",
        "lake/ground_truth.json",
        "lake/simulation.json",
        "catalog/assets.json",
        "catalog/graph.json",
        "catalog/simulation.json",
    ] {
        let place = Place::new();
        place.write(file, "mine");
        refused(&place, &small, file).await;
    }
    // The same after a simulation, with the same plan and with another one.
    let place = Place::new();
    place.simulate(&small).await.unwrap();
    place.write("lake/raw/mine.parquet", "mine");
    refused(&place, &small, "lake/raw/mine.parquet").await;
    std::fs::remove_file(place.lake().join("raw/mine.parquet")).unwrap();
    place.write("lake/raw/LT-101.parquet", "put here by someone else");
    refused(
        &place,
        &Plan {
            seed: 9,
            ..small.clone()
        },
        "LT-101.parquet",
    )
    .await;
    std::fs::remove_file(place.lake().join("raw/LT-101.parquet")).unwrap();
    let edited = std::fs::read_to_string(place.catalog().join("assets.json"))
        .unwrap()
        .replace("Northfield", "Our");
    place.write("catalog/assets.json", &edited);
    let before = place.files();
    let error = place.simulate(&small).await.unwrap_err();
    assert!(
        matches!(&error, SimulateError::Ownership(OwnershipError::Changed { file, .. }) if file.ends_with("assets.json")),
        "{error}"
    );
    assert!(place.files() == before);
    // Files that are not in the way stay.
    std::fs::remove_file(place.catalog().join("assets.json")).unwrap();
    place.write("catalog/views/pumps.sql", "select 1");
    place.write("lake/raw/.gitkeep", "");
    place.write("lake/data_min/part.parquet", "a table");
    place.simulate(&small).await.unwrap();
    let after = place.files();
    assert_eq!(after["catalog/views/pumps.sql"], b"select 1");
    assert_eq!(after["lake/data_min/part.parquet"], b"a table");
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_again_removes_files_not_replaced() {
    let (place, fresh) = (Place::new(), Place::new());
    let small = Plan {
        assets: 3,
        days: 1,
        shape: Shape::Clean,
        ..plan()
    };
    place.simulate(&plan()).await.unwrap();
    let summary = place.simulate(&small).await.unwrap();
    assert!(summary.removed > 20, "{summary:?}");
    fresh.simulate(&small).await.unwrap();
    assert!(place.files() == fresh.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_after_interruption_completes() {
    let (place, fresh) = (Place::new(), Place::new());
    fresh.simulate(&plan()).await.unwrap();
    for stop_after in [0, 10_000, 200_000] {
        let lake = Store::open(place.lake().to_str().unwrap(), &StoreOptions::new()).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let stop = Mutex::new(Some(stop));
        let plan = plan();
        let catalog = place.catalog();
        let work = simulate(&plan, &lake, &catalog, |progress| {
            if progress.readings > stop_after
                && let Some(stop) = stop.lock().unwrap().take()
            {
                stop.send(()).unwrap();
            }
        });
        tokio::select! {
            _ = stopped => {}
            result = work => panic!("it was not cut short: {result:?}"),
        }
        // A file is complete or missing.
        for (file, bytes) in place.files() {
            if file.ends_with(".parquet") {
                assert!(bytes == fresh.files()[&file], "{file} after {stop_after}");
            }
        }
    }
    // A temporary file, as only a killed process leaves it.
    place.write("lake/raw/LT-101.parquet#1", "the beginning of a file");
    place.simulate(&plan()).await.unwrap();
    assert!(place.files() == fresh.files());
}

#[tokio::test]
async fn simulate_writes_to_lake_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Store::open("memory://simulate-test/deep/lake", &StoreOptions::new()).unwrap();
    let summary = simulate(&plan(), &lake, folder.path(), |_| {})
        .await
        .unwrap();
    assert_eq!(
        simulate(&plan(), &lake, folder.path(), |_| {})
            .await
            .unwrap()
            .readings,
        summary.readings
    );
}

#[tokio::test]
async fn invalid_plans_are_refused_before_any_write() {
    let place = Place::new();
    let silly = [
        Plan {
            assets: 0,
            ..plan()
        },
        Plan {
            assets: usize::MAX,
            ..plan()
        },
        Plan { days: 0, ..plan() },
        Plan {
            days: u32::MAX,
            ..plan()
        },
        Plan {
            interval: Duration::ZERO,
            ..plan()
        },
        Plan {
            interval: Duration::MAX,
            ..plan()
        },
        Plan {
            start: NaiveDate::from_ymd_opt(9999, 12, 30),
            ..plan()
        },
        Plan {
            start: Some(NaiveDate::MIN),
            ..plan()
        },
    ];
    for plan in silly {
        let error = place.simulate(&plan).await.unwrap_err();
        assert!(matches!(error, SimulateError::Plan(_)), "{error}");
        assert!(error.to_string().contains("; use "), "{error}");
    }
    assert!(place.files().is_empty());
}
