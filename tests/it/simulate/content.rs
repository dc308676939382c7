//! Tests of the contents of the files that a simulation writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use arrow::array::{
    Array, AsArray, Float64Array, StringArray, TimestampMicrosecondArray,
    types::{Float64Type, TimestampMicrosecondType},
};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::DateTime;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use plantlake::catalog::{Asset, Catalog, Interpolation, NodeKind};
use plantlake::lake::{Store, StoreOptions};
use plantlake::simulate::{Plan, Shape, simulate};

use crate::simulate::place::{Place, plan};

/// A row of a file: id, microseconds, value.
type Row = (String, i64, Option<f64>);
type Rows = Vec<Row>;

fn read(path: &Path) -> Rows {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = reader.schema();
    let names: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(names, ["id", "timestamp", "value"]);
    assert_eq!(schema.field(0).data_type(), &DataType::Utf8);
    assert_eq!(
        schema.field(1).data_type(),
        &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    );
    assert_eq!(schema.field(2).data_type(), &DataType::Float64);
    let mut rows = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let ids: &StringArray = batch.column(0).as_string();
        let times: &TimestampMicrosecondArray =
            batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let values: &Float64Array = batch.column(2).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let value = values.is_valid(row).then(|| values.value(row));
            rows.push((ids.value(row).to_owned(), times.value(row), value));
        }
    }
    rows
}

#[derive(Debug, serde::Deserialize)]
struct Fault {
    asset: String,
    tag: String,
    kind: String,
    start: String,
    end: String,
    detail: serde_json::Value,
}

fn micros(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text)
        .unwrap()
        .timestamp_micros()
}

