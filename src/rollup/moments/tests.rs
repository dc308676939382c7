//! Compares moments with exact integer arithmetic, at every magnitude of doubles.

use proptest::prelude::*;

use crate::rollup::{MinuteRow, Summary};

const TINY: f64 = 5e-324;

fn minute(values: &[f64]) -> Summary {
    MinuteRow::from_values(0, values).summary()
}

fn combine(parts: &[Summary]) -> Summary {
    Summary::combine(parts.iter().copied()).unwrap()
}

/// Returns `value` times 2 to the power of `exponent`, in two steps, because one factor would overflow.
fn scaled(value: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    value * 2.0_f64.powi(half) * 2.0_f64.powi(exponent - half)
}

fn assert_close(got: f64, want: f64, what: &str) {
    let error = (got - want).abs();
    let is_close = error <= 1e-13 * want.abs() || error <= TINY;
    assert!(is_close, "{what}: {got:e} instead of {want:e}");
}

/// Checks the moments of the values `(base + offset) * 2^exponent`.
fn check(summary: Summary, base: i64, offsets: &[i64], exponent: i32) {
    let count = offsets.len() as i128;
    let sum: i128 = offsets.iter().map(|&offset| i128::from(offset)).sum();
    let squares: i128 = offsets
        .iter()
        .map(|&offset| i128::from(offset).pow(2))
        .sum();
    let mean = (sum + count * i128::from(base)) as f64 / count as f64;
    assert_close(summary.mean(), scaled(mean, exponent), "mean");
    let variance = (count * squares - sum * sum) as f64 / (count * (count - 1).max(1)) as f64;
    let stddev = (count > 1).then(|| scaled(variance.sqrt(), exponent));
    assert_eq!(summary.stddev().is_some(), stddev.is_some());
    if let Some((got, want)) = summary.stddev().zip(stddev) {
        assert_close(got, want, "stddev");
        let is_constant = offsets.iter().all(|&offset| offset == offsets[0]);
        if is_constant || want > 1e-300 {
            assert_eq!(got == 0.0, is_constant, "{got:e} {want:e}");
        }
    }
}

fn offsets() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        proptest::collection::vec(-1_000..1_000_i64, 1..120),
        proptest::collection::vec(-1..=1_i64, 1..120),
        proptest::collection::vec(Just(7_i64), 1..120),
        // A totaliser, and a signal of alternating signs.
        (1..120_i64, 0..1_000_i64)
            .prop_map(|(count, step)| (0..count).map(|it| it * step).collect()),
        (1..120_i64, 0..1_099_511_627_776_i64).prop_map(|(count, size)| (0..count)
            .map(|it| if it % 2 == 0 { size } else { it - size })
            .collect()),
        proptest::collection::vec(-1_000..1_000_i64, 1_000..4_000),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn moments_of_minutes_hours_and_days_equal_exact_arithmetic(
        offsets in offsets(),
        base in prop_oneof![Just(0), Just(1_000_000_000), Just(1_700_000_000_000_000), Just(-4_000_000_000_000_000_i64)],
        exponent in prop_oneof![Just(0), Just(-10), -1_074..=970, Just(-1_074), Just(970), Just(429), Just(-531)],
        size in 1..90_usize,
        parts_in_hour in 1..8_usize,
    ) {
        let values: Vec<f64> = offsets.iter().map(|offset| scaled((base + offset) as f64, exponent)).collect();
        check(minute(&values), base, &offsets, exponent);
        let minutes: Vec<Summary> = values.chunks(size).map(minute).collect();
        check(combine(&minutes), base, &offsets, exponent);
        let hours: Vec<Summary> = minutes.chunks(parts_in_hour).map(combine).collect();
        check(combine(&hours), base, &offsets, exponent);
    }

    #[test]
    fn moments_of_any_doubles_are_finite_and_inside(
        values in proptest::collection::vec(any::<f64>().prop_filter("finite", |value| value.is_finite()), 1..80),
        size in 1..30_usize,
    ) {
        let minutes: Vec<Summary> = values.chunks(size).map(minute).collect();
        for summary in [minute(&values), combine(&minutes)] {
            prop_assert!(summary.min <= summary.mean() && summary.mean() <= summary.max);
            prop_assert!(summary.stddev().is_none_or(f64::is_finite));
        }
    }
}

#[test]
fn mean_of_values_whose_sum_overflows_is_exact() {
    let huge = 1.7e308;
    let cases: [(&[f64], f64); 6] = [
        (&[huge, huge, -huge, -huge], 0.0),
        (&[huge, huge, -huge], huge / 3.0),
        (&[huge, huge, 5.0, -huge, -huge], 1.0),
        (&[f64::MAX; 70], f64::MAX),
        (&[1e308, 1e308, -1e308, 5.0], 2.5e307),
        (&[1e200, 1e100, 1.0, -1e200, -1e100], 0.2),
    ];
    for (values, mean) in cases {
        assert_eq!(minute(values).mean(), mean, "{values:?}");
        let single: Vec<Summary> = values.chunks(1).map(minute).collect();
        assert_eq!(combine(&single).mean(), mean, "{values:?} in an hour");
    }
}

#[test]
fn stddev_whose_squares_overflow_or_underflow_is_close() {
    let cases: [(&[f64], f64); 7] = [
        (&[1e200, 3e200], 2.0_f64.sqrt() * 1e200),
        (&[1e-200, 3e-200], 2.0_f64.sqrt() * 1e-200),
        (&[0.0, 1e-310], 0.5_f64.sqrt() * 1e-310),
        (&[TINY, 0.0], TINY),
        (
            &[1.5e308, 1.5e308, -1.5e308, -1.5e308],
            3.0_f64.sqrt() * 1e308,
        ),
        // The exact deviation is larger than any double.
        (&[f64::MAX, -f64::MAX], f64::MAX),
        (&[f64::MAX, f64::MAX], 0.0),
    ];
    for (values, stddev) in cases {
        assert_close(
            minute(values).stddev().unwrap(),
            stddev,
            &format!("{values:?}"),
        );
        let single: Vec<Summary> = values.chunks(1).map(minute).collect();
        assert_close(
            combine(&single).stddev().unwrap(),
            stddev,
            &format!("{values:?} in an hour"),
        );
    }
}

#[test]
fn parts_of_different_magnitudes_are_combined_with_their_scales() {
    let tiny = minute(&[1e-200, 3e-200]);
    let plain = minute(&[1.0, 3.0]);
    let huge = minute(&[1e200, 3e200]);
    assert_close(
        combine(&[tiny, tiny]).stddev().unwrap(),
        (4.0_f64 / 3.0).sqrt() * 1e-200,
        "tiny",
    );
    let stddev = |values: &[f64]| minute(values).stddev().unwrap();
    let tiny_and_plain = combine(&[tiny, plain]);
    assert_close(
        tiny_and_plain.stddev().unwrap(),
        stddev(&[0.0, 0.0, 1.0, 3.0]),
        "tiny and plain",
    );
    let all = combine(&[tiny_and_plain, huge]);
    assert_close(
        all.stddev().unwrap(),
        stddev(&[0.0, 0.0, 0.0, 0.0, 1e200, 3e200]),
        "all",
    );
}
