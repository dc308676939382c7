//! `plantlake demo`: a small plant, from nothing to an hour of averages on the screen.

use std::time::Duration;

use super::query::print_query;
use super::resample::{print, run_job};
use super::{Context, Exit, RunCommand, simulate};
use crate::jobs::Options;
use crate::lake::Store;
use crate::simulate::{Plan, Shape};

const EXAMPLES: &str = "\
Examples:
  plantlake demo
      In the folders lake and catalog; a second start uses what is there.
  plantlake --lake /tmp/try/lake --catalog /tmp/try/catalog demo
      Somewhere else.";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {}

/// One hour of the busiest sensor's minutes.
const HOUR: &str = include_str!("demo_hour.sql");

impl RunCommand for DemoArgs {
    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let (settings, terminal) = (&context.settings, &context.terminal);
        let lake = Store::open(&settings.lake, settings.storage.options())?;
        terminal.line("1. Simulate a small plant: 20 sensors, 7 days, a reading every 10 seconds, with faults")?;
        if crate::simulate::has_simulation(&lake).await? {
            terminal.line(&format!(
                "   {lake} has a simulated plant already: that one is used"
            ))?;
        } else {
            let plan = Plan {
                assets: 20,
                days: 7,
                start: None,
                interval: Duration::from_secs(10),
                seed: 1,
                shape: Shape::Realistic,
            };
            simulate::make(&plan, false, &lake, settings, terminal).await?;
        }
        terminal.line("")?;
        terminal.line("2. Resample it: minute, hour and day averages as Delta tables")?;
        let report = run_job(settings, terminal, &Options::default()).await?;
        print(terminal, &report)?;
        terminal.line("")?;
        terminal.line("3. An hour of one sensor, from data_min:")?;
        print_query(&context, HOUR).await?;
        terminal.line("")?;
        terminal.line("Go on with your own SQL:")?;
        terminal.line("  plantlake query \"SELECT asset_id, timestamp, value, count FROM data_d ORDER BY timestamp DESC LIMIT 10\"")?;
        Ok(if report.quarantined.is_empty() {
            Exit::Success
        } else {
            Exit::LeftOut
        })
    }
}
