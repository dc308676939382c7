//! Checks `graph.json` against the assets.

use std::collections::HashMap;

use super::asset::Asset;
use super::entries::{JsonSlice, json_type};
use super::entry_list::{EntryList, FileText};
use super::error::{EntryKind, Problem, Problems};
use super::graph::{Edge, Graph, Node, Relation};
use super::read_assets::Assets;
use crate::model::AssetId;

/// Returns the graph, as far as it can be read. Mistakes are added to `problems`.
pub(super) fn check_graph(text: &FileText<'_>, known: &Assets, problems: &mut Problems) -> Graph {
    let Some(members) = JsonSlice::whole(text.text()).members() else {
        text.report_wrong_form("an object with `nodes` and `edges`", problems);
        return Graph::default();
    };
    let mut lists = ["nodes", "edges"].map(|field| {
        let mut wrong = |what: String| {
            problems.add(Problem {
                field: Some(field.to_owned()),
                ..Problem::of_file(&text.path, what)
            });
        };
        let mut found = members.iter().filter(|(key, _)| key == field);
        let Some((_, list)) = found.next() else {
            wrong("it is missing; an empty list is []".to_owned());
            return None;
        };
        if found.next().is_some() {
            wrong("it occurs twice".to_owned());
        }
        let items = list.items();
        if items.is_none() {
            wrong(format!("expected a list, found {}", json_type(list.text)));
        }
        items
    });
    let [nodes, edges] = &mut lists;
    let (nodes, edges) = (nodes.take(), edges.take());
    let mut graph = Graph::default();
    let mut in_graph: Option<HashMap<AssetId, usize>> = None;
    if let Some(parts) = nodes {
        let list = EntryList::new(text, EntryKind::Node, problems);
        (graph.nodes, in_graph) = check_nodes(parts, known, list);
    }
    if let Some(parts) = edges {
        let list = EntryList::new(text, EntryKind::Edge, problems);
        graph.edges = check_edges(parts, known, in_graph.as_ref(), list);
    }
    graph
}

/// Returns the nodes, and their ids if all ids could be read.
fn check_nodes(
    parts: Vec<JsonSlice<'_>>,
    known: &Assets,
    mut list: EntryList<'_, '_>,
) -> (Vec<Node>, Option<HashMap<AssetId, usize>>) {
    let mut nodes = Vec::with_capacity(parts.len());
    let mut ids: HashMap<AssetId, usize> = HashMap::with_capacity(parts.len());
    let mut complete = true;
    for (index, part) in parts.into_iter().enumerate() {
        let parsed = list.parse::<Node>(index, part);
        let (id, name) = match &parsed {
            Ok(node) => (Some(node.id), Some(node.name.as_str())),
            Err(salvage) => (salvage.id, salvage.name.as_deref()),
        };
        if let Ok(node) = &parsed {
            list.check_text(index, part, None, "name", &node.name);
            list.check_text(index, part, name, "kind", node.kind.text());
        }
        match id {
            None => complete = false,
            Some(id) => {
                if known.is_unknown(id) {
                    let what = format!("no asset of assets.json has the id {id}");
                    list.report(index, part, name, Some("id"), what);
                }
                if let Some(first) = ids.get(&id) {
                    let what = format!(
                        "node {} also has the id {id}; an asset has one node",
                        first + 1
                    );
                    list.report(index, part, name, Some("id"), what);
                } else {
                    ids.insert(id, index);
                }
            }
        }
        nodes.extend(parsed);
    }
    (nodes, complete.then_some(ids))
}

fn check_edges(
    parts: Vec<JsonSlice<'_>>,
    known: &Assets,
    in_graph: Option<&HashMap<AssetId, usize>>,
    mut list: EntryList<'_, '_>,
) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::with_capacity(parts.len());
    let mut seen: HashMap<_, usize> = HashMap::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        let Ok(edge) = list.parse::<Edge>(index, part) else {
            continue;
        };
        for (field, id) in [("source", edge.source), ("target", edge.target)] {
            if known.is_unknown(id) {
                let what = format!("no asset of assets.json has the id {id}");
                list.report(index, part, None, Some(field), what);
            } else if in_graph.is_some_and(|nodes| !nodes.contains_key(&id)) {
                let named = |asset: &Asset| format!(" ({:?})", asset.name);
                let name = known.get(id).map(named).unwrap_or_default();
                let what = format!("{id}{name} is not a node of this graph; add one to `nodes`");
                list.report(index, part, None, Some(field), what);
            }
        }
        let relation = edge.relation.text();
        list.check_text(index, part, None, "relation", relation);
        // The output of equipment may flow back into it.
        let is_ladder = matches!(edge.relation, Relation::PartOf | Relation::Measures);
        if edge.source == edge.target && is_ladder {
            let what = format!("{} is also the source", edge.target);
            list.report(index, part, None, Some("target"), what);
        }
        let key = (edge.source, edge.target, edge.relation.clone());
        if let Some(first) = seen.insert(key, index) {
            let what = format!("the same as edge {}; remove one of them", first + 1);
            list.report(index, part, None, None, what);
        }
        edges.push(edge);
    }
    edges
}
