//! The id of readings whose file has none, from the file's path: partitions as Hive and Spark write them have a folder
//! `id=<value>`, and no such column in their files.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;

use crate::model::AssetId;

/// The value of the partition of rows without a value.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The id of all readings of a file, a UUID in its canonical spelling or another text; null for rows without a value.
#[derive(Debug, Clone)]
pub(super) struct PathId {
    text: Option<String>,
    values: ArrayRef,
}

impl PathId {
    /// Returns the value of the innermost folder of a partition by `column`, if the path has one.
    pub fn find(path: &str, column: &str) -> Option<Self> {
        let (folders, _) = path.rsplit_once('/')?;
        let value = folders.rsplit('/').find_map(|folder| {
            let (name, value) = folder.split_once('=')?;
            (percent_decoded(name) == column).then_some(value)
        })?;
        let text = (value != NULL_PARTITION).then(|| {
            let text = percent_decoded(value);
            AssetId::parse(&text).map_or(text, |id| id.to_string())
        });
        let values = Arc::new(StringArray::from(vec![text.clone().unwrap_or_default()]));
        Some(Self { text, values })
    }

    /// Returns the asset, unless the value is null or not a UUID.
    pub fn asset(&self) -> Option<AssetId> {
        AssetId::parse(self.text.as_deref()?).ok()
    }

    /// Returns a column of `rows` ids, a dictionary of text.
    pub fn column(&self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let keys = match &self.text {
            Some(_) => Int32Array::from(vec![0; rows]),
            None => Int32Array::new_null(rows),
        };
        let values = Arc::clone(&self.values);
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
            keys, values,
        )?))
    }
}

/// Decodes `%xx`, with which writers of partitions escape signs. A malformed escape stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_comes_from_the_innermost_partition_of_the_column() {
        let id = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
        let text = |path: &str| PathId::find(path, "id").map(|found| found.text);
        for path in [
            format!("id={id}/a.parquet"),
            format!("x/day=3/id={}/part/a.parquet", id.to_uppercase()),
            format!("id=%7B{id}%7d/a.parquet"),
            format!("id=other/id={id}/a.parquet"),
        ] {
            assert_eq!(text(&path), Some(Some(id.to_owned())), "{path}");
        }
        assert_eq!(text("id=pump%207/a"), Some(Some("pump 7".to_owned())));
        assert_eq!(text("id=50%/a"), Some(Some("50%".to_owned())));
        assert_eq!(text(&format!("id={NULL_PARTITION}/a")), Some(None));
        assert_eq!(text("asset_id=1/a.parquet"), None);
        assert_eq!(text("id=1.parquet"), None);
    }
}
