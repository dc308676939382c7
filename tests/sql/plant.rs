//! A small plant whose every reading is written down in `plant/`, and a server of it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use chrono::DateTime;
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use tempfile::TempDir;

/// The organisations, and what each was granted.
const ORGANISATIONS: [(&str, &[&str]); 2] = [
    ("Operators", &["--all"]),
    ("Boilers", &["--location", "Works / Boiler house"]),
];

/// The server, and where everything is.
pub struct Plant {
    /// Removed with the plant.
    _folder: TempDir,
    server: Child,
    address: String,
    keys: Vec<(&'static str, String)>,
}

impl Plant {
    /// Resamples what is in `plant/`, signs the organisations up, and serves it on a free port.
    pub fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/plant");
        let catalog = folder.path().join("catalog");
        std::fs::create_dir_all(catalog.join("views")).unwrap();
        for name in ["assets.json", "graph.json", "views/hot.sql"] {
            std::fs::copy(given.join(name), catalog.join(name)).unwrap();
        }
        write_readings(&given.join("readings.csv"), &folder.path().join("lake/raw"));
        run(folder.path(), &["resample"]);
        let keys = ORGANISATIONS.map(|(name, grants)| {
            run(folder.path(), &["org", "create", name]);
            run(folder.path(), &[&["org", "grant", name], grants].concat());
            let email = format!("robot@{}.example", name.to_lowercase());
            let made = ["user", "create", &email, "--org", name, "--role", "service"];
            run(folder.path(), &made);
            let made = [
                "key", "create", "--user", &email, "--name", "tests", "--json",
            ];
            let made: Value = serde_json::from_str(&run(folder.path(), &made)).unwrap();
            (name, made["key"].as_str().unwrap().to_owned())
        });
        let mut server = plantlake(
            folder.path(),
            &[
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--json",
                "--log",
                "plantlake=warn",
            ],
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
        let mut said = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let address = said["listening"].as_str().unwrap();
        Self {
            _folder: folder,
            server,
            address: address.replace("grpc://", "http://"),
            keys: keys.to_vec(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The API key of an organisation.
    pub fn key(&self, organisation: &str) -> &str {
        let key = self.keys.iter().find(|(name, _)| *name == organisation);
        &key.unwrap().1
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

fn plantlake(folder: &Path, command: &[&str]) -> Command {
    let mut plantlake = Command::new(env!("CARGO_BIN_EXE_plantlake"));
    plantlake.current_dir(folder).args(command);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PLANTLAKE_")) {
        plantlake.env_remove(name);
    }
    plantlake
}

fn run(folder: &Path, command: &[&str]) -> String {
    let output = plantlake(folder, command).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// One Parquet file of the readings in a CSV file.
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
