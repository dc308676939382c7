//! Tests of the catalog's files: a written catalog is read back, and every mistake is reported with its place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::json_lines::list;
use super::*;
use crate::model::AssetId;

pub(super) fn asset(byte: u8, name: &str) -> Asset {
    Asset {
        id: AssetId::from_bytes([byte; 16]),
        name: name.to_owned(),
        kind: "temperature sensor".to_owned(),
        location: "Works / Unit 100 / R-101".to_owned(),
        specifications: Specifications {
            unit: Some("°C".to_owned()),
            range_low: Some(0.0),
            range_high: Some(250.0),
            resolution: Some(0.1),
            tag: Some("TT-101".to_owned()),
            interpolation: Some(Interpolation::Linear),
            other: BTreeMap::from([("material".to_owned(), "316L".into())]),
        },
    }
}

fn node(asset: &Asset) -> Node {
    Node {
        id: asset.id,
        kind: NodeKind::Sensor,
        name: asset.name.clone(),
    }
}

pub(super) fn catalog() -> Catalog {
    let (one, two) = (asset(2, "one"), asset(1, "two"));
    let graph = Graph {
        nodes: vec![node(&one), node(&two)],
        edges: vec![Edge {
            source: one.id,
            target: two.id,
            relation: Relation::Other("spare_of".to_owned()),
        }],
    };
    Catalog {
        assets: vec![one, two],
        graph,
    }
}

/// Returns a folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Returns the mistakes in the folder, without its path.
fn mistakes(folder: &TempDir) -> Vec<String> {
    let path = format!("{}/", folder.path().display());
    let error = Catalog::read(folder.path()).expect_err("nothing was found");
    let problems = error.problems();
    problems
        .iter()
        .map(|problem| problem.to_string().replace(&path, ""))
        .collect()
}

fn id(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

#[test]
fn written_catalog_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("deep/catalog");
    catalog().write(&deep).unwrap();
    assert_eq!(Catalog::read(&deep).unwrap(), catalog());
    let text = std::fs::read_to_string(deep.join(ID_TO_ASSETS_FILE)).unwrap();
    let by_id: BTreeMap<String, Asset> = serde_json::from_str(&text).unwrap();
    assert_eq!(by_id["01010101-0101-0101-0101-010101010101"].name, "two");
    let left: Vec<_> = std::fs::read_dir(deep).unwrap().collect();
    assert_eq!(left.len(), 3, "no staged file is left: {left:?}");
}

#[test]
fn handwritten_catalog_is_read() {
    let text = "\u{feff}[{\"id\": \"A1B2C3D4E5F67890ABCDEF1234567890\", \"name\": \"Tank 7\", \"type\": \"tank\", \"colour\": \"red\"}]";
    let folder = folder(&[
        (ASSETS_FILE, text),
        (
            ID_TO_ASSETS_FILE,
            r#"{"A1B2C3D4E5F67890ABCDEF1234567890": "Tank 7"}"#,
        ),
    ]);
    let catalog = Catalog::read(folder.path()).unwrap();
    assert_eq!(
        catalog.assets[0].id.to_string(),
        "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
    );
    assert_eq!(catalog.assets[0].specifications, Specifications::default());
    assert_eq!(catalog.graph, Graph::default());
}

