//! Checks that the files and subfolders directly in a folder of `src/` do not import each other in a circle.
//!
//! An import counts for the file that defines what is imported, even if it is named through a re-export. A re-export
//! that its own file does not use is no import, so a `mod.rs` may offer what its children define.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::collect;
use super::imports::{Imports, imports};

/// Circles that stay: the folder, the names of the files and subfolders, and the reason, which is always a type whose
/// `impl` is split over these files.
const SPLIT_IMPLS: &[(&str, &[&str], &str)] = &[];

/// The name in a circle of the file of the folder itself, such as `mod.rs`.
const FOLDER_ITSELF: &str = "mod";

#[test]
fn folders_of_sources_have_no_circles() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    let sources: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let name = file.strip_prefix(&src).unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(file).unwrap();
            (name.replace('\\', "/"), text)
        })
        .collect();
    let circles = circles(&sources);
    assert!(sources.len() > 100, "no sources found");

    let unexpected: Vec<String> = circles
        .iter()
        .filter(|circle| !is_split_impl(circle))
        .map(Circle::report)
        .collect();
    assert!(unexpected.is_empty(), "\n{}", unexpected.join("\n"));

    let stale: Vec<&str> = SPLIT_IMPLS
        .iter()
        .filter_map(|&(folder, members, _)| {
            let is_found = |circle: &Circle| circle.is_listed_as(folder, members);
            (!circles.iter().any(is_found)).then_some(folder)
        })
        .collect();
    assert!(
        stale.is_empty(),
        "listed in tests/it/layers/circles.rs, but without such a circle: {}",
        stale.join(", ")
    );
}

fn is_split_impl(circle: &Circle) -> bool {
    SPLIT_IMPLS
        .iter()
        .any(|&(folder, members, _)| circle.is_listed_as(folder, members))
}

/// Files and subfolders of a folder, each of which imports, perhaps through the others, all others.
#[derive(Debug)]
struct Circle {
    folder: String,
    members: BTreeSet<String>,
    /// The imports among the members.
    imports: Vec<String>,
}

impl Circle {
    fn report(&self) -> String {
        let members: Vec<&str> = self.members.iter().map(String::as_str).collect();
        format!(
            "src/{} has a circle of {}:\n    {}",
            self.folder,
            members.join(", "),
            self.imports.join("\n    ")
        )
    }

    fn is_listed_as(&self, folder: &str, members: &[&str]) -> bool {
        self.folder == folder
            && self
                .members
                .iter()
                .map(String::as_str)
                .eq(members.iter().copied())
    }
}

/// Returns the circles of all folders of the sources, which are names relative to `src` with their texts.
fn circles(sources: &[(String, String)]) -> Vec<Circle> {
    let imports = imports(sources);
    let folders: BTreeSet<&[String]> = imports
        .keys()
        .flat_map(|(from, _, _)| (0..from.len()).filter_map(|length| from.get(..length)))
        .collect();
    folders
        .into_iter()
        .flat_map(|folder| circles_of_folder(folder, &imports))
        .collect()
}

/// Returns the circles among the files and subfolders directly in `folder`.
fn circles_of_folder(folder: &[String], imports: &Imports) -> Vec<Circle> {
    let member = |path: &[String]| {
        let below = path.strip_prefix(folder)?;
        Some(
            below
                .first()
                .map_or(FOLDER_ITSELF, String::as_str)
                .to_owned(),
        )
    };
    let mut found: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for ((from, to, item), place) in imports {
        if let (Some(from), Some(to)) = (member(from), member(to))
            && from != to
        {
            let text = format!("{place} imports {item}");
            found
                .entry(from)
                .or_default()
                .entry(to)
                .or_default()
                .push(text);
        }
    }
    let mut circles: Vec<Circle> = Vec::new();
    for start in found.keys() {
        if circles.iter().any(|circle| circle.members.contains(start)) {
            continue;
        }
        let members: BTreeSet<String> = reachable(start, &found)
            .into_iter()
            .filter(|other| reachable(other, &found).contains(start))
            .collect();
        if members.is_empty() {
            continue;
        }
        let imports = found
            .iter()
            .filter(|(from, _)| members.contains(*from))
            .flat_map(|(_, targets)| targets.iter().filter(|(to, _)| members.contains(*to)))
            .flat_map(|(_, texts)| texts.clone())
            .collect();
        circles.push(Circle {
            folder: folder.join("/"),
            members,
            imports,
        });
    }
    circles
}

/// Returns what `start` imports, directly or through others: `start` itself only if it is in a circle.
fn reachable(
    start: &str,
    imports: &BTreeMap<String, BTreeMap<String, Vec<String>>>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(next) = open.pop() {
        for to in imports.get(next).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(to.clone()) {
                open.push(to);
            }
        }
    }
    found
}

