//! Checks the architecture by parsing the sources: modules import only from lower layers, siblings do not import each
//! other, and only certain modules may use each external crate.
//!
//! Every top-level module in `src/` must be listed in [`LAYERS`].

use std::path::{Path, PathBuf};

#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/imports.rs"]
mod imports;

/// Top-level modules and their layers.
const LAYERS: &[(&str, u8)] = &[
    ("model", 0),
    ("clock", 0),
    ("decoding", 0),
    ("memory", 0),
    ("metrics", 0),
    ("workers", 0),
    ("descriptors", 0),
    ("rollup_schema", 0),
    ("config", 0),
    ("backup", 1),
    ("catalog", 1),
    ("lake", 1),
    ("store", 1),
    ("rollup", 2),
    ("search", 2),
    ("engine", 3),
    ("jobs", 4),
    ("scheduler", 4),
    ("simulate", 4),
    ("mirror", 4),
    ("auth", 4),
    ("metering", 4),
    ("server", 5),
    ("app", 6),
    ("cli", 6),
    ("main", 6),
];

/// Pairs of an importing module and the sibling that it may import: `config` parses types of `model`, `memory` and `metrics`
/// measure time with `clock`, `workers` returns freed memory through `memory`, and `main`, `cli` and `app` form a stack.
const SIBLINGS: &[(&str, &str)] = &[
    ("config", "model"),
    ("memory", "clock"),
    ("metrics", "clock"),
    ("workers", "memory"),
    ("cli", "app"),
    ("main", "app"),
    ("main", "cli"),
];

/// External crates and the only modules that may name them. A trailing star matches `_…` or nothing.
const HOMES: &[(&str, &[&str])] = &[
    ("deltalake*", &["lake"]),
    ("clap*", &["cli"]),
    ("indicatif", &["cli"]),
    ("fs4", &["app"]),
    ("tonic*", &["server"]),
    ("prost*", &["server"]),
    ("rcgen", &["server"]),
    ("tokio_rustls", &["server", "main"]),
    ("arrow_flight", &["server"]),
    ("sqlx*", &["store", "mirror"]),
    ("argon2", &["auth"]),
    ("jsonwebtoken", &["auth"]),
    ("rpassword", &["cli"]),
    ("candle*", &["search"]),
    ("tokenizers", &["search"]),
    ("memmap2", &["search"]),
    ("rayon", &["search"]),
    ("reqwest", &["search", "scheduler"]),
    ("qdrant*", &["search"]),
    ("toml*", &["config", "jobs"]),
    ("croner", &["model"]),
    ("prometheus_client", &["metrics"]),
    ("tar", &["backup"]),
    ("flatbuffers", &["decoding"]),
    ("flate2", &["lake"]),
    ("brotli", &["lake"]),
    ("hyper*", &["metrics", "server"]),
    ("http_body_util", &["metrics"]),
];

/// The name of the library crate, by which the binary imports it.
const LIBRARY: &str = "plantlake";

#[test]
fn sources_have_no_layer_violations() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(
        files.iter().any(|file| file.ends_with("lib.rs")),
        "no sources found"
    );
    let problems: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let name = file
                .strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            check(&name, &std::fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// Returns the violations in the file `name`, which is relative to `src`.
fn check(name: &str, text: &str) -> Vec<String> {
    let path = module_path(name);
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut problem = |line: usize, what: String| found.push(format!("{name}:{line}: {what}"));
    let Some(top) = path.first() else {
        // The library's root only declares modules. Each module is checked separately.
        for (at, token) in tokens.iter().enumerate() {
            let module = text_at(&tokens, at + 1);
            if token.text == "mod" && layer(module).is_none() {
                problem(
                    token.line,
                    format!("`{module}` has no layer in tests/it/layers.rs"),
                );
            }
        }
        return found;
    };
    let Some(own) = layer(top) else {
        problem(1, format!("`{top}` has no layer in tests/it/layers.rs"));
        return found;
    };
    for (target, line) in root_imports(&path, &tokens) {
        match layer(&target) {
            _ if target == *top || SIBLINGS.contains(&(top, &target)) => {}
            None => problem(line, format!("`{target}` of the crate's root has no layer")),
            Some(other) if other < own => {}
            Some(other) if other == own => {
                problem(line, format!("`{top}` imports its sibling `{target}`"));
            }
            Some(_) => problem(
                line,
                format!("`{top}` imports `{target}`, which is above it"),
            ),
        }
    }
    for (at, token) in tokens.iter().enumerate() {
        let home = HOMES
            .iter()
            .find(|(pattern, _)| matches(pattern, &token.text));
        if let Some((_, homes)) = home
            && names_a_crate(&tokens, at)
            && !homes.contains(&top.as_str())
        {
            problem(
                token.line,
                format!("`{}` belongs to {}", token.text, homes.join(" and ")),
            );
        }
        let is_attribute = text_before(&tokens, at, 1) == "[" && text_at(&tokens, at + 1) == "=";
        if token.text == "path" && is_attribute {
            problem(
                token.line,
                "a #[path] attribute hides where a module is".to_owned(),
            );
        }
    }
    found
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name
            .strip_prefix(start)
            .is_some_and(|end| end.is_empty() || end.starts_with('_')),
        None => pattern == name,
    }
}

