//! Tests with raw files in the layouts of many writers, and with damaged files.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int16Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, TimestampMicrosecondType};
use chrono_tz::Tz;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use proptest::prelude::*;

use super::*;
use crate::lake::storage::store::Store;
use crate::model::{AssetId, MICROS_PER_DAY, Window};

const PUMP: &str = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
const TANK: &str = "b1b2c3d4-e5f6-7890-abcd-ef1234567890";

type Reading = (String, i64, f64);

fn format() -> RawFormat {
    RawFormat {
        columns: ColumnNames {
            id: "id".to_owned(),
            timestamp: "timestamp".to_owned(),
            value: "value".to_owned(),
        },
        timezone: Tz::UTC,
        plausible: Window {
            start: -100 * MICROS_PER_DAY,
            end: 100_000 * MICROS_PER_DAY,
        },
        marks_ambiguous: true,
    }
}

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn parquet(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// Puts a file into a new store and lists it.
async fn put(bytes: Vec<u8>) -> (Store, RawFile) {
    let name = format!("memory://{}", uuid::Uuid::new_v4());
    let store = Store::open(&name, &std::collections::HashMap::new()).unwrap();
    store
        .objects()
        .put(&Path::from("a.parquet"), PutPayload::from(bytes))
        .await
        .unwrap();
    let file = list_raw_files(&store).await.unwrap().remove(0);
    (store, file)
}

async fn readings(
    store: &Store,
    file: &RawFile,
    window: Window,
) -> Result<Vec<Reading>, RawFileError> {
    let want = ReadRequest {
        window,
        untimed: false,
        batch_rows: 1_000,
    };
    let batches: Vec<RecordBatch> = read(store, file, &format(), &want)
        .await?
        .try_collect()
        .await?;
    let mut found = Vec::new();
    for batch in batches {
        let ids = batch.column(0).as_dictionary::<Int32Type>();
        let texts = ids.values().as_string::<i32>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(2).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            if ids.is_valid(row) && times.is_valid(row) && values.is_valid(row) {
                let id = texts.value(ids.keys().value(row) as usize).to_owned();
                found.push((id, times.value(row), values.value(row)));
            }
        }
    }
    Ok(found)
}

fn times() -> Vec<i64> {
    (0..6).map(|step| step * 3_600_000_000).collect()
}

#[test]
fn read_of_every_accepted_type_returns_same_readings() {
    let ids = vec![PUMP, PUMP, TANK, TANK, PUMP, TANK];
    let text: ArrayRef = Arc::new(StringArray::from(ids.clone()));
    let bytes: Vec<[u8; 16]> = ids
        .iter()
        .map(|id| *AssetId::parse(id).unwrap().as_bytes())
        .collect();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::LargeUtf8));
    let id_columns: Vec<ArrayRef> = vec![
        Arc::clone(&text),
        Arc::new(LargeStringArray::from(ids.clone())),
        Arc::new(StringViewArray::from(ids.clone())),
        cast(&text, &dictionary).unwrap(),
        Arc::new(FixedSizeBinaryArray::try_from_iter(bytes.iter()).unwrap()),
        Arc::new(BinaryViewArray::from_iter_values(bytes.iter())),
    ];
    let micros = times();
    let per = |unit: i64| micros.iter().map(|time| time / unit).collect::<Vec<_>>();
    let time_columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(micros.clone())),
        Arc::new(TimestampSecondArray::from(per(1_000_000)).with_timezone("UTC")),
        Arc::new(TimestampMillisecondArray::from(per(1_000)).with_timezone("+02:00")),
        // Nanoseconds must be floored, neither rounded nor truncated towards zero.
        Arc::new(TimestampNanosecondArray::from(
            micros
                .iter()
                .map(|time| time * 1_000 + 999)
                .collect::<Vec<_>>(),
        )),
    ];
    let value_columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter_values((0..6).map(f64::from))),
        Arc::new(Float32Array::from_iter_values(
            (0..6).map(|value| value as f32),
        )),
        Arc::new(Int16Array::from_iter_values(0..6)),
    ];
    let expected: Vec<Reading> = ids
        .iter()
        .zip(&micros)
        .zip(0..6)
        .map(|((id, &time), value)| ((*id).to_owned(), time, f64::from(value)))
        .collect();
    block(async {
        for id in &id_columns {
            for time in &time_columns {
                for value in &value_columns {
                    let columns = vec![
                        ("note", Arc::clone(&text)),
                        ("value", Arc::clone(value)),
                        ("timestamp", Arc::clone(time)),
                        ("id", Arc::clone(id)),
                    ];
                    let (store, file) = put(parquet(columns, WriterProperties::default())).await;
                    let found = readings(&store, &file, Window::ALL).await.unwrap();
                    assert_eq!(
                        found,
                        expected,
                        "{} {} {}",
                        id.data_type(),
                        time.data_type(),
                        value.data_type()
                    );
                }
            }
        }
    });
}

