//! Columns of assets in the results of table functions.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringViewBuilder};
use arrow::datatypes::{DataType, Field};

use crate::catalog::Asset;

/// Returns the fields of the columns that identify assets.
pub(super) fn asset_fields() -> Vec<Field> {
    let text = |name| Field::new(name, DataType::Utf8View, false);
    ["asset_id", "name", "type", "location"].map(text).to_vec()
}

/// Returns the columns that identify assets: id, name, type and location.
pub(super) fn asset_columns<'a>(assets: impl Iterator<Item = &'a Asset> + Clone) -> Vec<ArrayRef> {
    let assets = || assets.clone();
    vec![
        text_array(assets().map(|asset| asset.id.to_string())),
        text_array(assets().map(|asset| asset.name.as_str())),
        text_array(assets().map(|asset| asset.kind.as_str())),
        text_array(assets().map(|asset| asset.location.as_str())),
    ]
}

pub(super) fn text_array(values: impl Iterator<Item = impl AsRef<str>>) -> ArrayRef {
    let mut texts = StringViewBuilder::new();
    for value in values {
        texts.append_value(value);
    }
    Arc::new(texts.finish())
}

pub(super) fn integer_array(values: impl Iterator<Item = usize>) -> ArrayRef {
    let values = values.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    Arc::new(values.map(Some).collect::<Int64Array>())
}
