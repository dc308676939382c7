//! Finds a number and its unit in the JSON of an asset's specifications, without deserialising the rest.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::catalog::Specifications;
use crate::model::{Unit, split_key};

/// A specification that is a number.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct NumericSpec {
    /// The number as written.
    pub value: f64,
    /// Its unit.
    pub unit: SpecUnit,
}

/// The source of a specification's unit.
#[derive(Debug, PartialEq)]
pub(in crate::engine) enum SpecUnit {
    /// The suffix of the key.
    Key(&'static Unit),
    /// The member `unit` of the asset, as written.
    Asset(String),
    /// There is no unit.
    None,
}

impl SpecUnit {
    /// Returns the unit as text.
    pub fn into_text(self) -> Option<String> {
        match self {
            Self::Key(unit) => Some(unit.symbol.to_owned()),
            Self::Asset(unit) => Some(unit),
            Self::None => None,
        }
    }
}

impl NumericSpec {
    /// Finds the specification with this name; returns `None` if it is missing or not a number.
    pub fn from_json(specifications: &str, key: &str) -> serde_json::Result<Option<Self>> {
        let mut json = serde_json::Deserializer::from_str(specifications);
        let found = SpecSeed { key }.deserialize(&mut json)?;
        json.end()?;
        Ok(found)
    }
}

/// Deserialises an object and keeps only the requested specification.
struct SpecSeed<'a> {
    key: &'a str,
}

/// The kind of a member of the object, by its key.
enum Member {
    Exact,
    /// The requested name with the suffix of a unit.
    WithUnit(&'static Unit),
    Unit,
    Other,
}

/// The value of a member.
enum Scalar {
    Number(f64),
    Text(String),
    Other,
}

impl<'de> DeserializeSeed<'de> for SpecSeed<'_> {
    type Value = Option<NumericSpec>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SpecSeed<'_> {
    type Value = Option<NumericSpec>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let (mut exact, mut with_unit, mut asset_unit) = (None, None, None);
        while let Some(member) = members.next_key_seed(MemberSeed { key: self.key })? {
            if let Member::Other = member {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            match (member, members.next_value_seed(ScalarSeed)?) {
                (Member::Exact, value) => exact = Some(value),
                // The keys are sorted, so the first match is always the same one.
                (Member::WithUnit(unit), Scalar::Number(value)) if with_unit.is_none() => {
                    with_unit = Some((value, unit));
                }
                (Member::Unit, Scalar::Text(unit)) => asset_unit = Some(unit),
                _ => {}
            }
        }
        Ok(match (exact, with_unit) {
            (Some(Scalar::Number(value)), _) => {
                let unit = match (split_key(self.key).1, asset_unit) {
                    (_, Some(unit)) if Specifications::IN_UNIT.contains(&self.key) => {
                        SpecUnit::Asset(unit)
                    }
                    (Some(unit), _) => SpecUnit::Key(unit),
                    _ => SpecUnit::None,
                };
                Some(NumericSpec { value, unit })
            }
            (Some(_), _) | (None, None) => None,
            (None, Some((value, unit))) => Some(NumericSpec {
                value,
                unit: SpecUnit::Key(unit),
            }),
        })
    }
}

/// Classifies a key without storing it.
struct MemberSeed<'a> {
    key: &'a str,
}

impl<'de> DeserializeSeed<'de> for MemberSeed<'_> {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Member, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberSeed<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Member, E> {
        if key == self.key {
            return Ok(Member::Exact);
        }
        // Few keys have the prefix, so few are split.
        let unit = match key.strip_prefix(self.key) {
            Some(end) if end.starts_with('_') => match split_key(key) {
                (about, Some(unit)) if about == self.key => Some(unit),
                _ => None,
            },
            _ => None,
        };
        Ok(match unit {
            Some(unit) => Member::WithUnit(unit),
            None if key == "unit" => Member::Unit,
            None => Member::Other,
        })
    }
}

/// Deserialises numbers and texts, and skips other values.
struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Scalar, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Scalar, S::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Scalar, M::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
