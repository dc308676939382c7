//! `plantlake usage`: reports usage, and closes and verifies months.

use clap::{Args, Subcommand};
use serde_json::json;

use super::org::find_organisation;
use super::usage_command::{Format, UsageCommand};
use super::usage_invoice::{self, InvoiceArgs};
use super::usage_months::adjustments_filter;
use super::usage_report::{self, ReportArgs};
use crate::cli::administration::{format_instant, open_existing, operator};
use crate::cli::chains;
use crate::cli::chains::HeadArgs;
use crate::cli::exit::Exit;
use crate::cli::output::{Table, human};
use crate::cli::run_command::{Context, RunCommand};
use crate::model::Month;
use crate::store::{Adjustment, ChainKind, Closing, UsageStatement, Verification};

const EXAMPLES: &str = "\
A request belongs to the UTC month in which it ended. Running a statement is billable, and so is an ingest; the calls around
them are not. A record that arrives after its month was closed is billed in the next open month, and shown there as an
adjustment.

Examples:
  plantlake usage report
      Reports this month so far, with a line for each organisation.
  plantlake usage report --month 2026-11 --org \"Northfield Chemicals\" --by user
  plantlake usage report --month 2026-09..2026-11 --by day --format csv > usage.csv
  plantlake usage close 2026-10
      Freezes the month: totals, and a hash over its records.
  plantlake usage invoice 2026-10 --org \"Northfield Chemicals\"
      Uses the price list in the settings, `[billing]`. An open month gives a preview.
  plantlake usage verify --month 2026-10
      Recomputes the month from the ledger; exit code 5 if something differs.
  plantlake usage verify --head head-2026-10-31.json
      Verifies all months, and the ledger's hash chain against a head that `plantlake audit head --json` exported.";

