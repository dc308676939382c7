//! The values of one column of a rollup batch under construction.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Float64Builder, Int64Array, Int64Builder};

use crate::rollup_schema::{Column, ColumnKind};

/// The values of a column of numbers. A column without nulls has no null buffer while it grows.
#[derive(Debug)]
pub enum ColumnValues {
    /// Doubles without nulls.
    Doubles(Vec<f64>),
    /// Doubles and nulls.
    NullableDoubles(Float64Builder),
    /// Integers without nulls.
    Integers(Vec<i64>),
    /// Integers and nulls.
    NullableIntegers(Int64Builder),
    /// A column of the key, whose values the caller has.
    Key,
}

impl ColumnValues {
    /// Creates the values of a column with capacity for `rows` rows.
    pub fn with_capacity(column: &Column, rows: usize) -> Self {
        match (column.kind, column.nullable) {
            (ColumnKind::Asset | ColumnKind::Time, _) => Self::Key,
            (ColumnKind::Double, false) => Self::Doubles(Vec::with_capacity(rows)),
            (ColumnKind::Double, true) => {
                Self::NullableDoubles(Float64Builder::with_capacity(rows))
            }
            (ColumnKind::Integer, false) => Self::Integers(Vec::with_capacity(rows)),
            (ColumnKind::Integer, true) => {
                Self::NullableIntegers(Int64Builder::with_capacity(rows))
            }
        }
    }

    /// Appends doubles. Has no effect on a column that is not declared for doubles; its batch then fails for lack of rows.
    #[inline]
    pub fn append_doubles(&mut self, values: impl Iterator<Item = f64>) {
        match self {
            Self::Doubles(doubles) => doubles.extend(values),
            Self::NullableDoubles(doubles) => values.for_each(|value| doubles.append_value(value)),
            Self::Integers(_) | Self::NullableIntegers(_) | Self::Key => {}
        }
    }

    /// Appends doubles and nulls. Has no effect on a column that is not declared for them.
    #[inline]
    pub fn append_optional_doubles(&mut self, values: impl Iterator<Item = Option<f64>>) {
        if let Self::NullableDoubles(doubles) = self {
            values.for_each(|value| doubles.append_option(value));
        }
    }

    /// Appends integers. Has no effect on a column that is not declared for integers.
    #[inline]
    pub fn append_integers(&mut self, values: impl Iterator<Item = i64>) {
        match self {
            Self::Integers(integers) => integers.extend(values),
            Self::NullableIntegers(integers) => {
                values.for_each(|value| integers.append_value(value));
            }
            Self::Doubles(_) | Self::NullableDoubles(_) | Self::Key => {}
        }
    }

    /// Returns the values as an array; `None` for a column of the key.
    pub fn finish(self) -> Option<ArrayRef> {
        Some(match self {
            Self::Doubles(values) => Arc::new(Float64Array::from(values)),
            Self::NullableDoubles(mut values) => Arc::new(values.finish()),
            Self::Integers(values) => Arc::new(Int64Array::from(values)),
            Self::NullableIntegers(mut values) => Arc::new(values.finish()),
            Self::Key => return None,
        })
    }
}
