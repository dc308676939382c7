//! Conversion of decimals to the nearest doubles. A division by a power of ten that is itself rounded, as in Arrow's
//! cast, is off by a digit for one decimal in three.

use std::fmt::Display;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, i256,
};

/// Returns the nearest doubles of a column of decimals, or `None` if it has another type.
pub(super) fn decimals_to_doubles(column: &ArrayRef) -> Option<Float64Array> {
    Some(match column.data_type() {
        DataType::Decimal32(_, scale) => {
            let scale = Scale::new(*scale);
            let decimals = column.as_primitive::<Decimal32Type>();
            decimals.unary(|unscaled| scale.double(unscaled.into()))
        }
        DataType::Decimal64(_, scale) => {
            let scale = Scale::new(*scale);
            let decimals = column.as_primitive::<Decimal64Type>();
            decimals.unary(|unscaled| scale.double(unscaled.into()))
        }
        DataType::Decimal128(_, scale) => {
            let scale = Scale::new(*scale);
            let decimals = column.as_primitive::<Decimal128Type>();
            decimals.unary(|unscaled| scale.double(unscaled))
        }
        DataType::Decimal256(_, scale) => {
            let scale = Scale::new(*scale);
            let decimals = column.as_primitive::<Decimal256Type>();
            decimals.unary(|unscaled: i256| match unscaled.to_i128() {
                Some(unscaled) => scale.double(unscaled),
                None => scale.parsed(unscaled),
            })
        }
        _ => return None,
    })
}

/// The integers of this absolute value and below are doubles.
const MAX_EXACT_INTEGER: u128 = 1 << 53;
/// The largest power of ten that is a double.
const MAX_EXACT_POWER: u32 = 22;
/// The largest power of ten that is the sum of two doubles and an integer of 128 bits.
const MAX_POWER: u32 = 38;

/// The scale of a decimal: its value is an integer divided by ten to the power of the scale.
#[derive(Debug, Clone, Copy)]
struct Scale {
    scale: i8,
    /// Whether `power` is exact.
    is_exact: bool,
    /// Ten to the power of the absolute value of the scale, or `None` if it exceeds [`MAX_POWER`].
    power: Option<TwoDoubles>,
}

/// A number as the exact sum of two doubles.
#[derive(Debug, Clone, Copy)]
struct TwoDoubles {
    high: f64,
    low: f64,
}

impl TwoDoubles {
    /// Returns an integer, rounded to 106 bits.
    fn new(integer: i128) -> Self {
        let high = integer as f64;
        let low = integer.wrapping_sub(high as i128) as f64;
        Self { high, low }
    }
}

impl Scale {
    fn new(scale: i8) -> Self {
        let exponent = u32::from(scale.unsigned_abs());
        let power = (exponent <= MAX_POWER).then(|| 10_i128.pow(exponent));
        Self {
            scale,
            is_exact: exponent <= MAX_EXACT_POWER,
            power: power.map(TwoDoubles::new),
        }
    }

    /// Returns the double that is nearest to the decimal with the integer `unscaled`.
    #[inline]
    fn double(&self, unscaled: i128) -> f64 {
        let Some(power) = self.power else {
            return self.parsed(unscaled);
        };
        if self.is_exact && unscaled.unsigned_abs() <= MAX_EXACT_INTEGER {
            // One operation on two exact numbers is rounded once.
            let unscaled = unscaled as i64 as f64;
            return match self.scale {
                0.. => unscaled / power.high,
                _ => unscaled * power.high,
            };
        }
        let quotient = match self.scale {
            0.. => quotient(TwoDoubles::new(unscaled), power),
            _ => None,
        };
        quotient.unwrap_or_else(|| self.parsed(unscaled))
    }

    /// Returns the same as the parser of the standard library does, which always rounds to the nearest double.
    #[cold]
    fn parsed(&self, unscaled: impl Display) -> f64 {
        let exponent = -i32::from(self.scale);
        format!("{unscaled}e{exponent}").parse().unwrap_or(f64::NAN)
    }
}

/// Returns the double that is nearest to a quotient, or `None` if it is too close to the middle between two doubles to be
/// known. The quotient is computed to more than 100 bits (Dekker, "A floating-point technique for extending the available
/// precision", 1971).
#[inline]
fn quotient(number: TwoDoubles, divisor: TwoDoubles) -> Option<f64> {
    /// A bound of the relative error, of which the terms that were left out make a quarter.
    const ERROR: f64 = 1.0 / (1_u128 << 100) as f64;
    let near = number.high / divisor.high;
    let (product, rest) = two_product(near, divisor.high);
    let remainder = ((number.high - product) - rest) + (number.low - near * divisor.low);
    let correction = remainder / divisor.high;
    let error = near.abs() * ERROR;
    let (least, greatest) = (near + (correction - error), near + (correction + error));
    (least == greatest).then_some(least)
}

