//! `plantlake usage report`: prints sums of the ledger as a table, CSV or JSON.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::org::find_organisation;
use super::usage_command::{Format, UsageCommand};
use super::usage_months::Months;
use crate::cli::output::{Table, csv, human};
use crate::clock;
use crate::model::Month;
use crate::store::{ReportBy, ReportFilter, ReportLine, UsageSums};

const EXAMPLES: &str = "\
Rows and bytes are those of billable requests, as they are billed. Each failed request is counted once: as an error, as
cancelled by its client, or as aborted because its server died. The table omits columns that are zero everywhere; a narrow
terminal shows one column for all failures.

Examples:
  plantlake usage report
  plantlake usage report --month 2026-11 --org acme --by user
  plantlake usage report --month 2026-09..2026-11 --by day --format csv > usage.csv
  plantlake usage report --month 2026-10 --json | jq '.lines[] | [.organisation, .bytes_sent]'";

/// Arguments of `usage report`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReportArgs {
    /// The UTC month, such as 2026-11, or a range, such as 2026-09..2026-11 [default: this month]
    #[arg(long, value_name = "MONTH")]
    month: Option<Months>,
    /// Only this organisation, by name or id
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// Print a line for each of these
    #[arg(long)]
    by: Option<By>,
    /// The format of the result
    #[arg(long, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    User,
    Endpoint,
    /// The UTC day on which requests ended
    Day,
}

impl By {
    const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Endpoint => "endpoint",
            Self::Day => "day",
        }
    }
}

/// A column of numbers: its name in CSV, its title in tables, its value and its format.
struct Column {
    name: &'static str,
    title: &'static str,
    value: fn(&UsageSums) -> u64,
    format: fn(u64) -> String,
    /// Whether the column is shown even if all its values are zero.
    always: bool,
}

const fn column(
    name: &'static str,
    title: &'static str,
    value: fn(&UsageSums) -> u64,
    look: fn(u64) -> String,
    always: bool,
) -> Column {
    Column {
        name,
        title,
        value,
        format: look,
        always,
    }
}

const COLUMNS: [Column; 9] = [
    column(
        "requests",
        "requests",
        |sums| sums.requests,
        human::count,
        true,
    ),
    column(
        "billable_requests",
        "billable",
        |sums| sums.billable_requests,
        human::count,
        true,
    ),
    column(
        "late_requests",
        "late",
        |sums| sums.late_requests,
        human::count,
        false,
    ),
    column("rows", "rows", |sums| sums.rows, human::count, true),
    column(
        "bytes_sent",
        "sent",
        |sums| sums.bytes_sent,
        human::decimal_bytes,
        true,
    ),
    column(
        "bytes_scanned",
        "scanned",
        |sums| sums.bytes_scanned,
        human::decimal_bytes,
        true,
    ),
    column("errors", "errors", |sums| sums.errors, human::count, false),
    column(
        "cancelled",
        "cancelled",
        |sums| sums.cancelled,
        human::count,
        false,
    ),
    column(
        "aborted",
        "aborted",
        |sums| sums.aborted,
        human::count,
        false,
    ),
];

/// The column that replaces the last three in a narrow terminal.
const FAILED: Column = column(
    "failed",
    "failed",
    |sums| sums.errors + sums.cancelled + sums.aborted,
    human::count,
    false,
);
/// The minimum width of a terminal, in columns, that shows all columns.
const MIN_WIDE_COLUMNS: usize = 110;

