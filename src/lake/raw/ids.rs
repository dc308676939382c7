//! Converts columns of ids to dictionaries of text, with UUIDs in their canonical spelling.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, DictionaryArray, Int32Array, Int32Builder,
    StringArray, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int32Type};
use arrow::error::ArrowError;

use super::canonical::{is_binary, text_dictionary};
use crate::model::AssetId;

/// The maximum length in bytes of an id that is kept whole. No asset id is longer.
const MAX_ID_BYTES: usize = 64;
/// The length in bytes of the canonical spelling of a UUID.
const CANONICAL_BYTES: usize = 36;

/// Converts columns of ids. The batches of a column chunk usually share one dictionary, which is converted once.
#[derive(Debug, Default)]
pub(super) struct IdConverter {
    last: Option<CanonicalDictionary>,
}

/// A dictionary, and the same with UUIDs in their canonical spelling.
#[derive(Debug)]
struct CanonicalDictionary {
    source: ArrayRef,
    values: ArrayRef,
    /// The new keys by the former ones; `None` if they are equal.
    keys: Option<Vec<i32>>,
}

impl IdConverter {
    /// Converts an id column to a dictionary of text. UUIDs get their canonical spelling; other texts stay.
    pub fn convert(&mut self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let column = convert_ids(column)?;
        let dictionary = column.as_dictionary::<Int32Type>();
        let source = dictionary.values();
        let known = self.last.take();
        let known = known.filter(|known| known.source.to_data().ptr_eq(&source.to_data()));
        let known = known.unwrap_or_else(|| CanonicalDictionary::new(source));
        let converted: ArrayRef = match &known.keys {
            None if Arc::ptr_eq(&known.source, &known.values) => Arc::clone(&column),
            None => Arc::new(DictionaryArray::<Int32Type>::try_new(
                dictionary.keys().clone(),
                Arc::clone(&known.values),
            )?),
            Some(map) => {
                let keys = dictionary.keys().iter();
                let keys = keys.map(|key| map.get(usize::try_from(key?).ok()?).copied());
                Arc::new(DictionaryArray::<Int32Type>::try_new(
                    keys.collect::<Int32Array>(),
                    Arc::clone(&known.values),
                )?)
            }
        };
        self.last = Some(known);
        Ok(converted)
    }
}

impl CanonicalDictionary {
    fn new(source: &ArrayRef) -> Self {
        let texts = source.as_string::<i32>();
        let is_canonical = texts.iter().flatten().all(|text| respelt(text).is_none());
        if is_canonical {
            return Self {
                source: Arc::clone(source),
                values: Arc::clone(source),
                keys: None,
            };
        }
        let mut known: HashMap<Option<String>, i32> = HashMap::new();
        let mut values: Vec<Option<String>> = Vec::new();
        let keys = texts.iter().map(|text| {
            let text = text.map(|text| respelt(text).unwrap_or_else(|| text.to_owned()));
            *known.entry(text).or_insert_with_key(|text| {
                values.push(text.clone());
                values.len() as i32 - 1
            })
        });
        let keys: Vec<i32> = keys.collect();
        let is_same = (0_i32..).zip(&keys).all(|(index, key)| index == *key);
        Self {
            source: Arc::clone(source),
            values: Arc::new(StringArray::from(values)),
            keys: (!is_same).then_some(keys),
        }
    }
}

/// Returns the canonical spelling of a UUID in any other spelling.
fn respelt(text: &str) -> Option<String> {
    let is_canonical = text.len() == CANONICAL_BYTES
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if is_canonical {
        return None;
    }
    AssetId::parse(text).ok().map(|id| id.to_string())
}

