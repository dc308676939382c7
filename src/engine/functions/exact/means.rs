//! Means of two groups of rows, as part of the pairwise update of Chan, Golub and LeVeque (1979).

/// A mean as the sum of two doubles. With one, distances from the mean would lose digits where it is large compared with them,
/// such as those of totalisers and of seconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    /// The mean, rounded to a double.
    pub value: f64,
    /// The part that the rounding left out.
    pub rest: f64,
}

impl Mean {
    /// Returns the mean of one value.
    pub fn from_value(value: f64) -> Self {
        Self { value, rest: 0.0 }
    }

    /// Returns how far `later` is above this mean.
    pub fn distance_to(self, later: Self) -> f64 {
        (later.value - self.value) + (later.rest - self.rest)
    }

    /// Returns the mean plus a distance. The rest is computed by Knuth's TwoSum.
    fn moved(self, distance: f64) -> Self {
        let added = distance + self.rest;
        let value = self.value + added;
        let rounded = value - self.value;
        let rest = (self.value - (value - rounded)) + (added - rounded);
        Self { value, rest }
    }
}

/// The weights of two means in their common mean.
pub(super) struct Weights {
    earlier: f64,
    later: f64,
    /// The number of rows of one times that of the other, divided by their sum.
    pub product: f64,
}

impl Weights {
    /// Returns the weights for these numbers of rows, which are not both 0.
    pub fn new(earlier: u64, later: u64) -> Self {
        let rows = (earlier + later) as f64;
        Self {
            earlier: earlier as f64 / rows,
            later: later as f64 / rows,
            product: earlier as f64 * (later as f64 / rows),
        }
    }

    /// Returns the common mean.
    pub fn mean(&self, earlier: Mean, later: Mean) -> Mean {
        let mean = earlier.moved(earlier.distance_to(later) * self.later);
        match mean.value.is_finite() && mean.rest.is_finite() {
            true => mean,
            // The distance of two large values exceeds the range of a double; their mean does not.
            false => Mean::from_value(earlier.value * self.earlier + later.value * self.later),
        }
    }
}