/// Prints the report.
pub(super) async fn run(usage: &UsageCommand, args: ReportArgs) -> anyhow::Result<()> {
    let now = Month::containing(clock::now());
    let months = args.month.unwrap_or(Months(now..=now));
    let organisation = find_organisation(&usage.store, args.org.as_deref()).await?;
    let filter = ReportFilter {
        organisation: organisation.as_ref().map(|organisation| organisation.id),
        user: None,
        months: months.0.clone(),
        by: ReportBy {
            user: args.by == Some(By::User),
            endpoint: args.by == Some(By::Endpoint),
            day: args.by == Some(By::Day),
        },
    };
    let lines = usage.store.usage_report(&filter).await?;
    if args.format == Format::Csv && !usage.json {
        let terminal = &usage.context.terminal;
        return Ok(terminal.print(&as_csv(&lines, args.by))?);
    }
    let late = usage.store.usage_adjustments(&filter).await?;
    if args.format == Format::Json || usage.json {
        let (first, last) = (months.0.start(), months.0.end());
        return usage
            .print_json(&json!({"from": first, "to": last, "lines": lines, "adjustments": late}));
    }
    if lines.is_empty() {
        let whose = organisation.map_or_else(String::new, |organisation| {
            format!(" by {}", organisation.name)
        });
        return usage.print_line(&format!("no usage{whose} in {months}"));
    }
    let is_wide = usage
        .context
        .terminal
        .width()
        .is_none_or(|width| width >= MIN_WIDE_COLUMNS);
    let columns: Vec<&Column> = match is_wide {
        true => COLUMNS.iter().collect(),
        false => COLUMNS.iter().take(6).chain([&FAILED]).collect(),
    };
    let shown = table(&lines, args.by, organisation.is_some(), &months, columns);
    usage.context.terminal.table(&shown)?;
    usage.show_adjustments(&late)?;
    if *months.0.end() >= now {
        usage
            .context
            .terminal
            .note(&format!("{now} has not ended; its sums may still grow."));
    }
    Ok(())
}

fn part(line: &ReportLine, by: By) -> String {
    let part = match by {
        By::User => &line.user,
        By::Endpoint => &line.endpoint,
        By::Day => &line.day,
    };
    part.clone().unwrap_or_default()
}

fn table(
    lines: &[ReportLine],
    by: Option<By>,
    is_single_organisation: bool,
    months: &Months,
    mut columns: Vec<&Column>,
) -> Table {
    let mut total = UsageSums::default();
    for line in lines {
        total.add(&line.sums);
    }
    columns.retain(|column| column.always || (column.value)(&total) > 0);
    let has_months = months.0.start() != months.0.end();
    let has_names = !is_single_organisation || (by.is_none() && !has_months);
    let words = |name: &str, month: &str, part: &str| -> Vec<String> {
        let name = has_names.then(|| name.to_owned());
        let month = has_months.then(|| month.to_owned());
        let part = by.map(|_| part.to_owned());
        name.into_iter().chain(month).chain(part).collect()
    };
    let numbers = |sums: &UsageSums| -> Vec<String> {
        let looks = columns.iter();
        looks
            .map(|column| (column.format)((column.value)(sums)))
            .collect()
    };
    let mut head = words("organisation", "month", by.map_or("", By::name));
    let first = head.len();
    head.extend(columns.iter().map(|column| column.title.to_owned()));
    let mut table = Table::new(head).numbers(first..first + columns.len());
    for line in lines {
        let words = words(
            &line.organisation,
            &line.month.to_string(),
            &by.map_or_else(String::new, |by| part(line, by)),
        );
        table.row(words.into_iter().chain(numbers(&line.sums)));
    }
    if lines.len() > 1 {
        let blank = std::iter::repeat_n(String::new(), first.saturating_sub(1));
        let words = std::iter::once("total".to_owned()).chain(blank);
        table.row(words.chain(numbers(&total)));
    }
    table
}

fn as_csv(lines: &[ReportLine], by: Option<By>) -> String {
    let head = ["organisation", "organisation_id", "month"].into_iter();
    let head = head.chain(by.map(By::name));
    let mut out = csv::line(head.chain(COLUMNS.iter().map(|column| column.name)));
    for line in lines {
        let words = [
            line.organisation.clone(),
            line.organisation_id.to_string(),
            line.month.to_string(),
        ];
        let numbers = COLUMNS
            .iter()
            .map(|column| (column.value)(&line.sums).to_string());
        let part = by.map(|by| part(line, by));
        out.push_str(&csv::line(words.into_iter().chain(part).chain(numbers)));
    }
    out
}
