//! Generates the layout of the plant: sites, units, equipment and sensors, with their catalog.

use std::collections::BTreeMap;

use serde_json::Value;

use super::equipment::{Behaviour, EquipmentTemplate, SensorTemplate, SpecificationValue};
use super::random::{asset_id, generator, key};
use super::units::UNITS;
use crate::catalog::{
    Asset, Catalog, Edge, Graph, Interpolation, Node, NodeKind, Relation, Specifications,
};
use crate::model::AssetId;

/// The names of the sites. Further sites reuse them with a number.
const SITES: &[&str] = &[
    "Northfield",
    "Harbour",
    "Riverside",
    "Lakeview",
    "Westgate",
    "Hillcrest",
    "Eastmoor",
    "Southbank",
    "Millbrook",
    "Stonebridge",
    "Ashford",
    "Clearwater",
];

/// The number of assets with readings per unit in a small plant, which determines how many different units it has.
const SMALL_PLANT_SENSORS_PER_UNIT: usize = 5;

/// A sensor with readings.
#[derive(Debug, Clone)]
pub(super) struct Sensor {
    pub id: AssetId,
    /// The tag, which is unique in the plant and names its files.
    pub tag: String,
    /// The key that all its properties are derived from.
    pub key: u64,
    pub template: &'static SensorTemplate,
}

/// The plant.
#[derive(Debug)]
pub(super) struct Plant {
    /// The sensors, in the order of the layout.
    pub sensors: Vec<Sensor>,
    pub catalog: Catalog,
}

/// Builds the plant of `seed` in which `count` assets have readings.
///
/// Sites and units are added until they have room for that many sensors. If there is room for more, each piece of
/// equipment gets its most informative sensor before any gets its second.
pub(super) fn build(count: usize, seed: u64) -> Plant {
    let units = units_for(count);
    let mut ranks = vec![
        0_usize;
        UNITS
            .iter()
            .flat_map(|unit| unit.equipment)
            .map(|e| e.sensors.len())
            .max()
            .unwrap_or(0)
    ];
    for (_, equipment) in equipment_of(units) {
        for slot in ranks.iter_mut().take(equipment.sensors.len()) {
            *slot += 1;
        }
    }
    // All sensors of a rank are included, up to the first rank that does not fit completely; of that one, the first
    // sensors.
    let mut left = count;
    for slot in &mut ranks {
        *slot = left.min(*slot);
        left -= *slot;
    }
    let mut builder = Builder {
        seed,
        plant: Plant {
            sensors: Vec::with_capacity(count),
            catalog: Catalog::default(),
        },
    };
    builder.add_sites(units, &mut ranks);
    builder.plant
}

/// Returns the number of units of a plant with `count` sensors.
fn units_for(count: usize) -> usize {
    let room = |unit: usize| {
        UNITS[unit % UNITS.len()]
            .equipment
            .iter()
            .map(|e| e.sensors.len())
            .sum::<usize>()
    };
    let variety = count
        .div_ceil(SMALL_PLANT_SENSORS_PER_UNIT)
        .min(UNITS.len());
    let (mut units, mut places) = (0, 0);
    while places < count || units < variety {
        places += room(units);
        units += 1;
    }
    units
}

/// Returns every piece of equipment of the first `units` units, with the index of its unit.
fn equipment_of(units: usize) -> impl Iterator<Item = (usize, &'static EquipmentTemplate)> {
    (0..units).flat_map(|unit| {
        UNITS[unit % UNITS.len()]
            .equipment
            .iter()
            .map(move |equipment| (unit, equipment))
    })
}

struct Builder {
    seed: u64,
    plant: Plant,
}

impl Builder {
    fn add_sites(&mut self, units: usize, ranks: &mut [usize]) {
        for site in 0..units.div_ceil(UNITS.len()) {
            let round = site / SITES.len();
            let mut name = format!("{} Works", SITES[site % SITES.len()]);
            if round > 0 {
                name = format!("{name} {}", round + 1);
            }
            let about = [(
                "description",
                Value::from("chemical works that makes fatty alcohols from natural acids"),
            )];
            let id = self.add_asset(
                NodeKind::Site,
                &name,
                &name,
                "site",
                &name,
                to_specifications(about),
            );
            let mut upstream = None;
            for unit in site * UNITS.len()..units.min((site + 1) * UNITS.len()) {
                upstream = Some(self.add_unit(unit, &name, id, upstream, ranks));
            }
        }
    }