/// Returns the module path of a file: `lake/store.rs` is `lake::store`, binaries are `main`, the library's root is empty.
fn module_path(name: &str) -> Vec<String> {
    let name = name.strip_suffix(".rs").unwrap_or(name);
    let mut path: Vec<String> = name.split('/').map(str::to_owned).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    match path.first().map(String::as_str) {
        Some("lib") => Vec::new(),
        Some("main" | "bin") => vec!["main".to_owned()],
        _ => path,
    }
}

/// Returns the top-level modules that the tokens name by a path from the crate's root, with their lines.
fn root_imports(path: &[String], tokens: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    // The brace depths at which the enclosing inline modules begin.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        let is_path = text_at(tokens, at + 1) == "::";
        match token.text.as_str() {
            "{" => {
                if text_before(tokens, at, 2) == "mod" {
                    inline.push(depth);
                }
                depth += 1;
            }
            "}" => {
                depth -= 1;
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
            }
            // In the binary, `crate` is the binary itself.
            "crate" if path == ["main"] => {}
            "crate" | LIBRARY if is_path => targets(tokens, at + 2, &mut found),
            // An alias of the root would hide which modules are imported.
            "crate" if text_at(tokens, at + 1) == "as" => {
                found.push(("crate as".to_owned(), token.line));
            }
            "super" if is_path && text_before(tokens, at, 2) != "super" => {
                let more = (1..)
                    .take_while(|up| text_at(tokens, at + 2 * up) == "super")
                    .count();
                let ups = 1 + more;
                if ups == path.len() + inline.len() {
                    targets(tokens, at + 2 * ups, &mut found);
                }
            }
            _ => {}
        }
    }
    found
}

/// Adds the first names of the path or group of paths that begins at `at` to `found`.
fn targets(tokens: &[Token], at: usize, found: &mut Vec<(String, usize)>) {
    let mut depth = 0;
    let mut begins = true;
    for token in tokens.iter().skip(at) {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                begins = depth == 1;
            }
            "}" => depth -= 1,
            "," => begins = depth == 1,
            _ if begins => {
                found.push((token.text.clone(), token.line));
                begins = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// Whether the name at `at` is the first of a path, or is imported by itself.
fn names_a_crate(tokens: &[Token], at: usize) -> bool {
    let (before, earlier) = (text_before(tokens, at, 1), text_before(tokens, at, 2));
    let is_import = match before {
        "use" => true,
        "crate" => earlier == "extern",
        "::" => earlier == "use",
        _ => false,
    };
    // `a::toml::b` and `<A>::toml::b` continue a path, `::toml::b` begins one.
    let goes_on =
        before == "::" && earlier.starts_with(|c: char| c == '>' || is_word(c)) && earlier != "use";
    is_import || before != "." && !goes_on && text_at(tokens, at + 1) == "::"
}

fn text_at(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| &token.text)
}

fn text_before(tokens: &[Token], at: usize, by: usize) -> &str {
    at.checked_sub(by).map_or("", |at| text_at(tokens, at))
}

/// A word, `::`, or a single other character.
#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the tokens of `text`, without comments, literals and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' => {
                i += 1;
                while is_word(at(i)) {
                    i += 1;
                }
            }
            c if is_word(c) => {
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                let hashes = (i..).take_while(|&i| at(i) == '#').count();
                let is_raw = matches!(word.as_str(), "r" | "br" | "cr");
                if is_raw && at(i + hashes) == '"' {
                    let ends =
                        |i: usize| at(i) == '"' && (1..=hashes).all(|hash| at(i + hash) == '#');
                    i += hashes + 1;
                    while i < chars.len() && !ends(i) {
                        i += 1;
                    }
                    i += hashes + 1;
                } else if is_raw && hashes == 1 && is_word(at(i + 1)) {
                    // A raw identifier: skip `#`, and read the word itself next.
                    i += 1;
                } else {
                    tokens.push(Token { text: word, line });
                }
            }
            ':' if at(i + 1) == ':' => {
                tokens.push(Token {
                    text: "::".to_owned(),
                    line,
                });
                i += 2;
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token {
                        text: c.to_string(),
                        line,
                    });
                }
                i += 1;
            }
        }
        let end = i.min(chars.len());
        line += chars[start..end].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

