//! Columns of the tables over an account, from the values of the organisation database.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, TimestampMicrosecondArray};
use chrono::{DateTime, Utc};
use datafusion::common::DataFusionError;

pub(in crate::engine) fn text(values: impl Iterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

pub(in crate::engine) fn optional_text(
    values: impl Iterator<Item = Option<impl AsRef<str>>>,
) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(in crate::engine) fn counts(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let values = values.map(|count| count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)));
    Arc::new(values.collect::<Int64Array>())
}

pub(in crate::engine) fn flags(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

pub(in crate::engine) fn times(values: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let values = values.map(|time| time.map(|time| time.timestamp_micros()));
    Arc::new(
        values
            .collect::<TimestampMicrosecondArray>()
            .with_timezone("UTC"),
    )
}

/// Converts an error of the organisation database to an error of a query.
pub(in crate::engine) fn external_error(
    error: impl std::error::Error + Send + Sync + 'static,
) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
