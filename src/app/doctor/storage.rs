//! Checks the lake with its raw files and tables, and the catalog.

use chrono::DateTime;

use super::clocks::Clocks;
use super::finding::Finding;
use crate::catalog::Snapshot;
use crate::config::Settings;
use crate::jobs::status;
use crate::lake::Store;
use crate::lake::raw::list_raw_files;
use crate::lake::records::runs::Runs;

/// The maximum number of catalog errors that a finding lists.
const MAX_LISTED_ERRORS: usize = 3;
/// The maximum number of files that a finding names.
const MAX_NAMED_FILES: usize = 3;

pub(super) async fn check(settings: &Settings, clocks: &mut Clocks) -> Vec<Finding> {
    let options = settings.storage.options();
    let mut findings = Vec::new();
    let lake = match Store::open_existing(&settings.lake, options) {
        Ok(lake) => lake,
        Err(error) => {
            let todo =
                "set `lake`, mount its disk, or create one: `plantlake demo` for a simulated plant";
            findings.push(Finding::failed("lake", &error, todo));
            findings.push(check_catalog(settings));
            return findings;
        }
    };
    findings.push(check_lake(&lake, clocks).await);
    match Store::open_existing(&settings.raw, options) {
        Ok(raw) => findings.extend(check_tables(&lake, &raw, clocks).await),
        Err(error) => findings.push(Finding::failed(
            "raw files",
            &error,
            "put Parquet files there (README, \"Use it\"), or set `raw`",
        )),
    }
    findings.push(check_catalog(settings));
    findings
}

async fn check_lake(lake: &Store, clocks: &mut Clocks) -> Finding {
    match lake.probe().await {
        Ok(at) => {
            if let (Some(at), None) = (at, lake.local_path()) {
                clocks.add_clock("the object store's clock", at);
            }
            Finding::right("lake", format!("{lake} is readable and writable"))
        }
        Err(error) => Finding::failed(
            "lake",
            &error,
            "give the user that runs plantlake write access; for an object store check `storage.*`",
        ),
    }
}

async fn check_tables(lake: &Store, raw: &Store, clocks: &mut Clocks) -> Vec<Finding> {
    match list_raw_files(raw).await {
        Ok(files) => {
            let newest = files.iter().map(|file| file.modified).max();
            if let Some(newest) = newest {
                clocks.add_past_event(
                    "the newest raw file",
                    DateTime::from_timestamp_nanos(newest),
                );
            }
        }
        Err(error) => {
            return vec![Finding::failed(
                "raw files",
                &error,
                "give plantlake permission to list and read them",
            )];
        }
    }
    if let Ok(Some(publication)) = Runs::open(lake).latest_publication().await {
        clocks.add_past_event("the newest run", publication.published_at);
    }
    let status = match status(lake, raw, 1).await {
        Ok(status) => status,
        Err(error) => {
            return vec![Finding::failed(
                "tables",
                &error,
                "follow the message; raw files are not affected",
            )];
        }
    };
    let files = &status.raw;
    let waiting = files.new + files.changed + files.removed;
    let mut found = format!("{} known, {waiting} new, changed or removed", files.known);
    if files.passed_over > 0 {
        let named = files.passed_over_files.iter();
        let named: Vec<&str> = named
            .map(|file| file.path.as_str())
            .take(MAX_NAMED_FILES)
            .collect();
        let more = if files.passed_over > named.len() {
            ", …"
        } else {
            ""
        };
        found = format!(
            "{found}; {} passed over, because they are no Parquet files or are not current ({}{more})",
            files.passed_over,
            named.join(", ")
        );
    }
    let raw = match (files.quarantined.len(), files.known + files.new) {
        (0, 0) if files.passed_over > 0 => Finding::note(
            "raw files",
            found,
            "`plantlake status` names them, with reasons",
        ),
        (_, 0) => Finding::note(
            "raw files",
            format!("none in {raw}"),
            "put Parquet files there (README, \"Use it\")",
        ),
        (0, _) => Finding::right("raw files", found),
        (left_out, _) => Finding::note(
            "raw files",
            format!("{found}; {left_out} cannot be read"),
            "`plantlake status` names them, with reasons",
        ),
    };
    let tables = match status.tables.first() {
        None => Finding::note("tables", "nothing is published yet", "`plantlake resample`"),
        Some(minutes) => {
            let last = minutes.last.as_deref().unwrap_or("no reading");
            Finding::right("tables", format!("current format, up to {last}"))
        }
    };
    vec![raw, tables]
}

fn check_catalog(settings: &Settings) -> Finding {
    let what = "catalog";
    match Snapshot::read(&settings.catalog) {
        Ok(snapshot) => {
            let assets = snapshot.catalog().assets.len();
            Finding::right(
                what,
                format!("{assets} assets in {}", settings.catalog.display()),
            )
        }
        Err(error) => {
            let found = error.problems().list(MAX_LISTED_ERRORS).trim().to_owned();
            Finding::wrong(
                what,
                found,
                "`plantlake catalog check` lists all errors; without a catalog no server starts",
            )
        }
    }
}
