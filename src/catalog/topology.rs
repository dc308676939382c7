//! Searches in the graph: the neighbours of an asset, the flow into and out of it, and the shortest path between two
//! assets.
//!
//! A search never visits a hidden asset: the results are the same as if the graph had no hidden assets. All searches
//! are breadth first, so a distance is the minimum number of edges. The graph may have cycles; each asset is reached
//! once. Of several shortest paths, the first in the plant's order is returned.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::adjacency::{AdjacencyList, Direction, Link};
use super::asset::Asset;
use super::graph::Relation;
use super::snapshot::Snapshot;
use super::visible::VisibleAssets;
use crate::model::AssetId;

/// The direction of a search along the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowDirection {
    /// Upstream, to the sources of the flow.
    Upstream,
    /// Downstream, to the destinations of the flow.
    Downstream,
}

/// An asset reached by a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReachedAsset<'a> {
    /// The asset.
    pub asset: &'a Asset,
    /// The distance, in edges.
    pub distance: usize,
    /// The relation of the last edge of a shortest path.
    pub relation: &'a Relation,
    /// The direction in which that edge was followed.
    pub direction: Direction,
    /// The asset from which that edge was followed.
    pub via: &'a Asset,
}

/// An asset on a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathStep<'a> {
    /// The asset.
    pub asset: &'a Asset,
    /// The edge that leads to the asset; `None` for the first asset.
    pub by: Option<(&'a Relation, Direction)>,
}

/// The visible part of the graph.
#[derive(Debug, Clone, Copy)]
pub struct Topology<'a> {
    snapshot: &'a Snapshot,
    links: &'a AdjacencyList,
    visible: &'a VisibleAssets,
}

/// An asset found by a search.
#[derive(Debug, Clone, Copy)]
struct Visit {
    distance: usize,
    via: usize,
    link: Link,
}

impl Snapshot {
    /// Returns the graph, restricted to the assets in `visible`.
    pub fn topology<'a>(&'a self, visible: &'a VisibleAssets) -> Topology<'a> {
        Topology {
            snapshot: self,
            links: self.links(),
            visible,
        }
    }
}