/// Converts an id column to a dictionary of text.
fn convert_ids(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        kind if kind == &text_dictionary() => Ok(Arc::clone(column)),
        DataType::Null => Ok(new_null_array(&text_dictionary(), column.len())),
        // Only the dictionary's values are converted: rows may share a long value, which must not be repeated for each
        // row.
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            take(&convert_ids(dictionary.values())?, dictionary.keys(), None)
        }
        DataType::Utf8View => {
            ids_from_views(&column.as_string_view().clone().to_binary_view(), false)
        }
        // Arrow has no direct cast, so the cast goes through the variable-length binary type.
        DataType::FixedSizeBinary(_) => convert_ids(&cast(column, &DataType::Binary)?),
        kind if is_binary(kind) => {
            let views = cast(column, &DataType::BinaryView)?;
            ids_from_views(views.as_binary_view(), true)
        }
        _ => cast(column, &text_dictionary()),
    }
}

/// Converts binary values to a dictionary of text. If `may_be_uuids`, 16 bytes become the text of a UUID. Other bytes
/// are read as text, and the caller checks whether that is a UUID.
fn ids_from_views(views: &BinaryViewArray, may_be_uuids: bool) -> Result<ArrayRef, ArrowError> {
    let mut keys = Int32Builder::with_capacity(views.len());
    let mut texts: Vec<String> = Vec::new();
    let mut known: HashMap<(&[u8], bool), i32> = HashMap::new();
    let mut last: Option<((&[u8], bool), i32)> = None;
    for bytes in views {
        let Some(bytes) = bytes else {
            keys.append_null();
            continue;
        };
        // A value that is too long is no asset id, so its first bytes are enough.
        let shown = (
            &bytes[..bytes.len().min(MAX_ID_BYTES)],
            bytes.len() > MAX_ID_BYTES,
        );
        let key = match last {
            Some((same, key)) if same == shown => key,
            _ => *known.entry(shown).or_insert_with(|| {
                texts.push(id_text(shown, may_be_uuids));
                texts.len() as i32 - 1
            }),
        };
        last = Some((shown, key));
        keys.append_value(key);
    }
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
        keys.finish(),
        Arc::new(StringArray::from(texts)),
    )?))
}

fn id_text((bytes, is_cut): (&[u8], bool), may_be_uuid: bool) -> String {
    match uuid::Uuid::from_slice(bytes) {
        Ok(uuid) if may_be_uuid => uuid.to_string(),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            format!("{text}{}", if is_cut { "…" } else { "" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_any_spelling_become_canonical_and_share_a_key() {
        let canonical = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
        let upper = canonical.to_uppercase();
        let braces = format!("{{{canonical}}}");
        let urn = format!("urn:uuid:{upper}");
        let plain = canonical.replace('-', "");
        let rows = [
            Some(upper.as_str()),
            Some(canonical),
            None,
            Some("pump 7"),
            Some(&braces),
            Some(&urn),
            Some(&plain),
        ];
        let column: ArrayRef = Arc::new(StringArray::from(rows.to_vec()));
        let mut converter = IdConverter::default();
        for _ in 0..2 {
            let converted = converter.convert(&column).unwrap();
            let dictionary = converted.as_dictionary::<Int32Type>();
            let texts = dictionary.values().as_string::<i32>();
            assert_eq!(
                texts.iter().flatten().collect::<Vec<_>>(),
                [canonical, "pump 7"]
            );
            let found: Vec<Option<&str>> = dictionary
                .keys()
                .iter()
                .map(|key| key.map(|key| texts.value(key as usize)))
                .collect();
            let same = Some(canonical);
            assert_eq!(found, [same, same, None, Some("pump 7"), same, same, same]);
        }
    }

    #[test]
    fn dictionary_of_canonical_ids_is_not_copied() {
        let rows = vec!["a1b2c3d4-e5f6-7890-abcd-ef1234567890", "pump 7"];
        let column: ArrayRef = Arc::new(StringArray::from(rows));
        let column = cast(&column, &text_dictionary()).unwrap();
        let converted = IdConverter::default().convert(&column).unwrap();
        assert!(Arc::ptr_eq(&column, &converted));
    }
}
