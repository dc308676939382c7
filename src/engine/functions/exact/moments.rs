//! Aggregates of doubles over a window that slides. DataFusion subtracts the rows that leave the window, so that a spike, a NaN
//! or an infinity stays in the result of all later rows (the same as trinodb/trino#20946 and
//! apache/doris#68113).
//!
//! Here nothing is subtracted. The rows of the window are in two stacks: the newer rows with their summary, and the older
//! rows, each with the summary of itself and all older rows that came after it. The oldest row is taken off the second stack;
//! when that is empty, the newer rows move to it. Each row is merged a constant number of times, whatever the size of the
//! window.

use std::fmt::Debug;

use arrow::array::ArrayRef;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::Accumulator;

use super::columns::doubles;
use super::means::{Mean, Weights};
use crate::engine::limits::cancellation;

/// The number of rows that are merged between two checks for cancellation.
const ROWS_BETWEEN_CHECKS: usize = 1 << 16;

/// A statistic of the rows of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistic {
    Sum,
    Average,
    Variance { is_sample: bool },
    Deviation { is_sample: bool },
    Covariance { is_sample: bool },
    Correlation,
    Slope,
    Intercept,
    Count,
    Determination,
    AverageX,
    AverageY,
    SumXx,
    SumYy,
    SumXy,
}

impl Statistic {
    /// Returns the statistic that the aggregate with this name computes; `None` for other aggregates.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "sum" => Self::Sum,
            "avg" => Self::Average,
            "var" => Self::Variance { is_sample: true },
            "var_pop" => Self::Variance { is_sample: false },
            "stddev" => Self::Deviation { is_sample: true },
            "stddev_pop" => Self::Deviation { is_sample: false },
            "covar_samp" => Self::Covariance { is_sample: true },
            "covar_pop" => Self::Covariance { is_sample: false },
            "corr" => Self::Correlation,
            "regr_slope" => Self::Slope,
            "regr_intercept" => Self::Intercept,
            "regr_count" => Self::Count,
            "regr_r2" => Self::Determination,
            "regr_avgx" => Self::AverageX,
            "regr_avgy" => Self::AverageY,
            "regr_sxx" => Self::SumXx,
            "regr_syy" => Self::SumYy,
            "regr_sxy" => Self::SumXy,
            _ => return None,
        })
    }

    /// Whether it is a sum of values, and not of distances from their mean.
    pub fn is_total(self) -> bool {
        matches!(self, Self::Sum | Self::Average)
    }

    /// Whether its rows are pairs.
    pub fn is_joint(self) -> bool {
        !self.is_total() && !matches!(self, Self::Variance { .. } | Self::Deviation { .. })
    }

    /// Returns an accumulator of this statistic for a window that slides.
    pub fn accumulator(self) -> Box<dyn Accumulator> {
        match (self.is_total(), self.is_joint()) {
            (true, _) => Box::new(Sliding::<Total>::new(self)),
            (_, true) => Box::new(Sliding::<JointMoments>::new(self)),
            _ => Box::new(Sliding::<Moments>::new(self)),
        }
    }
}

/// A summary of rows that can be merged with the summary of the rows that follow.
pub(super) trait Summary: Copy + Debug + Default + Send + Sync + 'static {
    /// The number of arguments of the aggregate.
    const ARGUMENTS: usize;

    /// Returns the summary of one row. `y` is the first argument of the aggregate, `x` the second.
    fn from_row(y: f64, x: f64) -> Self;

    /// Returns the summary of these rows and of `later`.
    fn merge(self, later: Self) -> Self;

    fn evaluate(self, statistic: Statistic) -> ScalarValue;
}

/// The sum of values.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    rows: u64,
    sum: f64,
}

impl Summary for Total {
    const ARGUMENTS: usize = 1;

    fn from_row(y: f64, _: f64) -> Self {
        Self { rows: 1, sum: y }
    }

    fn merge(self, later: Self) -> Self {
        match (self.rows, later.rows) {
            (0, _) => later,
            (_, 0) => self,
            (rows, more) => Self {
                rows: rows + more,
                sum: self.sum + later.sum,
            },
        }
    }

    fn evaluate(self, statistic: Statistic) -> ScalarValue {
        let value = match statistic {
            Statistic::Average => self.sum / self.rows as f64,
            _ => self.sum,
        };
        ScalarValue::Float64((self.rows > 0).then_some(value))
    }
}

/// The mean of values, and the sum of squared distances from it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    pub rows: u64,
    pub mean: Mean,
    pub m2: f64,
}

impl Summary for Moments {
    const ARGUMENTS: usize = 1;

    fn from_row(y: f64, _: f64) -> Self {
        Self {
            rows: 1,
            mean: Mean::from_value(y),
            m2: distance_from_itself(y),
        }
    }

