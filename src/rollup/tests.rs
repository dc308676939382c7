//! Compares the operator with a simple model that does not depend on the order of readings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    Float64Type, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType, UInt8Type,
};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::TryStreamExt;
use proptest::prelude::*;

use super::*;
use crate::model::{DateSet, MICROS_PER_DAY, Window, day_of};
use crate::rollup_schema::RollupSchema;

/// An input of batches in memory, with one partition for each file.
struct Files {
    files: Vec<Vec<RecordBatch>>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

impl DisplayAs for Files {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

impl ExecutionPlan for Files {
    fn name(&self) -> &'static str {
        "Files"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }
    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batches: Vec<Result<RecordBatch>> = self
            .files
            .get(partition)
            .into_iter()
            .flatten()
            .cloned()
            .map(Ok)
            .collect();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&schema::READINGS) as SchemaRef,
            futures::stream::iter(batches),
        )))
    }
}

/// A raw row: asset number (`None` is null, 9 is malformed), time, value.
type Row = (Option<u8>, Option<i64>, Option<f64>);
type Key = (u8, String, i64);
/// Count, mean, min, max, first, last, stddev.
type Rollup = (i64, f64, f64, f64, f64, f64, Option<f64>);

fn asset(number: u8) -> String {
    if number == 9 {
        "pump 9".to_owned()
    } else {
        format!("0000000{number}-0000-4000-8000-000000000000")
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..10).map(asset)));
    let keys = Int32Array::from_iter(rows.iter().map(|row| row.0.map(i32::from)));
    let times =
        TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.1)).with_timezone("UTC");
    let values = Float64Array::from_iter(rows.iter().map(|row| row.2));
    let ids = DictionaryArray::<Int32Type>::try_new(keys, texts).unwrap();
    RecordBatch::try_new(
        Arc::clone(&schema::READINGS),
        vec![Arc::new(ids), Arc::new(times), Arc::new(values)],
    )
    .unwrap()
}

const PLAUSIBLE: Window = Window {
    start: 0,
    end: 20 * MICROS_PER_DAY,
};

