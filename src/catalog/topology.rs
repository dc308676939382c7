//! Ways along the graph: what is near an asset, what flows into and out of it, and the shortest way between two.
//!
//! Nothing is ever stepped on that may not be seen: the answers are those that the graph would give if what may not be
//! seen were not there. All is breadth first, so a distance is the least number of edges; graphs have circles, and what
//! was reached is not reached again. Of several shortest ways, the one is told that is first in the plant's order.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Asset, Relation, Snapshot, Visible};
use crate::model::AssetId;

/// Which way an edge was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From its source to its target.
    Out,
    /// From its target to its source.
    In,
}

impl Direction {
    /// In one word.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// Which way to look along what flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To where it comes from.
    Up,
    /// To where it goes.
    Down,
}

/// An asset that can be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reached<'a> {
    /// Which.
    pub asset: &'a Asset,
    /// How many edges away.
    pub distance: usize,
    /// The last edge of a shortest way,
    pub relation: &'a Relation,
    /// how it was taken,
    pub direction: Direction,
    /// and what it was taken from.
    pub via: &'a Asset,
}

/// An asset on a way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step<'a> {
    /// Which.
    pub asset: &'a Asset,
    /// The edge that led here; none to where the way begins.
    pub by: Option<(&'a Relation, Direction)>,
}

/// An end of an edge, as seen from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    to: usize,
    direction: Direction,
    /// Of [`Links::relations`], which are in order.
    relation: usize,
}

/// The edges of a catalog by the assets that they join. Assets are numbered as they are in the list.
#[derive(Debug)]
pub(super) struct Links {
    /// Where each asset's links begin; one more for the end.
    starts: Vec<usize>,
    /// In order for each asset.
    links: Vec<Link>,
    relations: Vec<Relation>,
}

impl Links {
    pub fn of(snapshot: &Snapshot) -> Self {
        let edges = &snapshot.catalog().graph.edges;
        let texts: BTreeMap<&str, &Relation> = edges
            .iter()
            .map(|edge| (edge.relation.text(), &edge.relation))
            .collect();
        let numbers: HashMap<&str, usize> = texts.keys().copied().zip(0..).collect();
        let mut links = Vec::with_capacity(edges.len() * 2);
        for edge in edges {
            let ends = snapshot
                .position(edge.source)
                .zip(snapshot.position(edge.target));
            let relation = numbers.get(edge.relation.text());
            // The catalog's checks see to it that there are all three.
            let (Some((source, target)), Some(&relation)) = (ends, relation) else {
                continue;
            };
            for (from, direction, to) in [
                (source, Direction::Out, target),
                (target, Direction::In, source),
            ] {
                links.push((
                    from,
                    Link {
                        to,
                        direction,
                        relation,
                    },
                ));
            }
        }
        links.sort_unstable();
        let assets = 0..=snapshot.catalog().assets.len();
        Self {
            starts: assets
                .map(|asset| links.partition_point(|(from, _)| *from < asset))
                .collect(),
            links: links.into_iter().map(|(_, link)| link).collect(),
            relations: texts.into_values().cloned().collect(),
        }
    }

    fn from(&self, asset: usize) -> &[Link] {
        let range = self.starts.get(asset).zip(self.starts.get(asset + 1));
        let links = range.and_then(|(start, end)| self.links.get(*start..*end));
        links.unwrap_or_default()
    }
}

/// The graph, as far as one may see it.
#[derive(Debug, Clone, Copy)]
pub struct Topology<'a> {
    snapshot: &'a Snapshot,
    links: &'a Links,
    visible: &'a Visible,
}

/// What a search came upon.
#[derive(Debug, Clone, Copy)]
struct Found {
    distance: usize,
    via: usize,
    link: Link,
}

