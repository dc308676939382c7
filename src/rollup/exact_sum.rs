//! Sums of doubles without any rounding, for readings whose ordinary sum overflows or cancels.

use std::cmp::Ordering;

/// The number of words of 64 bits. The lowest bit is worth 2⁻¹⁰⁷⁴, the smallest double. A double has at most 2,098 bits
/// above it, and the sum of 2⁶⁴ products of a double and an integer of 64 bits at most 2,226.
const WORDS: usize = 35;
/// The number of bits of a double's significand that are stored.
const STORED_BITS: usize = 52;
/// The lowest stored bit of the exponent, which is also the hidden bit of the significand.
const HIDDEN_BIT: u64 = 1 << STORED_BITS;

/// An exact sum of finite doubles, as integers in units of 2⁻¹⁰⁷⁴.
///
/// Positive and negative values are added separately, so that a small sum of alternating signs does not carry through all
/// words (cf. Neal, "Fast exact summation using small and large superaccumulators", 2015).
#[derive(Debug, Clone)]
pub struct ExactSum {
    positive: [u64; WORDS],
    negative: [u64; WORDS],
}

impl ExactSum {
    /// Creates the sum of no values.
    pub const fn new() -> Self {
        Self {
            positive: [0; WORDS],
            negative: [0; WORDS],
        }
    }

    /// Adds `times * value`. `value` must be finite.
    pub fn add(&mut self, value: f64, times: u64) {
        let bits = value.to_bits();
        let exponent = (bits >> STORED_BITS) as usize & 0x7ff;
        let stored = bits & (HIDDEN_BIT - 1);
        let (significand, position) = match exponent {
            0 => (stored, 0),
            _ => (stored | HIDDEN_BIT, exponent - 1),
        };
        let product = u128::from(significand) * u128::from(times);
        let (word, shift) = (position / 64, position % 64);
        let low = product << shift;
        let high = if shift == 0 {
            0
        } else {
            (product >> (128 - shift)) as u64
        };
        let parts = [low as u64, (low >> 64) as u64, high];
        let words = if value.is_sign_negative() {
            &mut self.negative
        } else {
            &mut self.positive
        };
        let mut carry = false;
        for (index, word) in words[word..].iter_mut().enumerate() {
            let part = parts.get(index).copied().unwrap_or(0);
            let (sum, first) = word.overflowing_add(part);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *word = sum;
            carry = first | second;
            if index >= parts.len() - 1 && !carry {
                break;
            }
        }
    }

    /// Returns the sum divided by `divisor`, rounded once, to the nearest double. `divisor` must not be 0.
    pub fn quotient(&self, divisor: u64) -> f64 {
        let divisor = divisor.max(1);
        let (is_negative, mut words) = self.magnitude();
        let mut remainder = 0;
        for word in words.iter_mut().rev() {
            let wide = u128::from(remainder) << 64 | u128::from(*word);
            if wide != 0 {
                *word = (wide / u128::from(divisor)) as u64;
                remainder = (wide % u128::from(divisor)) as u64;
            }
        }
        let rounded = round(&words, remainder, divisor);
        if is_negative { -rounded } else { rounded }
    }

    /// Returns whether the sum is negative, and its absolute value.
    fn magnitude(&self) -> (bool, [u64; WORDS]) {
        let is_negative = self.positive.iter().rev().lt(self.negative.iter().rev());
        let (mut larger, smaller) = if is_negative {
            (self.negative, &self.positive)
        } else {
            (self.positive, &self.negative)
        };
        let mut borrow = false;
        for (word, subtracted) in larger.iter_mut().zip(smaller) {
            let (difference, first) = word.overflowing_sub(*subtracted);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            *word = difference;
            borrow = first | second;
        }
        (is_negative, larger)
    }
}

