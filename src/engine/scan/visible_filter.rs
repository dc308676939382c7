//! The predicate that selects the rows of the assets that a session sees.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, StringViewArray,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type, Schema};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, in_list, lit};
use datafusion::physical_expr::{PhysicalExpr, conjunction};

use crate::catalog::VisibleAssets;
use crate::model::AssetId;

/// The maximum number of ids that are also passed as a list, by which row groups and pages are pruned.
const MAX_LISTED_IDS: usize = 20;

/// Returns the predicate on the column `name`, which is the column `index` of the input; `None` if everything is
/// visible.
pub(in crate::engine) fn visible_filter(
    visible: &Arc<VisibleAssets>,
    name: &str,
    index: usize,
    schema: &Schema,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let VisibleAssets::Only(ids) = &**visible else {
        return Ok(None);
    };
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, index));
    let mut parts: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    if let DataType::Utf8View = schema.field(index).data_type() {
        // These conditions only prune; `IsVisible` decides about each row.
        let text = |id: &AssetId| lit(ScalarValue::Utf8View(Some(id.to_string())));
        let bound = |operator, id: &AssetId| {
            Arc::new(BinaryExpr::new(Arc::clone(&column), operator, text(id))) as _
        };
        if let [first, .., last] = ids.as_slice()
            && ids.len() > MAX_LISTED_IDS
        {
            parts.push(bound(Operator::GtEq, first));
            parts.push(bound(Operator::LtEq, last));
        } else if !ids.is_empty() {
            let list = ids.iter().map(text).collect();
            parts.push(in_list(Arc::clone(&column), list, &false, schema)?);
        }
    }
    parts.push(Arc::new(IsVisible {
        asset: column,
        visible: Arc::clone(visible),
    }));
    Ok(Some(conjunction(parts)))
}

/// Whether the asset of a row is visible. Rows with a null or malformed id are hidden.
#[derive(Debug)]
pub(in crate::engine) struct IsVisible {
    asset: Arc<dyn PhysicalExpr>,
    visible: Arc<VisibleAssets>,
}

impl IsVisible {
    fn is_visible(&self, id: Option<&str>) -> bool {
        id.and_then(|id| AssetId::parse(id).ok())
            .is_some_and(|id| self.visible.contains(id))
    }

    fn evaluate_view_ids(&self, ids: &StringViewArray) -> BooleanArray {
        let mut shown = BooleanBufferBuilder::new(ids.len());
        // The rows of an asset are adjacent, and then share the text.
        let mut last: Option<(u128, bool)> = None;
        for (row, view) in ids.views().iter().enumerate() {
            let is_shown = match last {
                Some((former, is_shown)) if former == *view && ids.is_valid(row) => is_shown,
                _ => {
                    let is_shown = self.is_visible(ids.is_valid(row).then(|| ids.value(row)));
                    last = ids.is_valid(row).then_some((*view, is_shown));
                    is_shown
                }
            };
            shown.append(is_shown);
        }
        BooleanArray::new(shown.finish(), None)
    }

    fn evaluate_ids(&self, ids: &ArrayRef) -> Result<BooleanArray> {
        Ok(match ids.data_type() {
            DataType::Utf8View => self.evaluate_view_ids(ids.as_string_view()),
            DataType::Utf8 => {
                let mut last: Option<(&str, bool)> = None;
                let ids = ids.as_string::<i32>().iter();
                ids.map(|id| match (last, id) {
                    (Some((former, is_shown)), Some(id)) if former == id => Some(is_shown),
                    _ => {
                        let is_shown = self.is_visible(id);
                        last = id.map(|id| (id, is_shown));
                        Some(is_shown)
                    }
                })
                .collect()
            }
            DataType::Dictionary(..) => {
                let Some(ids) = ids.as_dictionary_opt::<Int32Type>() else {
                    return exec_err!("ids cannot be of type {}", ids.data_type());
                };
                let shown: ArrayRef = Arc::new(self.evaluate_ids(ids.values())?);
                let shown = take(&shown, ids.keys(), None)?;
                // A row with a null key is hidden.
                shown
                    .as_boolean()
                    .iter()
                    .map(|is_shown| Some(is_shown.unwrap_or(false)))
                    .collect()
            }
            other => return exec_err!("ids cannot be of type {other}"),
        })
    }
}

impl fmt::Display for IsVisible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The ids are left out, because plans can be shown to users.
        write!(f, "visible({})", self.asset)
    }
}

impl PartialEq for IsVisible {
    fn eq(&self, other: &Self) -> bool {
        self.asset.eq(&other.asset) && Arc::ptr_eq(&self.visible, &other.visible)
    }
}

impl Eq for IsVisible {}

impl Hash for IsVisible {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.asset.hash(state);
        Arc::as_ptr(&self.visible).hash(state);
    }
}

impl PhysicalExpr for IsVisible {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let ids = self.asset.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(Arc::new(self.evaluate_ids(&ids)?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.asset]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([asset]) => Ok(Arc::new(Self {
                asset,
                visible: Arc::clone(&self.visible),
            })),
            Err(children) => internal_err!("{} columns instead of one", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn id(byte: u8) -> AssetId {
        AssetId::from_bytes([byte; 16])
    }

    /// Returns rows in runs: null, malformed, or one of a few ids in one of two spellings.
    fn rows() -> impl Strategy<Value = Vec<Option<String>>> {
        let run = (0..6_u8, any::<bool>(), 1..5_usize).prop_map(|(byte, upper, length)| {
            let text = match byte {
                0 => None,
                1 => Some("TT-101 bulk temperature".to_owned()),
                _ if upper => Some(id(byte).to_string().to_uppercase()),
                _ => Some(id(byte).to_string()),
            };
            vec![text; length]
        });
        prop::collection::vec(run, 0..8).prop_map(|runs| runs.concat())
    }

    proptest! {
        #[test]
        fn rows_of_visible_assets_are_shown_in_any_encoding(
            rows in rows(),
            ids in prop::collection::btree_set(2..6_u8, 0..4),
        ) {
            let expected: Vec<bool> = rows
                .iter()
                .map(|row| ids.iter().any(|&byte| row.as_deref().is_some_and(|row| row.eq_ignore_ascii_case(&id(byte).to_string()))))
                .collect();
            let views: StringViewArray = rows.iter().map(Option::as_deref).collect();
            let text: StringArray = rows.iter().map(Option::as_deref).collect();
            let coded: DictionaryArray<Int32Type> = rows.iter().map(Option::as_deref).collect();
            let filter = IsVisible {
                asset: Arc::new(Column::new("id", 0)),
                visible: Arc::new(VisibleAssets::Only(ids.into_iter().map(id).collect())),
            };
            for array in [Arc::new(views) as ArrayRef, Arc::new(text), Arc::new(coded)] {
                let shown = filter.evaluate_ids(&array).unwrap();
                prop_assert_eq!(shown.null_count(), 0);
                let shown: Vec<bool> = shown.values().iter().collect();
                prop_assert_eq!(&shown, &expected, "{}", array.data_type());
            }
        }
    }
}
