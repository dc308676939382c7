//! The sum of readings, and the sum of their squared deviations from the mean, in a form that loses no digits when buckets
//! are combined.
//!
//! The relative error of means and standard deviations is below 10⁻¹², whatever the readings are, unless sums over
//! several minutes cancel by more than 30 digits. Nearly all buckets are computed in doubles with compensated sums. The
//! exceptions are sums that cancel ([`exact_total`]), and sums and squares that overflow or underflow
//! ([`careful_moments`], [`careful_combination`]).

use super::exact_sum::ExactSum;
use super::sums::{Sums, exact_total, halves, rounded_total, sum_squares, two_sum};

/// The sum of the readings of a bucket, and of their squared deviations from the mean.
///
/// The minimum and the maximum determine the form, and are therefore arguments of the methods.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// The sum, rounded to a double, in units of [`unit`].
    total: f64,
    /// The exact sum minus `total`, in the same unit. Without it, the deviations between buckets of a totaliser would
    /// keep few digits.
    rest: f64,
    /// The sum of squared deviations. A negative one is scaled: it is minus the sum of the squares of the deviations
    /// times [`scale`].
    squares: f64,
}

/// A part of a combination.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The number of readings.
    pub count: u64,
    /// Their moments.
    pub moments: Moments,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

/// The sums of larger values could overflow: a day has at most 2³⁷ readings.
const MAX_SUMMED: f64 = f64::from_bits((1_023 + 980) << 52);
/// The unit of the sums of larger values.
const LARGE_UNIT: u64 = 1 << 40;
/// Values that are larger have squares that can overflow.
const MAX_ORDINARY: f64 = f64::from_bits((1_023 + 480) << 52);
/// Ranges that are smaller have squares that underflow.
const MIN_ORDINARY: f64 = f64::from_bits((1_023 - 480) << 52);
/// The scale of deviations that are too large, 2⁻⁶⁰⁰. That for small ones is its inverse.
const SCALE_DOWN: f64 = f64::from_bits((1_023 - 600) << 52);
const SCALE_UP: f64 = f64::from_bits((1_023 + 600) << 52);
/// The number of readings below which products of counts and halves of means are exact.
const MAX_ORDINARY_COUNT: u64 = 1 << 26;
/// A mean that is smaller than the largest value by this factor comes from values that cancel.
const CANCELLED: f64 = 1e-12;
/// The growth of that factor with the square of the number of values. The error of a compensated sum of n values is at
/// most (n·2⁻⁵³)² of the sum of their absolute values (Ogita, Rump and Oishi 2005, proposition 4.5).
const CANCELLED_GROWTH: f64 = 1.3e-19;
/// The number of values up to which one pass over them is accurate enough, and the fastest.
const MAX_ONE_PASS: usize = 24;

/// Returns the largest absolute value.
#[inline(always)]
fn largest(min: f64, max: f64) -> f64 {
    if max > -min { max } else { -min }
}

/// Returns the unit of the sum of values in this range.
#[inline(always)]
fn unit(min: f64, max: f64) -> u64 {
    if largest(min, max) > MAX_SUMMED {
        LARGE_UNIT
    } else {
        1
    }
}

/// Whether sums and squares of values in this range neither overflow nor underflow.
#[inline(always)]
fn is_ordinary(min: f64, max: f64) -> bool {
    largest(min, max) <= MAX_ORDINARY && (max - min >= MIN_ORDINARY || min == max)
}

/// Whether a compensated sum of `count` values that was rounded to `sum` may have lost digits. It has `terms` terms.
#[inline(always)]
fn is_cancelled(sum: f64, count: f64, terms: f64, min: f64, max: f64) -> bool {
    let least = CANCELLED + terms * terms * CANCELLED_GROWTH;
    sum.abs() < count * largest(min, max) * least
}

/// Returns the factor of deviations for which their squares neither overflow nor underflow, a power of two.
fn scale(min: f64, max: f64) -> f64 {
    if max * 0.5 - min * 0.5 > MAX_ORDINARY * 0.5 {
        SCALE_DOWN
    } else if max - min < MIN_ORDINARY {
        SCALE_UP
    } else {
        1.0
    }
}

impl Moments {
    /// Returns the moments, the minimum and the maximum of `values`, of which there is at least one.
    #[inline(always)]
    pub fn from_values(values: &[f64]) -> (Self, f64, f64) {
        match *values {
            [value] => {
                let total = value / unit(value, value) as f64;
                (Self::new(total, 0.0, 0.0), value, value)
            }
            [first, ref others @ ..] if others.len() < MAX_ONE_PASS => {
                Self::from_few(values, first, others)
            }
            _ => Self::from_many(values),
        }
    }

