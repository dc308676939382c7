//! An asset: a site, a unit, a piece of equipment or a sensor, as `assets.json` describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::AssetId;

/// One entry of `assets.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// The id, which the asset's readings carry as `id`.
    #[serde(with = "id_text")]
    pub id: AssetId,
    /// The display name: `TT-101 reactor R-101 bulk temperature`.
    pub name: String,
    /// The type, in words: `temperature sensor`, `stirred tank reactor`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The location, from the site down: `Northfield Works / Unit 100 Esterification / R-101`.
    #[serde(default)]
    pub location: String,
    /// The known properties.
    #[serde(default)]
    pub specifications: Specifications,
}

/// The known properties of an asset. All are optional. Properties whose meaning plantlake does not know are kept in
/// `other`, so that reading and writing a catalog loses nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Specifications {
    /// The unit of its readings: `°C`, `bar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The lowest value that it can measure, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_low: Option<f64>,
    /// The highest value that it can measure, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_high: Option<f64>,
    /// The smallest step between two values, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<f64>,
    /// Its short name on drawings: `TT-101`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The interpolation between two readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// All other properties: volume, design pressure, material, ….
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

impl Specifications {
    /// The properties that are given in `unit`. Other numbers are in the unit with which their key ends.
    pub const IN_UNIT: [&str; 3] = ["range_low", "range_high", "resolution"];
}

/// The interpolation of a sensor's value between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// A straight line from one reading to the next: temperatures, flows.
    Linear,
    /// The previous value until the next reading: states of a valve, laboratory results.
    Stepped,
}

/// Writes ids as canonical text, and reads any spelling of a UUID.
pub(super) mod id_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::model::AssetId;

    pub fn serialize<S: Serializer>(id: &AssetId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AssetId, D::Error> {
        AssetId::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