    /// Adds a unit to a site; returns the equipment at its outlet.
    fn add_unit(
        &mut self,
        index: usize,
        site: &str,
        site_id: AssetId,
        upstream: Option<AssetId>,
        ranks: &mut [usize],
    ) -> AssetId {
        let template = &UNITS[index % UNITS.len()];
        let area = (index + 1) * 100;
        let name = format!("Unit {area} {}", template.name);
        let location = format!("{site} / {name}");
        let about = [
            ("description", Value::from(template.description)),
            ("area", Value::from(area)),
        ];
        let id = self.add_asset(
            NodeKind::Unit,
            &name,
            &name,
            "process unit",
            &location,
            to_specifications(about),
        );
        self.add_edge(id, site_id, Relation::PartOf);
        let mut tags = Tags {
            area,
            used: BTreeMap::new(),
        };
        let mut made = Vec::with_capacity(template.equipment.len());
        for equipment in template.equipment {
            made.push(self.add_equipment(equipment, &location, id, &mut tags, ranks));
        }
        for &(from, to) in template.flows {
            self.add_edge(made[from], made[to], Relation::FlowsTo);
        }
        if let Some(upstream) = upstream {
            self.add_edge(upstream, made[template.inlet], Relation::FlowsTo);
        }
        made[template.outlet]
    }

    fn add_equipment(
        &mut self,
        template: &'static EquipmentTemplate,
        location: &str,
        unit: AssetId,
        tags: &mut Tags,
        ranks: &mut [usize],
    ) -> AssetId {
        let tag = tags.next(template.letters);
        let mut rng = generator(key(self.seed, &tag), "equipment");
        let mut specifications =
            to_specifications([("description", Value::from(template.description))]);
        for &(name, fact) in template.specifications {
            let value = match fact {
                SpecificationValue::Text(text) => Value::from(text),
                SpecificationValue::Number(number) => Value::from(number),
                SpecificationValue::Varied(number) => Value::from(vary(number, rng.f64())),
            };
            specifications.other.insert(name.to_owned(), value);
        }
        specifications.tag = Some(tag.clone());
        let place = format!("{location} / {tag}");
        let name = format!("{tag} {}", template.description);
        let id = self.add_asset(
            NodeKind::Equipment,
            &tag,
            &name,
            template.kind,
            &place,
            specifications,
        );
        self.add_edge(id, unit, Relation::PartOf);
        for (rank, sensor) in template.sensors.iter().enumerate() {
            // The tag is used up even if the sensor is left out, so that a larger plant only adds assets.
            let sensor_tag = tags.next(sensor.letters);
            if ranks[rank] > 0 {
                ranks[rank] -= 1;
                let name = format!(
                    "{sensor_tag} {} {tag} {}",
                    last_word(template.kind),
                    sensor.quantity
                );
                self.add_sensor(sensor, sensor_tag, &name, &place, id);
            }
        }
        id
    }

    fn add_sensor(
        &mut self,
        template: &'static SensorTemplate,
        tag: String,
        name: &str,
        location: &str,
        equipment: AssetId,
    ) {
        let specifications = Specifications {
            unit: Some(template.unit.to_owned()),
            range_low: Some(template.low),
            range_high: Some(template.high),
            resolution: Some(1.0 / template.steps_per_unit),
            tag: Some(tag.clone()),
            interpolation: Some(match template.behaviour {
                Behaviour::Continuous => Interpolation::Linear,
                Behaviour::TwoState | Behaviour::Held(_) => Interpolation::Stepped,
            }),
            other: BTreeMap::from([("measures".to_owned(), Value::from(template.quantity))]),
        };
        let id = self.add_asset(
            NodeKind::Sensor,
            &tag,
            name,
            template.kind,
            location,
            specifications,
        );
        self.add_edge(id, equipment, Relation::Measures);
        self.plant.sensors.push(Sensor {
            id,
            key: key(self.seed, &tag),
            tag,
            template,
        });
    }

    /// Adds an asset and its node. `tag` identifies it in the plant.
    fn add_asset(
        &mut self,
        level: NodeKind,
        tag: &str,
        name: &str,
        kind: &str,
        location: &str,
        specifications: Specifications,
    ) -> AssetId {
        let id = asset_id(key(self.seed, tag));
        self.plant.catalog.graph.nodes.push(Node {
            id,
            kind: level,
            name: name.to_owned(),
        });
        self.plant.catalog.assets.push(Asset {
            id,
            name: name.to_owned(),
            kind: kind.to_owned(),
            location: location.to_owned(),
            specifications,
        });
        id
    }

    fn add_edge(&mut self, source: AssetId, target: AssetId, relation: Relation) {
        let Graph { edges, .. } = &mut self.plant.catalog.graph;
        edges.push(Edge {
            source,
            target,
            relation,
        });
    }
}