/// Report usage, close months and compute invoices
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UsageArgs {
    #[command(subcommand)]
    action: Action,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Report usage by organisation, user, endpoint or day
    Report(ReportArgs),
    /// Freeze a month that has ended
    Close(MonthArgs),
    /// Show the statements of a closed month
    Statement(MonthArgs),
    /// Compute the invoices of a month
    Invoice(InvoiceArgs),
    /// Recompute months and the ledger's hash chain, and compare
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct MonthArgs {
    /// The UTC month, such as 2026-10
    month: Month,
    /// Only this organisation, by name or id
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The UTC month, such as 2026-10 [default: all months]
    #[arg(long)]
    month: Option<Month>,
    /// Only this organisation, by name or id
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    #[command(flatten)]
    head: HeadArgs,
}

impl RunCommand for UsageArgs {
    fn is_machine_output(&self) -> bool {
        let format = match &self.action {
            Action::Report(args) => args.format,
            Action::Invoice(args) => args.format,
            _ => Format::Table,
        };
        self.json || format != Format::Table
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        let store = open_existing(&context).await?;
        let usage = UsageCommand {
            context,
            store,
            json: self.json,
        };
        match self.action {
            Action::Report(args) => usage_report::run(&usage, args).await?,
            Action::Invoice(args) => usage_invoice::run(&usage, args).await?,
            Action::Close(args) => usage.close(&args).await?,
            Action::Statement(args) => usage.statement(&args).await?,
            Action::Verify(args) => return usage.verify(&args).await,
        }
        Ok(Exit::Success)
    }
}

impl UsageCommand {
    async fn close(&self, args: &MonthArgs) -> anyhow::Result<()> {
        let organisation = find_organisation(&self.store, args.org.as_deref()).await?;
        let organisation = organisation.map(|organisation| organisation.id);
        let closings = self
            .store
            .close_month(&operator(), args.month, organisation)
            .await?;
        let filter = adjustments_filter(args.month..=args.month, organisation);
        let late = self.store.usage_adjustments(&filter).await?;
        if self.json {
            return self.print_json(
                &json!({"month": args.month, "statements": closings, "adjustments": late}),
            );
        }
        let (already, new): (Vec<&Closing>, Vec<&Closing>) =
            closings.iter().partition(|closing| closing.already);
        for closing in &already {
            let statement = &closing.statement;
            self.print_line(&format!(
                "{} of {} was closed already, at {} by {}",
                args.month,
                statement.organisation,
                format_instant(statement.closed_at),
                statement.closed_by
            ))?;
        }
        if !new.is_empty() {
            let of = human::counted(new.len() as u64, "organisation");
            self.print_line(&format!("closed {} of {of}", args.month))?;
        } else if already.is_empty() {
            self.print_line(&format!(
                "no organisation existed in {}; nothing to close",
                args.month
            ))?;
        }
        self.show(closings.iter().map(|closing| &closing.statement), &late)
    }

    async fn statement(&self, args: &MonthArgs) -> anyhow::Result<()> {
        let organisation = find_organisation(&self.store, args.org.as_deref()).await?;
        let organisation = organisation.map(|organisation| organisation.id);
        let months = args.month..=args.month;
        let statements = self
            .store
            .usage_statements(organisation, months.clone())
            .await?;
        let filter = adjustments_filter(months, organisation);
        let mut late = self.store.usage_adjustments(&filter).await?;
        late.retain(|late| {
            let mut statements = statements.iter();
            statements.any(|statement| statement.organisation_id == late.organisation_id)
        });
        if self.json {
            return self.print_json(
                &json!({"month": args.month, "statements": statements, "adjustments": late}),
            );
        }
        if statements.is_empty() {
            let month = args.month;
            return self.print_line(&format!(
                "{month} is not closed; `plantlake usage close {month}` closes it"
            ));
        }
        self.show(statements.iter(), &late)
    }

    fn show<'a>(
        &self,
        statements: impl Iterator<Item = &'a UsageStatement>,
        late: &[Adjustment],
    ) -> anyhow::Result<()> {
        let head = [
            "organisation",
            "requests",
            "late",
            "rows",
            "sent",
            "scanned",
            "closed",
            "hash",
        ];
        let mut table = Table::new(head).numbers([1, 2, 3, 4, 5]);
        for statement in statements {
            let totals = &statement.totals;
            table.row([
                statement.organisation.clone(),
                human::count(totals.requests),
                human::count(statement.late_requests),
                human::count(totals.rows),
                human::decimal_bytes(totals.bytes_sent),
                human::decimal_bytes(totals.bytes_scanned),
                format_instant(statement.closed_at),
                statement.records_hash.chars().take(12).collect(),
            ]);
        }
        if !table.is_empty() {
            self.context.terminal.table(&table)?;
        }
        self.show_adjustments(late)
    }

    async fn verify(&self, args: &VerifyArgs) -> anyhow::Result<Exit> {
        let organisation = find_organisation(&self.store, args.org.as_deref()).await?;
        let organisation = organisation.map(|organisation| organisation.id);
        let head = args.head.read()?;
        let months = match args.month {
            Some(month) => vec![month],
            None => self.store.months_used(organisation).await?,
        };
        let mut found = Vec::new();
        for month in months {
            found.extend(self.store.verify_month(month, organisation).await?);
        }
        let chains = self
            .store
            .verify_chains(ChainKind::Ledger, organisation, head.as_ref());
        let chains = chains.await?;
        let differs = found.iter().any(|found| !found.differences.is_empty());
        let differs = differs || !chains::are_intact(&chains);
        let exit = if differs {
            Exit::Differs
        } else {
            Exit::Success
        };
        if self.json {
            self.print_json(&json!({
                "month": args.month, "verified": !differs, "organisations": found, "chains": chains,
            }))?;
            return Ok(exit);
        }
        match (found.is_empty(), args.month) {
            (true, Some(month)) => self.print_line(&format!("no usage in {month}"))?,
            (true, None) => self.print_line("no usage")?,
            (false, _) => self.show_verifications(&found)?,
        }
        if args.month.is_none() {
            self.print_line("")?;
            chains::print_chains(&self.context, &chains)?;
        } else {
            chains::print_findings(&self.context, &chains)?;
        }
        Ok(exit)
    }

    fn show_verifications(&self, found: &[Verification]) -> anyhow::Result<()> {
        let head = [
            "organisation",
            "month",
            "state",
            "records",
            "requests",
            "sent",
            "scanned",
            "verified",
        ];
        let mut table = Table::new(head).numbers([3, 4, 5, 6]);
        for of in found {
            table.row([
                of.organisation.clone(),
                of.month.to_string(),
                if of.closed { "closed" } else { "open" }.to_owned(),
                human::count(of.records),
                human::count(of.totals.requests),
                human::decimal_bytes(of.totals.bytes_sent),
                human::decimal_bytes(of.totals.bytes_scanned),
                match of.differences.len() as u64 {
                    0 => "yes".to_owned(),
                    count => human::counted(count, "difference"),
                },
            ]);
        }
        self.context.terminal.table(&table)?;
        for of in found {
            for difference in &of.differences {
                let truth = match difference.place {
                    "audit_trail" => "the statement",
                    _ => "the ledger",
                };
                self.print_line(&format!(
                    "{}: {} of {} is {} in {}, and {} in {truth}",
                    of.organisation,
                    difference.what,
                    of.month,
                    difference.written,
                    difference.place,
                    difference.derived,
                ))?;
            }
        }
        Ok(())
    }
}
