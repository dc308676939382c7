//! Grants: rules that select the assets that an organisation may read or write. Rules also apply to assets that are
//! added later.

use std::fmt;

use serde::{Serialize, Serializer};

use super::asset_id::AssetId;
use super::text::printable;

/// A rule that selects assets. An organisation may access an asset that any of its rules selects; without rules,
/// none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// Every asset and every reading, including readings of assets that the catalog does not contain.
    All,
    /// The assets at a place and inside it: `Works / Unit 100` selects `Works / Unit 100 / R-101`, but not
    /// `Works / Unit 1000`. With a trailing `*`, the rule selects every location that starts with the text before it.
    Location(String),
    /// All assets of a type, such as `temperature sensor`.
    Type(String),
    /// A single asset.
    Asset(AssetId),
}

/// The access that a grant gives to the assets of its rule. Only the operator sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantAccess {
    /// Query the assets and their readings.
    Read,
    /// Query the assets and send readings for them.
    Write,
}

/// A rule with the access that it gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AssetGrant {
    /// The rule that selects the assets.
    #[serde(flatten)]
    pub rule: Grant,
    /// The access to the selected assets.
    pub access: GrantAccess,
}

impl AssetGrant {
    /// Returns the rules of `grants` that give at least `access`.
    pub fn rules(grants: &[Self], access: GrantAccess) -> Vec<Grant> {
        let allowing = grants.iter().filter(|grant| grant.access >= access);
        allowing.map(|grant| grant.rule.clone()).collect()
    }
}

impl fmt::Display for AssetGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.access {
            GrantAccess::Read => self.rule.fmt(f),
            GrantAccess::Write => write!(f, "{}, with writing", self.rule),
        }
    }
}

/// The error for a text that is not a valid rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid grant {kind} {value:?}: {problem}")]
pub struct MalformedGrant {
    kind: String,
    value: String,
    problem: &'static str,
}

impl Grant {
    /// The names of the kinds, as used in the database and on the command line.
    pub const KINDS: [&str; 4] = ["all", "location", "type", "asset"];

    /// Returns the name of the rule's kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Location(_) => "location",
            Self::Type(_) => "type",
            Self::Asset(_) => "asset",
        }
    }

    /// Returns the rule's value; empty for [`Grant::All`].
    pub fn value(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Location(text) | Self::Type(text) => text.clone(),
            Self::Asset(id) => id.to_string(),
        }
    }

    /// Parses a rule from its kind and value.
    pub fn parse(kind: &str, value: &str) -> Result<Self, MalformedGrant> {
        let wrong = |problem| MalformedGrant {
            kind: printable(kind, 20),
            value: printable(value, 60),
            problem,
        };
        let text = value.trim();
        match kind {
            "all" if text.is_empty() => Ok(Self::All),
            "all" => Err(wrong("it takes no value")),
            "location" if text.trim_matches(['/', ' ', '*']).is_empty() => Err(wrong(
                "it names no place; use the kind all to grant everything",
            )),
            "location" => Ok(Self::Location(text.to_owned())),
            "type" if text.is_empty() => Err(wrong("it names no type")),
            "type" => Ok(Self::Type(text.to_owned())),
            "asset" => AssetId::parse(text)
                .map(Self::Asset)
                .map_err(|_| wrong("it is not a UUID")),
            _ => Err(wrong("unknown kind; use all, location, type or asset")),
        }
    }

    /// Returns the parts of a location such as `Works / Unit 100 / R-101`, starting at the site.
    pub fn location_parts(location: &str) -> impl Iterator<Item = &str> {
        location
            .split('/')
            .map(str::trim)
            .filter(|place| !place.is_empty())
    }

    /// Whether the rules alone show that an asset can match both. For rules of different kinds this returns `false`
    /// unless one is [`Grant::All`]: only the catalog can answer it.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => true,
            (Self::Location(one), Self::Location(other)) => {
                locations_overlap(one, other) || locations_overlap(other, one)
            }
            (one, other) => one == other,
        }
    }

    /// Whether the rule selects the asset with this id, type and location.
    pub fn allows(&self, id: AssetId, kind: &str, location: &str) -> bool {
        match self {
            Self::All => true,
            Self::Location(prefix) => is_inside(location, prefix),
            Self::Type(wanted) => wanted == kind,
            Self::Asset(wanted) => *wanted == id,
        }
    }
}

