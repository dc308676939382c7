//! Sums of doubles with their rounding errors.

use super::exact_sum::ExactSum;

/// The number of values whose squares are added without compensation.
const BLOCK: usize = 1_024;

/// The first pass over values: their compensated sum, and their range.
#[derive(Debug, Clone, Copy)]
pub struct Sums {
    /// The rounded sum.
    pub sum: f64,
    /// The rounding errors of `sum`.
    pub lost: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

impl Sums {
    /// The number of sums that the processor computes at once.
    const LANES: usize = 4;

    /// Returns the sum of one value.
    #[inline(always)]
    pub fn one(value: f64) -> Self {
        Self {
            sum: value,
            lost: 0.0,
            min: value,
            max: value,
        }
    }

    /// Adds a value.
    #[inline(always)]
    pub fn add(&mut self, value: f64) {
        (self.sum, self.lost) = two_sum(self.sum, self.lost, value);
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }

    /// Returns the sums of many values.
    #[inline(always)]
    pub fn from_many(values: &[f64]) -> Self {
        let first = values.first().copied().unwrap_or(f64::NAN);
        let none = Self {
            sum: 0.0,
            ..Self::one(first)
        };
        let mut lanes = [none; Self::LANES];
        let (chunks, rest) = values.as_chunks::<{ Self::LANES }>();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                lane.add(value);
            }
        }
        let mut all = none;
        for lane in lanes {
            (all.sum, all.lost) = two_sum(all.sum, all.lost, lane.sum);
            all.lost += lane.lost;
            all.min = if lane.min < all.min {
                lane.min
            } else {
                all.min
            };
            all.max = if lane.max > all.max {
                lane.max
            } else {
                all.max
            };
        }
        rest.iter().for_each(|&value| all.add(value));
        all
    }
}

/// Returns the sum of the squared deviations of values.
#[inline(always)]
pub fn sum_squares(values: &[f64], deviation: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut lost) = (0.0, 0.0);
    for block in values.chunks(BLOCK) {
        let mut lanes = [0.0; 2];
        let (pairs, rest) = block.as_chunks::<2>();
        for pair in pairs {
            for (lane, &value) in lanes.iter_mut().zip(pair) {
                let deviation = deviation(value);
                *lane += deviation * deviation;
            }
        }
        let [mut squares, second] = lanes;
        squares += second;
        for &value in rest {
            let deviation = deviation(value);
            squares += deviation * deviation;
        }
        (sum, lost) = two_sum(sum, lost, squares);
    }
    sum + lost
}

/// Divides a double into two of 26 and 27 bits, whose products with integers below 2²⁶ are exact.
#[inline(always)]
pub fn halves(value: f64) -> (f64, f64) {
    const LOWER: u64 = (1 << 27) - 1;
    let upper = f64::from_bits(value.to_bits() & !LOWER);
    (upper, value - upper)
}

/// Adds `value` to `sum`, and the rounding error to `lost` (Knuth's TwoSum, TAOCP 4.2.2 theorem B).
#[inline(always)]
pub fn two_sum(sum: f64, lost: f64, value: f64) -> (f64, f64) {
    let total = sum + value;
    let virtual_value = total - sum;
    let error = (sum - (total - virtual_value)) + (value - virtual_value);
    (total, lost + error)
}

/// Returns the sum of terms whose compensated sum cancels, and the rest that rounding takes from it.
#[inline(never)]
pub fn exact_total(terms: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (mut sum, mut lost) = (0.0, 0.0);
    for term in terms.clone() {
        let (total, error) = two_sum(sum, 0.0, term);
        sum = total;
        lost += error.abs();
    }
    if lost == 0.0 {
        // Whole numbers, for example, are added without any rounding.
        return (sum, 0.0);
    }
    let mut sum = ExactSum::new();
    terms.for_each(|term| sum.add(term, 1));
    rounded_total(sum, 1)
}

/// Returns an exact sum in units of `unit`, as a double and the rest, which is rounded.
pub fn rounded_total(mut sum: ExactSum, unit: u64) -> (f64, f64) {
    let total = sum.quotient(unit);
    sum.add(-total, unit);
    (total, sum.quotient(unit))
}
