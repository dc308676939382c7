//! The edges of a catalog, grouped by asset.

use std::collections::{BTreeMap, HashMap};

use super::graph::{Edge, Relation};
use crate::model::AssetId;

/// The direction in which an edge was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From its source to its target.
    Out,
    /// From its target to its source.
    In,
}

impl Direction {
    /// Returns the direction as one word.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// An edge as seen from one of its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub to: usize,
    pub direction: Direction,
    /// The index in [`AdjacencyList::relations`], which is sorted.
    relation: usize,
}

/// The edges of a catalog, grouped by asset. Assets are numbered by their index in the list.
#[derive(Debug)]
pub(super) struct AdjacencyList {
    /// The index of each asset's first link, and the number of all links.
    starts: Vec<usize>,
    /// The links, sorted for each asset.
    links: Vec<Link>,
    relations: Vec<Relation>,
}

impl AdjacencyList {
    /// Groups the edges of `assets` assets, whose numbers are in `index`.
    pub fn new(edges: &[Edge], index: &HashMap<AssetId, usize>, assets: usize) -> Self {
        let texts: BTreeMap<&str, &Relation> = edges
            .iter()
            .map(|edge| (edge.relation.text(), &edge.relation))
            .collect();
        let numbers: HashMap<&str, usize> = texts.keys().copied().zip(0..).collect();
        let mut links = Vec::with_capacity(edges.len() * 2);
        for edge in edges {
            let ends = index.get(&edge.source).zip(index.get(&edge.target));
            let relation = numbers.get(edge.relation.text());
            // The checks of the catalog ensure that all three exist.
            let (Some((&source, &target)), Some(&relation)) = (ends, relation) else {
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
        Self {
            starts: (0..=assets)
                .map(|asset| links.partition_point(|(from, _)| *from < asset))
                .collect(),
            links: links.into_iter().map(|(_, link)| link).collect(),
            relations: texts.into_values().cloned().collect(),
        }
    }

    /// Returns the relation of a link.
    pub fn relation(&self, link: &Link) -> Option<&Relation> {
        self.relations.get(link.relation)
    }

    /// Returns the links of an asset.
    pub fn links_of(&self, asset: usize) -> &[Link] {
        let range = self.starts.get(asset).zip(self.starts.get(asset + 1));
        let links = range.and_then(|(start, end)| self.links.get(*start..*end));
        links.unwrap_or_default()
    }
}