    /// The pairwise update of Chan, Golub and LeVeque (1979).
    fn merge(self, later: Self) -> Self {
        if self.rows == 0 {
            return later;
        }
        if later.rows == 0 {
            return self;
        }
        let weights = Weights::new(self.rows, later.rows);
        let distance = self.mean.distance_to(later.mean);
        Self {
            rows: self.rows + later.rows,
            mean: weights.mean(self.mean, later.mean),
            m2: self.m2 + later.m2 + distance * distance * weights.product,
        }
    }

    fn evaluate(self, statistic: Statistic) -> ScalarValue {
        let is_sample = matches!(
            statistic,
            Statistic::Variance { is_sample: true } | Statistic::Deviation { is_sample: true }
        );
        let variance = variance(self.m2, self.rows, is_sample);
        ScalarValue::Float64(match statistic {
            Statistic::Deviation { .. } => variance.map(f64::sqrt),
            _ => variance,
        })
    }
}

/// Returns 0; NaN for an infinity and for NaN.
fn distance_from_itself(value: f64) -> f64 {
    match value.is_finite() {
        true => 0.0,
        false => f64::NAN,
    }
}

/// Returns the variance or covariance; `None` if there are too few rows.
fn variance(sum_of_products: f64, rows: u64, is_sample: bool) -> Option<f64> {
    let divisor = rows.checked_sub(u64::from(is_sample))?;
    (divisor > 0).then(|| sum_of_products / divisor as f64)
}

/// The means of pairs, and the sums of products of their distances from the means.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct JointMoments {
    pub rows: u64,
    pub mean_x: Mean,
    pub mean_y: Mean,
    pub sxx: f64,
    pub syy: f64,
    pub sxy: f64,
}

impl Summary for JointMoments {
    const ARGUMENTS: usize = 2;

    fn from_row(y: f64, x: f64) -> Self {
        Self {
            rows: 1,
            mean_x: Mean::from_value(x),
            mean_y: Mean::from_value(y),
            sxx: distance_from_itself(x),
            syy: distance_from_itself(y),
            sxy: distance_from_itself(x) + distance_from_itself(y),
        }
    }

    fn merge(self, later: Self) -> Self {
        if self.rows == 0 {
            return later;
        }
        if later.rows == 0 {
            return self;
        }
        let weights = Weights::new(self.rows, later.rows);
        let x = self.mean_x.distance_to(later.mean_x);
        let y = self.mean_y.distance_to(later.mean_y);
        Self {
            rows: self.rows + later.rows,
            mean_x: weights.mean(self.mean_x, later.mean_x),
            mean_y: weights.mean(self.mean_y, later.mean_y),
            sxx: self.sxx + later.sxx + x * x * weights.product,
            syy: self.syy + later.syy + y * y * weights.product,
            sxy: self.sxy + later.sxy + x * y * weights.product,
        }
    }

    fn evaluate(self, statistic: Statistic) -> ScalarValue {
        let slope = self.sxy / self.sxx;
        let is_line = self.rows > 1 && self.sxx != 0.0;
        let has_rows = self.rows > 0;
        ScalarValue::Float64(match statistic {
            Statistic::Count => return ScalarValue::UInt64(Some(self.rows)),
            Statistic::Covariance { is_sample } => variance(self.sxy, self.rows, is_sample),
            Statistic::Correlation => self.correlation(),
            Statistic::Slope => is_line.then_some(slope),
            Statistic::Intercept => {
                is_line.then_some(self.mean_y.value - slope * self.mean_x.value)
            }
            // As in Postgres, a line through the same y explains all of them.
            Statistic::Determination => is_line.then(|| match self.syy == 0.0 {
                true => 1.0,
                false => (self.sxy / self.sxx) * (self.sxy / self.syy),
            }),
            Statistic::AverageX => has_rows.then_some(self.mean_x.value),
            Statistic::AverageY => has_rows.then_some(self.mean_y.value),
            Statistic::SumXx => has_rows.then_some(self.sxx),
            Statistic::SumYy => has_rows.then_some(self.syy),
            Statistic::SumXy => has_rows.then_some(self.sxy),
            // The other statistics have one argument.
            _ => None,
        })
    }
}

impl JointMoments {
    fn correlation(self) -> Option<f64> {
        if self.rows < 2 || self.sxx == 0.0 || self.syy == 0.0 {
            return None;
        }
        Some(self.sxy / self.sxx.sqrt() / self.syy.sqrt())
    }
}

