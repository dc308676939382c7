//! Functions whose results are as large as a number among their arguments says, or that work as long: within limits.
//!
//! What operators hold is counted against a query's memory; what a function makes of one batch is not, and some make
//! gigabytes of a single row while the query is still being planned. That would be the end of the whole server.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

/// Bytes that one call makes of a batch at most.
const MOST_MADE: u64 = 64 << 20;
/// Steps that one call takes for a batch at most.
const MOST_STEPS: u64 = 1 << 30;
/// Values of a type of fixed size at most: a null takes as much room as they all.
const MOST_FIXED: i32 = 1 << 16;
/// Types that a type is made of at most.
const MOST_PARTS: usize = 1_000;
/// Bytes of a value of a list, at least.
const VALUE: u64 = 8;
/// Bytes of a character at most.
const CHARACTER: u64 = 4;

/// How the result grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// A text, so many times.
    Repeated,
    /// A text of so many characters.
    Padded,
    /// A list of so many values.
    Listed,
    /// A list of all values between two.
    Between,
    /// Each character of one text against each of the other.
    Compared,
    /// As its type says.
    Typed,
}

/// The functions, by their names.
const GROWING: [(&str, Growth); 13] = [
    ("repeat", Growth::Repeated),
    ("lpad", Growth::Padded),
    ("rpad", Growth::Padded),
    ("array_repeat", Growth::Listed),
    ("array_resize", Growth::Listed),
    ("range", Growth::Between),
    ("generate_series", Growth::Between),
    ("levenshtein", Growth::Compared),
    ("arrow_cast", Growth::Typed),
    ("arrow_try_cast", Growth::Typed),
    ("cast_to_type", Growth::Typed),
    ("struct", Growth::Typed),
    ("named_struct", Growth::Typed),
];

/// Puts limits to the functions of a session.
pub(super) fn limit(state: &mut SessionState) -> Result<()> {
    for (name, growth) in GROWING {
        if let Some(function) = state.scalar_functions().get(name) {
            let inner = Arc::clone(function.inner());
            let limited = Limited {
                inner: Arc::new(ScalarUDF::new_from_shared_impl(inner)),
                growth,
            };
            state.register_udf(Arc::new(ScalarUDF::new_from_impl(limited)))?;
        }
    }
    Ok(())
}

/// Refuses types whose nulls would take up memory without end, or that are themselves without end: a struct of twice what
/// was a struct of twice the same, and so on.
pub(super) fn check_type(kind: &DataType) -> Result<()> {
    match parts(kind, 0)? {
        0..=MOST_PARTS => Ok(()),
        _ => Err(DataFusionError::Plan(format!(
            "a type of more than {MOST_PARTS} types within each other is not taken"
        ))),
    }
}

/// Of how many types the type is made.
fn parts(kind: &DataType, within: usize) -> Result<usize> {
    if within > MOST_PARTS {
        return Ok(within);
    }
    match kind {
        DataType::FixedSizeBinary(size) | DataType::FixedSizeList(_, size)
            if *size > MOST_FIXED =>
        {
            Err(DataFusionError::Plan(format!(
                "a type of fixed size has at most {MOST_FIXED} values, not {size}"
            )))
        }
        DataType::FixedSizeList(field, _)
        | DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::Map(field, _) => parts(field.data_type(), within + 1),
        DataType::Struct(fields) => {
            let mut fields = fields.iter();
            fields.try_fold(within + 1, |within, field| parts(field.data_type(), within))
        }
        _ => Ok(within + 1),
    }
}

