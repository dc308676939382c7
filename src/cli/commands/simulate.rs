//! `plantlake simulate`: simulates a plant with its catalog and its raw readings.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::NaiveDate;

use crate::cli::exit::Exit;
use crate::cli::output::{Terminal, Unit, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::config::Settings;
use crate::lake::Store;
use crate::simulate::{Plan, PlanError, Shape, Summary, parse_interval, simulate};

const EXAMPLES: &str = "\
Examples:
  The last week of a small plant (20 sensors, a reading every 10 seconds):
      plantlake simulate --assets 20 --days 7

  A year of minutes without faults, with the same bytes on each run:
      plantlake simulate --assets 50 --days 365 --start 2025-01-01 --interval 1m --shape clean

  For load tests: 100 million readings in another lake, with the summary as JSON:
      plantlake --lake /tmp/load simulate --assets 100 --days 116 --interval 10s --json

What is written:
  <lake>/raw/TT-101.parquet        the readings of the sensor TT-101: id, timestamp, value
  <lake>/raw/TT-101_late.parquet   late and repeated readings (shape realistic)
  <lake>/ground_truth.json         the faults: asset, tag, kind, start, end, detail
  <lake>/simulation.json           the list of simulated files; the catalog has one, too
  <catalog>/assets.json            all assets: sites, units, equipment and sensors
  <catalog>/id2assets.json         the same, by id
  <catalog>/graph.json             the topology: parts, and what flows where

Simulating again replaces the files of earlier simulations only. If another file is in the way, the command fails before it
writes anything, and names the file.";

/// Simulate a chemical plant: its catalog, and raw readings with known faults
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The number of assets with readings: sensors; the equipment that they are on is not counted
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        allow_negative_numbers = true
    )]
    pub assets: usize,

    /// The number of whole UTC days
    #[arg(
        long,
        value_name = "D",
        default_value_t = 7,
        allow_negative_numbers = true
    )]
    pub days: u32,

    /// The first day, such as 2026-01-31 [default: that many days before today (UTC), which is not included]
    #[arg(long, value_name = "DATE")]
    pub start: Option<NaiveDate>,

    /// The time between two readings of an asset: 500ms, 10s, 1m, 1h
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = interval, allow_hyphen_values = true)]
    pub interval: Duration,

    /// The seed of the random numbers; the same plan and seed make the same bytes
    #[arg(
        long,
        value_name = "S",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    pub seed: u64,

    /// The shape of the readings
    #[arg(long, value_enum, default_value_t = ShapeArg::Realistic)]
    pub shape: ShapeArg,

    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// The shape of the readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ShapeArg {
    /// A daily cycle with noise, a reading at every tick, no faults
    Clean,
    /// Daily cycles, set-point steps, noise, the sensor's resolution, jittering clocks, and faults
    Realistic,
}

/// An error of the command.
#[derive(Debug, thiserror::Error)]
pub enum SimulateCommandError {
    /// The summary cannot be printed.
    #[error("cannot print the summary of the simulation; the plant was simulated")]
    Print(#[source] std::io::Error),
}

fn interval(text: &str) -> Result<Duration, PlanError> {
    parse_interval(text)
}

impl Args {
    /// Returns the plan of the simulation.
    pub fn plan(&self) -> Plan {
        Plan {
            assets: self.assets,
            days: self.days,
            start: self.start,
            interval: self.interval,
            seed: self.seed,
            shape: match self.shape {
                ShapeArg::Clean => Shape::Clean,
                ShapeArg::Realistic => Shape::Realistic,
            },
        }
    }
}

impl RunCommand for Args {
    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let settings = &context.settings;
        let lake = Store::open(&settings.lake, settings.storage.options())?;
        run_simulation(&self.plan(), self.json, &lake, settings, &context.terminal).await?;
        Ok(Exit::Success)
    }
}

