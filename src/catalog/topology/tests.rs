//! Compares searches in random graphs with cycles with a naive implementation.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::catalog::asset::Specifications;
use crate::catalog::content::Catalog;
use crate::catalog::graph::{Edge, Graph};

const NODES: u8 = 9;

fn id(node: u8) -> AssetId {
    // The order of the ids differs from that of the list.
    AssetId::from_bytes([node.wrapping_mul(97).wrapping_add(13); 16])
}

fn asset(node: u8) -> Asset {
    Asset {
        id: id(node),
        name: format!("asset {node}"),
        kind: "pump".to_owned(),
        location: "Works".to_owned(),
        specifications: Specifications::default(),
    }
}

fn relation(number: u8) -> Relation {
    match number {
        0 => Relation::PartOf,
        1 => Relation::Measures,
        2 => Relation::Other("heats".to_owned()),
        _ => Relation::FlowsTo,
    }
}

type Edges = BTreeSet<(u8, u8, u8)>;

/// Returns the plant with only these nodes, and the edges between them.
fn plant(nodes: impl IntoIterator<Item = u8>, edges: &Edges) -> Snapshot {
    let nodes: Vec<u8> = nodes.into_iter().collect();
    let known = |node: &u8| nodes.contains(node);
    let edges = edges
        .iter()
        .filter(|(source, target, _)| known(source) && known(target));
    Snapshot::from_catalog(Catalog {
        assets: nodes.iter().copied().map(asset).collect(),
        graph: Graph {
            nodes: Vec::new(),
            edges: edges
                .map(|(source, target, kind)| Edge {
                    source: id(*source),
                    target: id(*target),
                    relation: relation(*kind),
                })
                .collect(),
        },
    })
}

