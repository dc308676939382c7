//! Finds the imports among the files of the library, by the files that define what is imported.

use std::collections::{BTreeMap, BTreeSet};

use super::{LIBRARY, Token, is_word, module_path, text_at, text_before, tokens};

/// A path from the root of the crate, whose own path is empty.
pub(super) type ModulePath = Vec<String>;

/// The files of the library by their modules.
type Modules = BTreeMap<ModulePath, Module>;

/// The importing module, the defining module and the item, with the place of the first such import.
pub(super) type Imports = BTreeMap<(ModulePath, ModulePath, String), String>;

/// Returns the imports among the sources, which are names relative to `src` with their texts.
pub(super) fn imports(sources: &[(String, String)]) -> Imports {
    let modules: Modules = sources
        .iter()
        .filter(|(name, _)| !is_left_out(name))
        .map(|(name, text)| (module_path(name), Module::parse(name, text)))
        .collect();
    let mut imports = Imports::new();
    for (path, module) in &modules {
        module.add_imports(path, &modules, &mut imports);
    }
    imports
}

/// The binary is another crate, and modules of tests may import what they test.
fn is_left_out(name: &str) -> bool {
    let path = module_path(name);
    path.first().is_some_and(|top| top == "main") || path.iter().any(|part| part == "tests")
}

/// A file of the library without its tests.
struct Module {
    name: String,
    words: Vec<Word>,
    /// The names that `use` items import, in the order of the file.
    uses: Vec<Use>,
    /// The names of the items that the file defines outside of functions.
    defined: BTreeSet<String>,
}

/// A word or a punctuation character outside of `use` items.
struct Word {
    text: String,
    line: usize,
    /// The number of inline modules around it.
    inline: usize,
}

/// One name that a `use` item imports.
struct Use {
    path: Vec<String>,
    /// The name in this file, `*` for all names of a module, `_` for none.
    name: String,
    is_exported: bool,
    line: usize,
    inline: usize,
}

impl Module {
    fn parse(name: &str, text: &str) -> Self {
        let mut module = Self {
            name: name.to_owned(),
            words: Vec::new(),
            uses: Vec::new(),
            defined: BTreeSet::new(),
        };
        let all = tokens(text);
        let at = |i: usize| text_at(&all, i);
        let (mut i, mut depth, mut inline) = (0, 0_usize, Vec::new());
        while i < all.len() {
            let line = all[i].line;
            let is_of_tests = (0..TEST_ATTRIBUTE.len()).all(|k| at(i + k) == TEST_ATTRIBUTE[k]);
            if is_of_tests || at(i) == "mod" && at(i + 1) == "tests" {
                i = end_of_item(&all, i);
                continue;
            }
            match at(i) {
                "use" => {
                    // After `pub`, or after `pub(crate)` and the like.
                    let is_exported = matches!(text_before(&all, i, 1), "pub" | ")");
                    i = module.parse_use(&all, i + 1, Vec::new(), is_exported, inline.len());
                    continue;
                }
                "{" => {
                    if text_before(&all, i, 2) == "mod" {
                        inline.push(depth);
                    }
                    depth += 1;
                }
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inline.last() == Some(&depth) {
                        inline.pop();
                    }
                }
                keyword if DEFINITIONS.contains(&keyword) && depth == 0 => {
                    // `macro_rules!` has a character before the name.
                    let name = if at(i + 1) == "!" {
                        at(i + 2)
                    } else {
                        at(i + 1)
                    };
                    module.defined.insert(name.to_owned());
                }
                _ => {}
            }
            module.words.push(Word {
                text: at(i).to_owned(),
                line,
                inline: inline.len(),
            });
            i += 1;
        }
        module
    }

    /// Parses the tree of a `use` item at `i`, whose paths begin with `prefix`, and returns where it ends.
    fn parse_use(
        &mut self,
        all: &[Token],
        mut i: usize,
        prefix: Vec<String>,
        is_exported: bool,
        inline: usize,
    ) -> usize {
        let at = |i: usize| text_at(all, i);
        let mut path = prefix.clone();
        while i < all.len() {
            match at(i) {
                "::" => i += 1,
                "{" => {
                    i += 1;
                    while i < all.len() && at(i) != "}" {
                        i = self.parse_use(all, i, path.clone(), is_exported, inline);
                        i += usize::from(at(i) == ",");
                    }
                    return i + 1;
                }
                word => {
                    let line = all[i].line;
                    let is_self = word == "self" && !path.is_empty();
                    if !is_self {
                        path.push(word.to_owned());
                    }
                    i += 1;
                    if at(i) == "::" {
                        continue;
                    }
                    let mut name = path.last().cloned().unwrap_or_default();
                    if at(i) == "as" {
                        name = at(i + 1).to_owned();
                        i += 2;
                    }
                    self.uses.push(Use {
                        path,
                        name,
                        is_exported,
                        line,
                        inline,
                    });
                    return i;
                }
            }
        }
        i
    }

    /// Adds what this file, whose module has the path `own`, imports.
    fn add_imports(&self, own: &[String], modules: &Modules, imports: &mut Imports) {
        let mut add = |path: Option<ModulePath>, line: usize| {
            let Some(path) = path.map(|path| resolve(path, modules)) else {
                return;
            };
            let to = module_of(&path, modules);
            // A module that is named is not imported by that, only what is named in it.
            if to != own && path.len() > to.len() {
                let item = path.get(..=to.len()).unwrap_or_default().join("::");
                imports
                    .entry((own.to_vec(), to.to_vec(), item))
                    .or_insert_with(|| format!("{}:{line}", self.name));
            }
        };
        let used: BTreeSet<&str> = self.words.iter().map(|word| word.text.as_str()).collect();
        for item in &self.uses {
            let path = self.absolute(own, &item.path, item.inline, modules);
            let is_facade = item.is_exported
                && !used.contains(item.name.as_str())
                && path.as_ref().is_some_and(|path| path.starts_with(own));
            if !is_facade {
                add(path, item.line);
            }
        }
        let mut i = 0;
        while i < self.words.len() {
            let at = |i: usize| self.words.get(i).map_or("", |word| word.text.as_str());
            let begins = at(i).starts_with(is_word) && at(i + 1) == "::";
            if !begins || i > 0 && at(i - 1) == "::" {
                i += 1;
                continue;
            }
            let word = &self.words[i];
            let mut path = vec![word.text.clone()];
            while at(i + 1) == "::" && at(i + 2).starts_with(is_word) {
                path.push(at(i + 2).to_owned());
                i += 2;
            }
            add(self.absolute(own, &path, word.inline, modules), word.line);
            i += 1;
        }
    }

    /// Returns the path from the root of the crate, or `None` for a name of this file or of another crate.
    fn absolute(
        &self,
        own: &[String],
        path: &[String],
        inline: usize,
        modules: &Modules,
    ) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let joined = |start: &[String], rest: &[String]| Some([start, rest].concat());
        match first.as_str() {
            "crate" | LIBRARY => Some(rest.to_vec()),
            "self" => joined(own, rest),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let up = ups.saturating_sub(inline);
                joined(&own[..own.len().checked_sub(up)?], &path[ups..])
            }
            name => {
                let child = [own, &path[..1]].concat();
                if modules.contains_key(&child) {
                    return joined(own, path);
                }
                let import = self.uses.iter().find(|item| item.name == name)?;
                // A name of another crate that is imported by itself leads back to itself.
                if import.path.first() == Some(first) {
                    return None;
                }
                let import = self.absolute(own, &import.path, import.inline, modules)?;
                joined(&import, rest)
            }
        }
    }
}

