//! Runs the resample job on one lake with the columns of this version of plantlake and with those of a later one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use super::job::{Job, Options, Progress};
use super::report::Outcome;
use crate::config::{Inputs, Override, Settings, load};
use crate::lake::Store;
use crate::lake::delta::data_file_reader::FileRows;
use crate::lake::delta::table::Table;
use crate::lake::records::runs::Runs;
use crate::model::{Day, MICROS_PER_DAY, Resolution, day_of};
use crate::rollup_schema::RollupSchema;

const PUMP: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";

struct Quiet;

impl Progress for Quiet {
    fn expect(&self, _: u64) {}
    fn read(&self, _: u64) {}
}

struct Plant {
    settings: Settings,
    lake: Store,
    raw: Store,
}

/// The maximum, and the later columns of the maximum and of the count, by date.
type Days = BTreeMap<Day, (f64, Option<f64>, Option<i64>)>;

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
        Self {
            settings,
            lake,
            raw,
        }
    }

    /// Writes a raw file with a reading of value `day` on each of `days`.
    async fn put(&self, path: &str, days: &[Day]) {
        let times = days.iter().map(|&day| i64::from(day) * MICROS_PER_DAY);
        let values = days.iter().map(|&day| f64::from(day));
        let batch = RecordBatch::try_from_iter([
            (
                "id",
                Arc::new(StringArray::from(vec![PUMP; days.len()])) as ArrayRef,
            ),
            (
                "timestamp",
                Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
            ),
            ("value", Arc::new(Float64Array::from_iter_values(values))),
        ])
        .unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let objects = self.raw.objects();
        let path = Path::from(path);
        objects.put(&path, PutPayload::from(bytes)).await.unwrap();
    }

    async fn run(&self, schema: &RollupSchema, full: bool) {
        let job = Job {
            lake: self.lake.clone(),
            raw: self.raw.clone(),
            settings: self.settings.clone(),
            spec: Default::default(),
            schema: schema.clone(),
            progress: Arc::new(Quiet),
        };
        let options = Options {
            full,
            ..Options::default()
        };
        assert_eq!(job.run(&options).await.unwrap().outcome, Outcome::Published);
    }

    async fn table(&self, schema: &RollupSchema, resolution: Resolution) -> Table {
        let publication = Runs::open(&self.lake).latest_publication().await.unwrap();
        let version = publication.unwrap().versions.get(resolution);
        Table::open_at(&self.lake, schema, resolution, version)
            .await
            .unwrap()
    }

    /// Returns the published rows as a later version reads them.
    async fn days(&self, resolution: Resolution) -> Days {
        let table = self
            .table(&RollupSchema::with_test_columns(), resolution)
            .await;
        let mut found = Days::new();
        for file in table.files() {
            let FileRows { mut batches, .. } = table.read_file(&file).await.unwrap();
            while let Some(batch) = batches.try_next().await.unwrap() {
                let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
                let max = batch.column(5).as_primitive::<Float64Type>();
                let later_max = batch.column(9).as_primitive::<Float64Type>();
                let later_count = batch.column(10).as_primitive::<Int64Type>();
                for row in 0..batch.num_rows() {
                    let later = later_max.is_valid(row).then(|| later_max.value(row));
                    let count = later_count.is_valid(row).then(|| later_count.value(row));
                    let day = day_of(times.value(row));
                    found.insert(day, (max.value(row), later, count));
                }
            }
        }
        found
    }

    /// Returns the actions of a kind in the log of a table, with their versions.
    async fn actions(&self, resolution: Resolution, kind: &str) -> Vec<(u64, Value)> {
        let latest = self.table(RollupSchema::declared(), resolution).await;
        let objects = self.lake.child(resolution.table()).objects();
        let mut found = Vec::new();
        for version in 0..=latest.version() {
            let path = Path::from(format!("_delta_log/{version:020}.json"));
            let bytes = objects.get(&path).await.unwrap().bytes().await.unwrap();
            for line in std::str::from_utf8(&bytes).unwrap().lines() {
                let action: Value = serde_json::from_str(line).unwrap();
                if let Some(action) = action.get(kind) {
                    found.push((version, action.clone()));
                }
            }
        }
        found
    }
}