#[test]
fn catalog_without_assets_is_valid() {
    let folder = folder(&[
        (ASSETS_FILE, " [ ] "),
        (ID_TO_ASSETS_FILE, "{}"),
        (GRAPH_FILE, r#"{"nodes": [], "edges": [ ]}"#),
    ]);
    assert_eq!(Catalog::read(folder.path()).unwrap(), Catalog::default());
}

#[test]
fn asset_mistakes_are_reported_with_their_place() {
    let good = format!(r#"{{"id": "{}", "name": "Pump", "type": "pump"}}"#, id(1));
    for (entry, expected) in [
        // The wording that users search for.
        (
            r#"{"id": "$ID", "name": "TT-101 bulk temperature", "type": "t", "specifications": {"range_low": "x"}}"#,
            "assets.json, entry 2 (\"TT-101 bulk temperature\", line 3), field specifications.range_low: invalid type: string \"x\", expected f64",
        ),
        (
            r#"{"id": "$ID", "type": "t"}"#,
            "(\"$ID\", line 3), field name: it is missing",
        ),
        (r#"{"name": "a", "type": "t"}"#, "field id: it is missing"),
        (r#"{"id": "$ID", "name": "a"}"#, "field type: it is missing"),
        (
            r#"{"id": "$ID", "name": "a", "type": 5}"#,
            "field type: invalid type: integer `5`, expected a string",
        ),
        (
            r#"{"id": "$ID", "name": null, "type": "t"}"#,
            "field name: invalid type: null",
        ),
        (
            r#"{"id": "$ID", "name": "a", "name": "b", "type": "t"}"#,
            "field name: it occurs twice",
        ),
        (
            r#"{"id": "$ID", "name": "a", "type": "t", "specifications": {"unit": "K", "unit": "K"}}"#,
            "field specifications.unit: it occurs twice",
        ),
        (
            r#"{"id": "pump 7", "name": "a", "type": "t"}"#,
            "field id: \"pump 7\" is not a UUID",
        ),
        (
            r#"{"id": 7, "name": "a", "type": "t"}"#,
            "field id: invalid type: integer `7`",
        ),
        (
            r#"{"id": "$ID", "name": " ", "type": "t"}"#,
            "entry 2 (line 3), field name: it is empty",
        ),
        (
            r#"{"id": "$ID", "name": "a", "type": ""}"#,
            "(\"a\", line 3), field type: it is empty",
        ),
        (
            r#"{"id": "$ID", "name": "a", "type": "t", "specifications": null}"#,
            "field specifications: invalid type: null",
        ),
        (
            r#"{"id": "$ID", "name": "a", "type": "t", "specifications": {"range_low": 5, "range_high": -3.5}}"#,
            "field specifications.range_low: 5 is greater than range_high, which is -3.5",
        ),
        (
            r#"{"id": "$ID", "name": "a", "type": "t", "specifications": {"range_low": 1e999}}"#,
            "number out of range",
        ),
        (
            r#"{"id": "$ID", "name": "a", "type": "t", "specifications": {"resolution": 0}}"#,
            "field specifications.resolution: 0 is not greater than zero",
        ),
        (
            r#"{"id": "$ID", "name": "a", "type": "t", "specifications": {"interpolation": "cubic"}}"#,
            "field specifications.interpolation: unknown variant `cubic`, expected `linear` or `stepped`",
        ),
        (
            "{\"id\": \"$ID\", \"name\": \"a\",\n\n \"type\": false}",
            "entry 2 (\"a\", line 3), field type: invalid type: boolean `false`, expected a string (in line 5)",
        ),
        (
            r#"["$ID", "a", "t"]"#,
            "entry 2 (line 3): expected an object, found a list",
        ),
        ("7", "entry 2 (line 3): expected an object, found a number"),
        (
            "{\"id\": \"$ID\", \"name\": \"a\\u001b[2J\", \"type\": \"t\", \"specifications\": {\"unit\": {\"\\u001b\": 1}}}",
            "field specifications.unit: invalid type: map",
        ),
    ] {
        let text = format!("[\n{good},\n{}\n]", entry.replace("$ID", &id(2)));
        let found = mistakes(&folder(&[(ASSETS_FILE, &text)]));
        let expected = expected.replace("$ID", &id(2));
        assert_eq!(found.len(), 1, "{entry}\n{found:?}");
        assert!(
            found[0].contains(&expected),
            "{entry}\n{}\n{expected}",
            found[0]
        );
        assert!(
            found[0].starts_with("assets.json, entry 2 ("),
            "{}",
            found[0]
        );
        assert!(!found[0].contains('\u{1b}'), "{}", found[0]);
    }
}

#[test]
fn repeated_id_is_reported_with_both_assets() {
    let assets = list(&[asset(1, "one"), asset(2, "two"), asset(1, "three")]).unwrap();
    let folder = folder(&[(ASSETS_FILE, std::str::from_utf8(&assets).unwrap())]);
    assert_eq!(
        mistakes(&folder),
        [
            "assets.json, entry 3 (\"three\", line 4), field id: 01010101-0101-0101-0101-010101010101 is also the id of entry 1 (\"one\"); give each asset its own"
        ]
    );
}

#[test]
fn invalid_json_is_reported_with_line_and_column() {
    for (text, expected) in [
        ("", "assets.json: the file is empty"),
        (" \n", "assets.json: the file is empty"),
        (
            "[\n{\"id\": 1,}\n]",
            "assets.json, line 2: it is not JSON: key must be a string at column 10",
        ),
        (
            "[\n{}\n",
            "line 3: it is not JSON: EOF while parsing a list",
        ),
        ("[1,]", "line 1: it is not JSON: expected value"),
        ("[1 2]", "line 1: it is not JSON: expected `,` or `]`"),
        ("[] []", "line 1: it is not JSON: trailing characters"),
        (
            "[{\"range_low\": NaN}]",
            "line 1: it is not JSON: expected value",
        ),
        (
            "{}",
            "assets.json: expected a list of assets, found an object",
        ),
        ("\"a\"", "expected a list of assets, found a text"),
    ] {
        let found = mistakes(&folder(&[(ASSETS_FILE, text)]));
        assert_eq!(found.len(), 1, "{text}\n{found:?}");
        assert!(found[0].contains(expected), "{text}\n{}", found[0]);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(ASSETS_FILE), b"[\n\"caf\xe9\"]").unwrap();
    assert_eq!(
        mistakes(&folder),
        ["assets.json, line 2: it is not UTF-8 text; save it as UTF-8"]
    );
    std::fs::remove_file(folder.path().join(ASSETS_FILE)).unwrap();
    assert!(mistakes(&folder)[0].contains("cannot read the catalog file assets.json;"));
}

#[test]
fn graph_mistakes_are_reported_with_their_place() {
    let assets = list(&[asset(1, "one"), asset(2, "two"), asset(3, "three")]).unwrap();
    let ids = |text: &str| {
        (1..=9).fold(text.to_owned(), |text, n| {
            text.replace(&format!("#{n}"), &asset(n, "").id.to_string())
        })
    };
    let nodes = r##"{"id": "#1", "kind": "sensor", "name": "one"}, {"id": "#2", "kind": "x", "name": "two"}"##;
    for (graph, expected) in [
        (
            r##"{"nodes": [NODES,
            {"id": "#9", "kind": "sensor", "name": "nine"}], "edges": []}"##,
            "graph.json, node 3 (\"nine\", line 2), field id: no asset of assets.json has the id #9",
        ),
        (
            r##"{"nodes": [NODES, {"id": "#1", "kind": "sensor", "name": "again"}], "edges": []}"##,
            "graph.json, node 3 (\"again\", line 1), field id: node 1 also has the id #1",
        ),
        (
            r##"{"nodes": [NODES, {"id": "#3", "kind": 3, "name": "c"}], "edges": []}"##,
            "node 3 (\"c\", line 1), field kind: invalid type: integer `3`, expected a string",
        ),
        (
            r##"{"nodes": [NODES, {"id": "#3", "kind": "", "name": "c"}], "edges": []}"##,
            "field kind: it is empty",
        ),
        (
            r##"{"nodes": [NODES, {"id": "#3", "kind": "unit"}], "edges": []}"##,
            "field name: it is missing",
        ),
        (
            r##"{"nodes": [NODES], "edges": [
            {"source": "#1", "target": "#2", "relation": "measures"},
            {"source": "#9", "target": "#2", "relation": "measures"}]}"##,
            "graph.json, edge 2 (line 3), field source: no asset of assets.json has the id #9",
        ),
        (
            r##"{"nodes": [NODES], "edges": [{"source": "#1", "target": "#3", "relation": "measures"}]}"##,
            "edge 1 (line 1), field target: #3 (\"three\") is not a node of this graph",
        ),
        (
            r##"{"nodes": [NODES], "edges": [{"source": "#1", "target": "#2"}]}"##,
            "edge 1 (line 1), field relation: it is missing",
        ),
        (
            r##"{"nodes": [NODES], "edges": [{"source": "#1", "target": "x", "relation": "y"}]}"##,
            "field target: \"x\" is not a UUID",
        ),
        (
            r##"{"nodes": [NODES], "edges": [{"source": "#1", "target": "#2", "relation": " "}]}"##,
            "field relation: it is empty",
        ),
        (
            r##"{"nodes": [NODES], "edges": [{"source": "#1", "target": "#1", "relation": "part_of"}]}"##,
            "field target: #1 is also the source",
        ),
        (
            r##"{"nodes": [NODES], "edges": [{"source": "#1", "target": "#2", "relation": "y"},
            {"source": "#1", "target": "#2", "relation": "y"}]}"##,
            "edge 2 (line 2): the same as edge 1",
        ),
        (
            r#"{"nodes": [NODES]}"#,
            "graph.json, field edges: it is missing",
        ),
        (
            r#"{"nodes": {}, "edges": []}"#,
            "field nodes: expected a list, found an object",
        ),
        (
            r#"{"nodes": [], "nodes": [], "edges": []}"#,
            "field nodes: it occurs twice",
        ),
        (
            "[]",
            "graph.json: expected an object with `nodes` and `edges`, found a list",
        ),
        (
            "{\"nodes\": [],\n\"edges\": [}",
            "graph.json, line 2: it is not JSON: expected value",
        ),
    ] {
        let graph = ids(&graph.replace("NODES", nodes));
        let found = mistakes(&folder(&[
            (ASSETS_FILE, std::str::from_utf8(&assets).unwrap()),
            (GRAPH_FILE, &graph),
        ]));
        assert_eq!(found.len(), 1, "{graph}\n{found:?}");
        assert!(found[0].contains(&ids(expected)), "{graph}\n{}", found[0]);
    }
}

