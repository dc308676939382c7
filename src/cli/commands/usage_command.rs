//! The context of the actions of `plantlake usage`, and their formats.

use clap::ValueEnum;

use crate::cli::output::{Table, human};
use crate::cli::run_command::Context;
use crate::store::{Adjustment, OrganisationStore};

/// The context that the subcommands share.
pub(super) struct UsageCommand {
    pub context: Context,
    pub store: OrganisationStore,
    /// Whether `--json` was given.
    pub json: bool,
}

/// The format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For spreadsheets; all columns, exact numbers
    Csv,
    /// For programs
    Json,
}

impl UsageCommand {
    /// Prints the usage that is billed in a later month than that in which it occurred.
    pub fn show_adjustments(&self, late: &[Adjustment]) -> anyhow::Result<()> {
        if late.is_empty() {
            return Ok(());
        }
        self.print_line("")?;
        self.print_line(
            "Adjustments: records that arrived after their month was closed; included in the sums above.",
        )?;
        let head = [
            "organisation",
            "billed in",
            "from",
            "requests",
            "rows",
            "sent",
            "scanned",
        ];
        let mut table = Table::new(head).numbers([3, 4, 5, 6]);
        for late in late {
            table.row([
                late.organisation.clone(),
                late.month.to_string(),
                late.from_month.to_string(),
                human::count(late.requests),
                human::count(late.rows),
                human::decimal_bytes(late.bytes_sent),
                human::decimal_bytes(late.bytes_scanned),
            ]);
        }
        Ok(self.context.terminal.table(&table)?)
    }

    pub fn print_json(&self, value: &serde_json::Value) -> anyhow::Result<()> {
        Ok(self.context.terminal.line(&value.to_string())?)
    }

    pub fn print_line(&self, text: &str) -> anyhow::Result<()> {
        Ok(self.context.terminal.line(text)?)
    }
}