/// Sources with one violation each: the file, its text, and a part of the report.
const VIOLATIONS: &[(&str, &str, &str)] = &[
    // Imports from higher layers, in every notation.
    (
        "lake/mod.rs",
        "use crate::engine::Engine;",
        "lake/mod.rs:1: `lake` imports `engine`",
    ),
    (
        "lake/a.rs",
        "\n\nfn f() { crate::engine::run() }",
        "a.rs:3: `lake` imports `engine`",
    ),
    (
        "lake/a.rs",
        "use super::super::jobs;",
        "`lake` imports `jobs`",
    ),
    (
        "lake/mod.rs",
        "use super::jobs::Plan;",
        "`lake` imports `jobs`",
    ),
    (
        "lake/mod.rs",
        "mod tests { use super::super::jobs; }",
        "`lake` imports `jobs`",
    ),
    (
        "lake/mod.rs",
        "mod a { mod b {} } use super::jobs;",
        "`lake` imports `jobs`",
    ),
    (
        "lake/a.rs",
        "use crate::{model::Day, jobs::{Plan, Run}};",
        "`lake` imports `jobs`",
    ),
    ("lake/a.rs", "use crate::r#jobs;", "`lake` imports `jobs`"),
    ("lake/a.rs", "use plantlake::jobs;", "`lake` imports `jobs`"),
    (
        "lake/a.rs",
        "let c = '\"'; crate::jobs::x();",
        "`lake` imports `jobs`",
    ),
    (
        "lake/a.rs",
        "fn f<'a>(x: &'a str) -> crate::jobs::X<'a>",
        "`lake` imports `jobs`",
    ),
    // Imports of siblings.
    (
        "lake/a.rs",
        "use crate::catalog::Asset;",
        "`lake` imports its sibling `catalog`",
    ),
    (
        "model/a.rs",
        "use crate::config::Settings;",
        "`model` imports its sibling `config`",
    ),
    (
        "app.rs",
        "use crate::cli;",
        "`app` imports its sibling `cli`",
    ),
    // Constructs that would hide an import.
    ("lake/a.rs", "use crate as root;", "`crate as`"),
    ("lake/a.rs", "use crate::*;", "`*`"),
    ("lake/a.rs", "use crate::{self as root};", "`self`"),
    (
        "lake/a.rs",
        "#[path = \"../jobs/run.rs\"] mod run;",
        "#[path]",
    ),
    ("news/mod.rs", "", "`news` has no layer"),
    (
        "lib.rs",
        "pub mod model;\npub mod news;",
        "lib.rs:2: `news` has no layer",
    ),
    // External crates in modules that may not name them.
    (
        "jobs/run.rs",
        "use deltalake::Table;",
        "jobs/run.rs:1: `deltalake` belongs to lake",
    ),
    (
        "jobs/run.rs",
        "fn f(t: ::deltalake_core::Table) {}",
        "`deltalake_core` belongs to lake",
    ),
    (
        "lake/a.rs",
        "#[derive(clap::Args)] struct A;",
        "`clap` belongs to cli",
    ),
    ("main.rs", "use clap as c;", "`clap` belongs to cli"),
    (
        "cli/a.rs",
        "extern crate sqlx;",
        "`sqlx` belongs to store and mirror",
    ),
    (
        "cli/a.rs",
        "use ::toml;",
        "`toml` belongs to config and jobs",
    ),
    (
        "cli/a.rs",
        "candle_core::Tensor::new()",
        "`candle_core` belongs to search",
    ),
];

/// Proves that the check can fail.
#[test]
fn check_of_sources_with_a_violation_reports_it() {
    for &(name, text, expected) in VIOLATIONS {
        let found = check(name, text);
        assert_eq!(found.len(), 1, "{name}: {text}\n{found:?}");
        assert!(found[0].contains(expected), "{name}: {text}\n{found:?}");
    }
}

#[test]
fn check_of_valid_sources_reports_nothing() {
    for (name, text) in [
        (
            "lake/mod.rs",
            "mod a; use a::B; use crate::model::Day; use super::clock; use self::a;",
        ),
        (
            "lake/a.rs",
            "use super::b; mod tests { use super::*; use super::super::c; }",
        ),
        (
            "lake/a/b.rs",
            "use super::super::c; use crate::lake::d; pub(crate) fn f() {}",
        ),
        (
            "lake/a.rs",
            "// crate::jobs\n/* crate::jobs /* x */ toml::x */ /// crate::jobs",
        ),
        (
            "lake/a.rs",
            r####"f("crate::jobs \" toml::x", r#"crate::jobs" toml::x"#, '\'')"####,
        ),
        (
            "cli/a.rs",
            "x.toml::<A>(); a::toml::b(); let clap = tomlette::x(toml);",
        ),
        ("config/a.rs", "use crate::model::Day; use toml::Spanned;"),
        ("main.rs", "use plantlake::cli; use crate::helper;"),
        ("bin/tool.rs", "use plantlake::{app, cli::Exit};"),
        ("lib.rs", "pub mod model; mod cli;"),
    ] {
        let found = check(name, text);
        assert!(found.is_empty(), "{name}: {text}\n{found:?}");
    }
}
