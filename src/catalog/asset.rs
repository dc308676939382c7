//! An asset: a site, a unit, a piece of equipment or a sensor, as `assets.json` describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::AssetId;

/// One entry of `assets.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// What its readings carry as `id`.
    #[serde(with = "id_text")]
    pub id: AssetId,
    /// What people call it: `TT-101 reactor R-101 bulk temperature`.
    pub name: String,
    /// What it is, in words: `temperature sensor`, `stirred tank reactor`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is, from the site down: `Northfield Works / Unit 100 Esterification / R-101`.
    #[serde(default)]
    pub location: String,
    /// What is known about it.
    #[serde(default)]
    pub specifications: Specifications,
}

/// What is known about an asset. All is optional; what plantlake does not know the meaning of is
/// kept in `other`, so that reading and writing a catalog loses nothing.
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
    /// What its value is between two readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// All else: volume, design pressure, material, ….
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

impl Specifications {
    /// The numbers that are in `unit`; those of all others are in the unit that their key ends with.
    pub const IN_UNIT: [&str; 3] = ["range_low", "range_high", "resolution"];
}

/// What a sensor's value is between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// It goes straight from one to the next: temperatures, flows.
    Linear,
    /// It keeps the former until the next: states of a valve, laboratory results.
    Stepped,
}

/// Ids as canonical text; any spelling of a UUID is read.
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
