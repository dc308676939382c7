//! The table functions of SQL. Each has a file that declares a [`TableFunction`], and a line in [`TABLE_FUNCTIONS`]; the
//! rest of the engine, prepared statements and the test of the documentation follow from the declaration.

mod asset_columns;
mod computed_table;
mod downstream;
mod function;
mod neighbours;
mod path_between;
mod reached_assets;
mod search;
mod signature;
pub(super) mod table_arguments;
mod upstream;
mod usage_report;

use datafusion::execution::SessionState;

use function::TableFunction;
pub(super) use function::{FunctionSources, VisibleCatalog};

/// All table functions, in the order of the documentation.
static TABLE_FUNCTIONS: [&TableFunction; 6] = [
    &search::SEARCH,
    &neighbours::NEIGHBOURS,
    &upstream::UPSTREAM,
    &downstream::DOWNSTREAM,
    &path_between::PATH_BETWEEN,
    &usage_report::USAGE_REPORT,
];

/// Returns the table function with this name.
pub(super) fn find_table_function(name: &str) -> Option<&'static TableFunction> {
    let mut functions = TABLE_FUNCTIONS.into_iter();
    functions.find(|function| function.signature.name == name)
}

/// Registers the table functions with a session that has their sources.
pub(super) fn register(state: &mut SessionState, sources: &FunctionSources) {
    for function in TABLE_FUNCTIONS {
        function.register(state, sources);
    }
}

/// Returns the rows that describe the table functions in `docs/sql.md`.
pub fn table_function_rows() -> Vec<String> {
    TABLE_FUNCTIONS
        .map(TableFunction::documentation_row)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_has_exactly_these_table_functions() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (_, functions) = page.split_once("\n## Functions\n").unwrap();
        let documented: Vec<&str> = functions
            .lines()
            .filter(|line| line.starts_with("| `") && line.contains("` | a table: "))
            .collect();
        assert_eq!(documented, table_function_rows());
    }

    #[test]
    fn signatures_are_consistent() {
        for TableFunction { signature, .. } in TABLE_FUNCTIONS {
            let name = signature.name;
            assert!(signature.required <= signature.parameters.len(), "{name}");
            assert!(signature.example.starts_with(&format!("{name}(")), "{name}");
            let found = find_table_function(name).unwrap();
            assert!(std::ptr::eq(&found.signature, signature), "{name}");
        }
    }
}