/// Sources with one circle each: the files, the folder, its members, and a part of the report.
type Example = (
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static [&'static str],
    &'static str,
);

const CIRCLES: &[Example] = &[
    // Two files, in every notation.
    (
        &[
            ("lake/a.rs", "use super::b::B; struct A;"),
            ("lake/b.rs", "\nfn b() { crate::lake::a::A::new() }"),
        ],
        "lake",
        &["a", "b"],
        "lake/b.rs:2 imports lake::a::A",
    ),
    (
        &[
            ("lake/a.rs", "use super::{b::{B, C}, d}; struct A;"),
            ("lake/b.rs", "use super::super::lake::a; fn b() { a::A }"),
        ],
        "lake",
        &["a", "b"],
        "lake/a.rs:1 imports lake::b::C",
    ),
    (
        &[
            (
                "lake/a.rs",
                "mod inner { use super::super::b::B; } struct A;",
            ),
            ("lake/b.rs", "use plantlake::lake::a::A as Other;"),
        ],
        "lake",
        &["a", "b"],
        "lake/a.rs:1 imports lake::b::B",
    ),
    // Through a re-export of the folder, by name, under another name, or with all names.
    (
        &[
            (
                "lake/mod.rs",
                "mod a; mod b; pub use a::A; pub(super) use b::B;",
            ),
            ("lake/a.rs", "use super::B; struct A;"),
            ("lake/b.rs", "use crate::lake::A; struct B;"),
        ],
        "lake",
        &["a", "b"],
        "lake/a.rs:1 imports lake::b::B",
    ),
    (
        &[
            ("lake/mod.rs", "mod a; mod b; pub use self::a::A as Other;"),
            ("lake/a.rs", "use super::b::B; struct A;"),
            ("lake/b.rs", "use super::Other; struct B;"),
        ],
        "lake",
        &["a", "b"],
        "lake/b.rs:1 imports lake::a::A",
    ),
    (
        &[
            ("lake/mod.rs", "mod a; mod b; pub use a::*;"),
            ("lake/a.rs", "use super::b::B; pub struct A;"),
            ("lake/b.rs", "use super::A; struct B;"),
        ],
        "lake",
        &["a", "b"],
        "lake/b.rs:1 imports lake::a::A",
    ),
    // The file of the folder, which uses what it re-exports, or what it does not.
    (
        &[
            ("lake/mod.rs", "mod a; pub use a::A; struct M(A);"),
            ("lake/a.rs", "use super::M; struct A;"),
        ],
        "lake",
        &["a", "mod"],
        "lake/mod.rs:1 imports lake::a::A",
    ),
    (
        &[
            ("lake/raw.rs", "mod a; use a::A; struct M;"),
            ("lake/raw/a.rs", "use super::M; struct A;"),
        ],
        "lake/raw",
        &["a", "mod"],
        "lake/raw/a.rs:1 imports lake::raw::M",
    ),
    // A re-export by a file that is not above.
    (
        &[
            ("lake/a.rs", "pub use super::b::B; struct A;"),
            ("lake/b.rs", "use super::a::A; struct B;"),
        ],
        "lake",
        &["a", "b"],
        "lake/a.rs:1 imports lake::b::B",
    ),
    // A subfolder, whose files differ, and more than two members.
    (
        &[
            ("lake/raw/one.rs", "use super::super::a::A;"),
            ("lake/raw/two.rs", "struct Two;"),
            ("lake/a.rs", "use super::b::B; struct A;"),
            ("lake/b.rs", "use super::raw::two::Two; struct B;"),
        ],
        "lake",
        &["a", "b", "raw"],
        "lake/raw/one.rs:1 imports lake::a::A",
    ),
];

/// Proves that the check can fail.
#[test]
fn check_of_sources_with_a_circle_reports_it() {
    for &(files, folder, members, import) in CIRCLES {
        let found = circles(&sources_of(files));
        assert_eq!(found.len(), 1, "{files:?}\n{found:?}");
        assert!(found[0].is_listed_as(folder, members), "{found:?}");
        assert!(found[0].report().contains(import), "{found:?}");
    }
}

#[test]
fn check_of_sources_without_a_circle_reports_nothing() {
    let examples: &[&[(&str, &str)]] = &[
        // A folder that re-exports what its files define, and defines nothing itself.
        &[
            (
                "lake/mod.rs",
                "mod a; mod b; pub use a::A; pub use b::{B, C};",
            ),
            ("lake/a.rs", "struct A;"),
            (
                "lake/b.rs",
                "use super::A; use super::{a, A as Other}; struct B; struct C;",
            ),
        ],
        // A folder that uses its files, which import each other through it.
        &[
            (
                "lake/mod.rs",
                "mod a; mod b; pub use a::A; use b::B; fn f(b: B) {}",
            ),
            ("lake/a.rs", "struct A;"),
            ("lake/b.rs", "use super::A; struct B;"),
        ],
        // Tests import what they test, and comments and literals import nothing.
        &[
            ("lake/a.rs", "use super::b::B; struct A;"),
            (
                "lake/b.rs",
                "struct B; mod tests { use super::super::a::A; }",
            ),
            ("lake/b/tests.rs", "use crate::lake::a::A;"),
            ("lake/c.rs", "#[cfg(test)] use super::d::D; struct C;"),
            ("lake/d.rs", "use super::c::C; // super::c::C\nstruct D;"),
            (
                "lake/e.rs",
                "use super::d::D; fn e() -> str { \"super::d::D\" }",
            ),
        ],
        // Methods of a type whose `impl` is split, names of other crates, and names of local modules.
        &[
            (
                "lake/a.rs",
                "struct A; fn f(a: A) { a.b() } fn g() { serde::b() }",
            ),
            ("lake/b.rs", "use super::a::A; impl A { fn b() {} }"),
            ("lake/serde.rs", "use super::a::A;"),
        ],
        // The binary is another crate.
        &[
            ("main.rs", "use plantlake::cli; fn f() { cli::f() }"),
            ("cli.rs", ""),
        ],
    ];
    for files in examples {
        let found = circles(&sources_of(files));
        assert!(found.is_empty(), "{files:?}\n{found:?}");
    }
}

fn sources_of(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files
        .iter()
        .map(|&(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}
