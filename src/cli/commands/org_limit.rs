//! `plantlake org limit`: shows and changes the usage limits of an organisation, with its usage of this month.

use std::str::FromStr;

use clap::Args;
use serde_json::json;

use crate::cli::administration::operator;
use crate::cli::output::{Table, human};
use crate::cli::run_command::Context;
use crate::clock;
use crate::config::parse_size;
use crate::model::Month;
use crate::store::{LimitsChange, OrganisationStore};

const EXAMPLES: &str = "\
Without flags, shows the limits and the usage of this UTC month. Servers apply a change within seconds. Requests over the rate
limit are refused until a moment later, requests over a monthly quota until the next month.

Examples:
  plantlake org limit acme
  plantlake org limit acme --requests-per-second 20 --concurrent-queries 4
  plantlake org limit acme --monthly-requests 100000 --monthly-bytes-sent 10GB --monthly-bytes-scanned 1TB
  plantlake org limit acme --monthly-bytes-sent none
      Removes the limit.";

/// Arguments of `org limit`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LimitArgs {
    /// The organisation, by name or id
    organisation: String,
    /// Requests per second on average; 0.5 is one every two seconds
    #[arg(long, value_name = "N|none", value_parser = per_second, allow_negative_numbers = true)]
    requests_per_second: Option<Limit<f64>>,
    /// Concurrent queries
    #[arg(long, value_name = "N|none", value_parser = whole, allow_negative_numbers = true)]
    concurrent_queries: Option<Limit<u64>>,
    /// Billable requests per UTC month
    #[arg(long, value_name = "N|none", value_parser = whole, allow_negative_numbers = true)]
    monthly_requests: Option<Limit<u64>>,
    /// Bytes sent per UTC month, such as 10GB
    #[arg(long, value_name = "SIZE|none", value_parser = size, allow_negative_numbers = true)]
    monthly_bytes_sent: Option<Limit<u64>>,
    /// Bytes of the lake's files scanned per UTC month, such as 1TB
    #[arg(long, value_name = "SIZE|none", value_parser = size, allow_negative_numbers = true)]
    monthly_bytes_scanned: Option<Limit<u64>>,
}

/// A limit as an argument; `none` removes the limit.
#[derive(Debug, Clone, Copy)]
struct Limit<T>(Option<T>);

fn limit<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Limit<T>, String> {
    match text.trim() {
        "none" => Ok(Limit(None)),
        text => read(text).map(|limit| Limit(Some(limit))),
    }
}

fn number<T: FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| format!("expected {expected} or `none`"))
}

fn per_second(text: &str) -> Result<Limit<f64>, String> {
    limit(text, |text| number(text, "a number"))
}

fn whole(text: &str) -> Result<Limit<u64>, String> {
    limit(text, |text| number(text, "a whole number"))
}

fn size(text: &str) -> Result<Limit<u64>, String> {
    let expected = "expected a number with a unit, such as 10GB, or `none`";
    limit(text, |text| {
        parse_size(text).map_err(|problem| format!("it {problem}; {expected}"))
    })
}

impl LimitArgs {
    fn change(&self) -> LimitsChange {
        LimitsChange {
            requests_per_second: self.requests_per_second.map(|limit| limit.0),
            concurrent_queries: self.concurrent_queries.map(|limit| limit.0),
            monthly_requests: self.monthly_requests.map(|limit| limit.0),
            monthly_bytes_sent: self.monthly_bytes_sent.map(|limit| limit.0),
            monthly_bytes_scanned: self.monthly_bytes_scanned.map(|limit| limit.0),
        }
    }
}

/// Shows the limits, after changing those that are given.
pub(super) async fn run(
    context: &Context,
    store: &OrganisationStore,
    args: LimitArgs,
    as_json: bool,
) -> anyhow::Result<()> {
    let organisation = store.organisation(&args.organisation).await?;
    let wanted = args.change();
    let (limits, changed) = if wanted.is_empty() {
        (store.organisation_limits(organisation.id).await?, false)
    } else {
        store
            .change_organisation_limits(&operator(), organisation.id, &wanted)
            .await?
    };
    let month = Month::containing(clock::now());
    let totals = store.usage_totals(month).await?;
    let used = totals
        .into_iter()
        .find_map(|(id, totals)| (id == organisation.id).then_some(totals))
        .unwrap_or_default();
    if as_json {
        let printed = json!({
            "organisation": organisation.name, "limits": limits, "changed": changed, "month": month, "used": used,
        });
        return Ok(context.terminal.line(&printed.to_string())?);
    }
    if !wanted.is_empty() {
        let done = if changed { "changed" } else { "unchanged" };
        let text = format!("the limits of {} are {done}", organisation.name);
        context.terminal.line(&text)?;
    }
    let none = || "none".to_owned();
    let count = |limit: Option<u64>| limit.map_or_else(none, human::count);
    let bytes = |limit: Option<u64>| limit.map_or_else(none, human::decimal_bytes);
    let rate = limits
        .requests_per_second
        .map_or_else(none, |rate| rate.to_string());
    let head = [
        "limit".to_owned(),
        "maximum".to_owned(),
        format!("used in {month}"),
    ];
    let mut table = Table::new(head).numbers([1, 2]);
    for (what, limit, used) in [
        ("requests per second", rate, String::new()),
        (
            "concurrent queries",
            count(limits.concurrent_queries),
            String::new(),
        ),
        (
            "billable requests per month",
            count(limits.monthly_requests),
            human::count(used.requests),
        ),
        (
            "bytes sent per month",
            bytes(limits.monthly_bytes_sent),
            human::decimal_bytes(used.bytes_sent),
        ),
        (
            "bytes scanned per month",
            bytes(limits.monthly_bytes_scanned),
            human::decimal_bytes(used.bytes_scanned),
        ),
    ] {
        table.row([what.to_owned(), limit, used]);
    }
    Ok(context.terminal.table(&table)?)
}