/// Computes rollups as plain sums over sorted readings. The last file wins, and in it the last row.
fn model(files: &[Vec<Row>], cell: Cell) -> BTreeMap<Key, Rollup> {
    let mut readings = BTreeMap::new();
    for (number, time, value) in files.iter().flatten() {
        let (Some(number), Some(time), Some(value)) = (number, time, value) else {
            continue;
        };
        if *number != 9
            && PLAUSIBLE.contains(*time)
            && cell.window().contains(*time)
            && value.is_finite()
        {
            readings.insert((*number, *time), *value);
        }
    }
    let mut buckets: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    for ((number, time), value) in readings {
        for (resolution, width) in [60_000_000, 3_600_000_000, MICROS_PER_DAY]
            .into_iter()
            .enumerate()
        {
            buckets
                .entry((
                    resolution as u8,
                    asset(number),
                    time.div_euclid(width) * width,
                ))
                .or_default()
                .push(value);
        }
    }
    let rollup = |values: Vec<f64>| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let stddev = (values.len() > 1)
            .then(|| (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
        let fold = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap();
        (
            values.len() as i64,
            mean,
            fold(f64::min),
            fold(f64::max),
            values[0],
            values[values.len() - 1],
            stddev,
        )
    };
    buckets
        .into_iter()
        .map(|(key, values)| (key, rollup(values)))
        .collect()
}

struct Ran {
    rollups: BTreeMap<Key, Rollup>,
    outcome: Outcome,
}

fn run(
    files: &[Vec<Row>],
    cell: Cell,
    batch_rows: usize,
    memory: usize,
    tasks: Vec<FileTask>,
) -> Result<Ran, DataFusionError> {
    let files: Vec<Vec<RecordBatch>> = files
        .iter()
        .map(|rows| rows.chunks(batch_rows).map(batch).collect())
        .collect();
    let properties = PlanProperties::new(
        EquivalenceProperties::new(Arc::clone(&schema::READINGS)),
        Partitioning::UnknownPartitioning(files.len().max(1)),
        EmissionType::Incremental,
        Boundedness::Bounded,
    );
    let input = Arc::new(Files {
        files,
        properties: Arc::new(properties),
    });
    let request = Request {
        schema: RollupSchema::declared().clone(),
        cell,
        plausible: PLAUSIBLE,
        tasks,
        concurrency: 2,
        sort_readings: 40,
        on_readings: Arc::new(|_| {}),
    };
    let exec = ResampleExec::try_new(input, request)?;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
        .build_arc()?;
    let context = Arc::new(TaskContext::default().with_runtime(runtime));
    let batches: Vec<RecordBatch> = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
        .block_on(async {
            let mut all = Vec::new();
            for partition in 0..2 {
                all.extend(
                    exec.execute(partition, Arc::clone(&context))?
                        .try_collect::<Vec<_>>()
                        .await?,
                );
            }
            Ok::<_, DataFusionError>(all)
        })?;
    let mut rollups = BTreeMap::new();
    for batch in batches {
        let resolution = batch.column(1).as_primitive::<UInt8Type>();
        let ids = batch.column(2).as_dictionary::<Int32Type>();
        let times = batch.column(3).as_primitive::<TimestampMicrosecondType>();
        let counts = batch.column(5).as_primitive::<Int64Type>();
        let f = |column: usize, row: usize| {
            batch
                .column(column)
                .as_primitive::<Float64Type>()
                .value(row)
        };
        let mut last = None;
        for row in 0..batch.num_rows() {
            let id = ids
                .values()
                .as_string::<i32>()
                .value(ids.keys().value(row) as usize)
                .to_owned();
            let key = (resolution.value(row), id, times.value(row));
            let order = Some((key.1.clone(), key.2));
            assert!(last < order, "a batch is not in order");
            last = order;
            let stddev = batch.column(10).is_valid(row).then(|| f(10, row));
            let rollup = (
                counts.value(row),
                f(4, row),
                f(6, row),
                f(7, row),
                f(8, row),
                f(9, row),
                stddev,
            );
            assert!(
                rollups.insert(key, rollup).is_none(),
                "a bucket appears twice"
            );
        }
    }
    Ok(Ran {
        rollups,
        outcome: exec.take_outcome(),
    })
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs().max(1.0)
}

fn assert_equal(got: &BTreeMap<Key, Rollup>, want: &BTreeMap<Key, Rollup>) {
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>()
    );
    for (key, got) in got {
        let want = &want[key];
        assert_eq!(
            (got.0, got.2, got.3, got.4, got.5),
            (want.0, want.2, want.3, want.4, want.5),
            "{key:?}"
        );
        assert!(
            close(got.1, want.1),
            "{key:?}: mean {} instead of {}",
            got.1,
            want.1
        );
        match (got.6, want.6) {
            (Some(got), Some(want)) => {
                assert!(close(got, want), "{key:?}: stddev {got} instead of {want}")
            }
            (got, want) => assert_eq!(got, want, "{key:?}"),
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop_oneof![8 => (-1e3..1e3_f64).prop_map(Some), 1 => Just(None), 1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY)].prop_map(Some)];
    // Ticks of 7 seconds, so that times repeat; a few hours, so that minutes are shared.
    let time = prop_oneof![20 => (0..4_000_i64).prop_map(|tick| Some(MICROS_PER_DAY * 9 + (tick - 2_000) * 7_000_000)), 1 => Just(None), 1 => Just(Some(-5))];
    let id = prop_oneof![12 => (0..3_u8).prop_map(Some), 1 => Just(Some(9)), 1 => Just(None)];
    (
        proptest::collection::vec((id, time, value), 0..400),
        0..4_u8,
    )
        .prop_map(|(mut rows, order)| {
            match order {
                0 => rows.sort_by_key(|row| (row.0, row.1)),
                1 => rows.sort_by_key(|row| row.1),
                2 => rows.sort_by_key(|row| std::cmp::Reverse(row.1)),
                _ => {}
            }
            rows
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rollups_of_any_order_and_overlap_equal_model(files in proptest::collection::vec(rows(), 0..5), batch_rows in 1..200_usize) {
        let cell = Cell::days(8, 9);
        let count = FileTask { count_dates: DateSet::range(8, 9), count_untimed: true, expected_minutes: 0 };
        let ran = run(&files, cell, batch_rows, usize::MAX, vec![count; files.len()]).unwrap();
        assert_equal(&ran.rollups, &model(&files, cell));
        for (file, outcome) in files.iter().zip(&ran.outcome.files) {
            // Each row is valid, left out for one reason, or outside of the cell.
            let inside = |row: &&Row| row.1.is_none_or(|time| !PLAUSIBLE.contains(time) || cell.window().contains(time));
            prop_assert_eq!(outcome.valid + outcome.left_out.total(), file.iter().filter(inside).count() as u64);
        }
        let day_counts: i64 = ran.rollups.iter().filter(|(key, _)| key.0 == 2).map(|(_, rollup)| rollup.0).sum();
        prop_assert_eq!(ran.outcome.used, day_counts as u64);
    }

    /// The cells of any division give the same bits as the whole.
    #[test]
    fn rollups_of_split_cells_equal_whole_bitwise(files in proptest::collection::vec(rows(), 1..4), batch_rows in 1..200_usize) {
        let tasks = vec![FileTask::default(); files.len()];
        let bits = |rollups: BTreeMap<Key, Rollup>| -> Vec<_> {
            rollups.into_iter().map(|(key, r)| (key, r.0, [r.1, r.2, r.3, r.4, r.5, r.6.unwrap_or(-1.0)].map(f64::to_bits))).collect()
        };
        let whole = bits(run(&files, Cell::days(8, 9), 400, usize::MAX, tasks.clone()).unwrap().rollups);
        let (first, second) = Cell::days(8, 9).split(None).unwrap();
        let middle = crate::model::AssetId::parse(&asset(1)).unwrap();
        let (low, high) = second.split(Some(middle)).unwrap();
        let mut pieces = BTreeMap::new();
        for cell in [first, low, high] {
            pieces.extend(run(&files, cell, batch_rows, usize::MAX, tasks.clone()).unwrap().rollups);
        }
        prop_assert_eq!(bits(pieces), whole);
    }
}

#[test]
fn rollups_of_shuffled_file_equal_model() {
    let mut rows: Vec<Row> = (0..20_000_i64)
        .map(|i| {
            (
                Some((i % 3) as u8),
                Some(MICROS_PER_DAY * 8 + i * 1_000_000),
                Some((i as f64).sin()),
            )
        })
        .collect();
    let mut seed = 1_u64;
    for i in (1..rows.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        rows.swap(i, (seed >> 33) as usize % (i + 1));
    }
    let files = vec![rows];
    let ran = run(
        &files,
        Cell::days(8, 9),
        1_000,
        usize::MAX,
        vec![FileTask::default()],
    )
    .unwrap();
    assert_equal(&ran.rollups, &model(&files, Cell::days(8, 9)));
}

#[test]
fn operator_without_memory_fails_with_resources_exhausted() {
    let rows: Vec<Row> = (0..5_000_i64)
        .map(|i| {
            (
                Some(0),
                Some(MICROS_PER_DAY * 8 + i * 60_000_000),
                Some(1.0),
            )
        })
        .collect();
    let error = run(
        &[rows],
        Cell::days(8, 12),
        100,
        10_000,
        vec![FileTask::default()],
    )
    .map(|ran| ran.outcome)
    .unwrap_err();
    assert!(
        matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)),
        "{error}"
    );
}

#[test]
fn readings_at_edges_of_cell_belong_to_one_day() {
    let edge = 9 * MICROS_PER_DAY;
    let files = vec![vec![
        (Some(0), Some(edge - 1), Some(1.0)),
        (Some(0), Some(edge), Some(2.0)),
    ]];
    for (day, value) in [(8, 1.0), (9, 2.0)] {
        let ran = run(
            &files,
            Cell::days(day, day),
            10,
            usize::MAX,
            vec![FileTask::default()],
        )
        .unwrap();
        let days: Vec<_> = ran
            .rollups
            .iter()
            .filter(|(key, _)| key.0 == 2)
            .map(|(key, rollup)| (day_of(key.2), rollup.1))
            .collect();
        assert_eq!(days, [(day, value)]);
    }
}