/// The rows of a window that slides, in two stacks.
#[derive(Debug)]
struct Sliding<S> {
    statistic: Statistic,
    /// The older rows, the oldest last. Each has the summary of itself and of those before it in this list.
    older: Vec<S>,
    /// The newer rows, the newest last.
    newer: Vec<S>,
    /// The summary of the newer rows.
    newer_total: S,
}

impl<S: Summary> Sliding<S> {
    fn new(statistic: Statistic) -> Self {
        Self {
            statistic,
            older: Vec::new(),
            newer: Vec::new(),
            newer_total: S::default(),
        }
    }

    /// Calls `each` with the arguments of each row that has all of them.
    fn for_each_row(
        values: &[ArrayRef],
        mut each: impl FnMut(&mut Self, f64, f64) -> Result<()>,
        this: &mut Self,
    ) -> Result<()> {
        match (S::ARGUMENTS, values) {
            (1, [values, ..]) => {
                for y in doubles(values)?.iter().flatten() {
                    each(this, y, 0.0)?;
                }
            }
            (2, [ys, xs]) => {
                let (ys, xs) = (doubles(ys)?, doubles(xs)?);
                for (y, x) in ys.iter().zip(xs.iter()) {
                    if let (Some(y), Some(x)) = (y, x) {
                        each(this, y, x)?;
                    }
                }
            }
            _ => return internal_err!("wrong number of arguments of an aggregate"),
        }
        Ok(())
    }

    /// Moves the newer rows to the older ones, which are empty.
    fn move_newer_rows(&mut self) -> Result<()> {
        let mut total = S::default();
        self.older.reserve_exact(self.newer.len());
        for (at, row) in std::mem::take(&mut self.newer)
            .into_iter()
            .rev()
            .enumerate()
        {
            if at % ROWS_BETWEEN_CHECKS == 0 {
                cancellation::check()?;
            }
            total = row.merge(total);
            self.older.push(total);
        }
        self.newer_total = S::default();
        Ok(())
    }
}

impl<S: Summary> Accumulator for Sliding<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let add = |this: &mut Self, y, x| {
            let row = S::from_row(y, x);
            this.newer.push(row);
            this.newer_total = this.newer_total.merge(row);
            Ok(())
        };
        Self::for_each_row(values, add, self)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let remove = |this: &mut Self, _, _| {
            if this.older.is_empty() {
                this.move_newer_rows()?;
            }
            match this.older.pop() {
                Some(_) => Ok(()),
                None => internal_err!("a row left a window in which it was not"),
            }
        };
        Self::for_each_row(values, remove, self)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let older = self.older.last().copied().unwrap_or_default();
        Ok(older.merge(self.newer_total).evaluate(self.statistic))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.older.capacity() + self.newer.capacity()) * size_of::<S>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("an aggregate over a window has no partial state")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("an aggregate over a window has no partial state")
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Float64Array;

    use super::*;

    /// Returns the statistic of each window of `width` values, as computed by an accumulator that slides.
    fn slide(name: &str, ys: &[f64], width: usize) -> Vec<Option<f64>> {
        let mut accumulator = Statistic::from_name(name).unwrap().accumulator();
        let row = |at: usize| -> Vec<ArrayRef> {
            let column = |value| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
            vec![column(ys[at]), column(at as f64)]
        };
        let arguments = if name.starts_with("var") || name == "sum" {
            1
        } else {
            2
        };
        let mut found = Vec::new();
        for at in 0..ys.len() {
            accumulator.update_batch(&row(at)[..arguments]).unwrap();
            if at >= width {
                accumulator
                    .retract_batch(&row(at - width)[..arguments])
                    .unwrap();
            }
            found.push(match accumulator.evaluate().unwrap() {
                ScalarValue::Float64(value) => value,
                other => panic!("{other}"),
            });
        }
        found
    }

    #[test]
    fn spike_that_left_the_window_leaves_no_trace() {
        for spike in [1e17, -1e300, f64::NAN, f64::INFINITY, f64::MAX] {
            let values = [1.0, 2.0, spike, 3.0, 5.0, 9.0, 1.0];
            for (name, expected) in [("sum", [17.0, 15.0]), ("var_pop", [56.0 / 9.0, 32.0 / 3.0])] {
                let found = slide(name, &values, 3);
                for (found, expected) in found[5..].iter().zip(expected) {
                    assert!(
                        (found.unwrap() - expected).abs() < 1e-14,
                        "{name} after {spike}: {found:?}"
                    );
                }
            }
            let found = slide("corr", &values, 2);
            assert!((found[4].unwrap() - 1.0).abs() < 1e-15 && found[6].unwrap() < -0.999_999);
        }
    }

    #[test]
    fn constant_values_have_no_variance() {
        let found = slide("var_pop", &[0.1; 50], 7);
        assert!(found.iter().all(|value| *value == Some(0.0)));
    }
}