impl<'a> Topology<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, visible: &'a Visible) -> Self {
        Self {
            snapshot,
            links: snapshot.links(),
            visible,
        }
    }

    /// What is at most `hops` edges of any kind away, whichever way they point; without the asset itself. The nearest
    /// come first, and those equally near in the plant's order.
    pub fn neighbours(&self, asset: AssetId, hops: usize) -> Vec<Reached<'a>> {
        let start = self.seen(asset);
        self.reached(self.search(start.as_slice(), |_| true, hops, None))
    }

    /// What flows into the asset, or out of it, on ways of at most `most` edges, in the same order.
    ///
    /// What nothing flows through itself stands for others: a sensor for the equipment that it measures, a unit or a
    /// site for all that is part of it. Distances are from those, and they are not among what is told.
    pub fn along(&self, asset: AssetId, flow: Flow, most: usize) -> Vec<Reached<'a>> {
        let starts = self.seen(asset).map(|at| self.stand_ins(at));
        let way = match flow {
            Flow::Up => Direction::In,
            Flow::Down => Direction::Out,
        };
        let follow = |link: &Link| link.direction == way && self.is(link, &Relation::FlowsTo);
        self.reached(self.search(&starts.unwrap_or_default(), follow, most, None))
    }

    /// A shortest way between two assets along edges of this relation, or of any, whichever way they point, with both
    /// ends; nothing if there is none.
    pub fn path(&self, from: AssetId, to: AssetId, relation: Option<&Relation>) -> Vec<Step<'a>> {
        let (Some(from), Some(to)) = (self.seen(from), self.seen(to)) else {
            return Vec::new();
        };
        let found = self.search(
            &[from],
            |link| relation.is_none_or(|relation| self.is(link, relation)),
            usize::MAX,
            Some(to),
        );
        let by: HashMap<usize, Found> = found.iter().map(|it| (it.link.to, *it)).collect();
        let mut steps = Vec::new();
        let mut at = to;
        while at != from {
            let Some(found) = by.get(&at) else {
                return Vec::new();
            };
            steps.extend(self.asset(at).zip(self.relation(&found.link)).map(
                |(asset, relation)| Step {
                    asset,
                    by: Some((relation, found.link.direction)),
                },
            ));
            at = found.via;
        }
        steps.extend(self.asset(from).map(|asset| Step { asset, by: None }));
        steps.reverse();
        steps
    }

    /// The relations of the edges that may be seen, in the order of their texts.
    pub fn relations(&self) -> Vec<&'a Relation> {
        let edges = self.snapshot.catalog().graph.edges.iter();
        let seen = edges.filter(|edge| {
            self.visible.contains(edge.source) && self.visible.contains(edge.target)
        });
        let texts: BTreeMap<&str, &Relation> = seen
            .map(|edge| (edge.relation.text(), &edge.relation))
            .collect();
        texts.into_values().collect()
    }

    /// Where an asset is, if it may be seen.
    fn seen(&self, id: AssetId) -> Option<usize> {
        let at = self.snapshot.position(id)?;
        self.visible.contains(id).then_some(at)
    }

    fn sees(&self, at: usize) -> bool {
        self.asset(at)
            .is_some_and(|asset| self.visible.contains(asset.id))
    }

    fn asset(&self, at: usize) -> Option<&'a Asset> {
        self.snapshot.catalog().assets.get(at)
    }

    fn relation(&self, link: &Link) -> Option<&'a Relation> {
        self.links.relations.get(link.relation)
    }

    fn is(&self, link: &Link, relation: &Relation) -> bool {
        self.relation(link) == Some(relation)
    }

    /// Where to begin along what flows, in the plant's order.
    fn stand_ins(&self, at: usize) -> Vec<usize> {
        let mut starts = self.flowing(at);
        if starts.is_empty() {
            let measured = self.search(
                &[at],
                |link| link.direction == Direction::Out && self.is(link, &Relation::Measures),
                1,
                None,
            );
            starts = measured
                .iter()
                .flat_map(|it| self.flowing(it.link.to))
                .collect();
            starts.sort_unstable();
            starts.dedup();
        }
        starts
    }

    /// The asset, if anything flows through it; else what is part of it, and the parts of that.
    fn flowing(&self, at: usize) -> Vec<usize> {
        let flows = |link: &Link| self.is(link, &Relation::FlowsTo);
        if self
            .links
            .from(at)
            .iter()
            .any(|link| flows(link) && self.sees(link.to))
        {
            return vec![at];
        }
        let parts = self.search(
            &[at],
            |link| link.direction == Direction::In && self.is(link, &Relation::PartOf),
            usize::MAX,
            None,
        );
        let mut parts: Vec<usize> = parts.iter().map(|it| it.link.to).collect();
        parts.sort_unstable();
        parts
    }

    /// Breadth first from `starts`, which are in order and may be seen, along the links that `follow` takes, for `most`
    /// edges at most or until `goal` is reached. The nearest come first, and those equally near in the plant's order.
    fn search(
        &self,
        starts: &[usize],
        follow: impl Fn(&Link) -> bool,
        most: usize,
        goal: Option<usize>,
    ) -> Vec<Found> {
        let mut known: HashSet<usize> = starts.iter().copied().collect();
        let mut layer = starts.to_vec();
        let mut found = Vec::new();
        let mut distance = 0;
        while !layer.is_empty() && distance < most && goal.is_none_or(|goal| !known.contains(&goal))
        {
            distance += 1;
            let mut next = Vec::new();
            // Both are in order, so the first way to an asset is the one that is told.
            for &via in &layer {
                for link in self.links.from(via) {
                    if follow(link) && !known.contains(&link.to) && self.sees(link.to) {
                        known.insert(link.to);
                        next.push(Found {
                            distance,
                            via,
                            link: *link,
                        });
                    }
                }
            }
            next.sort_unstable_by_key(|it| it.link.to);
            layer = next.iter().map(|it| it.link.to).collect();
            found.extend(next);
        }
        found
    }

    fn reached(&self, found: Vec<Found>) -> Vec<Reached<'a>> {
        let reached = found.into_iter().filter_map(|it| {
            Some(Reached {
                asset: self.asset(it.link.to)?,
                distance: it.distance,
                relation: self.relation(&it.link)?,
                direction: it.link.direction,
                via: self.asset(it.via)?,
            })
        });
        reached.collect()
    }
}

#[cfg(test)]
mod tests;