/// Simulates with a progress bar, and prints the summary.
pub(super) async fn run_simulation(
    plan: &Plan,
    json: bool,
    lake: &Store,
    settings: &Settings,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let bar = terminal.progress("simulate", Unit::Count("readings"), None);
    let reported = AtomicU64::new(0);
    let summary = simulate(plan, lake, &settings.catalog, |progress| {
        bar.set_total(progress.readings_total);
        // Tasks report out of order: only an increase moves the bar.
        let before = reported.fetch_max(progress.readings, Ordering::Relaxed);
        bar.add(progress.readings.saturating_sub(before));
    })
    .await;
    // Dropped before anything is printed, even an error, because the bar would be drawn over it.
    drop(bar);
    let mut out = terminal.writer();
    print(&summary?, json, lake, &settings.catalog, &mut out)
        .and_then(|()| out.flush())
        .map_err(SimulateCommandError::Print)?;
    Ok(())
}

fn print(
    summary: &Summary,
    json: bool,
    lake: &Store,
    catalog: &Path,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, summary)?;
        return writeln!(out);
    }
    let rate = summary.readings as f64 / summary.seconds.max(1e-9) / 1e6;
    writeln!(
        out,
        "readings   {} of {} assets, {} from {} (UTC)",
        human::count(summary.readings),
        human::count(summary.assets as u64),
        if summary.days == 1 {
            "1 day".to_owned()
        } else {
            format!("{} days", summary.days)
        },
        summary.start
    )?;
    writeln!(
        out,
        "files      {} in {lake}/raw, {} of them late, {:.1} MB",
        human::count(summary.files as u64),
        summary.late_files,
        summary.bytes as f64 / 1e6
    )?;
    let faults: Vec<_> = summary
        .faults
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    writeln!(
        out,
        "faults     {}",
        if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(", ")
        }
    )?;
    writeln!(
        out,
        "catalog    {}, with {} sites, units and equipment as well",
        catalog.display(),
        human::count(summary.other_assets as u64)
    )?;
    if summary.removed > 0 {
        writeln!(
            out,
            "removed    {} files of an earlier simulation",
            human::count(summary.removed as u64)
        )?;
    }
    writeln!(
        out,
        "took       {:.1} s, {rate:.1} million readings a second",
        summary.seconds
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::lake::StoreOptions;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, clap::Error> {
        Command::try_parse_from(std::iter::once("simulate").chain(words.split_whitespace()))
            .map(|command| command.args)
    }

    #[test]
    fn args_that_are_invalid_are_rejected_with_reason() {
        for (words, said) in [
            ("--interval 0s", "such as 500ms, 10s, 1m or 1h"),
            ("--interval -10s", "such as 500ms, 10s, 1m or 1h"),
            ("--interval ten", "such as 500ms, 10s, 1m or 1h"),
            ("--assets -1", "invalid digit"),
            ("--start yesterday", "--start"),
            ("--shape round", "realistic"),
        ] {
            let error = parse(words).unwrap_err().to_string();
            assert!(error.contains(said), "{words}: {error}");
        }
    }

    #[tokio::test]
    async fn print_writes_table_or_json() {
        let folder = tempfile::tempdir().unwrap();
        let lake = Store::open(
            folder.path().join("lake").to_str().unwrap(),
            &StoreOptions::new(),
        )
        .unwrap();
        let catalog = folder.path().join("catalog");
        let mut args =
            parse("--assets 3 --days 1 --interval 1m --shape clean --start 2026-01-31").unwrap();
        let summary = simulate(&args.plan(), &lake, &catalog, |_| {})
            .await
            .unwrap();
        let mut out = Vec::new();
        print(&summary, args.json, &lake, &catalog, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("readings   4,320 of 3 assets, 1 day from 2026-01-31 (UTC)"),
            "{text}"
        );
        assert!(text.contains("faults     none"), "{text}");
        args.json = true;
        let mut out = Vec::new();
        print(&summary, args.json, &lake, &catalog, &mut out).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&json["readings"], &json["shape"], &json["start"]),
            (&4_320.into(), &"clean".into(), &"2026-01-31".into())
        );
    }
}
