//! The plant's topology as `graph.json` stores it: nodes, and directed edges between them.

use serde::{Deserialize, Serialize};

use super::asset::id_text;
use super::error::CatalogError;
use super::json_lines::list;
use crate::model::AssetId;

/// `graph.json`: `{"nodes": [{id, kind, name}], "edges": [{source, target, relation}]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// A node for each asset, with the asset's id.
    pub nodes: Vec<Node>,
    /// The edges between the nodes.
    pub edges: Vec<Edge>,
}

/// A node: an asset's place in the topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The asset's id.
    #[serde(with = "id_text")]
    pub id: AssetId,
    /// Its level.
    pub kind: NodeKind,
    /// The asset's name.
    pub name: String,
}

/// The level of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "String")]
pub enum NodeKind {
    /// A whole plant site.
    Site,
    /// A part of a site with one purpose.
    Unit,
    /// A vessel, machine or valve.
    Equipment,
    /// A measuring instrument.
    Sensor,
    /// Any other level, which has no meaning for plantlake.
    #[serde(untagged)]
    Other(String),
}

/// An edge: `source` stands in `relation` to `target`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The node at which the edge starts.
    #[serde(with = "id_text")]
    pub source: AssetId,
    /// The node at which the edge ends.
    #[serde(with = "id_text")]
    pub target: AssetId,
    /// The relation between the two.
    pub relation: Relation,
}

/// The relation of an edge's source to its target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "String")]
pub enum Relation {
    /// From equipment to its unit, or from a unit to its site.
    PartOf,
    /// From a sensor to the equipment that it is mounted on.
    Measures,
    /// From equipment to the equipment that receives its output.
    FlowsTo,
    /// Any other relation, which has no meaning for plantlake.
    #[serde(untagged)]
    Other(String),
}

impl NodeKind {
    /// Returns the text used in `graph.json`.
    pub fn text(&self) -> &str {
        match self {
            Self::Site => "site",
            Self::Unit => "unit",
            Self::Equipment => "equipment",
            Self::Sensor => "sensor",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for NodeKind {
    fn from(text: String) -> Self {
        match text.as_str() {
            "site" => Self::Site,
            "unit" => Self::Unit,
            "equipment" => Self::Equipment,
            "sensor" => Self::Sensor,
            _ => Self::Other(text),
        }
    }
}

impl Relation {
    /// Returns the text used in `graph.json`.
    pub fn text(&self) -> &str {
        match self {
            Self::PartOf => "part_of",
            Self::Measures => "measures",
            Self::FlowsTo => "flows_to",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for Relation {
    fn from(text: String) -> Self {
        match text.as_str() {
            "part_of" => Self::PartOf,
            "measures" => Self::Measures,
            "flows_to" => Self::FlowsTo,
            _ => Self::Other(text),
        }
    }
}

impl Graph {
    /// Encodes the graph as JSON, with each node and edge on a line of its own.
    pub(super) fn encode(&self) -> Result<Vec<u8>, CatalogError> {
        let mut out = b"{\"nodes\": ".to_vec();
        out.extend(list(&self.nodes)?.trim_ascii_end());
        out.extend_from_slice(b",\n\"edges\": ");
        out.extend(list(&self.edges)?.trim_ascii_end());
        out.extend_from_slice(b"}\n");
        Ok(out)
    }
}
