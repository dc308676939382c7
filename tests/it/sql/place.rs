//! A small plant whose readings are all listed in `plant/`, and organisations with grants for parts of it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use chrono::DateTime;
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use tempfile::TempDir;

/// The organisations and their grants.
const ORGANISATIONS: [(&str, &[&str]); 2] = [
    ("Operators", &["--all"]),
    ("Boilers", &["--location", "Works / Boiler house"]),
];

/// The folder of the plant, and the API keys of its organisations.
pub struct Place {
    folder: TempDir,
    keys: Vec<(&'static str, String)>,
}

impl Place {
    /// Resamples the readings in `plant/`, and creates the organisations.
    pub fn make() -> Self {
        let folder = TempDir::new().unwrap();
        let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt/plant");
        let catalog = folder.path().join("catalog");
        std::fs::create_dir_all(catalog.join("views")).unwrap();
        for name in ["assets.json", "graph.json", "views/hot.sql"] {
            std::fs::copy(given.join(name), catalog.join(name)).unwrap();
        }
        write_readings(&given.join("readings.csv"), &folder.path().join("lake/raw"));
        let mut place = Self {
            folder,
            keys: Vec::new(),
        };
        place.run(&["resample"], "");
        for (name, grants) in ORGANISATIONS {
            place.run(&["org", "create", name], "");
            place.run(&[&["org", "grant", name], grants].concat(), "");
            let writes = [
                &["org", "grant", name, "--write", "--share-writing"],
                grants,
            ];
            place.run(&writes.concat(), "");
            let key = place.key_of_user(name, &format!("robot@{}.example", name.to_lowercase()));
            place.keys.push((name, key));
        }
        place
    }

    /// Returns the folder of the lake, the catalog and the state.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the API key of an organisation.
    pub fn key(&self, organisation: &str) -> &str {
        let key = self.keys.iter().find(|(name, _)| *name == organisation);
        &key.unwrap().1
    }

    /// Creates a service user who may send readings, and returns an API key of that user.
    pub fn key_of_user(&self, organisation: &str, email: &str) -> String {
        let made = ["user", "create", email, "--org", organisation, "--role"];
        self.run(&[&made[..], &["service", "--ingest"]].concat(), "");
        let made = ["key", "create", "--user", email, "--name", "tests"];
        let made = [&made[..], &["--ingest", "--json"]].concat();
        let made: Value = serde_json::from_str(&self.run(&made, "")).unwrap();
        made["key"].as_str().unwrap().to_owned()
    }

    /// Runs plantlake in the folder with this standard input, and returns its output.
    pub fn run(&self, command: &[&str], input: &str) -> String {
        let mut child = self
            .plantlake(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns a plantlake command that runs in the folder.
    pub fn plantlake(&self, command: &[&str]) -> Command {
        let mut plantlake = Command::new(env!("CARGO_BIN_EXE_plantlake"));
        plantlake.current_dir(self.folder()).args(command);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PLANTLAKE_")) {
            plantlake.env_remove(name);
        }
        plantlake
    }
}

/// Writes the readings of a CSV file to a Parquet file.
fn write_readings(from: &Path, folder: &Path) {
    let text = std::fs::read_to_string(from).unwrap();
    let mut rows: Vec<(&str, i64, f64)> = Vec::new();
    for line in text.lines().skip(1) {
        let mut fields = line.split(',');
        let mut next = || fields.next().unwrap();
        let (id, instant, value) = (next(), next(), next());
        let instant = DateTime::parse_from_rfc3339(instant).unwrap();
        rows.push((id, instant.timestamp_micros(), value.parse().unwrap()));
    }
    let ids = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let instants = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.1));
    let values = Float64Array::from_iter_values(rows.iter().map(|row| row.2));
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as _),
        ("timestamp", Arc::new(instants) as _),
        ("value", Arc::new(values) as _),
    ])
    .unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let file = File::create(folder.join("readings.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}