#[test]
fn assets_by_id_that_disagree_with_the_list_are_reported() {
    let assets = list(&[asset(1, "one"), asset(2, "two")]).unwrap();
    let (one, two, nine) = (asset(1, "").id, asset(2, "").id, asset(9, "").id);
    for (text, expected) in [
        (
            format!(r#"{{"{one}": "one"}}"#),
            format!("id2assets.json: {two} is missing, which is entry 2 (\"two\") of assets.json"),
        ),
        (
            format!("{{\"{one}\": \"one\",\n\"{two}\": \"zwei\"}}"),
            format!(
                "entry 2 (\"{two}\", line 2): \"zwei\" is not the name in assets.json, \"two\""
            ),
        ),
        (
            format!(r#"{{"{one}": {{"name": "uno"}}, "{two}": "two"}}"#),
            format!("entry 1 (\"{one}\", line 1), field name: \"uno\" is not the name"),
        ),
        (
            format!(r#"{{"{one}": {{"id": "{two}"}}, "{two}": {{}}}}"#),
            format!("field id: {two} is not the key"),
        ),
        (
            format!(r#"{{"{one}": {{"id": "x"}}, "{two}": {{}}}}"#),
            "field id: \"x\" is not a UUID".to_owned(),
        ),
        (
            format!(r#"{{"{one}": 5, "{two}": {{}}}}"#),
            "entry 1".to_owned()
                + &format!(" (\"{one}\", line 1): expected an object, found a number"),
        ),
        (
            format!(r#"{{"{one}": {{}}, "{two}": {{}}, "{nine}": {{}}}}"#),
            format!("entry 3 (\"{nine}\", line 1): no asset of assets.json has the id"),
        ),
        (
            format!(r#"{{"{one}": {{}}, "{two}": {{}}, "{one}": {{}}}}"#),
            "entry 3 (\"01010101-0101-0101-0101-010101010101\", line 1): entry 1 has the same id"
                .to_owned(),
        ),
        (
            r#"{"pump": {}}"#.to_owned(),
            "entry 1 (\"pump\", line 1): the key \"pump\" is not a UUID".to_owned(),
        ),
        (
            "[]".to_owned(),
            "expected an object of assets, keyed by id, found a list".to_owned(),
        ),
    ] {
        let found = mistakes(&folder(&[
            (ASSETS_FILE, std::str::from_utf8(&assets).unwrap()),
            (ID_TO_ASSETS_FILE, &text),
        ]));
        assert_eq!(found.len(), 1, "{text}\n{found:?}");
        assert!(found[0].contains(&expected), "{text}\n{}", found[0]);
        assert!(
            text == "[]" || found[0].contains("delete it"),
            "{}",
            found[0]
        );
    }
}

#[test]
fn many_mistakes_are_capped_and_not_repeated_by_other_files() {
    let entry = |number: usize| match number % 2 {
        // The id is readable although the entry is wrong, so the graph is not wrong because of it.
        0 => json!({"id": id(number as u128), "name": 5, "type": "t"}),
        _ => json!({"id": id(number as u128), "name": "a", "type": "t"}),
    };
    let assets: Vec<Value> = (0..3_000).map(entry).collect();
    let nodes: Vec<Value> = (0..3_000)
        .map(|number| json!({"id": id(number), "kind": "k", "name": "n"}))
        .collect();
    let folder = folder(&[
        (ASSETS_FILE, &Value::from(assets).to_string()),
        (
            GRAPH_FILE,
            &json!({"nodes": nodes, "edges": []}).to_string(),
        ),
    ]);
    let error = Catalog::read(folder.path()).unwrap_err();
    let problems = error.problems();
    assert_eq!((problems.iter().count(), problems.count()), (1_000, 1_500));
    let text = error.to_string();
    assert!(
        text.starts_with("invalid catalog: 1500 mistakes\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 22, "{text}");
    assert!(text.ends_with("\nand 1480 more"), "{text}");
    assert!(
        problems
            .iter()
            .all(|problem| problem.kind == Some(EntryKind::Asset))
    );
}

/// Generates usual and unusual names.
fn words() -> impl Strategy<Value = String> {
    "[A-Za-z0-9 /\"\\\\{}\\[\\]:,°é温\t\n-]{0,12}[A-Za-z]"
}

fn any_asset(number: usize) -> impl Strategy<Value = Asset> {
    // Three decimals: parsing a number with more may be off by one bit in the last place.
    let range = prop::option::of((-1_000_000..1_000_000_i32, 0..1_000_000_i32));
    let other = prop::collection::btree_map("x[a-z]{1,5}", words(), 0..3);
    let facts = (
        range,
        prop::option::of(words()),
        any::<Option<bool>>(),
        other,
    );
    (words(), words(), words(), facts).prop_map(move |(name, kind, location, facts)| {
        let (range, unit, interpolation, other) = facts;
        let thousandth = |number: i32| f64::from(number) / 1_000.0;
        Asset {
            id: uuid::Uuid::from_u128(number as u128 * 7 + 1).into(),
            name,
            kind,
            location,
            specifications: Specifications {
                unit,
                range_low: range.map(|(low, _)| thousandth(low)),
                range_high: range.map(|(low, more)| thousandth(low + more)),
                interpolation: interpolation.map(|linear| match linear {
                    true => Interpolation::Linear,
                    false => Interpolation::Stepped,
                }),
                other: other
                    .into_iter()
                    .map(|(key, text)| (key, text.into()))
                    .collect(),
                ..Specifications::default()
            },
        }
    })
}

fn any_catalog() -> impl Strategy<Value = Catalog> {
    let assets = (2..12_usize).prop_flat_map(|count| (0..count).map(any_asset).collect::<Vec<_>>());
    (
        assets,
        prop::collection::btree_set((0..12_usize, 0..12_usize), 1..12),
    )
        .prop_map(|(assets, pairs)| {
            let nodes = assets.iter().map(node).collect();
            let id_of = |index: usize| assets[index % assets.len()].id;
            let edges: BTreeMap<_, _> = pairs
                .into_iter()
                .map(|(from, to)| (id_of(from), id_of(to)))
                .map(|(source, target)| {
                    let relation = Relation::FlowsTo;
                    (
                        (source, target),
                        Edge {
                            source,
                            target,
                            relation,
                        },
                    )
                })
                .collect();
            let edges = edges.into_values().collect();
            Catalog {
                assets,
                graph: Graph { nodes, edges },
            }
        })
}

/// Damage to one entry, which the report must locate.
#[derive(Debug, Clone, Copy)]
enum Damage {
    DeleteField(&'static str),
    ChangeType(&'static str),
    RepeatId,
    Dangling(&'static str),
    MalformedId,
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let fields = prop::sample::select(vec!["id", "name", "type"]);
    prop_oneof![
        fields.clone().prop_map(Damage::DeleteField),
        fields.prop_map(Damage::ChangeType),
        Just(Damage::RepeatId),
        prop::sample::select(vec!["source", "target"]).prop_map(Damage::Dangling),
        Just(Damage::MalformedId),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_written_catalog_is_read_back(catalog in any_catalog()) {
        let folder = tempfile::tempdir().unwrap();
        catalog.write(folder.path()).unwrap();
        prop_assert_eq!(Catalog::read(folder.path()).unwrap(), catalog);
    }

    #[test]
    fn any_single_damage_is_reported_at_its_place(
        catalog in any_catalog(),
        damage in any_damage(),
        at in any::<prop::sample::Index>(),
        pretty in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        catalog.write(folder.path()).unwrap();
        // The derived file would be wrong as well.
        std::fs::remove_file(folder.path().join(ID_TO_ASSETS_FILE)).unwrap();
        let mut assets = serde_json::to_value(&catalog.assets).unwrap();
        let mut graph = serde_json::to_value(&catalog.graph).unwrap();
        let asset = at.index(catalog.assets.len());
        let (file, kind, entry, field) = match damage {
            Damage::DeleteField(field) => {
                assets[asset].as_object_mut().unwrap().remove(field);
                (ASSETS_FILE, EntryKind::Asset, asset, field)
            }
            Damage::ChangeType(field) => {
                assets[asset][field] = json!([5]);
                (ASSETS_FILE, EntryKind::Asset, asset, field)
            }
            Damage::MalformedId => {
                assets[asset]["id"] = json!("TT-101");
                (ASSETS_FILE, EntryKind::Asset, asset, "id")
            }
            Damage::RepeatId => {
                let list = assets.as_array_mut().unwrap();
                let copy = list[asset].clone();
                list.push(copy);
                (ASSETS_FILE, EntryKind::Asset, catalog.assets.len(), "id")
            }
            Damage::Dangling(field) => {
                let edge = at.index(catalog.graph.edges.len());
                graph["edges"][edge][field] = json!(id(5));
                (GRAPH_FILE, EntryKind::Edge, edge, field)
            }
        };
        for (name, value) in [(ASSETS_FILE, &assets), (GRAPH_FILE, &graph)] {
            let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
            std::fs::write(folder.path().join(name), text.unwrap()).unwrap();
        }
        let problems = Catalog::read(folder.path()).expect_err("nothing was found").problems();
        prop_assert_eq!(problems.count(), 1, "{}", problems);
        let problem = problems.iter().next().unwrap();
        prop_assert_eq!(PathBuf::from(&problem.file), folder.path().join(file));
        prop_assert_eq!(problem.kind, Some(kind));
        prop_assert_eq!(problem.entry, Some(entry + 1), "{}", problem);
        prop_assert_eq!(problem.field.as_deref(), Some(field), "{}", problem);
    }
}