/// Numbers the tags of a unit: `R-101`, `R-102`. The hundreds are the unit.
struct Tags {
    area: usize,
    used: BTreeMap<&'static str, usize>,
}

impl Tags {
    fn next(&mut self, letters: &'static str) -> String {
        let number = self.used.entry(letters).or_insert(0);
        *number += 1;
        format!("{letters}-{}", self.area + *number)
    }
}

fn to_specifications<const N: usize>(entries: [(&str, Value); N]) -> Specifications {
    let other = entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Specifications {
        other,
        ..Specifications::default()
    }
}

/// Returns `number` varied by up to a third, rounded to three significant digits.
fn vary(number: f64, chance: f64) -> f64 {
    let varied = number * (2.0 + 2.0 * chance) / 3.0;
    let digits = 10_f64.powi(2 - varied.log10().floor() as i32);
    (varied * digits).round() / digits
}

/// Returns the last word of a kind: `reactor` for `stirred tank reactor`.
fn last_word(kind: &str) -> &str {
    kind.rsplit(' ').next().unwrap_or(kind)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn build_gives_requested_sensors_with_unique_ids_and_tags() {
        for count in [1, 2, 10, 49, 200, 1_234, 20_000] {
            let plant = build(count, 42);
            assert_eq!(plant.sensors.len(), count);
            let ids: HashSet<_> = plant.catalog.assets.iter().map(|asset| asset.id).collect();
            assert_eq!(ids.len(), plant.catalog.assets.len(), "{count}");
            let tags: HashSet<_> = plant
                .catalog
                .assets
                .iter()
                .filter_map(|asset| asset.specifications.tag.as_deref())
                .collect();
            let nodes = &plant.catalog.graph.nodes;
            let tagged = nodes
                .iter()
                .filter(|node| matches!(node.kind, NodeKind::Equipment | NodeKind::Sensor))
                .count();
            assert_eq!(tags.len(), tagged, "{count}");
            assert_eq!(
                nodes
                    .iter()
                    .filter(|node| node.kind == NodeKind::Sensor)
                    .count(),
                count
            );
        }
    }

    #[test]
    fn build_connects_every_node() {
        let plant = build(500, 1);
        let graph = &plant.catalog.graph;
        let nodes: HashSet<_> = graph.nodes.iter().map(|node| node.id).collect();
        assert!(
            graph
                .edges
                .iter()
                .all(|edge| nodes.contains(&edge.source) && nodes.contains(&edge.target))
        );
        let parents = |kind: NodeKind| {
            let wanted = if kind == NodeKind::Sensor {
                Relation::Measures
            } else {
                Relation::PartOf
            };
            graph
                .nodes
                .iter()
                .filter(move |node| node.kind == kind)
                .map(move |node| {
                    graph
                        .edges
                        .iter()
                        .filter(|edge| edge.source == node.id && edge.relation == wanted)
                        .count()
                })
        };
        for kind in [NodeKind::Unit, NodeKind::Equipment, NodeKind::Sensor] {
            assert!(parents(kind.clone()).all(|count| count == 1), "{kind:?}");
        }
        assert!(
            graph
                .edges
                .iter()
                .any(|edge| edge.relation == Relation::FlowsTo)
        );
    }

    #[test]
    fn build_shares_ids_between_plants_of_one_seed_only() {
        let ids = |count, seed| {
            let assets = build(count, seed).catalog.assets;
            assets
                .into_iter()
                .map(|asset| (asset.name, asset.id))
                .collect::<BTreeMap<_, _>>()
        };
        let (small, big, other) = (ids(300, 5), ids(700, 5), ids(300, 6));
        let shared: Vec<_> = small
            .iter()
            .filter(|(name, _)| big.contains_key(*name))
            .collect();
        assert!(shared.len() > 300, "{}", shared.len());
        assert!(shared.iter().all(|(name, id)| big[*name] == **id));
        assert!(small.iter().all(|(name, id)| other[name] != *id));
    }

    #[test]
    fn build_of_small_plant_has_various_sensors() {
        let plant = build(10, 1);
        let kinds: HashSet<_> = plant
            .sensors
            .iter()
            .map(|sensor| sensor.template.kind)
            .collect();
        assert!(kinds.len() >= 4, "{kinds:?}");
        let words: Vec<_> = plant
            .catalog
            .assets
            .iter()
            .map(|asset| format!("{asset:?}"))
            .collect();
        assert!(
            words
                .iter()
                .any(|text| text.contains("distillation column")),
            "{words:?}"
        );
        assert!(build(30, 1).catalog.assets.iter().any(|asset| {
            asset
                .name
                .contains("high-temperature, high-pressure reactor vessel")
        }));
    }
}
