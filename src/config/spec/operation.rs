//! Settings of search, the scheduler, metrics, prices and the log.

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::TimeDelta;
use rust_decimal::Decimal;

use super::derived;
use super::setting::{DefaultValue, Setting, SettingSpec, Type, settings};
use crate::config::values as value;
use crate::config::values::{LogFormat, WebhookUrl, money};
use crate::model::Currency;

const PRICE: &str =
    "a number from 0 to 1000000 with at most 6 decimals, in quotes if it has any: \"0.40\"";
const MODEL: &str = "a model's name on the hub: organisation/name";

settings! {
    SEARCH => SearchSettings, "Settings of search.";

    SEARCH_MODELS => models: PathBuf, value::folder {
        key: "search.models", types: &[Type::Text], expected: "a folder on this machine",
        default: DefaultValue::Derived { description: "`<state>/models`", rule: derived::models },
        example: "\"/var/lib/plantlake/models\"", flag: None,
        doc: "The folder of the models of search, each in its own subfolder; `plantlake models fetch` fetches them.",
    }
    SEARCH_BI_ENCODER => bi_encoder: String, value::model {
        key: "search.bi_encoder", types: &[Type::Text], expected: MODEL,
        default: DefaultValue::Fixed("sentence-transformers/all-MiniLM-L6-v2"),
        example: "\"sentence-transformers/all-MiniLM-L12-v2\"", flag: None,
        doc: "The model that computes the embedding of a text: a BERT sentence transformer with mean pooling.",
    }
    SEARCH_CROSS_ENCODER => cross_encoder: String, value::model {
        key: "search.cross_encoder", types: &[Type::Text], expected: MODEL,
        default: DefaultValue::Fixed("cross-encoder/ms-marco-MiniLM-L6-v2"),
        example: "\"cross-encoder/ms-marco-MiniLM-L12-v2\"", flag: None,
        doc: "The model that re-ranks the best results by reading the query together with each of them: a BERT sequence \
              classifier with one output.",
    }
}

settings! {
    SCHEDULE => ScheduleSettings, "Settings of the scheduler.";

    SCHEDULE_HISTORY => history: TimeDelta, value::history_time {
        key: "schedule.history", types: &[Type::Text],
        expected: "a duration from 1d to 3650d, such as 30d or 365d",
        default: DefaultValue::Fixed("90d"), example: "\"365d\"", flag: None,
        doc: "How long runs of jobs stay in the history. The last run of each job always stays.",
    }
    SCHEDULE_WEBHOOK_URL => webhook_url: Option<WebhookUrl>, WebhookUrl::parse {
        key: "schedule.webhook_url", types: &[Type::Text],
        expected: "a URL that begins with https:// or http://",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"https://alerts.example/hooks/plantlake\"", flag: None,
        doc: "The URL to which failed jobs are reported, by a POST of JSON with `job`, `kind`, `status`, `error`, \
              `attempts`, `host`, `pid`, `run`, `scheduled_for`, `started_at` and `ended_at`. It is not shown, because \
              anyone who knows it can write there.",
    }
    SCHEDULE_SHUTDOWN_TIMEOUT => shutdown_timeout: TimeDelta, value::timeout {
        key: "schedule.shutdown_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("1min"), example: "\"10min\"", flag: None,
        doc: "How long running jobs may continue when their process is asked to stop. Then they are aborted, and the next \
              available process runs them again.",
    }
}

settings! {
    METRICS;

    METRICS_LISTEN: Option<SocketAddr>, value::optional_address {
        key: "metrics.listen", types: &[Type::Text],
        expected: "an address with a port, such as 127.0.0.1:9464, or `off`",
        default: DefaultValue::Fixed("127.0.0.1:9464"), example: "\"off\"", flag: None,
        doc: "The address on which `plantlake serve` and `plantlake schedule` serve `/metrics`, `/healthz` and `/readyz` \
              over HTTP; port 0 picks a free port. If the address is in use, that is an error only if it was set.",
    }
    METRICS_ALLOW_REMOTE: bool, value::boolean {
        key: "metrics.allow_remote", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether the metrics may be served to other machines, to everyone and without encryption.",
    }
}

settings! {
    BILLING;

    BILLING_CURRENCY: Currency, money::currency {
        key: "billing.currency", types: &[Type::Text],
        expected: "the three capital letters of a currency, such as EUR",
        default: DefaultValue::Fixed("EUR"), example: "\"USD\"", flag: None,
        doc: "The currency of `plantlake usage invoice`. Each line of an invoice is rounded half up to the smallest unit \
              of the currency.",
    }
    BILLING_PER_1000_REQUESTS: Decimal, money::price {
        key: "billing.per_1000_requests", types: &[Type::Text, Type::Integer], expected: PRICE,
        default: DefaultValue::Fixed("0"), example: "\"0.40\"", flag: None,
        doc: "The price of 1,000 billable requests; other numbers are billed in proportion.",
    }
    BILLING_FREE_REQUESTS: u64, money::whole_number {
        key: "billing.free_requests", types: &[Type::Integer], expected: "a whole number",
        default: DefaultValue::Fixed("0"), example: "10000", flag: None,
        doc: "Billable requests of an organisation that are free in each month.",
    }
    BILLING_PER_GB_SENT: Decimal, money::price {
        key: "billing.per_gb_sent", types: &[Type::Text, Type::Integer], expected: PRICE,
        default: DefaultValue::Fixed("0"), example: "\"0.09\"", flag: None,
        doc: "The price of a GB (1,000,000,000 bytes) sent.",
    }
    BILLING_FREE_GB_SENT: Decimal, money::quantity {
        key: "billing.free_gb_sent", types: &[Type::Text, Type::Integer],
        expected: "a number from 0 to 1000000000 with at most 9 decimals, such as 10 or \"0.5\"",
        default: DefaultValue::Fixed("0"), example: "\"10\"", flag: None,
        doc: "GB sent that are free in each month.",
    }
    BILLING_PER_GB_SCANNED: Decimal, money::price {
        key: "billing.per_gb_scanned", types: &[Type::Text, Type::Integer], expected: PRICE,
        default: DefaultValue::Fixed("0"), example: "\"0.005\"", flag: None,
        doc: "The price of a GB (1,000,000,000 bytes) of the lake's files that queries scan.",
    }
    BILLING_FREE_GB_SCANNED: Decimal, money::quantity {
        key: "billing.free_gb_scanned", types: &[Type::Text, Type::Integer],
        expected: "a number from 0 to 1000000000 with at most 9 decimals, such as 10 or \"0.5\"",
        default: DefaultValue::Fixed("0"), example: "\"10\"", flag: None,
        doc: "GB scanned that are free in each month.",
    }
}

settings! {
    LOGGING => LogSettings, "Settings of logging.";

    LOG => filter: String, value::log_filter {
        key: "log", types: &[Type::Text],
        expected: "a level (error, warn, info, debug, trace, off) or a filter such as \
                   warn,plantlake::lake=debug",
        default: DefaultValue::Fixed("warn"), example: "\"info\"", flag: Some("--log"),
        doc: "The filter of log lines on standard error, in the syntax of the tracing library.",
    }
    LOG_FORMAT => format: LogFormat, value::log_format {
        key: "log_format", types: &[Type::Text], expected: "`text` or `json`",
        default: DefaultValue::Fixed("text"), example: "\"json\"", flag: None,
        doc: "The format of log lines: text for people, or one JSON object per line.",
    }
    LOG_SQL => sql: bool, value::boolean {
        key: "log_sql", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether the log contains the text of queries (level info), which may be confidential.",
    }
}
