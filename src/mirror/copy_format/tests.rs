//! Compares the binary format with the output of Postgres for the same values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};

use super::*;

/// The output of `COPY (SELECT …) TO STDOUT (FORMAT binary)` of Postgres 15.18, in hexadecimal. The rows that arrive in
/// Postgres are compared in `tests/python/test_mirror.py`.
const GOLDEN: &str = include_str!("golden.hex");

/// Asset, time in microseconds, averages, count, standard deviation.
type Row<'a> = (&'a str, i64, [f64; 5], i64, Option<f64>);

fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let number = |at: usize| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(
            rows.iter().map(|row| row.2[at]),
        ))
    };
    let ids: DictionaryArray<Int32Type> = rows.iter().map(|row| row.0).collect();
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(times.with_timezone("UTC")),
        number(0),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3))),
        number(1),
        number(2),
        number(3),
        number(4),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.4))),
    ];
    let schema = Arc::clone(RollupSchema::declared().file_schema());
    RecordBatch::try_new(schema, columns).unwrap()
}

const ONE: &str = "00000000-0000-4000-8000-000000000001";
const LAST: &str = "ffffffff-ffff-4fff-bfff-ffffffffffff";

/// 2026-01-31T23:59:00Z.
const EVENING: i64 = 1_769_903_940_000_000;
/// 1969-12-31T00:00:00Z, and the last minute of 5999.
const EARLY: i64 = -86_400_000_000;
const LATE: i64 = 127_174_492_740_000_000;

fn golden_rows() -> RecordBatch {
    let odd = [
        f64::NAN,
        f64::NEG_INFINITY,
        f64::INFINITY,
        -0.0,
        f64::MIN_POSITIVE / 4.0,
    ];
    batch(&[
        (ONE, EVENING, [1.5, -2.25, 1e300, 0.1, 0.2], 3, Some(0.5)),
        (ONE, EARLY, odd, i64::MAX, Some(f64::NAN)),
        (LAST, LATE, [0.0; 5], 1, None),
        (
            LAST,
            946_684_800_000_000,
            [f64::MAX, f64::MIN, 1.0, 2.0, 3.0],
            0,
            Some(f64::INFINITY),
        ),
    ])
}

fn all() -> DateSet {
    DateSet::range(-1_000_000, 10_000_000)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn encode_writes_bytes_of_postgres() {
    let batch = golden_rows();
    let rows = Rows::new(&batch, RollupSchema::declared()).unwrap();
    let mut out = HEADER.to_vec();
    let mut seen = HashSet::new();
    assert_eq!(
        rows.encode(0..rows.len(), &all(), &mut out, &mut seen)
            .unwrap(),
        4
    );
    out.extend_from_slice(TRAILER);
    let golden: String = GOLDEN.split_whitespace().collect();
    assert_eq!(hex(&out), golden);
    assert_eq!(seen.len(), 2);
}

#[test]
fn encode_writes_only_rows_of_given_dates() {
    let batch = golden_rows();
    let rows = Rows::new(&batch, RollupSchema::declared()).unwrap();
    let dates: DateSet = [day_of(EVENING), day_of(LATE)].into_iter().collect();
    let (mut whole, mut seen) = (Vec::new(), HashSet::new());
    assert_eq!(rows.encode(0..4, &dates, &mut whole, &mut seen).unwrap(), 2);
    // A count, a UUID and eight numbers, each with its length. The last number of one row is null.
    assert_eq!(whole.len(), 2 * (2 + (4 + 16) + 8 * (4 + 8)) - 8);
    let mut cut = Vec::new();
    for at in 0..4 {
        rows.encode(at..at + 1, &dates, &mut cut, &mut seen)
            .unwrap();
    }
    assert_eq!(cut, whole);
    let none = DateSet::default();
    assert_eq!(
        rows.encode(0..4, &none, &mut cut, &mut HashSet::new())
            .unwrap(),
        0
    );
}

#[test]
fn encode_writes_later_columns_and_their_nulls() {
    let schema = RollupSchema::with_test_columns();
    let original = golden_rows();
    let mut columns = original.columns().to_vec();
    columns.push(Arc::new(Float64Array::from(vec![
        Some(1.5),
        None,
        None,
        Some(-0.0),
    ])));
    columns.push(Arc::new(Int64Array::from(vec![
        None,
        Some(7),
        None,
        Some(-1),
    ])));
    let batch = RecordBatch::try_new(Arc::clone(schema.file_schema()), columns).unwrap();
    let rows = Rows::new(&batch, &schema).unwrap();
    let before = Rows::new(&original, RollupSchema::declared()).unwrap();
    let null = NULL_LENGTH.to_be_bytes().to_vec();
    let number = |bits: u64| [&8_i32.to_be_bytes()[..], &bits.to_be_bytes()[..]].concat();
    let later = [
        [number(1.5_f64.to_bits()), null.clone()],
        [null.clone(), number(7)],
        [null.clone(), null.clone()],
        [number((-0.0_f64).to_bits()), number(u64::MAX)],
    ];
    for (at, later) in later.iter().enumerate() {
        let (mut row, mut expected, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        let range = at..at + 1;
        rows.encode(range.clone(), &all(), &mut row, &mut seen)
            .unwrap();
        before
            .encode(range, &all(), &mut expected, &mut seen)
            .unwrap();
        expected[..2].copy_from_slice(&11_i16.to_be_bytes());
        expected.extend(later.concat());
        assert_eq!(hex(&row), hex(&expected), "row {at}");
    }
}

#[test]
fn rows_refuse_malformed_batch() {
    let batch = batch(&[("pump 7", 0, [0.0; 5], 1, None)]);
    let error = Rows::new(&batch, RollupSchema::declared())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("\"pump 7\" is not a UUID"), "{error}");
}
