//! The initial corpus: statements of other tests, the engine's functions, and inputs with earlier findings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use crate::input::Input;
use crate::sql::Function;
use crate::words::Kind;

/// Selects the scalar functions and the types of their arguments, one argument per row.
pub const FUNCTIONS: &str = "SELECT DISTINCT r.routine_name, r.specific_name || ' ' || coalesce(p.rid, 0), \
     coalesce(p.ordinal_position, 0), coalesce(p.data_type, '') \
     FROM information_schema.routines r LEFT JOIN information_schema.parameters p \
     ON p.specific_name = r.specific_name AND p.parameter_mode = 'IN' \
     WHERE r.function_type = 'SCALAR' ORDER BY 1, 2, 3";

/// The first words of a line of SQL.
const BEGINNINGS: [&str; 9] = [
    "SELECT", "WITH", "EXPLAIN", "SHOW", "DESCRIBE", "SET", "INSERT", "CREATE", "COPY",
];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Returns the statements of `tests/slt/statements` and of the Python tests of the server.
pub fn statements() -> Vec<String> {
    let mut found = Vec::new();
    let folder = tests().join("slt/statements");
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for record in text.split("\n\n") {
            let lines = record.lines().filter(|line| !line.starts_with('#'));
            let lines = lines.skip_while(|line| !is_sql(line));
            let lines: Vec<&str> = lines.take_while(|line| *line != "----").collect();
            found.push(lines.join("\n"));
        }
    }
    for name in ["test_attacks.py", "test_server.py"] {
        let text = std::fs::read_to_string(tests().join("python").join(name)).unwrap();
        let texts = text.split('"').filter(|part| is_sql(part));
        found.extend(texts.map(|text| text.replace("{zero}", "zero")));
    }
    found.retain(|statement| !statement.is_empty());
    found.sort();
    found.dedup();
    assert!(found.len() > 100, "the tests hold {} only", found.len());
    found
}

fn is_sql(line: &str) -> bool {
    BEGINNINGS.iter().any(|word| line.starts_with(word))
}

/// Returns the inputs with earlier findings and the names of their files.
pub fn found() -> Vec<(String, Input)> {
    let folder = tests().join("fuzz/found");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "jsonl") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let inputs = read(&path).into_iter();
        found.extend(inputs.map(|input| (name.clone(), input)));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

/// Reads the inputs of a file, one per line.
pub fn read(path: &Path) -> Vec<Input> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the functions in the answer to [`FUNCTIONS`].
pub fn functions(rows: &[RecordBatch]) -> Vec<Function> {
    let mut found: BTreeMap<String, BTreeMap<String, Vec<Kind>>> = BTreeMap::new();
    for batch in rows {
        let columns = batch.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| cast(column, &DataType::Utf8).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let text = |column: usize| columns[column].as_string::<i32>().value(row).to_owned();
            let forms = found.entry(text(0)).or_default();
            let kinds = forms.entry(text(1)).or_default();
            if text(2) != "0" {
                kinds.push(Kind::of_type(&text(3)));
            }
        }
    }
    assert!(
        found.len() > 100,
        "there are {} functions only",
        found.len()
    );
    found
        .into_iter()
        .map(|(name, forms)| (name, forms.into_values().collect()))
        .collect()
}