/// A reached asset as text: asset, distance, relation, direction, previous asset.
type Line = (String, usize, String, &'static str, String);

fn lines(reached: &[ReachedAsset<'_>]) -> Vec<Line> {
    let line = |it: &ReachedAsset<'_>| {
        (
            it.asset.name.clone(),
            it.distance,
            it.relation.text().to_owned(),
            it.direction.text(),
            it.via.name.clone(),
        )
    };
    reached.iter().map(line).collect()
}

/// A naive graph that scans all edges.
struct Naive {
    nodes: BTreeSet<u8>,
    edges: Edges,
}

impl Naive {
    fn new(nodes: &BTreeSet<u8>, edges: &Edges) -> Self {
        let inside = |edge: &&(u8, u8, u8)| nodes.contains(&edge.0) && nodes.contains(&edge.1);
        Self {
            nodes: nodes.clone(),
            edges: edges.iter().filter(inside).copied().collect(),
        }
    }

    /// Returns the steps from one node to another, in the order of preference.
    fn steps(&self, kinds: &[u8], ways: &[&'static str]) -> Vec<(u8, u8, &'static str, String)> {
        let both = self.edges.iter().flat_map(|&(source, target, kind)| {
            [(source, target, "out", kind), (target, source, "in", kind)]
        });
        let taken = both.filter(|(_, _, way, kind)| kinds.contains(kind) && ways.contains(way));
        let mut steps: Vec<_> = taken
            .map(|(from, to, way, kind)| (from, to, way, relation(kind).text().to_owned()))
            .collect();
        steps.sort_by(|one, other| {
            let key = |it: &(u8, u8, &str, String)| (it.0, it.1, it.2 == "in", it.3.clone());
            key(one).cmp(&key(other))
        });
        steps
    }

    /// Returns the distances between all nodes, by the algorithm of Floyd and Warshall.
    fn distances(&self, steps: &[(u8, u8, &'static str, String)]) -> Vec<Vec<usize>> {
        let all = usize::from(NODES);
        let far = usize::MAX / 4;
        let mut distances = vec![vec![far; all]; all];
        for node in &self.nodes {
            distances[usize::from(*node)][usize::from(*node)] = 0;
        }
        for (from, to, ..) in steps {
            let known = &mut distances[usize::from(*from)][usize::from(*to)];
            *known = (*known).min(1);
        }
        for middle in 0..all {
            for from in 0..all {
                for to in 0..all {
                    let round = distances[from][middle] + distances[middle][to];
                    distances[from][to] = distances[from][to].min(round);
                }
            }
        }
        distances
    }

    fn reached(
        &self,
        starts: &BTreeSet<u8>,
        kinds: &[u8],
        ways: &[&'static str],
        most: usize,
    ) -> Vec<Line> {
        let steps = self.steps(kinds, ways);
        let distances = self.distances(&steps);
        let distance = |to: u8| {
            let from = starts
                .iter()
                .map(|from| distances[usize::from(*from)][usize::from(to)]);
            from.min().unwrap_or(usize::MAX)
        };
        let mut lines = Vec::new();
        for at in 1..=most.min(usize::from(NODES)) {
            for node in self.nodes.iter().filter(|node| distance(**node) == at) {
                let last = steps
                    .iter()
                    .find(|(from, to, ..)| to == node && distance(*from) == at - 1);
                let (from, _, way, kind) = last.unwrap();
                lines.push((
                    format!("asset {node}"),
                    at,
                    kind.clone(),
                    *way,
                    format!("asset {from}"),
                ));
            }
        }
        lines
    }

    fn flowing(&self, node: u8) -> BTreeSet<u8> {
        let touches = |edge: &(u8, u8, u8)| edge.2 == 3 && (edge.0 == node || edge.1 == node);
        if self.edges.iter().any(touches) {
            return BTreeSet::from([node]);
        }
        let parts = self.distances(&self.steps(&[0], &["in"]));
        let is_part = |other: &u8| {
            *other != node && parts[usize::from(node)][usize::from(*other)] <= usize::from(NODES)
        };
        self.nodes.iter().copied().filter(is_part).collect()
    }

    fn along(&self, node: u8, way: &'static str, most: usize) -> Vec<Line> {
        let mut starts = self.flowing(node);
        if starts.is_empty() {
            let measured = self
                .edges
                .iter()
                .filter(|edge| edge.0 == node && edge.2 == 1);
            let measured = measured.filter(|edge| edge.1 != node);
            starts = measured.flat_map(|edge| self.flowing(edge.1)).collect();
        }
        self.reached(&starts, &[3], &[way], most)
    }
}

fn edges() -> impl Strategy<Value = Edges> {
    prop::collection::btree_set((0..NODES, 0..NODES, 0..6_u8), 0..24).prop_map(|edges| {
        edges
            .into_iter()
            .map(|(one, other, kind)| (one, other, kind.min(3)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn searches_match_the_naive_ones_and_ignore_hidden_assets(
        edges in edges(),
        hidden in prop::collection::btree_set(0..NODES, 0..5),
        start in 0..NODES,
        goal in 0..NODES,
        most in prop_oneof![1..5_usize, Just(usize::MAX)],
        only in prop::option::of(0..4_u8),
    ) {
        let nodes: BTreeSet<u8> = (0..NODES).filter(|node| !hidden.contains(node)).collect();
        let whole = plant(0..NODES, &edges);
        let mut ids: Vec<AssetId> = nodes.iter().copied().map(id).collect();
        ids.sort_unstable();
        let visible = VisibleAssets::Only(ids);
        let seen = whole.topology(&visible);
        let cut = plant(nodes.iter().copied(), &edges);
        let cut = cut.topology(&VisibleAssets::All);
        let naive = Naive::new(&nodes, &edges);
        let is_seen = nodes.contains(&start);
        let expected = |lines: Vec<Line>| if is_seen { lines } else { Vec::new() };

        let near = seen.neighbours(id(start), most);
        prop_assert_eq!(&near, &cut.neighbours(id(start), most));
        let around = |most| naive.reached(&BTreeSet::from([start]), &[0, 1, 2, 3], &["out", "in"], most);
        prop_assert_eq!(lines(&near), expected(around(most)));

        for (flow, way) in [(FlowDirection::Upstream, "in"), (FlowDirection::Downstream, "out")] {
            let along = seen.follow_flow(id(start), flow, most);
            prop_assert_eq!(&along, &cut.follow_flow(id(start), flow, most));
            prop_assert_eq!(lines(&along), expected(naive.along(start, way, most)));
        }

        let taken = only.map(relation);
        let path = seen.path(id(start), id(goal), taken.as_ref());
        prop_assert_eq!(&path, &cut.path(id(start), id(goal), taken.as_ref()));
        prop_assert_eq!(seen.relations(), cut.relations());
        let mut expected = Vec::new();
        if is_seen && nodes.contains(&goal) {
            let kinds = only.map_or(vec![0, 1, 2, 3], |kind| vec![kind]);
            let from = BTreeSet::from([start]);
            let around = naive.reached(&from, &kinds, &["out", "in"], usize::MAX);
            let mut at = format!("asset {goal}");
            while let Some(line) = around.iter().find(|line| line.0 == at) {
                let before = std::mem::replace(&mut at, line.4.clone());
                expected.push((before, Some((line.2.clone(), line.3))));
            }
            if at == format!("asset {start}") {
                expected.push((at, None));
            } else {
                expected.clear();
            }
        }
        expected.reverse();
        let path: Vec<_> = path
            .iter()
            .map(|step| {
                let by = step.by.map(|(relation, way)| (relation.text().to_owned(), way.text()));
                (step.asset.name.clone(), by)
            })
            .collect();
        prop_assert_eq!(path, expected);
    }
}

#[test]
fn follow_flow_starts_at_the_equipment_of_a_sensor_or_unit() {
    // 0 is a site. Its unit 1 has the pumps 2 and 3, and pump 3 has the sensor 4. The tank 5 is elsewhere.
    let edges = Edges::from([
        (1, 0, 0),
        (2, 1, 0),
        (3, 1, 0),
        (4, 3, 1),
        (2, 3, 3),
        (3, 5, 3),
        (5, 2, 3),
    ]);
    let plant = plant(0..6, &edges);
    let names = |node: u8, flow| {
        let reached = plant
            .topology(&VisibleAssets::All)
            .follow_flow(id(node), flow, usize::MAX);
        let lines = lines(&reached).into_iter();
        lines
            .map(|(name, distance, ..)| (name.replace("asset ", ""), distance))
            .collect::<Vec<_>>()
    };
    let expected = |some: &[(&str, usize)]| {
        let some = some.iter();
        some.map(|(name, distance)| ((*name).to_owned(), *distance))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(4, FlowDirection::Downstream),
        expected(&[("5", 1), ("2", 2)])
    );
    assert_eq!(
        names(4, FlowDirection::Downstream),
        names(3, FlowDirection::Downstream)
    );
    assert_eq!(names(1, FlowDirection::Downstream), expected(&[("5", 1)]));
    assert_eq!(names(0, FlowDirection::Upstream), expected(&[("5", 1)]));
    assert_eq!(
        names(5, FlowDirection::Upstream),
        expected(&[("3", 1), ("2", 2)])
    );
}

#[test]
fn long_cycle_is_searched_once() {
    const MANY: u32 = 50_000;
    let id = |node: u32| {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&node.reverse_bits().to_be_bytes());
        AssetId::from_bytes(bytes)
    };
    let plant = Snapshot::from_catalog(Catalog {
        assets: (0..MANY)
            .map(|node| Asset {
                id: id(node),
                ..asset(0)
            })
            .collect(),
        graph: Graph {
            nodes: Vec::new(),
            edges: (0..MANY)
                .map(|node| Edge {
                    source: id(node),
                    target: id((node + 1) % MANY),
                    relation: Relation::FlowsTo,
                })
                .collect(),
        },
    });
    let all = plant.topology(&VisibleAssets::All);
    let down = all.follow_flow(id(1), FlowDirection::Downstream, usize::MAX);
    assert_eq!(down.len() as u32, MANY - 1);
    assert_eq!(down.last().unwrap().asset.id, id(0));
    assert_eq!(
        all.path(id(0), id(MANY / 2), None).len() as u32,
        MANY / 2 + 1
    );
    assert_eq!(all.neighbours(id(0), 100).len(), 200);
}
