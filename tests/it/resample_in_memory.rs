//! Runs the resample job on a lake in memory. All stores of `object_store` are used through the same code.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use plantlake::config::{Inputs, Override, load};
use plantlake::engine::QuerySession;
use plantlake::jobs::{Job, Options, Outcome, Progress, Report};
use plantlake::lake::Store;
use plantlake::rollup_schema::RollupSchema;

const PUMP: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
const TANK: &str = "b1b2c3d4-e5f6-7890-abcd-ef1234567890";
const DAY: i64 = 86_400_000_000;

struct Quiet;

impl Progress for Quiet {
    fn expect(&self, _: u64) {}
    fn read(&self, _: u64) {}
}

struct Plant {
    lake: Store,
    raw: Store,
    job: Job,
}

impl Plant {
    fn new(name: &str) -> Self {
        let url = format!("memory://{name}");
        let overrides = [
            Override::from_flag("lake", "--lake", Some(url.as_str())),
            Override::from_flag("state", "--state", Some("unused")),
            Override::from_flag("resample.earliest", "--earliest", Some("1970-01-01")),
        ];
        let inputs = Inputs {
            folder: std::env::temp_dir().join("plantlake-no-settings-here"),
            overrides: overrides.into_iter().flatten().collect(),
            ..Inputs::default()
        };
        let settings = load(&inputs).unwrap().settings;
        let lake = Store::open(&settings.lake, &HashMap::new()).unwrap();
        let raw = Store::open(&settings.raw, &HashMap::new()).unwrap();
        let job = Job {
            lake: lake.clone(),
            raw: raw.clone(),
            settings,
            spec: Default::default(),
            schema: RollupSchema::declared().clone(),
            progress: Arc::new(Quiet),
        };
        Self { lake, raw, job }
    }

    async fn put(&self, path: &str, asset: &str, readings: &[(i64, f64)]) {
        let ids = StringArray::from(vec![asset; readings.len()]);
        let times =
            TimestampMicrosecondArray::from_iter_values(readings.iter().map(|(time, _)| *time));
        let values = Float64Array::from_iter_values(readings.iter().map(|(_, value)| *value));
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(ids) as ArrayRef),
            ("timestamp", Arc::new(times)),
            ("value", Arc::new(values)),
        ])
        .unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        self.raw
            .objects()
            .put(&Path::from(path), PutPayload::from(bytes))
            .await
            .unwrap();
    }

    async fn run(&self) -> Report {
        self.job.run(&Options::default()).await.unwrap()
    }

    /// Returns the asset, count and mean of each row of a table.
    async fn rows(&self, table: &str) -> Vec<(String, i64, f64)> {
        let session = QuerySession::open(&self.lake, std::path::Path::new("no catalog"), None)
            .await
            .unwrap();
        let sql =
            format!("SELECT asset_id, \"count\", value FROM {table} ORDER BY asset_id, timestamp");
        let batches = session.sql(&sql).await.unwrap().collect().await.unwrap();
        let mut rows = Vec::new();
        for batch in &batches {
            let assets =
                arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
            let counts = batch.column(1).as_primitive::<Int64Type>();
            let values = batch.column(2).as_primitive::<Float64Type>();
            for row in 0..batch.num_rows() {
                rows.push((
                    assets.as_string::<i32>().value(row).to_owned(),
                    counts.value(row),
                    values.value(row),
                ));
            }
        }
        rows
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resample_after_files_are_added_replaced_or_removed_updates_the_tables() {
    let plant = Plant::new("added-replaced-removed");
    plant
        .put("pump.parquet", PUMP, &[(0, 1.0), (1, 3.0), (DAY, 10.0)])
        .await;
    plant.put("sub/tank.parquet", TANK, &[(0, 5.0)]).await;
    let first = plant.run().await;
    assert_eq!(first.outcome, Outcome::Published);
    assert_eq!((first.readings.used, first.dates.count), (4, 2));
    let pump = PUMP.to_owned();
    let tank = TANK.to_owned();
    for table in ["data_min", "data_h", "data_d"] {
        assert_eq!(
            plant.rows(table).await,
            [
                (pump.clone(), 2, 2.0),
                (pump.clone(), 1, 10.0),
                (tank.clone(), 1, 5.0)
            ],
            "{table}"
        );
    }
    assert_eq!(plant.run().await.outcome, Outcome::NothingToDo);

    plant
        .put("sub/tank.parquet", TANK, &[(0, 5.0), (60_000_000, 7.0)])
        .await;
    let second = plant.run().await;
    assert_eq!((second.files.changed, second.dates.count), (1, 1));
    assert_eq!(plant.rows("data_h").await[2], (tank.clone(), 2, 6.0));
    assert_eq!(plant.rows("data_min").await.len(), 4);

    plant
        .raw
        .objects()
        .delete(&Path::from("pump.parquet"))
        .await
        .unwrap();
    let third = plant.run().await;
    assert_eq!((third.files.removed, third.files.known), (1, 1));
    assert_eq!(plant.rows("data_d").await, [(tank, 2, 6.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_resample_runs_publish_once() {
    let plant = Arc::new(Plant::new("two-at-once"));
    let readings: Vec<(i64, f64)> = (0..5_000)
        .map(|step| (step * 10_000_000, step as f64))
        .collect();
    plant.put("pump.parquet", PUMP, &readings).await;
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let plant = Arc::clone(&plant);
            tokio::spawn(async move { plant.job.run(&Options::default()).await })
        })
        .collect();
    let mut published = 0;
    for run in runs {
        match run.await.unwrap() {
            Ok(report) => published += usize::from(report.outcome == Outcome::Published),
            Err(error) => assert!(
                error.to_string().contains("lease") || error.to_string().contains("holds"),
                "{error}"
            ),
        }
    }
    assert_eq!(published, 1);
    let counted: i64 = plant.rows("data_min").await.iter().map(|row| row.1).sum();
    assert_eq!(counted, 5_000);
}
