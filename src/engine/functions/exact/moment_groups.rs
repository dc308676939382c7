//! Variances, covariances and regressions of groups, from sums of distances from the mean. DataFusion's covariance and
//! correlation lose digits where the mean is large compared with the distances, and its variances where partial results are
//! merged.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::columns::doubles;
use super::means::Mean;
use super::moments::{JointMoments, Moments, Statistic, Summary};

/// A summary that can be stored in columns: the number of its rows, and some doubles.
pub(super) trait Stored: Summary {
    /// The names of the doubles.
    const NUMBERS: &'static [&'static str];

    fn rows(&self) -> u64;

    /// Returns the double with this number.
    fn number(&self, at: usize) -> f64;

    fn from_numbers(rows: u64, number: impl Fn(usize) -> f64) -> Self;
}

impl Stored for Moments {
    const NUMBERS: &'static [&'static str] = &["mean", "mean_rest", "m2"];

    fn rows(&self) -> u64 {
        self.rows
    }

    fn number(&self, at: usize) -> f64 {
        match at {
            0 => self.mean.value,
            1 => self.mean.rest,
            _ => self.m2,
        }
    }

    fn from_numbers(rows: u64, number: impl Fn(usize) -> f64) -> Self {
        let mean = |at| Mean {
            value: number(at),
            rest: number(at + 1),
        };
        Self {
            rows,
            mean: mean(0),
            m2: number(2),
        }
    }
}

impl Stored for JointMoments {
    const NUMBERS: &'static [&'static str] = &[
        "mean_x",
        "mean_x_rest",
        "mean_y",
        "mean_y_rest",
        "sxx",
        "syy",
        "sxy",
    ];

    fn rows(&self) -> u64 {
        self.rows
    }

    fn number(&self, at: usize) -> f64 {
        match at {
            0 => self.mean_x.value,
            1 => self.mean_x.rest,
            2 => self.mean_y.value,
            3 => self.mean_y.rest,
            4 => self.sxx,
            5 => self.syy,
            _ => self.sxy,
        }
    }

    fn from_numbers(rows: u64, number: impl Fn(usize) -> f64) -> Self {
        let mean = |at| Mean {
            value: number(at),
            rest: number(at + 1),
        };
        Self {
            rows,
            mean_x: mean(0),
            mean_y: mean(2),
            sxx: number(4),
            syy: number(5),
            sxy: number(6),
        }
    }
}

/// Returns the fields of partial results of the statistic.
pub(super) fn state_fields(name: &str, statistic: Statistic) -> Vec<FieldRef> {
    let numbers = match statistic.is_joint() {
        true => JointMoments::NUMBERS,
        false => Moments::NUMBERS,
    };
    let field = |part: &str, kind| Arc::new(Field::new(format!("{name}[{part}]"), kind, true));
    let numbers = numbers
        .iter()
        .map(|number| field(number, DataType::Float64));
    std::iter::once(field("rows", DataType::UInt64))
        .chain(numbers)
        .collect()
}

/// Returns an accumulator of one group.
pub(super) fn accumulator(statistic: Statistic) -> Box<dyn Accumulator> {
    match statistic.is_joint() {
        true => Box::new(OneGroup(Groups::<JointMoments>::new(statistic))),
        false => Box::new(OneGroup(Groups::<Moments>::new(statistic))),
    }
}

/// Returns an accumulator of many groups.
pub(super) fn groups_accumulator(statistic: Statistic) -> Box<dyn GroupsAccumulator> {
    match statistic.is_joint() {
        true => Box::new(Groups::<JointMoments>::new(statistic)),
        false => Box::new(Groups::<Moments>::new(statistic)),
    }
}

/// The summaries of groups.
#[derive(Debug)]
struct Groups<S> {
    statistic: Statistic,
    summaries: Vec<S>,
}

impl<S: Stored> Groups<S> {
    fn new(statistic: Statistic) -> Self {
        Self {
            statistic,
            summaries: Vec::new(),
        }
    }

    /// Adds rows. `group` is the group of a row; `None` if the row is left out.
    fn add(&mut self, values: &[ArrayRef], group: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let (ys, xs) = match values {
            [ys, xs, ..] if S::ARGUMENTS == 2 => (doubles(ys)?, Some(doubles(xs)?)),
            [ys, ..] if S::ARGUMENTS == 1 => (doubles(ys)?, None),
            _ => return internal_err!("wrong number of arguments of an aggregate"),
        };
        for (row, y) in ys.iter().enumerate() {
            let x = match &xs {
                Some(xs) => xs.is_valid(row).then(|| xs.value(row)),
                None => Some(0.0),
            };
            if let (Some(y), Some(x), Some(group)) = (y, x, group(row))
                && let Some(summary) = self.summaries.get_mut(group)
            {
                *summary = summary.merge(S::from_row(y, x));
            }
        }
        Ok(())
    }