fn example(ids: &[&str], times: &[i64], properties: WriterProperties) -> Vec<u8> {
    let values = (0..times.len()).map(|row| row as f64);
    parquet(
        vec![
            ("id", Arc::new(StringArray::from(ids.to_vec())) as ArrayRef),
            (
                "timestamp",
                Arc::new(TimestampMicrosecondArray::from(times.to_vec())),
            ),
            ("value", Arc::new(Float64Array::from_iter_values(values))),
        ],
        properties,
    )
}

#[test]
fn survey_returns_only_asset_of_footer() {
    let survey_of = |bytes| {
        block(async {
            let (store, file) = put(bytes).await;
            survey(&store, &file, &format()).await.unwrap()
        })
    };
    let defaults = WriterProperties::default;
    let one = survey_of(example(&[PUMP; 6], &times(), defaults()));
    assert_eq!(one.asset, AssetId::parse(PUMP).ok());
    assert_eq!((one.rows, one.minutes, one.dates.len()), (6, 6, 1));
    let mixed = survey_of(example(
        &[PUMP, PUMP, PUMP, TANK, TANK, TANK],
        &times(),
        defaults(),
    ));
    assert_eq!(mixed.asset, None);
    // Upper and lower case sort differently as text, but a range of one text is one asset.
    let upper = PUMP.to_uppercase();
    let shouted = survey_of(example(&[upper.as_str(); 6], &times(), defaults()));
    assert_eq!(shouted.asset, AssetId::parse(PUMP).ok());
    let malformed = survey_of(example(&["pump"; 6], &times(), defaults()));
    assert_eq!(malformed.asset, None);
    let silent = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let unknown = survey_of(example(&[PUMP; 6], &times(), silent));
    assert_eq!(unknown.asset, None);
    assert_eq!(
        unknown.dates.ranges(),
        [(0, 0)],
        "read from the column itself"
    );
    let ids = StringArray::from(vec![Some(PUMP), None]);
    let with_null = survey_of(parquet(
        vec![
            ("id", Arc::new(ids) as ArrayRef),
            (
                "timestamp",
                Arc::new(TimestampMicrosecondArray::from(vec![0, 1])),
            ),
            ("value", Arc::new(Float64Array::from(vec![0.0, 1.0]))),
        ],
        defaults(),
    ));
    assert_eq!(
        with_null.asset, None,
        "a null id is in every range of assets"
    );
}

#[test]
fn read_of_file_changed_since_listing_fails() {
    block(async {
        let (store, file) = put(example(&[PUMP; 6], &times(), WriterProperties::default())).await;
        let other = example(&[TANK; 6], &times(), WriterProperties::default());
        let path = Path::from("a.parquet");
        store.objects().put(&path, other.into()).await.unwrap();
        let fault = readings(&store, &file, Window::ALL).await.unwrap_err();
        assert!(matches!(fault, RawFileError::Changed { .. }), "{fault}");
    });
}