/// Whether `location` is the place `prefix` or inside it.
fn is_inside(location: &str, prefix: &str) -> bool {
    if let Some(start) = prefix.strip_suffix('*') {
        return location.starts_with(start);
    }
    let mut places = Grant::location_parts(location);
    Grant::location_parts(prefix).all(|wanted| places.next() == Some(wanted))
}

/// Whether a location that the rule `one` selects can be inside the place of the rule `other`, or start with its
/// text.
fn locations_overlap(one: &str, other: &str) -> bool {
    match (one.strip_suffix('*'), other.strip_suffix('*')) {
        // Both compare the text of a location, so one of the two must be a prefix of the other.
        (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
        (Some(start), None) => can_begin_inside(start, other),
        // The caller also passes the rules in the other order.
        (None, Some(_)) => false,
        (None, None) => is_inside(one, other),
    }
}

/// Whether a location whose text begins with `start` can be the place `place` or inside it. Places are compared by their
/// parts, so the blanks around slashes differ from those of `start` without consequence.
fn can_begin_inside(start: &str, place: &str) -> bool {
    // The part after the last slash may continue.
    let (whole, begun) = start.rsplit_once('/').unwrap_or(("", start));
    let mut wanted = Grant::location_parts(place);
    for part in Grant::location_parts(whole) {
        match wanted.next() {
            Some(wanted) if wanted != part => return false,
            Some(_) => {}
            None => return true,
        }
    }
    wanted
        .next()
        .is_none_or(|wanted| wanted.starts_with(begun.trim_start()) || wanted == begun.trim())
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all assets"),
            Self::Location(text) => write!(f, "location {text}"),
            Self::Type(text) => write!(f, "type {text}"),
            Self::Asset(id) => write!(f, "asset {id}"),
        }
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Printed {
            kind: &'static str,
            value: String,
        }
        let (kind, value) = (self.kind(), self.value());
        Printed { kind, value }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: AssetId = AssetId::from_bytes([1; 16]);

    fn location(prefix: &str, location: &str) -> bool {
        Grant::parse("location", prefix)
            .unwrap()
            .allows(ID, "pump", location)
    }

    #[test]
    fn allows_of_location_includes_nested_places_only() {
        let place = "Works / Unit 100 / R-101";
        for prefix in [
            "Works",
            "Works/",
            "/Works",
            "Works / Unit 100",
            "Works/Unit 100 /",
            place,
            "Works / Unit 1*",
            "W*",
        ] {
            assert!(location(prefix, place), "{prefix}");
        }
        for prefix in [
            "Work",
            "Unit 100",
            "Works / Unit 1",
            "works",
            "Works / Unit 100 / R-101 / x",
            "Works / Unit 2*",
        ] {
            assert!(!location(prefix, place), "{prefix}");
        }
        assert!(!location("Works", ""));
    }

    #[test]
    fn allows_of_all_type_and_asset_matches_exactly() {
        let allows = |grant: Grant| grant.allows(ID, "pump", "Works");
        assert!(allows(Grant::All));
        assert!(allows(Grant::Type("pump".to_owned())));
        assert!(!allows(Grant::Type("Pump".to_owned())));
        assert!(allows(Grant::Asset(ID)));
        assert!(!allows(Grant::Asset(AssetId::from_bytes([2; 16]))));
    }

    #[test]
    fn overlaps_of_nested_places_and_equal_rules_is_true() {
        let rule = |kind, value| Grant::parse(kind, value).unwrap();
        let place = |text| rule("location", text);
        for (one, other, expected) in [
            (Grant::All, rule("type", "pump"), true),
            (place("Works"), place("Works / Unit 1"), true),
            (place("Works / Unit 1"), place("Works / Unit 1"), true),
            (place("Works / Unit 1"), place("Works / Unit 10"), false),
            (place("Works / Unit 1*"), place("Works / Unit 10"), true),
            (place("Works / Unit 1*"), place("Works"), true),
            (place("Works / Unit 1*"), place("Works / Unit 2*"), false),
            (place("Works / Unit 10*"), place("Works / Unit 1"), false),
            // A place is compared by its parts, whatever the blanks around the slashes.
            (place("Works/*"), place("Works / Unit 1"), true),
            (place("Works / *"), place("Works/Unit 1"), true),
            (place("Works / Unit 1*"), place("Works/Unit 10/R-1"), true),
            (place("Works/Unit 1/R*"), place("Works / Unit 1"), true),
            (place("Works/Unit 1 *"), place("Works / Unit 1"), true),
            (place("Works/Unit 1*"), place("Works / Unit 2"), false),
            (place("Works/*"), place("Elsewhere / Works"), false),
            // Two texts are compared as they are.
            (place("Works/*"), place("Works / *"), false),
            (rule("type", "pump"), rule("type", "pump"), true),
            (rule("type", "pump"), rule("type", "tank"), false),
            (rule("type", "pump"), place("Works"), false),
            (Grant::Asset(ID), Grant::Asset(ID), true),
        ] {
            assert_eq!(one.overlaps(&other), expected, "{one}, {other}");
            assert_eq!(other.overlaps(&one), expected, "{other}, {one}");
        }
    }

    #[test]
    fn rules_that_allow_the_same_location_overlap() {
        let places = [
            "a",
            "a/b",
            "a / b",
            "a /b/",
            "a/ bc",
            "a / bc / d",
            "b",
            "ab / c",
            "/a//b",
        ];
        let stars = places.map(|place| format!("{place}*"));
        let rules: Vec<Grant> = places
            .iter()
            .copied()
            .chain(stars.iter().map(String::as_str))
            .map(|text| Grant::parse("location", text).unwrap())
            .collect();
        let locations = [
            "a",
            "a/b",
            "a / b",
            "a / b / c",
            "a /b/c",
            "a / bc / d",
            "b",
            "ab / c",
            "/a//b/c",
        ];
        for one in &rules {
            for other in &rules {
                for location in locations {
                    let is_shared =
                        one.allows(ID, "pump", location) && other.allows(ID, "pump", location);
                    assert!(
                        !is_shared || one.overlaps(other),
                        "{one} and {other} both allow {location}"
                    );
                }
            }
        }
    }

    #[test]
    fn rules_for_write_excludes_read_grants() {
        let grant = |rule, access| AssetGrant { rule, access };
        let kind = Grant::Type("pump".to_owned());
        let grants = [
            grant(Grant::All, GrantAccess::Read),
            grant(kind.clone(), GrantAccess::Write),
        ];
        let rules = |access| AssetGrant::rules(&grants, access);
        assert_eq!(rules(GrantAccess::Read), [Grant::All, kind.clone()]);
        assert_eq!(rules(GrantAccess::Write), [kind]);
    }

    #[test]
    fn parse_of_kind_and_value_round_trips_and_rejects_bad_rules() {
        for grant in [
            Grant::All,
            Grant::Location("Works / Unit 1*".to_owned()),
            Grant::Type("pump".to_owned()),
            Grant::Asset(ID),
        ] {
            assert_eq!(Grant::parse(grant.kind(), &grant.value()), Ok(grant));
        }
        for (kind, value) in [
            ("all", "x"),
            ("location", ""),
            ("location", " / "),
            ("location", "*"),
            ("type", " "),
            ("asset", "x"),
            ("other", ""),
        ] {
            assert!(Grant::parse(kind, value).is_err(), "{kind} {value}");
        }
    }
}
