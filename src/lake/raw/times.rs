//! Converts columns of times to UTC microseconds.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Int32Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::canonical::{plain_type, utc_micros};
use super::local_times::LocalTimes;
use super::reading_order::{Position, ReadingOrder};
use crate::model::AMBIGUOUS_TIME;

/// Whether a column has local times that need the time zone of the settings.
pub(super) fn is_local(kind: &DataType, timezone: Tz) -> bool {
    timezone != Tz::UTC && matches!(plain_type(kind), DataType::Timestamp(_, None))
}

/// Converts a timestamp column to UTC microseconds, rounded down. A local time that occurs twice becomes the earlier
/// instant.
pub(super) fn convert_times(column: &ArrayRef, timezone: Tz) -> Result<ArrayRef, ArrowError> {
    if plain_type(column.data_type()).is_null() {
        return Ok(new_null_array(&utc_micros(), column.len()));
    }
    let micros = to_micros(column)?;
    let micros = if is_local(column.data_type(), timezone) {
        let mut local = LocalTimes::new(timezone);
        let (_, times, nulls) = micros.into_parts();
        TimestampMicrosecondArray::new(
            times.iter().map(|&time| local.resolve(time)).collect(),
            nulls,
        )
    } else {
        micros
    };
    Ok(Arc::new(micros.with_timezone("UTC")))
}

/// Calls `visit` with each instant that a time of the column may be, in UTC microseconds. A local time that occurs
/// twice may be either of two.
pub(super) fn for_each_instant(
    column: &ArrayRef,
    timezone: Tz,
    mut visit: impl FnMut(i64),
) -> Result<(), ArrowError> {
    if plain_type(column.data_type()).is_null() {
        return Ok(());
    }
    let micros = to_micros(column)?;
    if !is_local(column.data_type(), timezone) {
        micros.iter().flatten().for_each(visit);
        return Ok(());
    }
    let mut local = LocalTimes::new(timezone);
    for time in micros.iter().flatten() {
        visit(local.resolve(time));
        if let Some(period) = local.repeated_period(time) {
            visit(local.period(period).second(time));
        }
    }
    Ok(())
}

/// Returns the microseconds of a timestamp column, without regard to its time zone.
pub(super) fn to_micros(column: &ArrayRef) -> Result<TimestampMicrosecondArray, ArrowError> {
    const THOUSAND: i64 = 1_000;
    if let DataType::Dictionary(_, value) = column.data_type() {
        return to_micros(&cast(column, value)?);
    }
    let DataType::Timestamp(unit, _) = column.data_type() else {
        return Err(ArrowError::CastError(format!(
            "{} is not a timestamp",
            column.data_type()
        )));
    };
    Ok(match unit {
        TimeUnit::Second => scale_times::<TimestampSecondType>(column, |time| {
            time.saturating_mul(THOUSAND * THOUSAND)
        }),
        TimeUnit::Millisecond => {
            scale_times::<TimestampMillisecondType>(column, |time| time.saturating_mul(THOUSAND))
        }
        TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().clone(),
        TimeUnit::Nanosecond => {
            scale_times::<TimestampNanosecondType>(column, |time| time.div_euclid(THOUSAND))
        }
    })
}

/// Returns the times with null for those outside the calendar's years, which have no text and no date.
fn without_far_times(times: ArrayRef) -> ArrayRef {
    let calendar =
        DateTime::<Utc>::MIN_UTC.timestamp_micros()..=DateTime::<Utc>::MAX_UTC.timestamp_micros();
    let micros = times.as_primitive::<TimestampMicrosecondType>();
    if micros.iter().flatten().all(|time| calendar.contains(&time)) {
        return times;
    }
    let near: TimestampMicrosecondArray =
        micros.unary_opt(|time| calendar.contains(&time).then_some(time));
    Arc::new(near.with_timezone_opt(micros.timezone()))
}

fn scale_times<T: ArrowPrimitiveType<Native = i64>>(
    column: &ArrayRef,
    scale: impl Fn(i64) -> i64,
) -> TimestampMicrosecondArray {
    let times: &PrimitiveArray<T> = column.as_primitive();
    times.unary(scale)
}

/// Converts the times of one file, batch by batch in row order. Of a local time that occurs twice, the order of the
/// readings decides.
#[derive(Debug)]
pub(super) struct TimeConverter {
    timezone: Tz,
    /// The order of the file's readings; `None` if it has no local times that occur twice.
    order: Option<Arc<ReadingOrder>>,
    /// The readings so far, by asset and period.
    seen: HashMap<(u32, usize), u64>,
    /// Whether a time that is not decided becomes [`AMBIGUOUS_TIME`] instead of null, and one outside the calendar stays.
    marks_ambiguous: bool,
}

impl TimeConverter {
    /// Creates the converter of a file whose readings have this order.
    pub fn new(timezone: Tz, order: Option<Arc<ReadingOrder>>, marks_ambiguous: bool) -> Self {
        Self {
            timezone,
            order,
            seen: HashMap::new(),
            marks_ambiguous,
        }
    }

    /// Converts the times of a batch to UTC microseconds. `ids` are the ids of its rows, a dictionary of text.
    pub fn convert(&mut self, column: &ArrayRef, ids: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let times = self.instants(column, ids)?;
        Ok(match self.marks_ambiguous {
            true => times,
            false => without_far_times(times),
        })
    }

    fn instants(&mut self, column: &ArrayRef, ids: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let order = match &self.order {
            Some(order) if is_local(column.data_type(), self.timezone) => Arc::clone(order),
            _ => return convert_times(column, self.timezone),
        };
        let micros = to_micros(column)?;
        let ids = ids.as_dictionary::<Int32Type>();
        let texts = ids.values().as_string::<i32>();
        let mut local = LocalTimes::new(self.timezone);
        let ambiguous = self.marks_ambiguous.then_some(AMBIGUOUS_TIME);
        let times = micros.iter().enumerate().map(|(row, time)| {
            let time = time?;
            let first = local.resolve(time);
            let Some(period) = local.repeated_period(time) else {
                return Some(first);
            };
            // A reading without an id is left out for that reason.
            let Some(id) = ids.key(row).filter(|&key| texts.is_valid(key)) else {
                return Some(first);
            };
            match self.position(&order, texts.value(id), period) {
                Position::First => Some(first),
                Position::Second => Some(local.period(period).second(time)),
                Position::Unknown => ambiguous,
            }
        });
        let times: TimestampMicrosecondArray = times.collect();
        Ok(Arc::new(times.with_timezone("UTC")))
    }

    /// Returns the position of the next reading of an asset in a period.
    fn position(&mut self, order: &ReadingOrder, id: &str, period: usize) -> Position {
        let Some(asset) = order.asset(id) else {
            return Position::Unknown;
        };
        let seen = self.seen.entry((asset, period)).or_default();
        let position = order.position(asset, period, *seen);
        *seen += 1;
        position
    }
}