    /// Merges partial results.
    fn merge(&mut self, states: &[ArrayRef], group: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let Some((rows, numbers)) = states.split_first() else {
            return internal_err!("a partial result has columns");
        };
        let rows = rows.as_primitive::<UInt64Type>();
        let numbers: Vec<_> = numbers
            .iter()
            .map(|numbers| numbers.as_primitive::<Float64Type>())
            .collect();
        if numbers.len() != S::NUMBERS.len() {
            return internal_err!("a partial result has {} columns", states.len());
        }
        for row in (0..rows.len()).filter(|row| rows.is_valid(*row)) {
            if let Some(summary) = group(row).and_then(|group| self.summaries.get_mut(group)) {
                let later = S::from_numbers(rows.value(row), |at| numbers[at].value(row));
                *summary = summary.merge(later);
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<S> {
        emit_to.take_needed(&mut self.summaries)
    }
}

fn states<S: Stored>(summaries: &[S]) -> Vec<ArrayRef> {
    let rows = summaries.iter().map(S::rows);
    let rows: ArrayRef = Arc::new(UInt64Array::from_iter_values(rows));
    let numbers = (0..S::NUMBERS.len()).map(|at| {
        let numbers = summaries.iter().map(|summary| summary.number(at));
        Arc::new(Float64Array::from_iter_values(numbers)) as ArrayRef
    });
    std::iter::once(rows).chain(numbers).collect()
}

/// Returns a function that gives the group of a row, and none for rows that the filter of the aggregate leaves out.
fn group_of<'a>(
    groups: &'a [usize],
    filter: Option<&'a BooleanArray>,
) -> impl Fn(usize) -> Option<usize> + 'a {
    move |row| {
        let is_kept = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        groups.get(row).copied().filter(|_| is_kept)
    }
}

impl<S: Stored> GroupsAccumulator for Groups<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.summaries.resize(total_groups, S::default());
        self.add(values, group_of(groups, filter))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let statistic = self.statistic;
        let summaries = self.take(emit_to);
        Ok(match statistic {
            Statistic::Count => {
                Arc::new(UInt64Array::from_iter_values(summaries.iter().map(S::rows)))
            }
            _ => {
                let results =
                    summaries
                        .into_iter()
                        .map(|summary| match summary.evaluate(statistic) {
                            ScalarValue::Float64(result) => result,
                            _ => None,
                        });
                Arc::new(results.collect::<Float64Array>())
            }
        })
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(states(&self.take(emit_to)))
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        total_groups: usize,
    ) -> Result<()> {
        self.summaries.resize(total_groups, S::default());
        self.merge(values, group_of(groups, None))
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let each: Vec<usize> = (0..rows).collect();
        let mut groups = Self::new(self.statistic);
        groups.summaries.resize(rows, S::default());
        groups.add(values, group_of(&each, filter))?;
        Ok(states(&groups.summaries))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.summaries.capacity() * size_of::<S>()
    }
}

/// The summary of one group.
#[derive(Debug)]
struct OneGroup<S>(Groups<S>);

impl<S: Stored> OneGroup<S> {
    fn summary(&self) -> S {
        self.0.summaries.first().copied().unwrap_or_default()
    }
}

impl<S: Stored> Accumulator for OneGroup<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.summaries.resize(1, S::default());
        self.0.add(values, |_| Some(0))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.summary().evaluate(self.0.statistic))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.summaries.capacity() * size_of::<S>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = states(&[self.summary()]);
        let values = columns.iter();
        values
            .map(|column| ScalarValue::try_from_array(column, 0))
            .collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.summaries.resize(1, S::default());
        self.0.merge(states, |_| Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[f64]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    #[test]
    fn statistics_of_values_with_a_large_mean_keep_their_digits() {
        const MEAN: f64 = 1e9;
        let (ys, xs) = ([1.0, 2.0, 4.0], [2.0, 4.0, 7.0]);
        let far = |values: [f64; 3]| column(&values.map(|value| value + MEAN));
        for (name, expected) in [
            ("covar_pop", 23.0 / 9.0),
            ("regr_slope", 23.0 / 38.0),
            ("corr", 23.0 / 532_f64.sqrt()),
        ] {
            let statistic = Statistic::from_name(name).unwrap();
            let mut partial = accumulator(statistic);
            partial.update_batch(&[far(ys), far(xs)]).unwrap();
            let states: Vec<ArrayRef> = partial
                .state()
                .unwrap()
                .iter()
                .map(|value| value.to_array().unwrap())
                .collect();
            let mut groups = groups_accumulator(statistic);
            groups.merge_batch(&states, &[1], 2).unwrap();
            let found = groups.evaluate(EmitTo::All).unwrap();
            let found = found.as_primitive::<Float64Type>();
            assert!(found.is_null(0), "{name} of no rows");
            assert!(
                (found.value(1) - expected).abs() < 1e-14,
                "{name}: {}",
                found.value(1)
            );
        }
    }

    #[test]
    fn groups_leave_out_nulls_and_filtered_rows() {
        let statistic = Statistic::from_name("var_pop").unwrap();
        let mut groups = groups_accumulator(statistic);
        let values: ArrayRef = Arc::new(Float64Array::from(vec![
            Some(1.0),
            None,
            Some(3.0),
            Some(9.0),
        ]));
        let filter = BooleanArray::from(vec![Some(true), Some(true), Some(true), None]);
        groups
            .update_batch(&[values], &[0, 0, 0, 0], Some(&filter), 1)
            .unwrap();
        let found = groups.evaluate(EmitTo::All).unwrap();
        assert_eq!(found.as_primitive::<Float64Type>().value(0), 1.0);
    }
}