impl<'a> Topology<'a> {
    /// Returns the assets that are at most `hops` edges away, along edges of any relation in either direction, without
    /// the asset itself. Nearer assets come first; those at the same distance are in the plant's order.
    pub fn neighbours(&self, asset: AssetId, hops: usize) -> Vec<ReachedAsset<'a>> {
        let start = self.visible_index(asset);
        self.collect_reached(self.search(start.as_slice(), |_| true, hops, None))
    }

    /// Returns the assets upstream or downstream of the asset, on paths of at most `most` edges, in the same order.
    ///
    /// An asset without any flow is replaced by others: a sensor by the equipment that it measures, a unit or a site by
    /// all its parts. Distances count from the replacements, which are not part of the result.
    pub fn follow_flow(
        &self,
        asset: AssetId,
        flow: FlowDirection,
        most: usize,
    ) -> Vec<ReachedAsset<'a>> {
        let starts = self.visible_index(asset).map(|at| self.flow_starts(at));
        let way = match flow {
            FlowDirection::Upstream => Direction::In,
            FlowDirection::Downstream => Direction::Out,
        };
        let follow =
            |link: &Link| link.direction == way && self.has_relation(link, &Relation::FlowsTo);
        self.collect_reached(self.search(&starts.unwrap_or_default(), follow, most, None))
    }

    /// Returns a shortest path between two assets, with both ends, along edges of this relation, or of any, in either
    /// direction. Returns nothing if there is no path.
    pub fn path(
        &self,
        from: AssetId,
        to: AssetId,
        relation: Option<&Relation>,
    ) -> Vec<PathStep<'a>> {
        let (Some(from), Some(to)) = (self.visible_index(from), self.visible_index(to)) else {
            return Vec::new();
        };
        let found = self.search(
            &[from],
            |link| relation.is_none_or(|relation| self.has_relation(link, relation)),
            usize::MAX,
            Some(to),
        );
        let by: HashMap<usize, Visit> = found.iter().map(|it| (it.link.to, *it)).collect();
        let mut steps = Vec::new();
        let mut at = to;
        while at != from {
            let Some(found) = by.get(&at) else {
                return Vec::new();
            };
            steps.extend(self.asset(at).zip(self.relation(&found.link)).map(
                |(asset, relation)| PathStep {
                    asset,
                    by: Some((relation, found.link.direction)),
                },
            ));
            at = found.via;
        }
        steps.extend(self.asset(from).map(|asset| PathStep { asset, by: None }));
        steps.reverse();
        steps
    }

    /// Returns the relations of the visible edges, in the order of their texts.
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

    /// Returns the index of an asset, if it is visible.
    fn visible_index(&self, id: AssetId) -> Option<usize> {
        let at = self.snapshot.position(id)?;
        self.visible.contains(id).then_some(at)
    }

    fn is_visible(&self, at: usize) -> bool {
        self.asset(at)
            .is_some_and(|asset| self.visible.contains(asset.id))
    }

    fn asset(&self, at: usize) -> Option<&'a Asset> {
        self.snapshot.catalog().assets.get(at)
    }

    fn relation(&self, link: &Link) -> Option<&'a Relation> {
        self.links.relation(link)
    }

    fn has_relation(&self, link: &Link, relation: &Relation) -> bool {
        self.relation(link) == Some(relation)
    }

    /// Returns the assets at which a search along the flow begins, in the plant's order.
    fn flow_starts(&self, at: usize) -> Vec<usize> {
        let mut starts = self.assets_with_flow(at);
        if starts.is_empty() {
            let measured = self.search(
                &[at],
                |link| {
                    link.direction == Direction::Out && self.has_relation(link, &Relation::Measures)
                },
                1,
                None,
            );
            starts = measured
                .iter()
                .flat_map(|it| self.assets_with_flow(it.link.to))
                .collect();
            starts.sort_unstable();
            starts.dedup();
        }
        starts
    }

    /// Returns the asset, if it has any flow, and otherwise all its direct and indirect parts.
    fn assets_with_flow(&self, at: usize) -> Vec<usize> {
        let flows = |link: &Link| self.has_relation(link, &Relation::FlowsTo);
        if self
            .links
            .links_of(at)
            .iter()
            .any(|link| flows(link) && self.is_visible(link.to))
        {
            return vec![at];
        }
        let parts = self.search(
            &[at],
            |link| link.direction == Direction::In && self.has_relation(link, &Relation::PartOf),
            usize::MAX,
            None,
        );
        let mut parts: Vec<usize> = parts.iter().map(|it| it.link.to).collect();
        parts.sort_unstable();
        parts
    }

    /// Searches breadth first from `starts`, which are sorted and visible, along the links that `follow` accepts, for
    /// at most `most` edges or until `goal` is reached. Nearer assets come first; those at the same distance are in the
    /// plant's order.
    fn search(
        &self,
        starts: &[usize],
        follow: impl Fn(&Link) -> bool,
        most: usize,
        goal: Option<usize>,
    ) -> Vec<Visit> {
        let mut known: HashSet<usize> = starts.iter().copied().collect();
        let mut layer = starts.to_vec();
        let mut found = Vec::new();
        let mut distance = 0;
        while !layer.is_empty() && distance < most && goal.is_none_or(|goal| !known.contains(&goal))
        {
            distance += 1;
            let mut next = Vec::new();
            // Both are sorted, so the first path found to an asset is the one to be returned.
            for &via in &layer {
                for link in self.links.links_of(via) {
                    if follow(link) && !known.contains(&link.to) && self.is_visible(link.to) {
                        known.insert(link.to);
                        next.push(Visit {
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

    fn collect_reached(&self, found: Vec<Visit>) -> Vec<ReachedAsset<'a>> {
        let reached = found.into_iter().filter_map(|it| {
            Some(ReachedAsset {
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