/// The attribute of an item that only tests have.
const TEST_ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

/// The keywords before the names of items.
const DEFINITIONS: &[&str] = &[
    "const",
    "enum",
    "fn",
    "macro_rules",
    "static",
    "struct",
    "trait",
    "type",
    "union",
];

/// Returns where the item at `i` ends: after its semicolon, or its closing brace.
fn end_of_item(all: &[Token], i: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in all.iter().enumerate().skip(i) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    all.len()
}

/// Returns the path of the module in which `path` is: the longest beginning that is a module.
fn module_of<'a>(path: &'a [String], modules: &Modules) -> &'a [String] {
    (0..=path.len())
        .rev()
        .filter_map(|length| path.get(..length))
        .find(|start| modules.contains_key(*start))
        .unwrap_or_default()
}

/// Follows re-exports to the module that defines what the path names.
fn resolve(mut path: ModulePath, modules: &Modules) -> ModulePath {
    let mut seen = BTreeSet::new();
    while seen.insert(path.clone()) {
        let module = module_of(&path, modules);
        let (Some(source), Some(name)) = (modules.get(module), path.get(module.len())) else {
            break;
        };
        let rest = &path[module.len() + 1..];
        let named = source.uses.iter().find(|item| item.name == *name);
        let target = if let Some(item) = named {
            source.absolute(module, &item.path, item.inline, modules)
        } else {
            source
                .uses
                .iter()
                .filter(|item| item.name == "*" && !source.defined.contains(name))
                .filter_map(|item| {
                    let (_, folder) = item.path.split_last()?;
                    source.absolute(module, folder, item.inline, modules)
                })
                .find(|target| {
                    modules
                        .get(target)
                        .is_some_and(|m| m.defined.contains(name))
                })
                .map(|target| [target.as_slice(), std::slice::from_ref(name)].concat())
        };
        match target {
            Some(target) => path = [target.as_slice(), rest].concat(),
            None => break,
        }
    }
    path
}