/// Returns the double that is nearest to an integer plus `remainder / divisor`, in units of 2⁻¹⁰⁷⁴; of two, the even one.
fn round(words: &[u64; WORDS], remainder: u64, divisor: u64) -> f64 {
    let top = words.iter().rposition(|&word| word != 0).unwrap_or(0);
    let bits = top * 64 + 64 - words[top].leading_zeros() as usize;
    let shift = bits.saturating_sub(STORED_BITS + 1);
    let (word, offset) = (shift / 64, shift % 64);
    let next = words.get(word + 1).copied().unwrap_or(0);
    let window = (u128::from(next) << 64 | u128::from(words[word])) >> offset;
    let significand = window as u64 & (HIDDEN_BIT | (HIDDEN_BIT - 1));
    // The part that is cut off, compared with half a unit of the last place.
    let cut = if shift == 0 {
        remainder.cmp(&(divisor - remainder))
    } else {
        let at = shift - 1;
        let below_half = words[..at / 64].iter().any(|&word| word != 0)
            || words[at / 64] & ((1 << (at % 64)) - 1) != 0
            || remainder != 0;
        match (words[at / 64] >> (at % 64) & 1, below_half) {
            (0, _) => Ordering::Less,
            (_, false) => Ordering::Equal,
            (_, true) => Ordering::Greater,
        }
    };
    let up = cut.is_gt() || cut.is_eq() && significand & 1 == 1;
    // The hidden bit adds 1 to the exponent, and so does a carry out of the significand.
    let encoded = ((shift as u64) << STORED_BITS) + significand + u64::from(up);
    f64::from_bits(encoded.min(f64::MAX.to_bits()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quotient(values: &[f64], divisor: u64) -> f64 {
        let mut sum = ExactSum::new();
        values.iter().for_each(|&value| sum.add(value, 1));
        sum.quotient(divisor)
    }

    #[test]
    fn sum_with_values_of_all_magnitudes_is_exact() {
        let smallest = 5e-324;
        assert_eq!(quotient(&[], 1), 0.0);
        assert_eq!(quotient(&[1e200, 1e100, 1.0, -1e200, -1e100], 1), 1.0);
        assert_eq!(
            quotient(&[f64::MAX, f64::MAX, -f64::MAX, smallest, -f64::MAX], 1),
            smallest
        );
        assert_eq!(quotient(&[f64::MAX; 7], 7), f64::MAX);
        assert_eq!(quotient(&[-f64::MAX; 7], 7), -f64::MAX);
        // Half of the smallest double is a tie, and goes to the even 0; three quarters go up.
        assert_eq!(quotient(&[smallest], 2), 0.0);
        assert_eq!(quotient(&[smallest * 3.0], 4), smallest);
        assert_eq!(quotient(&[smallest * 3.0], 2), smallest * 2.0);
        assert_eq!(
            quotient(&[f64::MIN_POSITIVE, -smallest], 1),
            f64::MIN_POSITIVE - smallest
        );
    }

    proptest! {
        #[test]
        fn quotient_of_two_values_equals_rounded_arithmetic(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite() && (a + b).is_finite());
            prop_assert_eq!(quotient(&[a, b], 1), a + b);
            prop_assert_eq!(quotient(&[a, b, -a], 1), b);
            prop_assert_eq!(quotient(&[a], 7), a / 7.0);
            prop_assert_eq!(quotient(&[b], 1 << 30), b / 1_073_741_824.0);
        }

        #[test]
        fn sum_of_integers_equals_integer_sum(values in proptest::collection::vec((any::<i32>(), 1..1_000_000_000_u64), 1..50), divisor in 1..100_u64) {
            let mut sum = ExactSum::new();
            let mut want = 0_i128;
            for &(value, times) in &values {
                sum.add(f64::from(value), times);
                want += i128::from(value) * i128::from(times);
            }
            prop_assert_eq!(sum.quotient(1), want as f64);
            let multiple = want * i128::from(divisor);
            sum.add(f64::from(u32::MAX), 0);
            let mut many = ExactSum::new();
            for _ in 0..divisor { values.iter().for_each(|&(value, times)| many.add(f64::from(value), times)); }
            prop_assert_eq!(many.quotient(divisor), want as f64);
            prop_assert_eq!(many.quotient(1), multiple as f64);
        }
    }
}