    /// Returns the same for a few values in one pass: their deviations from the first one need no mean.
    ///
    /// The squared distance between the first value and the mean is less than the sum of squared deviations, so that at
    /// most a factor of the number of values is lost in the difference below.
    #[inline(always)]
    fn from_few(values: &[f64], first: f64, others: &[f64]) -> (Self, f64, f64) {
        let mut sums = Sums::one(first);
        let (mut drift, mut squares) = (0.0, 0.0);
        for &value in others {
            sums.add(value);
            let deviation = value - first;
            drift += deviation;
            squares += deviation * deviation;
        }
        let Sums {
            sum,
            lost,
            min,
            max,
        } = sums;
        if !is_ordinary(min, max) {
            return (careful_moments(values, min, max), min, max);
        }
        let count = values.len() as f64;
        let squares = squares - drift * drift / count;
        let moments = if is_cancelled(sum, count, MAX_ONE_PASS as f64, min, max) {
            let (total, rest) = exact_total(values.iter().copied());
            Self::new(total, rest, squares)
        } else {
            Self::new(sum, lost, squares)
        };
        (moments, min, max)
    }

    /// Returns the same for many values in two passes.
    #[inline(never)]
    fn from_many(values: &[f64]) -> (Self, f64, f64) {
        let Sums {
            sum,
            lost,
            min,
            max,
        } = Sums::from_many(values);
        if !is_ordinary(min, max) {
            return (careful_moments(values, min, max), min, max);
        }
        let count = values.len() as f64;
        let mut moments = if is_cancelled(sum, count, count, min, max) {
            let (total, rest) = exact_total(values.iter().copied());
            Self::new(total, rest, 0.0)
        } else {
            Self::new(sum, lost, 0.0)
        };
        if min != max {
            let mean = Mean::new(&moments, count);
            // Differences of squares would cancel, unlike squares of differences (Chan, Golub and LeVeque 1983).
            moments.squares = sum_squares(values, |value| (value - mean.mean) - mean.rest);
        }
        (moments, min, max)
    }

    /// Returns moments with the sum `sum + lost`, of which `lost` is much smaller.
    #[inline(always)]
    fn new(sum: f64, lost: f64, squares: f64) -> Self {
        let total = sum + lost;
        Self {
            total,
            rest: lost - (total - sum),
            squares,
        }
    }

    /// Combines the moments of several parts, which have `count` readings from `min` to `max` together.
    ///
    /// As in the pairwise update of Chan, Golub and LeVeque (1983, equation 2.1b), the squares of a part are moved to the
    /// common mean by its own mean, squares and count. All parts are moved at once, since all are known.
    #[inline]
    pub fn combine(
        parts: impl Iterator<Item = Part> + Clone,
        count: u64,
        min: f64,
        max: f64,
    ) -> Self {
        let (mut sum, mut lost) = (0.0, 0.0);
        let (mut scaled, mut terms) = (0, 0.0);
        for Part { moments, .. } in parts.clone() {
            (sum, lost) = two_sum(sum, lost, moments.total);
            lost += moments.rest;
            scaled |= moments.squares.to_bits();
            terms += 1.0;
        }
        let has_scaled = scaled >> 63 != 0;
        if has_scaled || count >= MAX_ORDINARY_COUNT || !is_ordinary(min, max) {
            return careful_combination(parts, count, min, max);
        }
        let whole = count as f64;
        if is_cancelled(sum, whole, terms, min, max) {
            let rests = parts.clone().map(|part| part.moments.rest);
            let totals = parts.clone().map(|part| part.moments.total);
            (sum, lost) = exact_total(totals.chain(rests));
        }
        let mut all = Self::new(sum, lost, 0.0);
        if min == max {
            return all;
        }
        let mean = Mean::new(&all, whole);
        let (upper, lower) = halves(mean.mean);
        for Part { count, moments, .. } in parts {
            let count = count as f64;
            // The sum of the deviations of the part's readings from the common mean.
            let drift = ((moments.total - count * upper) - count * lower)
                + (moments.rest - count * mean.rest);
            all.squares += moments.squares + drift * drift / count;
        }
        all
    }

    /// Returns the mean of `count` readings from `min` to `max`.
    #[inline(always)]
    pub fn mean(&self, count: u64, min: f64, max: f64) -> f64 {
        let quotient = self.total / count as f64;
        // Rounding can put the quotient outside of the range by its last digit; a mean is always inside.
        within(quotient * unit(min, max) as f64, min, max)
    }

