//! `plantlake usage invoice`: computes the invoices of a month by the price list.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::org::find_organisation;
use super::usage_command::{Format, UsageCommand};
use super::usage_months::adjustments_filter;
use crate::cli::administration::format_instant;
use crate::cli::output::{Table, csv};
use crate::model::{Invoice, InvoiceLine, Month, OrganisationId};
use crate::store::{Adjustment, UsageTotals};

const EXAMPLES: &str = "\
The price list is in the settings, `[billing]`: the prices of 1,000 billable requests, of a GB (10^9 bytes) sent and of a GB
scanned, with the free amount of each per month. The amount of a line is its price times the billed quantity, rounded half up to
the smallest unit of the currency; the total is the sum of the lines. Statements do not change, but prices may: keep invoices
that were sent. CSV has no line for the total.

Examples:
  plantlake usage invoice 2026-10 --org \"Northfield Chemicals\"
  plantlake usage invoice 2026-10 --format csv > invoices.csv
      Computes the invoices of all organisations.
  PLANTLAKE_BILLING_PER_GB_SENT=0.12 plantlake usage invoice 2026-10 --org acme
      Shows the invoice at another price.";

/// Arguments of `usage invoice`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct InvoiceArgs {
    /// The UTC month, such as 2026-10; one that is not closed gives a preview
    month: Month,
    /// Only this organisation, by name or id
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// The format of the result
    #[arg(long, default_value = "table")]
    pub format: Format,
}

/// A month of an organisation, with its invoice.
#[derive(Debug, Serialize)]
struct MonthInvoice {
    organisation_id: OrganisationId,
    organisation: String,
    month: Month,
    /// Whether the month is open, so that its amounts may still grow.
    preview: bool,
    closed_at: Option<DateTime<Utc>>,
    records_hash: Option<String>,
    #[serde(flatten)]
    invoice: Invoice,
    /// The adjustments that this month has from earlier months.
    adjustments: Vec<Adjustment>,
}

/// Prints the invoices.
pub(super) async fn run(usage: &UsageCommand, args: InvoiceArgs) -> anyhow::Result<()> {
    let all = compute_invoices(usage, &args).await?;
    let terminal = &usage.context.terminal;
    if usage.context.settings.billing.is_free() {
        terminal.warn(
            "no price is set, so all amounts are zero; set `billing.per_1000_requests`, `billing.per_gb_sent` or \
             `billing.per_gb_scanned`",
        );
    }
    if args.format == Format::Json || usage.json {
        return usage.print_json(&json!(all));
    }
    if args.format == Format::Csv {
        return Ok(terminal.print(&as_csv(&all))?);
    }
    if all.is_empty() {
        return usage.print_line(&format!("no usage in {}", args.month));
    }
    for (at, billed) in all.iter().enumerate() {
        if at > 0 {
            usage.print_line("")?;
        }
        show(usage, billed)?;
    }
    Ok(())
}

/// Returns the invoices by the statements, and those of organisations without a statement by the ledger as it is now.
async fn compute_invoices(
    usage: &UsageCommand,
    args: &InvoiceArgs,
) -> anyhow::Result<Vec<MonthInvoice>> {
    let organisation = find_organisation(&usage.store, args.org.as_deref()).await?;
    let id = organisation.as_ref().map(|organisation| organisation.id);
    let months = args.month..=args.month;
    let statements = usage.store.usage_statements(id, months.clone()).await?;
    let filter = adjustments_filter(months, id);
    let late = usage.store.usage_adjustments(&filter).await?;
    let prices = &usage.context.settings.billing;
    let of =
        |id: OrganisationId, name: &str, totals: &UsageTotals| -> anyhow::Result<MonthInvoice> {
            let adjustments = late.iter().filter(|late| late.organisation_id == id);
            Ok(MonthInvoice {
                organisation_id: id,
                organisation: name.to_owned(),
                month: args.month,
                preview: true,
                closed_at: None,
                records_hash: None,
                invoice: Invoice::compute(
                    prices,
                    totals.requests,
                    totals.bytes_sent,
                    totals.bytes_scanned,
                )?,
                adjustments: adjustments.cloned().collect(),
            })
        };
    let mut all = Vec::new();
    for statement in &statements {
        let billed = of(
            statement.organisation_id,
            &statement.organisation,
            &statement.totals,
        )?;
        all.push(MonthInvoice {
            preview: false,
            closed_at: Some(statement.closed_at),
            records_hash: Some(statement.records_hash.clone()),
            ..billed
        });
    }
    let is_closed = |id: OrganisationId| {
        let mut statements = statements.iter();
        statements.any(|statement| statement.organisation_id == id)
    };
    for line in usage.store.usage_report(&filter).await? {
        if !is_closed(line.organisation_id) {
            let totals = UsageTotals {
                requests: line.sums.billable_requests,
                rows: line.sums.rows,
                bytes_sent: line.sums.bytes_sent,
                bytes_scanned: line.sums.bytes_scanned,
            };
            all.push(of(line.organisation_id, &line.organisation, &totals)?);
        }
    }
    if let (true, Some(organisation)) = (all.is_empty(), &organisation) {
        let nothing = UsageTotals::default();
        all.push(of(organisation.id, &organisation.name, &nothing)?);
    }
    all.sort_by(|one, other| one.organisation.cmp(&other.organisation));
    Ok(all)
}

fn show(usage: &UsageCommand, billed: &MonthInvoice) -> anyhow::Result<()> {
    let state = match billed.closed_at {
        Some(at) => format!("closed {}", format_instant(at)),
        None => "PREVIEW: the month is not closed".to_owned(),
    };
    let (name, month) = (&billed.organisation, billed.month);
    usage.print_line(&format!("{name}, {month} ({state})"))?;
    let invoice = &billed.invoice;
    let amount = format!("amount {}", invoice.currency);
    let head = ["item", "unit", "used", "free", "billed", "price", &amount];
    let mut table = Table::new(head).numbers([2, 3, 4, 5, 6]);
    for line in &invoice.lines {
        table.row(cells(line));
    }
    let mut total = vec![String::new(); 5];
    total.insert(0, "total".to_owned());
    total.push(invoice.total.to_string());
    table.row(total);
    usage.context.terminal.table(&table)?;
    usage.show_adjustments(&billed.adjustments)
}

/// Returns the cells of a line of an invoice, in the order of tables and CSV.
fn cells(line: &InvoiceLine) -> [String; 7] {
    [
        line.item.to_owned(),
        line.unit.to_owned(),
        line.quantity.to_string(),
        line.allowance.to_string(),
        line.billed.to_string(),
        line.price.to_string(),
        line.amount.to_string(),
    ]
}

fn as_csv(all: &[MonthInvoice]) -> String {
    let mut out = csv::line([
        "organisation",
        "organisation_id",
        "month",
        "state",
        "item",
        "unit",
        "quantity",
        "allowance",
        "billed",
        "price",
        "amount",
        "currency",
    ]);
    for billed in all {
        for line in &billed.invoice.lines {
            let of = [
                billed.organisation.clone(),
                billed.organisation_id.to_string(),
                billed.month.to_string(),
                if billed.preview { "preview" } else { "closed" }.to_owned(),
            ];
            let currency = billed.invoice.currency.to_string();
            let row = of.into_iter().chain(cells(line)).chain([currency]);
            out.push_str(&csv::line(row));
        }
    }
    out
}