/// A function within limits.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Limited {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl Limited {
    fn check(&self, call: &ScalarFunctionArgs) -> Result<()> {
        let is_one = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let rows = match call.args.iter().all(is_one) {
            true => 1,
            false => call.number_rows,
        };
        // What is the same for all rows stays one.
        let columns = call.args.iter().map(|value| match value {
            ColumnarValue::Array(values) => Ok(Arc::clone(values)),
            ColumnarValue::Scalar(value) => value.to_array(),
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        let (costs, most) = match (self.growth, columns.as_slice()) {
            (Growth::Repeated, [text, count, ..]) => {
                (products(&lengths(text)?, &numbers(count)?), MOST_MADE)
            }
            (Growth::Padded, [_, count, ..]) => {
                (products(&[CHARACTER], &numbers(count)?), MOST_MADE)
            }
            (Growth::Listed, [list, count, rest @ ..]) => {
                let value = rest.first().unwrap_or(list);
                let width = value.get_array_memory_size() / value.len().max(1);
                let width = VALUE.max(width as u64);
                (products(&[width], &numbers(count)?), MOST_MADE)
            }
            (Growth::Between, ends) => (products(&[VALUE], &values_between(ends)?), MOST_MADE),
            (Growth::Compared, [one, other]) => {
                (products(&lengths(one)?, &lengths(other)?), MOST_STEPS)
            }
            _ => return Ok(()),
        };
        let cost = match costs.as_slice() {
            [one] => one.saturating_mul(rows as u64),
            costs => costs
                .iter()
                .fold(0, |sum: u64, cost| sum.saturating_add(*cost)),
        };
        if cost <= most {
            return Ok(());
        }
        let what = match self.growth {
            Growth::Compared => "steps would be taken",
            _ => "bytes would be made",
        };
        Err(DataFusionError::Execution(format!(
            "by {} some {cost} {what} at once, and no more than {most} may be; ask for less",
            self.inner.name()
        )))
    }
}

/// What there is in a row; one alone stands for as many as there are of others.
fn in_row<T: Copy + Default>(values: &[T], row: usize) -> T {
    let value = values.get(row).or(values.first());
    value.copied().unwrap_or_default()
}

/// The products, row by row.
fn products(some: &[u64], others: &[u64]) -> Vec<u64> {
    let rows = 0..some.len().max(others.len());
    rows.map(|row| in_row(some, row).saturating_mul(in_row(others, row)))
        .collect()
}

fn integers(values: &dyn Array) -> Result<Vec<i64>> {
    let values = cast(values, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    Ok(values.iter().map(Option::unwrap_or_default).collect())
}

/// Counts; none is less than nothing.
fn numbers(values: &dyn Array) -> Result<Vec<u64>> {
    let values = integers(values)?.into_iter();
    Ok(values
        .map(|value| u64::try_from(value).unwrap_or(0))
        .collect())
}

/// The bytes of texts.
fn lengths(texts: &dyn Array) -> Result<Vec<u64>> {
    if texts.data_type().is_null() {
        return Ok(vec![0]);
    }
    let texts = match texts.data_type() {
        DataType::Dictionary(_, kind) => cast(texts, kind)?,
        _ => texts.slice(0, texts.len()),
    };
    numbers(&length(&texts)?)
}

/// How many values are between the first ends and the second, with the third as the step.
fn values_between(ends: &[ArrayRef]) -> Result<Vec<u64>> {
    let (start, stop, step) = match ends {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step] => (Some(start), stop, Some(step)),
        _ => return Ok(Vec::new()),
    };
    let start = start.map(points).transpose()?.unwrap_or_default();
    let stop = points(stop)?;
    let step = step.map(steps).transpose()?.unwrap_or_default();
    let rows = 0..start.len().max(stop.len()).max(step.len());
    let counts = rows.map(|row| {
        let distance = in_row(&stop, row) - in_row(&start, row);
        let step = in_row(&step, row).unsigned_abs().max(1);
        u64::try_from(distance.unsigned_abs() / step).unwrap_or(u64::MAX)
    });
    Ok(counts.collect())
}

/// Numbers as they are, and times in nanoseconds.
fn points(values: &ArrayRef) -> Result<Vec<i128>> {
    let (values, unit) = match values.data_type().is_temporal() {
        true => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            (cast(values, &micros)?, 1_000)
        }
        false => (Arc::clone(values), 1),
    };
    let values = integers(&values)?.into_iter();
    Ok(values.map(|value| i128::from(value) * unit).collect())
}

/// Numbers as they are, and spans in nanoseconds, the months short.
fn steps(values: &ArrayRef) -> Result<Vec<i128>> {
    if !matches!(values.data_type(), DataType::Interval(_)) {
        return points(values);
    }
    const DAY: i128 = 86_400_000_000_000;
    let spans = cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
    let nanos = spans.iter().map(|span| {
        let span = span.unwrap_or_default();
        let days = i128::from(span.months) * 28 + i128::from(span.days);
        days * DAY + i128::from(span.nanoseconds)
    });
    Ok(nanos.collect())
}

impl ScalarUDFImpl for Limited {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner.return_type(kinds)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        check_type(field.data_type())?;
        Ok(field)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&call)?;
        self.inner.invoke_with_args(call)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.inner().simplify(args, context)
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(kinds)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn ask(sql: &str) -> Result<Vec<RecordBatch>> {
        let lake = tempfile::tempdir().unwrap();
        let lake = crate::lake::Store::open(lake.path().to_str().unwrap(), &Default::default());
        let state = super::super::session::bare_state(&lake.unwrap(), Default::default());
        let context = SessionContext::new_with_state(state.unwrap());
        context.sql(sql).await?.collect().await
    }

    #[tokio::test]
    async fn nothing_without_measure_is_made_of_a_row() {
        for call in [
            "repeat('x', 2000000000)",
            "repeat(repeat('x', 10000), column1 * 100000)",
            "lpad('x', 2147483647)",
            "rpad(column2, 20000000, 'y')",
            "array_repeat(1, 2000000000)",
            "array_resize([1], 2000000000)",
            "array_resize(['a'], 10, repeat('x', 60000000))",
            "range(0, 1000000000)",
            "range(column1, -1000000000, -1)",
            "generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2025-01-01', INTERVAL '1 microsecond')",
            "levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
            "arrow_cast(NULL, 'FixedSizeList(2147483647, Int64)')",
            "arrow_cast(NULL, 'List(FixedSizeBinary(2147483647))')",
        ] {
            let sql = format!("SELECT {call} FROM (VALUES (1, 'a'), (2, 'b'))");
            let refused = ask(&sql).await.unwrap_err().to_string();
            assert!(
                refused.contains("ask for less") || refused.contains("of fixed size"),
                "{call}: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_of_use_is_made() {
        for call in [
            "repeat('x', 10000), repeat(column2, column1), repeat(NULL, 3)",
            "lpad(column2, 10, '0'), rpad('a', NULL)",
            "array_repeat(column2, 100), array_resize([1], 1000)",
            "range(column1), range(10, column1, -2), generate_series(0, 1000000)",
            "generate_series(DATE '2024-01-01', DATE '2025-01-01', INTERVAL '1 month')",
            "generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2024-02-01', INTERVAL '1 minute')",
            "levenshtein(column2, 'kitten'), levenshtein(NULL, 'a')",
            "arrow_cast([1, 2], 'FixedSizeList(2, Int64)')",
        ] {
            let sql = format!("SELECT {call} FROM (VALUES (1, 'a'), (2, 'b'))");
            let rows = ask(&sql).await;
            let rows = rows.map(|batches| batches.iter().map(RecordBatch::num_rows).sum::<usize>());
            assert!(matches!(rows, Ok(2)), "{call}: {rows:?}");
        }
    }
}
