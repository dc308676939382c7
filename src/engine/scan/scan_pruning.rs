//! The assets and times that a query's conditions select, by which files are pruned.

use std::collections::BTreeSet;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::model::{AssetId, Window};

/// The time column of every table, of readings and of averages.
const TIMESTAMP: &str = "timestamp";

/// A superset of the rows that the conditions can be true for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::engine) struct ScanPruning {
    /// The times of the rows.
    pub window: Window,
    /// Whether rows without a time are included.
    pub untimed: bool,
    /// The assets of the rows; `None` for all.
    pub assets: Option<BTreeSet<AssetId>>,
}

impl ScanPruning {
    /// Returns the rows for which all conditions on the columns `timestamp` and `asset` can be true.
    pub fn from_filters(filters: &[Expr], asset: &str) -> Self {
        let mut wanted = Self {
            window: Window::ALL,
            untimed: true,
            assets: None,
        };
        for filter in filters {
            wanted.narrow(filter, asset);
        }
        wanted
    }

    /// Whether rows of this asset are included.
    pub fn includes(&self, asset: AssetId) -> bool {
        self.assets
            .as_ref()
            .is_none_or(|assets| assets.contains(&asset))
    }

    fn narrow(&mut self, filter: &Expr, asset: &str) {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (column, op, value) = match (&**left, &**right) {
                    (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
                    (Expr::Literal(value, _), Expr::Column(column)) => match op.swap() {
                        Some(op) => (column, op, value),
                        None => return,
                    },
                    (left, right) if *op == Operator::And => {
                        self.narrow(left, asset);
                        self.narrow(right, asset);
                        return;
                    }
                    (left, right) if *op == Operator::Or => {
                        // The optimiser rewrites a short `IN` list to such conditions.
                        let either = [left, right].map(|side| {
                            Self::from_filters(std::slice::from_ref(side), asset).assets
                        });
                        if let [Some(one), Some(other)] = either {
                            self.intersect_assets(one.union(&other).copied().collect());
                        }
                        return;
                    }
                    _ => return,
                };
                match op {
                    _ if column.name == TIMESTAMP => self.narrow_time(op, value),
                    Operator::Eq if column.name == asset => {
                        self.narrow_assets(std::iter::once(value));
                    }
                    _ => {}
                }
            }
            Expr::InList(InList {
                expr,
                list,
                negated: false,
            }) => {
                let values: Option<Vec<_>> = list
                    .iter()
                    .map(|value| match value {
                        Expr::Literal(value, _) => Some(value),
                        _ => None,
                    })
                    .collect();
                if let (Expr::Column(column), Some(values)) = (&**expr, values)
                    && column.name == asset
                {
                    self.narrow_assets(values.into_iter());
                }
            }
            Expr::Between(between) if !between.negated => {
                if let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                    (&*between.expr, &*between.low, &*between.high)
                    && column.name == TIMESTAMP
                {
                    self.narrow_time(Operator::GtEq, low);
                    self.narrow_time(Operator::LtEq, high);
                }
            }
            _ => {}
        }
    }

    fn narrow_time(&mut self, op: Operator, value: &ScalarValue) {
        let ScalarValue::TimestampMicrosecond(Some(time), _) = value else {
            return;
        };
        let after = time.saturating_add(1);
        let (start, end) = match op {
            Operator::GtEq => (*time, Window::ALL.end),
            Operator::Gt => (after, Window::ALL.end),
            Operator::Lt => (Window::ALL.start, *time),
            Operator::LtEq => (Window::ALL.start, after),
            Operator::Eq => (*time, after),
            _ => return,
        };
        // A comparison with null is never true.
        self.untimed = false;
        self.window.start = self.window.start.max(start);
        self.window.end = self.window.end.min(end);
    }

    fn narrow_assets<'a>(&mut self, values: impl Iterator<Item = &'a ScalarValue>) {
        self.intersect_assets(values.filter_map(to_asset_id).collect());
    }

    fn intersect_assets(&mut self, asked: BTreeSet<AssetId>) {
        self.assets = Some(match self.assets.take() {
            Some(former) => former.intersection(&asked).copied().collect(),
            None => asked,
        });
    }
}

/// Returns the asset that a value names; `None` if it is not an asset's id.
fn to_asset_id(value: &ScalarValue) -> Option<AssetId> {
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => AssetId::parse(text).ok(),
        ScalarValue::Dictionary(_, value) => to_asset_id(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn id(byte: u8) -> AssetId {
        AssetId::from_bytes([byte; 16])
    }

    fn is(byte: u8) -> Expr {
        col("asset_id").eq(lit(id(byte).to_string()))
    }

    fn time(micros: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(
            Some(micros),
            Some("UTC".into()),
        ))
    }

    fn assets(filter: Expr) -> Option<Vec<u8>> {
        let wanted = ScanPruning::from_filters(&[filter], "asset_id");
        let assets = wanted.assets?.into_iter();
        Some(
            assets
                .map(|asset| (0..9).find(|&byte| id(byte) == asset).unwrap())
                .collect(),
        )
    }

    #[test]
    fn pruning_intersects_the_assets_of_all_conditions() {
        assert_eq!(assets(is(1)), Some(vec![1]));
        assert_eq!(assets(is(1).or(is(2)).or(is(3))), Some(vec![1, 2, 3]));
        assert_eq!(assets(is(1).or(is(2)).and(is(2).or(is(3)))), Some(vec![2]));
        assert_eq!(assets(is(1).and(is(2))), Some(vec![]));
        let list = vec![lit(id(4).to_string()), lit("no id")];
        assert_eq!(
            assets(col("asset_id").in_list(list.clone(), false)),
            Some(vec![4])
        );
        // Such conditions prune nothing.
        assert_eq!(assets(col("asset_id").in_list(list, true)), None);
        assert_eq!(assets(is(1).or(col("value").gt(lit(1.0)))), None);
        assert_eq!(assets(col("name").eq(lit(id(1).to_string()))), None);
        assert_eq!(assets(Expr::Not(Box::new(is(1)))), None);
    }

    #[test]
    fn pruning_intersects_the_windows_of_all_conditions() {
        let window = |filter: Expr| {
            let wanted = ScanPruning::from_filters(&[filter], "asset_id");
            (wanted.window.start, wanted.window.end, wanted.untimed)
        };
        let (start, end) = (Window::ALL.start, Window::ALL.end);
        let timestamp = || col(TIMESTAMP);
        assert_eq!(window(timestamp().gt_eq(time(5))), (5, end, false));
        assert_eq!(window(time(5).gt(timestamp())), (start, 5, false));
        assert_eq!(window(timestamp().between(time(5), time(7))), (5, 8, false));
        assert_eq!(window(timestamp().eq(time(5))), (5, 6, false));
        assert_eq!(
            window(timestamp().gt(time(5)).and(timestamp().lt_eq(time(9)))),
            (6, 10, false)
        );
        assert_eq!(
            window(timestamp().gt(time(5)).or(timestamp().lt(time(1)))),
            (start, end, true)
        );
    }
}