/// The expected rows: of each date, whether its later columns have values.
fn expected(dates: &[(Day, bool)]) -> Days {
    let dates = dates.iter().map(|&(day, is_filled)| {
        let value = f64::from(day);
        let later = (is_filled.then_some(value), is_filled.then_some(1));
        (day, (value, later.0, later.1))
    });
    dates.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_an_older_version_gain_later_columns_with_the_next_commit() {
    let plant = Plant::new("gain-columns");
    let later = RollupSchema::with_test_columns();
    plant.put("1.parquet", &[1, 2]).await;
    plant.run(RollupSchema::declared(), false).await;
    for resolution in Resolution::ALL {
        // A later version reads the older tables before its first run.
        let rows = plant.days(resolution).await;
        assert_eq!(rows, expected(&[(1, false), (2, false)]));
    }
    // The days 1 to 5 are in the same month and year.
    plant.put("2.parquet", &[3]).await;
    plant.run(&later, false).await;
    for resolution in Resolution::ALL {
        let rows = plant.days(resolution).await;
        let dates = [(1, false), (2, false), (3, true)];
        assert_eq!(rows, expected(&dates), "{resolution}");
        let metadata = plant.actions(resolution, "metaData").await;
        let [(0, created), (2, changed)] = &metadata[..] else {
            panic!("{metadata:?}");
        };
        for unchanged in [
            "id",
            "name",
            "description",
            "partitionColumns",
            "configuration",
        ] {
            assert_eq!(created[unchanged], changed[unchanged]);
        }
        let names = |metadata: &Value| -> Vec<String> {
            let schema = metadata["schemaString"].as_str().unwrap();
            let schema: Value = serde_json::from_str(schema).unwrap();
            let fields = schema["fields"].as_array().unwrap().iter();
            fields
                .map(|field| field["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let mut wanted = names(created);
        wanted.splice(9..9, ["test_max".to_owned(), "test_count".to_owned()]);
        assert_eq!(names(changed), wanted);
        let protocols = plant.actions(resolution, "protocol").await;
        assert_eq!(
            protocols.len(),
            1,
            "the protocol was changed: {protocols:?}"
        );
    }
    plant.run(&later, true).await;
    for resolution in Resolution::ALL {
        let rows = plant.days(resolution).await;
        assert_eq!(rows, expected(&[(1, true), (2, true), (3, true)]));
        let metadata = plant.actions(resolution, "metaData").await;
        assert_eq!(metadata.len(), 2, "the columns were added again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_of_an_older_version_preserves_columns_that_it_does_not_know() {
    let plant = Plant::new("preserve-columns");
    plant.put("1.parquet", &[1, 2]).await;
    plant.run(&RollupSchema::with_test_columns(), false).await;
    plant.put("2.parquet", &[3]).await;
    plant.run(RollupSchema::declared(), false).await;
    for resolution in Resolution::ALL {
        let rows = plant.days(resolution).await;
        let dates = [(1, true), (2, true), (3, false)];
        assert_eq!(rows, expected(&dates), "{resolution}");
        assert_eq!(plant.actions(resolution, "metaData").await.len(), 1);
        // The older version reads its own columns.
        let table = plant.table(RollupSchema::declared(), resolution).await;
        let file = table.files().remove(0);
        let known = table.read_file(&file).await.unwrap().schema;
        assert_eq!(&known, RollupSchema::declared().file_schema());
        let all = table.read_whole_file(&file).await.unwrap().schema;
        assert!(all.index_of("test_max").is_ok(), "{all:?}");
    }
}
