//! The description of an asset: a natural-language text, which is what the search indexes.

use std::fmt::Write;

use serde_json::Value;

use crate::catalog::{Asset, Specifications};
use crate::model::{Unit, key_in_words};

/// The version of the descriptions. It changes when the same asset would get a different text.
pub(super) const VERSION: u32 = 1;

/// Describes an asset: its name, type, location and specifications, with units spelt out.
pub(super) fn describe(asset: &Asset) -> String {
    let mut text = format!("{}: {}", asset.name, asset.kind);
    if !asset.location.is_empty() {
        let place = asset.location.replace(" / ", ", ");
        let _ = write!(text, ", at {place}");
    }
    text.push('.');
    // Values that the name already contains are not repeated.
    let name = asset.name.to_lowercase();
    for sentence in sentences(&asset.specifications, &|text| {
        !name.contains(&text.to_lowercase())
    }) {
        let _ = write!(text, " {sentence}.");
    }
    text
}

fn sentences(known: &Specifications, is_new: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(tag) = known.tag.as_ref().filter(|tag| is_new(tag)) {
        found.push(format!("tag {tag}"));
    }
    let unit = known.unit.as_deref();
    if let Some(unit) = unit {
        found.push(format!("measures in {}", unit_with_symbol(unit)));
    }
    let words = unit.map_or("", unit_words);
    match (known.range_low, known.range_high) {
        (Some(low), Some(high)) => found.push(format!("range {low} to {high} {words}")),
        (Some(low), None) => found.push(format!("range from {low} {words}")),
        (None, Some(high)) => found.push(format!("range to {high} {words}")),
        (None, None) => {}
    }
    for (key, value) in &known.other {
        found.extend(sentence(key, value, is_new));
    }
    found
        .into_iter()
        .map(|sentence| sentence.trim_end().to_owned())
        .collect()
}

/// Describes one specification: `design_pressure_bar: 16` becomes `design pressure 16 bar`.
fn sentence(key: &str, value: &Value, is_new: &dyn Fn(&str) -> bool) -> Option<String> {
    let key_words = key.replace('_', " ");
    Some(match value {
        Value::Number(number) => match key_in_words(key) {
            (what, Some(unit)) => format!("{what} {number} {}", unit.words),
            (what, None) => format!("{what} {number}"),
        },
        Value::String(text) if text.is_empty() || !is_new(text) => return None,
        Value::String(text) if key == "description" => text.clone(),
        Value::String(text) => format!("{key_words} {text}"),
        Value::Bool(true) => key_words,
        Value::Array(values) => {
            let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            (!texts.is_empty()).then(|| format!("{key_words} {}", texts.join(", ")))?
        }
        // Null, `false` and objects are skipped: users search for words and numbers only.
        _ => return None,
    })
}

/// Returns the name of a unit with its symbol, because users search for both.
fn unit_with_symbol(unit: &str) -> String {
    match unit_words(unit) {
        words if words == unit => words.to_owned(),
        words => format!("{words} ({unit})"),
    }
}

fn unit_words(unit: &str) -> &str {
    Unit::from_name(unit).map_or(unit, |unit| unit.words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(json: &str) -> String {
        describe(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn describe_omits_repeated_values_and_spells_out_units() {
        let sensor = r#"{"id": "5fb30aca-6d40-4a35-9b50-922516e505e5", "name": "TT-302 compressor K-301 bearing temperature",
            "type": "temperature sensor", "location": "Works / Unit 300 / K-301", "specifications": {"unit": "°C",
            "range_low": 0.0, "range_high": 150.0, "tag": "TT-302", "interpolation": "linear", "measures": "Bearing temperature"}}"#;
        assert_eq!(
            described(sensor),
            "TT-302 compressor K-301 bearing temperature: temperature sensor, at Works, Unit 300, K-301. \
             measures in degrees Celsius (°C). range 0 to 150 degrees Celsius."
        );
        let reactor = r#"{"id": "9f234f1c-1ca6-4e6d-abec-2c2529a52c43", "name": "Old Bess", "type": "stirred tank reactor",
            "specifications": {"tag": "R-701", "volume_m3": 20.8, "material": "glass-lined steel", "description": "jacketed vessel",
            "baffled": true, "drawing": null, "jacket": false, "notes": "", "phases": ["liquid", "gas"], "stages": 3}}"#;
        assert_eq!(
            described(reactor),
            "Old Bess: stirred tank reactor. tag R-701. baffled. jacketed vessel. material glass-lined steel. \
             phases liquid, gas. stages 3. volume 20.8 cubic metres."
        );
        let bare = r#"{"id": "9f234f1c-1ca6-4e6d-abec-2c2529a52c43", "name": "x", "type": "y"}"#;
        assert_eq!(described(bare), "x: y.");
    }
}