/// Returns a product as a double and its rounding error, which is exact but for the last of 107 bits.
#[inline]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    const LOWER: u64 = (1 << 27) - 1;
    let halves = |value: f64| {
        let upper = f64::from_bits(value.to_bits() & !LOWER);
        (upper, value - upper)
    };
    let ((a_upper, a_lower), (b_upper, b_lower)) = (halves(a), halves(b));
    let product = a * b;
    let rest =
        ((a_upper * b_upper - product) + a_upper * b_lower + a_lower * b_upper) + a_lower * b_lower;
    (product, rest)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Decimal256Array, PrimitiveArray};
    use arrow::datatypes::DecimalType;
    use proptest::prelude::*;

    use super::*;

    /// Returns what the parser of the standard library makes of a decimal.
    fn nearest(unscaled: &str, scale: i8) -> f64 {
        format!("{unscaled}e{}", -i32::from(scale)).parse().unwrap()
    }

    fn doubles<T: DecimalType>(unscaled: Vec<T::Native>, precision: u8, scale: i8) -> Vec<f64> {
        let column = PrimitiveArray::<T>::from_iter_values(unscaled);
        let column: ArrayRef =
            Arc::new(column.with_data_type((T::TYPE_CONSTRUCTOR)(precision, scale)));
        decimals_to_doubles(&column).unwrap().values().to_vec()
    }

    #[test]
    fn decimal_with_known_wrong_cast_becomes_nearest_double() {
        let cases = [
            ("4750000000000000000000", 20, 47.5),
            ("123456789012345678900", 20, 1.234_567_890_123_456_8),
            ("10000000000000000000000000000000000000", 37, 1.0),
            ("1013250000000000000000", 18, 1_013.25),
            ("12345678901234567890", 2, 123_456_789_012_345_680.0),
            ("1", 37, 1e-37),
            ("-1", 38, -1e-38),
            // In the middle of two doubles: the even one.
            ("9007199254740993", 0, 9_007_199_254_740_992.0),
            ("90071992547409950", 1, 9_007_199_254_740_996.0),
        ];
        for (unscaled, scale, want) in cases {
            let unscaled: i128 = unscaled.parse().unwrap();
            assert_eq!(
                Scale::new(scale).double(unscaled),
                want,
                "{unscaled}, {scale}"
            );
        }
    }

    #[test]
    fn nulls_and_wide_decimals_are_converted() {
        let wide = i256::from_string(&"9".repeat(76)).unwrap();
        let column = Decimal256Array::from(vec![Some(wide), None, Some(i256::MINUS_ONE)]);
        let column: ArrayRef = Arc::new(column.with_precision_and_scale(76, 50).unwrap());
        let got = decimals_to_doubles(&column).unwrap();
        assert_eq!(
            got.iter().collect::<Vec<_>>(),
            [Some(1e26), None, Some(-1e-50)]
        );
        let other: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        assert!(decimals_to_doubles(&other).is_none());
        let negative = Decimal128Array::from(vec![123]).with_precision_and_scale(3, -30);
        let negative: ArrayRef = Arc::new(negative.unwrap());
        assert_eq!(decimals_to_doubles(&negative).unwrap().value(0), 1.23e32);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn decimal_of_any_type_and_scale_becomes_nearest_double(digits in "-?[0-9]{1,76}", scale in any::<i8>()) {
            let wide = i256::from_string(&digits).unwrap();
            let scale = scale.clamp(-76, 76);
            prop_assert_eq!(doubles::<Decimal256Type>(vec![wide], 76, scale)[0], nearest(&digits, scale));
            if let Some(unscaled) = wide.to_i128() {
                prop_assert_eq!(Scale::new(scale).double(unscaled), nearest(&digits, scale));
            }
        }

        #[test]
        fn decimal_of_128_bits_becomes_nearest_double(unscaled in any::<i128>(), bits in 0..127_u32, scale in -38..=38_i8) {
            let unscaled = unscaled >> bits;
            prop_assert_eq!(doubles::<Decimal128Type>(vec![unscaled], 38, scale)[0], nearest(&unscaled.to_string(), scale));
        }

        /// Decimals in the middle of two doubles, and one unit beside it.
        #[test]
        fn decimal_close_to_tie_becomes_nearest_double(odd in (1_i128 << 53)..(1 << 54), shift in 0..30_u32, zeros in 0..12_u32, beside in -1..=1_i128) {
            let unscaled = ((odd | 1) << shift) * 10_i128.pow(zeros) + beside;
            let scale = zeros as i8;
            prop_assert_eq!(Scale::new(scale).double(unscaled), nearest(&unscaled.to_string(), scale));
        }

        #[test]
        fn short_decimals_become_nearest_doubles(small in any::<i32>(), large in any::<i64>(), scale in 0..=18_i8) {
            prop_assert_eq!(doubles::<Decimal64Type>(vec![large], 18, scale)[0], nearest(&large.to_string(), scale));
            let scale = scale.min(9);
            prop_assert_eq!(doubles::<Decimal32Type>(vec![small], 9, scale)[0], nearest(&small.to_string(), scale));
        }
    }
}