fn faults(place: &Place) -> Vec<Fault> {
    serde_json::from_slice(&std::fs::read(place.lake().join("ground_truth.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_with_same_plan_gives_same_bytes() {
    let (one, two, other) = (Place::new(), Place::new(), Place::new());
    one.simulate(&plan()).await.unwrap();
    two.simulate(&plan()).await.unwrap();
    other.simulate(&Plan { seed: 8, ..plan() }).await.unwrap();
    assert!(one.files() == two.files());
    one.simulate(&plan()).await.unwrap();
    assert!(
        one.files() == two.files(),
        "simulating again changes nothing"
    );
    let (ours, theirs) = (one.files(), other.files());
    assert!(ours["lake/raw/LT-101.parquet"] != theirs["lake/raw/LT-101.parquet"]);
    assert!(ours["catalog/assets.json"] != theirs["catalog/assets.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_shape_has_a_reading_at_every_tick() {
    let place = Place::new();
    let clean = Plan {
        shape: Shape::Clean,
        interval: Duration::from_secs(1),
        days: 1,
        assets: 3,
        ..plan()
    };
    let summary = place.simulate(&clean).await.unwrap();
    assert_eq!(
        (summary.readings, summary.files, summary.late_files),
        (3 * 86_400, 3, 0)
    );
    let catalog = Catalog::read(&place.catalog()).unwrap();
    let by_tag: HashMap<_, _> = catalog
        .assets
        .iter()
        .filter_map(|asset| Some((asset.specifications.tag.clone()?, asset)))
        .collect();
    let start = micros("2026-02-27T00:00:00Z");
    for (file, _) in place
        .files()
        .into_iter()
        .filter(|(file, _)| file.ends_with(".parquet"))
    {
        let tag = file
            .trim_start_matches("lake/raw/")
            .trim_end_matches(".parquet");
        let rows = read(&place.folder.path().join(&file));
        assert_eq!(rows.len(), 86_400);
        for (tick, (id, time, value)) in rows.iter().enumerate() {
            assert_eq!(
                (id, *time),
                (&by_tag[tag].id.to_string(), start + tick as i64 * 1_000_000)
            );
            assert!(value.unwrap().is_finite());
        }
    }
    assert!(faults(&place).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ground_truth_matches_the_files() {
    let place = Place::new();
    let seen = Mutex::new(Vec::new());
    let lake = Store::open(place.lake().to_str().unwrap(), &StoreOptions::new()).unwrap();
    let summary = simulate(&plan(), &lake, &place.catalog(), |progress| {
        seen.lock().unwrap().push(progress)
    })
    .await
    .unwrap();
    let last = seen
        .into_inner()
        .unwrap()
        .into_iter()
        .max_by_key(|progress| (progress.readings, progress.assets))
        .unwrap();
    assert_eq!(
        (last.readings, last.assets),
        (last.readings_total, last.assets_total)
    );
    assert_eq!(last.readings, summary.readings);

    let catalog = Catalog::read(&place.catalog()).unwrap();
    let sensors: Vec<_> = catalog
        .assets
        .iter()
        .filter(|asset| asset.specifications.unit.is_some())
        .collect();
    assert_eq!((sensors.len(), summary.assets), (24, 24));
    let truth = faults(&place);
    let (mut total, mut files, mut jittering) = (0, 0, 0);
    for sensor in sensors {
        let found = check_sensor(&place, sensor, &truth);
        total += found.readings;
        files += found.files;
        jittering += usize::from(found.jitters);
    }
    assert_eq!((total as u64, files), (summary.readings, summary.files));
    assert!(
        (1..24).contains(&jittering),
        "{jittering} of 24 clocks jitter"
    );
    let kinds: BTreeSet<_> = truth.iter().map(|fault| fault.kind.as_str()).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [
            "drift",
            "drop_out",
            "flat_line",
            "late_file",
            "nan",
            "null",
            "repeated",
            "spikes"
        ]
    );
    assert_eq!(summary.faults.values().sum::<usize>(), truth.len());
}

/// The totals of a sensor's files.
struct SensorFiles {
    readings: usize,
    files: usize,
    /// Whether some readings are not exactly at the ticks.
    jitters: bool,
}

/// Checks the files of a sensor against the ground truth.
fn check_sensor(place: &Place, sensor: &Asset, truth: &[Fault]) -> SensorFiles {
    let tag = sensor.specifications.tag.clone().unwrap();
    let main_path = place.lake().join(format!("raw/{tag}.parquet"));
    let main = read(&main_path);
    let late_path = place.lake().join(format!("raw/{tag}_late.parquet"));
    let late = if late_path.exists() {
        read(&late_path)
    } else {
        Rows::new()
    };
    if !late.is_empty() {
        let modified = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        assert!(modified(&late_path) >= modified(&main_path));
    }
    check_values(sensor, main.iter().chain(&late));
    assert!(
        main.windows(2).all(|pair| pair[0].1 <= pair[1].1),
        "{tag} is in the order of time"
    );

    // Outside of faults, a sensor has one reading per tick, in its main file.
    let own: Vec<_> = truth.iter().filter(|fault| fault.tag == tag).collect();
    assert!(own.iter().all(|fault| fault.asset == sensor.id.to_string()));
    let mut healthy: u64 = 5 * 2_880;
    for fault in &own {
        let inside = |rows: &Rows| -> Rows {
            let span = micros(&fault.start)..micros(&fault.end);
            rows.iter()
                .filter(|row| span.contains(&row.1))
                .cloned()
                .collect()
        };
        let span = ((micros(&fault.end) - micros(&fault.start)) / 30_000_000) as usize;
        healthy -= span as u64;
        check_fault(fault, span, &inside(&main), &inside(&late));
    }
    let faulty = |time: i64| {
        own.iter()
            .any(|fault| (micros(&fault.start)..micros(&fault.end)).contains(&time))
    };
    let outside: Vec<_> = main
        .iter()
        .chain(&late)
        .filter(|row| !faulty(row.1))
        .collect();
    assert_eq!(outside.len() as u64, healthy, "{tag}");
    assert!(
        outside.iter().all(|row| row.2.is_some_and(f64::is_finite)),
        "{tag}"
    );
    let times: BTreeSet<_> = outside.iter().map(|row| row.1).collect();
    assert_eq!(times.len() as u64, healthy, "{tag}");
    SensorFiles {
        readings: main.len() + late.len(),
        files: 1 + usize::from(late_path.exists()),
        jitters: main.iter().any(|row| row.1 % 30_000_000 != 0),
    }
}

/// Checks that rows have the sensor's id, times of the simulation, and values in the sensor's range.
fn check_values<'a>(sensor: &Asset, rows: impl Iterator<Item = &'a Row>) {
    let specifications = &sensor.specifications;
    let (start, end) = (
        micros("2026-02-27T00:00:00Z"),
        micros("2026-03-04T00:00:00Z"),
    );
    let (low, high) = (
        specifications.range_low.unwrap(),
        specifications.range_high.unwrap(),
    );
    for (id, time, value) in rows {
        assert_eq!(id, &sensor.id.to_string());
        assert!((start..end).contains(time));
        assert!(
            value.is_none_or(|value| value.is_nan() || (low..=high).contains(&value)),
            "{:?} {value:?}",
            specifications.tag
        );
    }
}

/// Checks the rows during a fault that lasts `span` ticks.
fn check_fault(fault: &Fault, span: usize, main: &Rows, late: &Rows) {
    let values = || main.iter().map(|row| row.2);
    let says = |key: &str| fault.detail[key].as_u64().unwrap() as usize;
    let expected = match fault.kind.as_str() {
        "drop_out" => (0, 0),
        "late_file" => (0, span),
        "repeated"
            if fault.detail["file"]
                .as_str()
                .unwrap()
                .ends_with("_late.parquet") =>
        {
            (span, span)
        }
        "repeated" => (2 * span, 0),
        _ => (span, 0),
    };
    assert_eq!((main.len(), late.len()), expected, "{fault:?}");
    match fault.kind.as_str() {
        "null" => assert!(values().all(|value| value.is_none()), "{fault:?}"),
        "nan" => assert!(
            values().all(|value| value.is_some_and(f64::is_nan)),
            "{fault:?}"
        ),
        "flat_line" => assert!(values().all(|value| value == main[0].2), "{fault:?}"),
        "drift" => assert!(fault.detail["offset_at_end"].as_f64().unwrap() != 0.0),
        "spikes" => {
            let times: BTreeSet<_> = fault.detail["times"]
                .as_array()
                .unwrap()
                .iter()
                .map(|time| micros(time.as_str().unwrap()))
                .collect();
            assert_eq!(times.len(), says("readings"));
            let spikes = main.iter().filter(|row| times.contains(&row.1)).count();
            assert_eq!(spikes, times.len(), "{fault:?}");
        }
        "repeated" => {
            let mut by_time: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
            for row in main.iter().chain(late) {
                by_time.entry(row.1).or_default().push(row.2.unwrap());
            }
            let same = fault.detail["values"] == "same";
            assert_eq!(by_time.len(), span);
            assert!(
                by_time
                    .values()
                    .all(|pair| pair.len() == 2 && (pair[0] == pair[1]) == same),
                "{fault:?}"
            );
        }
        _ => {}
    }
    if fault.kind != "spikes" {
        assert_eq!(says("readings"), span, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catalog_describes_the_plant() {
    let place = Place::new();
    place
        .simulate(&Plan {
            assets: 150,
            days: 1,
            interval: Duration::from_secs(3_600),
            ..plan()
        })
        .await
        .unwrap();
    let catalog = Catalog::read(&place.catalog()).unwrap();
    let found = |words: &[&str]| {
        catalog.assets.iter().any(|asset| {
            let text = serde_json::to_string(asset).unwrap();
            words.iter().all(|word| text.contains(word))
        })
    };
    assert!(found(&[
        "high-temperature",
        "reactor vessel",
        "design_temperature_c"
    ]));
    assert!(found(&["compressor", "vibration", "mm/s"]));
    assert!(
        catalog
            .assets
            .iter()
            .any(|asset| asset.specifications.interpolation == Some(Interpolation::Stepped))
    );
    assert_eq!(catalog.graph.nodes.len(), catalog.assets.len());
    assert_eq!(
        catalog
            .graph
            .nodes
            .iter()
            .filter(|node| node.kind == NodeKind::Sensor)
            .count(),
        150
    );
    let by_id: HashMap<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(place.catalog().join("id2assets.json")).unwrap())
            .unwrap();
    for asset in &catalog.assets {
        assert_eq!(by_id[&asset.id.to_string()]["name"], asset.name.as_str());
    }
}