    /// Returns the sample standard deviation of `count` readings from `min` to `max`, of which there are at least two.
    #[inline(always)]
    pub fn stddev(&self, count: u64, min: f64, max: f64) -> f64 {
        let divisor = (count - 1) as f64;
        if self.squares >= 0.0 {
            return (self.squares / divisor).sqrt();
        }
        // The deviation of the two largest doubles of both signs is larger than any double.
        ((-self.squares / divisor).sqrt() / scale(min, max)).min(f64::MAX)
    }
}

/// A mean of several readings, with more digits than a double has.
#[derive(Debug, Clone, Copy)]
struct Mean {
    mean: f64,
    /// The exact mean minus `mean`.
    rest: f64,
}

impl Mean {
    /// Returns the mean for a sum of `count` readings, which is below [`MAX_ORDINARY_COUNT`].
    #[inline(always)]
    fn new(sum: &Moments, count: f64) -> Self {
        let mean = sum.total / count;
        // The remainder of a division is a double, and here all steps to it are exact.
        let (upper, lower) = halves(mean);
        let remainder = (sum.total - count * upper) - count * lower;
        Self {
            mean,
            rest: (remainder + sum.rest) / count,
        }
    }

    /// Returns the mean of an exact sum of `count` readings from `min` to `max`.
    fn from_exact(mut sum: ExactSum, count: u64, min: f64, max: f64) -> Self {
        let mean = within(sum.quotient(count), min, max);
        sum.add(-mean, count);
        Self {
            mean,
            rest: sum.quotient(count),
        }
    }
}

#[inline(always)]
fn within(mean: f64, min: f64, max: f64) -> f64 {
    let mean = if mean < min { min } else { mean };
    if mean > max { max } else { mean }
}

/// Returns the moments of values of any magnitude.
#[cold]
#[inline(never)]
fn careful_moments(values: &[f64], min: f64, max: f64) -> Moments {
    let count = values.len() as u64;
    let mut sum = ExactSum::new();
    values.iter().for_each(|&value| sum.add(value, 1));
    let mean = Mean::from_exact(sum.clone(), count, min, max);
    let scale = scale(min, max);
    let (scaled_mean, rest) = (mean.mean * scale, mean.rest * scale);
    let deviation = |value: f64| (value * scale - scaled_mean) - rest;
    let squares = sum_squares(values, deviation);
    let drift = values.iter().map(|&value| deviation(value)).sum();
    careful_result(sum, count, (min, max), squares, drift)
}

/// Combines parts of any magnitude and number.
#[cold]
#[inline(never)]
fn careful_combination(
    parts: impl Iterator<Item = Part> + Clone,
    count: u64,
    min: f64,
    max: f64,
) -> Moments {
    let mut sum = ExactSum::new();
    parts.clone().for_each(|part| part.add_to(&mut sum));
    let mean = Mean::from_exact(sum.clone(), count, min, max);
    let common = scale(min, max);
    let (mut squares, mut drift) = (0.0, 0.0);
    for part in parts {
        let mut own = ExactSum::new();
        part.add_to(&mut own);
        let own = Mean::from_exact(own, part.count, part.min, part.max);
        let deviation =
            (own.mean * common - mean.mean * common) + (own.rest * common - mean.rest * common);
        // The range of a part is not larger than that of the whole, so a scaled part has no smaller scale.
        let factor = if part.moments.squares < 0.0 {
            common / scale(part.min, part.max)
        } else {
            common
        };
        let number = part.count as f64;
        squares += part.moments.squares.abs() * factor * factor + number * (deviation * deviation);
        drift += number * deviation;
    }
    careful_result(sum, count, (min, max), squares, drift)
}

impl Part {
    /// Adds the readings to an exact sum.
    fn add_to(&self, sum: &mut ExactSum) {
        let unit = unit(self.min, self.max);
        sum.add(self.moments.total, unit);
        sum.add(self.moments.rest, unit);
    }
}

/// Returns moments of `count` readings in a range, of which `squares` is the sum of squared deviations times [`scale`], and
/// `drift` the sum of these deviations. It differs from 0 because the mean of the smallest doubles is not a double (Chan,
/// Golub and LeVeque 1983, equation 1.7).
fn careful_result(
    sum: ExactSum,
    count: u64,
    (min, max): (f64, f64),
    squares: f64,
    drift: f64,
) -> Moments {
    let (total, rest) = rounded_total(sum, unit(min, max));
    let squares = (squares - drift * drift / count as f64).max(f64::MIN_POSITIVE);
    let squares = if min == max {
        0.0
    } else if scale(min, max) == 1.0 {
        squares
    } else {
        -squares
    };
    Moments {
        total,
        rest,
        squares,
    }
}

#[cfg(test)]
mod tests;