#[test]
fn list_skips_hidden_files_and_sorts_by_time_then_path() {
    block(async {
        let store = Store::open("memory://listing", &std::collections::HashMap::new()).unwrap();
        let good = ["b.parquet", "a/c.parquet", "a/d.PARQUET"];
        for name in good
            .iter()
            .chain(&["_x.parquet", ".y.parquet", "_tmp/z.parquet", "n.csv"])
        {
            store
                .objects()
                .put(&Path::from(*name), "x".into())
                .await
                .unwrap();
        }
        let listed = list_raw_files(&store).await.unwrap();
        assert_eq!(listed.len(), good.len(), "{listed:?}");
        assert!(listed.is_sorted_by_key(|file| (file.modified, file.path.clone())));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reading a window returns the readings that a full read returns inside it, whatever the row groups and pages are.
    #[test]
    fn read_of_window_equals_filtered_full_read(
        mut times in proptest::collection::vec(0..40 * MICROS_PER_DAY, 1..3_000),
        ordered in any::<bool>(),
        group in 50..1_000_usize,
        page in 10..200_usize,
        statistics in 0..3_usize,
        from in 0..40_i32,
        span in 1..20_i32,
    ) {
        if ordered {
            times.sort_unstable();
        }
        let statistics = [EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page][statistics];
        let properties = WriterProperties::builder()
            .set_statistics_enabled(statistics)
            .set_max_row_group_row_count(Some(group))
            .set_data_page_row_count_limit(page)
            .set_write_batch_size(page)
            .build();
        let ids: Vec<&str> = (0..times.len()).map(|row| if row % 3 == 0 { PUMP } else { TANK }).collect();
        let bytes = example(&ids, &times, properties);
        let window = Window::days(from, from + span);
        let (all, inside, dates) = block(async {
            let (store, file) = put(bytes).await;
            let dates = survey(&store, &file, &format()).await.unwrap().dates;
            let all = readings(&store, &file, Window::ALL).await.unwrap();
            (all, readings(&store, &file, window).await.unwrap(), dates)
        });
        prop_assert_eq!(all.len(), times.len());
        let kept = |readings: Vec<Reading>| -> Vec<Reading> {
            readings.into_iter().filter(|reading| window.contains(reading.1)).collect()
        };
        prop_assert_eq!(kept(all), kept(inside));
        prop_assert!(times.iter().all(|&time| dates.contains(crate::model::day_of(time))));
    }

    /// Reading any file ends with readings or with an error that names the file.
    #[test]
    fn read_of_damaged_file_returns_fault(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let ids = [PUMP; 600];
        let times: Vec<i64> = (0..600).map(|row| row * 60_000_000).collect();
        let mut bytes = example(&ids, &times, WriterProperties::default());
        for (at, with) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= with;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()).max(1));
        }
        block(async {
            let (store, file) = put(bytes).await;
            for window in [Window::ALL, Window::days(0, 0)] {
                if let Err(fault) = readings(&store, &file, window).await {
                    prop_assert!(fault.to_string().contains("a.parquet"), "{}", fault);
                }
            }
            if let Err(fault) = survey(&store, &file, &format()).await {
                prop_assert!(fault.to_string().contains("a.parquet"), "{}", fault);
            }
            Ok(())
        })?;
    }
}

#[test]
fn survey_with_invalid_time_zone_fails() {
    for (zone, is_valid) in [
        ("+99:99", false),
        ("Mars/Phobos", false),
        ("UTC", true),
        ("z", true),
        ("+05:30", true),
        ("Europe/Berlin", true),
    ] {
        let times = TimestampMicrosecondArray::from(vec![1, 2]).with_timezone(zone);
        let bytes = parquet(
            vec![
                (
                    "id",
                    Arc::new(StringArray::from(vec![PUMP, TANK])) as ArrayRef,
                ),
                ("timestamp", Arc::new(times) as ArrayRef),
                (
                    "value",
                    Arc::new(Float64Array::from(vec![1.0, 2.0])) as ArrayRef,
                ),
            ],
            WriterProperties::builder().build(),
        );
        block(async {
            let (store, file) = put(bytes).await;
            match survey(&store, &file, &format()).await {
                Ok(_) => assert!(is_valid, "{zone}"),
                Err(fault) => {
                    assert!(!is_valid, "{fault}");
                    assert!(fault.to_string().contains("invalid time zone"), "{fault}");
                }
            }
        });
    }
}

#[test]
fn contents_of_file_are_its_assets_and_dates() {
    let day = MICROS_PER_DAY;
    let bytes = example(
        &[PUMP, TANK, PUMP],
        &[0, 3 * day, day],
        WriterProperties::builder().build(),
    );
    block(async {
        let (store, file) = put(bytes).await;
        let found = read_contents(&store, &file, &format())
            .await
            .unwrap()
            .unwrap();
        let pump = AssetId::parse(PUMP).unwrap();
        let dates = found.groups.iter().map(|group| {
            let is_of_pump = &*group.assets == [pump].as_slice();
            (is_of_pump, group.dates.ranges().to_vec())
        });
        let mut dates: Vec<_> = dates.collect();
        dates.sort();
        assert_eq!(dates, [(false, vec![(3, 3)]), (true, vec![(0, 1)])]);
    });
}

#[test]
fn written_file_when_finished_equals_listed_file() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Store::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    let raw = lake.child("raw");
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from(vec![PUMP])) as ArrayRef),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![1])) as ArrayRef,
        ),
        ("value", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef),
    ])
    .unwrap();
    block(async {
        let path = "ingested/a/b.parquet";
        let mut incoming = RawFileWriter::create(&raw, &format(), path, &batch.schema()).unwrap();
        let readings = incoming.to_canonical(&batch).unwrap();
        incoming.write(&readings).await.unwrap();
        let written = incoming.finish().await.unwrap().unwrap();
        assert_eq!(list_raw_files(&raw).await.unwrap(), [written]);
    });
}
