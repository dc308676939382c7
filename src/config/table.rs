//! The declaration of every setting: name, type, default, flag and documentation.

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::TimeDelta;
use chrono_tz::Tz;
use rust_decimal::Decimal;
use url::Url;

use super::database_url::DatabaseUrl;
use super::derived;
use super::location::Location;
use super::money;
use super::networks::Networks;
use super::raw::RawSettings;
use super::secret::Secret;
use super::value::{self, ExpiryAction, JournalFullAction, LogFormat, TimeBound, WebhookUrl};
use crate::model::Currency;

/// The prefix of the environment variables.
pub(super) const ENVIRONMENT_PREFIX: &str = "PLANTLAKE_";

/// A value's type in the settings file. In the environment and in flags everything is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// A date or a date with time, which TOML can write without quotes.
    Date,
    /// `true` or `false`.
    Boolean,
}

/// The default of a setting.
#[derive(Clone, Copy)]
pub enum DefaultValue {
    /// A constant.
    Fixed(&'static str),
    /// A value that depends on other settings or on the machine.
    Derived {
        /// The description of the rule.
        description: &'static str,
        /// The rule.
        rule: fn(&RawSettings) -> String,
    },
}

/// The description of a setting, without its Rust type.
#[derive(Clone, Copy)]
pub struct SettingSpec {
    /// The name in the settings file; a dot separates a table from its key.
    pub key: &'static str,
    /// The types that it may have in the settings file.
    pub types: &'static [Type],
    /// The accepted values, as a phrase.
    pub expected: &'static str,
    /// The default.
    pub default: DefaultValue,
    /// An example, as written in the settings file.
    pub example: &'static str,
    /// The flag that sets it, if there is one.
    pub flag: Option<&'static str>,
    /// The description.
    pub doc: &'static str,
}

impl SettingSpec {
    /// Returns the environment variable that sets it: `resample.memory` is `PLANTLAKE_RESAMPLE_MEMORY`.
    pub fn environment_name(&self) -> String {
        environment_name(self.key)
    }
}

/// Returns the environment variable for the setting `key`.
pub(super) fn environment_name(key: &str) -> String {
    format!(
        "{ENVIRONMENT_PREFIX}{}",
        key.replace('.', "_").to_uppercase()
    )
}

/// A setting together with its Rust type.
pub(super) struct Setting<T> {
    pub(super) spec: SettingSpec,
    /// Parses the text, or returns the problem with it ("is below the minimum of 64MiB").
    pub(super) parse: fn(&str) -> Result<T, String>,
}

/// Declares the settings and [`SETTINGS`] together: a setting that is not listed here cannot be read anywhere.
macro_rules! settings {
    ($($name:ident: $type:ty, $parse:path { $($field:ident: $value:expr),* $(,)? })*) => {
        $(pub(super) const $name: Setting<$type> =
            Setting { spec: SettingSpec { $($field: $value),* }, parse: $parse };)*

        /// Every setting, in the order in which they are shown. Those of `storage.*` are not included: their names
        /// are `object_store`'s.
        pub const SETTINGS: &[SettingSpec] = &[$($name.spec),*];
    };
}

const LOCATION: &str = "a folder, or a URL such as file:///srv/lake or s3://bucket/lake";
const COUNT_LIMIT: &str = "a whole number from 1 to 1000000";
const DATABASE: &str =
    "a URL such as sqlite:/srv/organisation.db or postgres://user@host/organisation";
const PRICE: &str =
    "a number from 0 to 1000000 with at most 6 decimals, in quotes if it has any: \"0.40\"";
const MODEL: &str = "a model's name on the hub: organisation/name";
const WINDOW: &str = "a duration from 1h to 36500d, such as 36h or 90d";
const RETENTION_TIME: &str = "`forever`, or a duration from 1d to 36500d, such as 90d or 3652d";
const CONNECTIONS: &str = "a whole number from 8 to 1000000";
const TIMEOUT: &str = "a duration from 1s to 1d, such as 30s, 10min or 2h";
const TIME_BOUND: &str = "a date (2024-12-31), a time with its zone (2024-12-31T08:00:00Z), \
                          or a distance from now in days or hours (+1d, -12h)";

settings! {
    LAKE: Location, Location::parse {
        key: "lake", types: &[Type::Text], expected: LOCATION,
        default: DefaultValue::Fixed("lake"), example: "\"s3://plant/lake\"", flag: Some("--lake"),
        doc: "The root of the lake: raw files, the Delta tables and the record of runs.",
    }
    STATE: PathBuf, value::folder {
        key: "state", types: &[Type::Text], expected: "a folder on this machine",
        default: DefaultValue::Derived {
            description: "`<lake>/.state` for a lake on the local disk, else `state`",
            rule: derived::state,
        },
        example: "\"/var/lib/plantlake\"", flag: Some("--state"),
        doc: "The folder of data that belongs to this machine: embedded databases, keys, journal, vectors.",
    }
    CATALOG: PathBuf, value::folder {
        key: "catalog", types: &[Type::Text], expected: "a folder on this machine",
        default: DefaultValue::Fixed("catalog"), example: "\"plant/catalog\"", flag: Some("--catalog"),
        doc: "The catalog of the plant: `assets.json`, `id2assets.json`, `graph.json` and `views/`.",
    }
    ORGANISATION_URL: DatabaseUrl, DatabaseUrl::parse_organisation {
        key: "organisation_url", types: &[Type::Text], expected: DATABASE,
        default: DefaultValue::Derived {
            description: "`sqlite:<state>/organisation.db`",
            rule: derived::organisation_url,
        },
        example: "\"postgres://plantlake@db.example/organisation?sslmode=verify-full\"", flag: None,
        doc: "The database of organisations, users, keys and the audit trail. A connection to Postgres on another machine \
              is encrypted, unless the URL contains `sslmode=disable`. The variables `auth_host`, `auth_port`, `auth_db`, \
              `auth_user` and `auth_password` (or `auth_password_FILE`, which names a file that contains it) are an \
              alternative to the URL.",
    }
    MIRROR_URL: Option<DatabaseUrl>, DatabaseUrl::parse_mirror {
        key: "mirror_url", types: &[Type::Text], expected: "a URL such as postgres://user@host/chemical",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"postgres://plantlake@db.example/chemical\"", flag: None,
        doc: "The Postgres database that recent averages are mirrored to. The variables `DB_HOST`, `DB_PORT`, `DB_NAME`, \
              `DB_USER` and `DB_PASSWORD` (or `DB_PASSWORD_FILE`) are an alternative to the URL. As with \
              `organisation_url`, the connection is encrypted unless the server is on this machine or the URL contains \
              `sslmode=disable`.",
    }
    MIRROR_WINDOW_MIN: TimeDelta, value::window {
        key: "mirror.window_min", types: &[Type::Text], expected: WINDOW,
        default: DefaultValue::Fixed("7d"), example: "\"14d\"", flag: None,
        doc: "How far back from now minutes are mirrored, in whole UTC dates: the date on which the window begins is \
              included.",
    }
    MIRROR_WINDOW_H: TimeDelta, value::window {
        key: "mirror.window_h", types: &[Type::Text], expected: WINDOW,
        default: DefaultValue::Fixed("90d"), example: "\"180d\"", flag: None,
        doc: "How far back from now hours are mirrored.",
    }
    MIRROR_WINDOW_D: TimeDelta, value::window {
        key: "mirror.window_d", types: &[Type::Text], expected: WINDOW,
        default: DefaultValue::Fixed("1826d"), example: "\"3652d\"", flag: None,
        doc: "How far back from now days are mirrored.",
    }
    MIRROR_TIMEOUT: TimeDelta, value::timeout {
        key: "mirror.timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("5min"), example: "\"1h\"", flag: None,
        doc: "The maximum time of one statement in the mirror's Postgres (of up to a million rows). After it, Postgres \
              counts as unavailable.",
    }
    MIRROR_RETRY_FOR: TimeDelta, value::retry_time {
        key: "mirror.retry_for", types: &[Type::Text],
        expected: "a duration from 0s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("2min"), example: "\"10min\"", flag: None,
        doc: "How long `plantlake mirror` retries while Postgres is unavailable or the connection is lost, counted from \
              the first failure.",
    }
    QDRANT_URL: Option<Url>, value::qdrant_url {
        key: "qdrant_url", types: &[Type::Text],
        expected: "the URL of gRPC, not of REST, such as https://qdrant.example:6334",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"https://qdrant.example:6334\"", flag: None,
        doc: "The Qdrant server (1.19 or newer) that stores the search index. Without it, the index is stored in \
              `<state>/search`, which one process at a time can use. The server's certificate is verified with the \
              certificates of this machine, or with those that the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name.",
    }
    QDRANT_API_KEY: Option<Secret>, value::api_key {
        key: "qdrant_api_key", types: &[Type::Text], expected: "visible ASCII characters without spaces",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"k3y\"", flag: None,
        doc: "The API key of the Qdrant server. It is masked wherever settings are shown, and sent to a server on another \
              machine by `https` only.",
    }
    QDRANT_COLLECTION: String, value::collection {
        key: "qdrant_collection", types: &[Type::Text],
        expected: "1 to 64 letters, digits and underscores",
        default: DefaultValue::Fixed("plantlake"), example: "\"plantlake_test\"", flag: None,
        doc: "The name of the search index on the Qdrant server: the name of an alias, and the prefix of the collections. \
              Installations that share a Qdrant server need different names; servers of one installation need the same \
              name.",
    }
    QDRANT_TIMEOUT: TimeDelta, value::timeout {
        key: "qdrant_timeout", types: &[Type::Text], expected: "a duration from 1s to 1d, such as 5s",
        default: DefaultValue::Fixed("5s"), example: "\"2s\"", flag: None,
        doc: "The maximum time that a search waits for the Qdrant server. Indexing waits 12 times as long.",
    }
    KEYS_DIR: PathBuf, value::folder {
        key: "keys_dir", types: &[Type::Text], expected: "a folder on this machine",
        default: DefaultValue::Derived { description: "`<state>/keys`", rule: derived::keys_dir },
        example: "\"/etc/plantlake/keys\"", flag: None,
        doc: "The folder of the keys that sign access tokens; readable by their owner only. Replicas of a server share one \
              folder.",
    }
    AUTH_TOKEN_LIFETIME: TimeDelta, value::token_lifetime {
        key: "auth.token_lifetime", types: &[Type::Text],
        expected: "a duration from 1min to 30d, such as 15min, 12h or 7d",
        default: DefaultValue::Fixed("12h"), example: "\"15min\"", flag: None,
        doc: "How long an access token is valid after sign-in. A revoked one ends within seconds.",
    }
    AUTH_ISSUER: String, value::name {
        key: "auth.issuer", types: &[Type::Text], expected: "a name or a URL",
        default: DefaultValue::Fixed("plantlake"), example: "\"https://plantlake.example\"", flag: None,
        doc: "The issuer of access tokens (their `iss`); tokens of other issuers are refused.",
    }
    AUTH_AUDIENCE: String, value::name {
        key: "auth.audience", types: &[Type::Text], expected: "a name or a URL",
        default: DefaultValue::Fixed("plantlake"), example: "\"plantlake-production\"", flag: None,
        doc: "The audience of access tokens (their `aud`); tokens for other audiences are refused.",
    }
    AUTH_KEYS_PER_ORGANISATION: u64, value::count_limit {
        key: "auth.keys_per_organisation", types: &[Type::Integer], expected: COUNT_LIMIT,
        default: DefaultValue::Fixed("1000"), example: "5000", flag: None,
        doc: "The maximum number of API keys of an organisation that are neither revoked nor expired. An organisation that \
              has reached it cannot create another.",
    }
    AUTH_SESSIONS_PER_USER: u64, value::count_limit {
        key: "auth.sessions_per_user", types: &[Type::Integer], expected: COUNT_LIMIT,
        default: DefaultValue::Fixed("1000"), example: "200", flag: None,
        doc: "The maximum number of sessions of a user. A sign-in beyond it ends the oldest session.",
    }
    AUTH_CHANGES_PER_DAY: u64, value::count_limit {
        key: "auth.changes_per_day", types: &[Type::Integer], expected: COUNT_LIMIT,
        default: DefaultValue::Fixed("5000"), example: "500", flag: None,
        doc: "The maximum number of changes that a user of an organisation makes within 24 hours: changes of users and \
              keys by its admins, and of their own passwords. Revoking keys, and deactivating and removing users, is \
              always possible. Operators are not limited.",
    }
    JOBS: PathBuf, value::folder {
        key: "jobs", types: &[Type::Text], expected: "a folder on this machine",
        default: DefaultValue::Fixed("jobs"), example: "\"plant/jobs\"", flag: None,
        doc: "The folder of job files, `<job>.toml`.",
    }
    RAW: Location, Location::parse {
        key: "raw", types: &[Type::Text], expected: LOCATION,
        default: DefaultValue::Derived { description: "`<lake>/raw`", rule: derived::raw },
        example: "\"s3://plant/raw\"", flag: Some("--raw (of `plantlake resample`)"),
        doc: "The location of the raw Parquet files that `plantlake resample` reads, including subfolders.",
    }
    RESAMPLE_MEMORY: u64, value::memory {
        key: "resample.memory", types: &[Type::Text, Type::Integer],
        expected: "at least 64MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("1GiB"), example: "\"512MiB\"", flag: None,
        doc: "The maximum memory of the buffers of `plantlake resample`, however large the input is.",
    }
    RESAMPLE_THREADS: usize, value::threads {
        key: "resample.threads", types: &[Type::Integer],
        expected: "a whole number from 1 to 1024",
        default: DefaultValue::Derived { description: "the number of cores", rule: derived::threads },
        example: "4", flag: None,
        doc: "The number of threads on which `plantlake resample` computes.",
    }
    RESAMPLE_TIMEZONE: Tz, value::timezone {
        key: "resample.timezone", types: &[Type::Text],
        expected: "the IANA name of a time zone, such as UTC or Europe/Berlin",
        default: DefaultValue::Fixed("UTC"), example: "\"Europe/Berlin\"", flag: None,
        doc: "The time zone of raw timestamps that are stored without one. Timestamps that are stored with a zone are \
              converted to UTC.",
    }
    RESAMPLE_EARLIEST: TimeBound, value::earliest {
        key: "resample.earliest", types: &[Type::Text, Type::Date], expected: TIME_BOUND,
        default: DefaultValue::Fixed("1970-01-01"), example: "\"2015-01-01\"", flag: None,
        doc: "The first plausible time: readings before it are left out and counted. \
              A date means its first instant, UTC.",
    }
    RESAMPLE_LATEST: TimeBound, value::latest {
        key: "resample.latest", types: &[Type::Text, Type::Date], expected: TIME_BOUND,
        default: DefaultValue::Fixed("+1d"), example: "\"+1h\"", flag: None,
        doc: "The last plausible time: readings after it are left out and counted. \
              A date means its last instant, UTC.",
    }
    RETENTION_RAW_KEEP: Option<TimeDelta>, value::retention_time {
        key: "retention.raw.keep", types: &[Type::Text], expected: RETENTION_TIME,
        default: DefaultValue::Fixed("forever"), example: "\"400d\"", flag: None,
        doc: "How long raw files stay where `plantlake resample` reads them, counted back from now in whole UTC dates. A \
              file expires as a whole, when all its dates have expired and are in the averages.",
    }
    RETENTION_RAW_THEN: ExpiryAction, value::expiry_action {
        key: "retention.raw.then", types: &[Type::Text], expected: "`archive` or `delete`",
        default: DefaultValue::Fixed("archive"), example: "\"delete\"", flag: None,
        doc: "The action of `plantlake maintain` on expired raw files: move them to `<lake>/archive/raw`, where late \
              readings can still be combined with them; or delete them, which seals their dates: readings that arrive \
              later are quarantined.",
    }
    RETENTION_MINUTE_KEEP: Option<TimeDelta>, value::retention_time {
        key: "retention.minute.keep", types: &[Type::Text], expected: RETENTION_TIME,
        default: DefaultValue::Fixed("forever"), example: "\"90d\"", flag: None,
        doc: "How long minutes stay in `data_min`, counted back from now in whole UTC dates. Hours and days do not depend on it.",
    }
    RETENTION_MINUTE_THEN: ExpiryAction, value::expiry_action {
        key: "retention.minute.then", types: &[Type::Text], expected: "`archive` or `delete`",
        default: DefaultValue::Fixed("archive"), example: "\"delete\"", flag: None,
        doc: "The action of `plantlake maintain` on expired minutes: move them to the table `archive.data_min`, or delete \
              them. Minutes that are already in the archive stay there.",
    }
    RETENTION_HOUR_KEEP: Option<TimeDelta>, value::retention_time {
        key: "retention.hour.keep", types: &[Type::Text], expected: RETENTION_TIME,
        default: DefaultValue::Fixed("forever"), example: "\"1826d\"", flag: None,
        doc: "How long hours stay in `data_h`, counted back from now in whole UTC dates. A month expires as a whole, when \
              its last date has expired.",
    }
    RETENTION_HOUR_THEN: ExpiryAction, value::expiry_action {
        key: "retention.hour.then", types: &[Type::Text], expected: "`archive` or `delete`",
        default: DefaultValue::Fixed("archive"), example: "\"delete\"", flag: None,
        doc: "The action of `plantlake maintain` on expired hours: move them to the table `archive.data_h`, or delete \
              them.",
    }
    RETENTION_DAY_KEEP: Option<TimeDelta>, value::retention_time {
        key: "retention.day.keep", types: &[Type::Text], expected: RETENTION_TIME,
        default: DefaultValue::Fixed("forever"), example: "\"7305d\"", flag: None,
        doc: "How long days stay in `data_d`, counted back from now in whole UTC dates. A year expires as a whole, when \
              its last date has expired.",
    }
    RETENTION_DAY_THEN: ExpiryAction, value::expiry_action {
        key: "retention.day.then", types: &[Type::Text], expected: "`archive` or `delete`",
        default: DefaultValue::Fixed("archive"), example: "\"delete\"", flag: None,
        doc: "The action of `plantlake maintain` on expired days: move them to the table `archive.data_d`, or delete them.",
    }
    MAINTAIN_TARGET_FILE_SIZE: u64, value::file_size {
        key: "maintain.target_file_size", types: &[Type::Text, Type::Integer],
        expected: "from 1MiB to 4GiB: a number of bytes, or a number with a unit (64MiB, 1GB)",
        default: DefaultValue::Fixed("128MiB"), example: "\"256MiB\"", flag: None,
        doc: "The size of the files to which `plantlake maintain` compacts small files. Files of at least three quarters \
              of it are not compacted.",
    }
    MAINTAIN_GRACE: TimeDelta, value::grace_period {
        key: "maintain.grace", types: &[Type::Text],
        expected: "a duration from 1h to 5d, such as 12h or 2d",
        default: DefaultValue::Fixed("24h"), example: "\"48h\"", flag: None,
        doc: "How long files stay that no published version references any more, for queries in progress and for external \
              readers. At least the hour for which tickets are valid, plus `serve.queue_timeout` and \
              `serve.query_timeout`, even if a shorter time is set.",
    }
    SERVE_LISTEN: SocketAddr, value::address {
        key: "serve.listen", types: &[Type::Text], expected: "an address with a port, such as 127.0.0.1:50051",
        default: DefaultValue::Fixed("127.0.0.1:50051"), example: "\"0.0.0.0:50051\"",
        flag: Some("--listen (of `plantlake serve`)"),
        doc: "The address on which `plantlake serve` listens; port 0 picks a free port. An address that other machines can \
              reach requires TLS.",
    }
    SERVE_TLS_CERT: Option<PathBuf>, value::optional_file {
        key: "serve.tls_cert", types: &[Type::Text], expected: "a file on this machine",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"/etc/plantlake/server.pem\"", flag: Some("--tls-cert (of `plantlake serve`)"),
        doc: "The server's certificate and the intermediate certificates, PEM. A changed file is loaded without a restart.",
    }
    SERVE_TLS_KEY: Option<PathBuf>, value::optional_file {
        key: "serve.tls_key", types: &[Type::Text], expected: "a file on this machine",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"/etc/plantlake/server.key\"", flag: Some("--tls-key (of `plantlake serve`)"),
        doc: "The private key of the certificate, PEM.",
    }
    SERVE_ALLOW_PLAINTEXT: bool, value::boolean {
        key: "serve.allow_plaintext", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true",
        flag: Some("--allow-plaintext (of `plantlake serve`)"),
        doc: "Whether `plantlake serve` may listen without TLS on an address that other machines can reach: passwords and \
              data can then be read in transit. For a proxy that terminates TLS.",
    }
    SERVE_QUERIES: usize, value::threads {
        key: "serve.queries", types: &[Type::Integer],
        expected: "a whole number from 1 to 1024",
        default: DefaultValue::Derived { description: "one more than the number of cores", rule: derived::queries },
        example: "8", flag: None,
        doc: "The maximum number of long queries that `plantlake serve` runs at the same time. Others wait, and \
              organisations take turns; short queries do not wait. Each query uses all cores, so more of them take more \
              memory and do not finish sooner, unless they wait for a remote lake.",
    }
    SERVE_QUERY_MEMORY: u64, value::memory {
        key: "serve.query_memory", types: &[Type::Text, Type::Integer],
        expected: "at least 64MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("512MiB"), example: "\"2GiB\"", flag: None,
        doc: "The maximum memory of one query for sorting, grouping and joining. Data that does not fit is spilled to \
              `<state>/spill`; a query whose data cannot be spilled is ended. For all purposes together, a query allocates \
              at most twice as much, or 256MiB if that is more.",
    }
    SERVE_TOTAL_MEMORY: u64, value::memory {
        key: "serve.total_memory", types: &[Type::Text, Type::Integer],
        expected: "at least 64MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("2GiB"), example: "\"16GiB\"", flag: None,
        doc: "The maximum memory of all queries together for these purposes. When the memory of the process exceeds it by \
              an eighth (at least 24MiB, but at most 3/16), not counting the memory before the first query, the query that \
              holds most memory is ended.",
    }
    SERVE_SPILL: u64, value::size {
        key: "serve.spill", types: &[Type::Text, Type::Integer],
        expected: "a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("16GiB"), example: "\"100GiB\"", flag: None,
        doc: "The maximum disk space of all queries together in `<state>/spill`.",
    }
    SERVE_QUERY_TIMEOUT: TimeDelta, value::timeout {
        key: "serve.query_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("10min"), example: "\"1h\"", flag: None,
        doc: "The maximum time that one query runs; the time that the client takes to read the result does not count.",
    }
    SERVE_QUEUE_TIMEOUT: TimeDelta, value::timeout {
        key: "serve.queue_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("1min"), example: "\"10min\"", flag: None,
        doc: "How long a query waits for a permit, before its client is asked to try again later.",
    }
    SERVE_UNREAD_TIMEOUT: TimeDelta, value::timeout {
        key: "serve.unread_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("5min"), example: "\"1h\"", flag: None,
        doc: "How long a result waits for its client to read on, before the query is ended and its memory freed. Its \
              permit is released after a second. A client that sends readings may pause for the same time.",
    }
    SERVE_SHUTDOWN_TIMEOUT: TimeDelta, value::timeout {
        key: "serve.shutdown_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("1min"), example: "\"10min\"", flag: None,
        doc: "How long responses in progress may continue when the server is asked to stop.",
    }
    SERVE_LARGEST_INGEST: u64, value::size {
        key: "serve.largest_ingest", types: &[Type::Text, Type::Integer],
        expected: "a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("1GiB"), example: "\"4GiB\"", flag: None,
        doc: "The maximum size of one ingest of readings, in bytes of Arrow data.",
    }
    SERVE_OLDEST_INGEST: Option<TimeDelta>, value::retention_time {
        key: "serve.oldest_ingest", types: &[Type::Text], expected: RETENTION_TIME,
        default: DefaultValue::Fixed("3650d"), example: "\"30d\"", flag: None,
        doc: "The maximum age of a reading that a client sends, counted back from now. An ingest with an older one is \
              refused, as is one with readings of more than 4,000 days (UTC), because the next run recomputes each of \
              these dates. `forever` accepts all times from `resample.earliest` on. Files in the raw folder may have \
              readings of any age.",
    }
    SERVE_CONNECTIONS: usize, value::connections {
        key: "serve.connections", types: &[Type::Integer], expected: CONNECTIONS,
        default: DefaultValue::Fixed("4096"), example: "20000", flag: None,
        doc: "The maximum number of connections at once; fewer, if the limit of open files does not allow as many in \
              addition to the files of the server itself (half of the limit, at most 1024). When all are in use, the \
              oldest connection without a valid credential is closed for a new one.",
    }
    SERVE_CONNECTIONS_PER_ADDRESS: usize, value::connections {
        key: "serve.connections_per_address", types: &[Type::Integer], expected: CONNECTIONS,
        default: DefaultValue::Fixed("1024"), example: "200", flag: None,
        doc: "The maximum number of connections at once from one address (IPv6: from one /64). Trusted proxies are exempt.",
    }
    SERVE_HANDSHAKE_TIMEOUT: TimeDelta, value::timeout {
        key: "serve.handshake_timeout", types: &[Type::Text],
        expected: TIMEOUT,
        default: DefaultValue::Fixed("10s"), example: "\"5s\"", flag: None,
        doc: "How long a client may take for the TLS handshake, and again for the headers of its first request, before its connection \
              is closed.",
    }
    SERVE_UNAUTHENTICATED_TIMEOUT: TimeDelta, value::timeout {
        key: "serve.unauthenticated_timeout", types: &[Type::Text],
        expected: TIMEOUT,
        default: DefaultValue::Fixed("30s"), example: "\"10s\"", flag: None,
        doc: "How long a connection stays open without a valid credential. Each request of gRPC's health service extends it.",
    }
    SERVE_MESSAGE_TIMEOUT: TimeDelta, value::timeout {
        key: "serve.message_timeout", types: &[Type::Text],
        expected: TIMEOUT,
        default: DefaultValue::Fixed("1min"), example: "\"5min\"", flag: None,
        doc: "How long one message of a request may take to arrive, before the call ends with an error. A message of an ingest has \
              up to 64 MiB.",
    }
    SERVE_MESSAGE_MEMORY: u64, value::memory {
        key: "serve.message_memory", types: &[Type::Text, Type::Integer],
        expected: "at least 64MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("256MiB"), example: "\"1GiB\"", flag: None,
        doc: "The maximum memory for the messages of requests that arrive at once. One organisation gets a quarter of it, \
              but at least 64 MiB; its further messages wait.",
    }
    SERVE_TRUSTED_PROXIES: Networks, Networks::parse {
        key: "serve.trusted_proxies", types: &[Type::Text],
        expected: "addresses and networks in CIDR notation, separated by commas",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"10.0.0.0/8, 192.0.2.7\"", flag: None,
        doc: "Proxies and load balancers that are trusted to report a client's address: by the header `x-forwarded-for`, \
              and by the PROXY protocol if `serve.proxy_protocol` is set. From other addresses both are ignored. Sign-ins \
              are throttled by the client's address, which is also recorded and logged.",
    }
    SERVE_PROXY_PROTOCOL: bool, value::boolean {
        key: "serve.proxy_protocol", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether each connection from `serve.trusted_proxies` begins with a PROXY protocol header (version 1 or 2), before TLS. \
              A connection from them without one is closed.",
    }
    METERING_SQL: bool, value::boolean {
        key: "metering.sql", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether the ledger of requests stores the text of statements, in addition to their fingerprint.",
    }
    METERING_JOURNAL_SIZE: u64, value::journal_size {
        key: "metering.journal_size", types: &[Type::Text, Type::Integer],
        expected: "at least 1MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("1GiB"), example: "\"10GiB\"", flag: None,
        doc: "The maximum size of the journal in `<state>/journal`, which stores requests until the organisation database \
              has them. A request takes about 1 KiB.",
    }
    METERING_JOURNAL_FULL: JournalFullAction, value::journal_full {
        key: "metering.journal_full", types: &[Type::Text], expected: "`refuse` or `go-on`",
        default: DefaultValue::Fixed("refuse"), example: "\"go-on\"", flag: None,
        doc: "The behaviour while requests cannot be recorded, because the journal has reached its size or the disk is \
              full: refuse new requests, or answer them and count those that are in no invoice.",
    }
    METERING_JOURNAL_SYNC: bool, value::boolean {
        key: "metering.journal_sync", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether the last message of a response waits until its record is synchronised to disk, and survives a power \
              cut. Otherwise, records are synchronised within a tenth of a second afterwards. A crash of the process loses \
              no record in either case.",
    }
    SEARCH_MODELS: PathBuf, value::folder {
        key: "search.models", types: &[Type::Text], expected: "a folder on this machine",
        default: DefaultValue::Derived { description: "`<state>/models`", rule: derived::models },
        example: "\"/var/lib/plantlake/models\"", flag: None,
        doc: "The folder of the models of search, each in its own subfolder; `plantlake models fetch` fetches them.",
    }
    SEARCH_BI_ENCODER: String, value::model {
        key: "search.bi_encoder", types: &[Type::Text], expected: MODEL,
        default: DefaultValue::Fixed("sentence-transformers/all-MiniLM-L6-v2"),
        example: "\"sentence-transformers/all-MiniLM-L12-v2\"", flag: None,
        doc: "The model that computes the embedding of a text: a BERT sentence transformer with mean pooling.",
    }
    SEARCH_CROSS_ENCODER: String, value::model {
        key: "search.cross_encoder", types: &[Type::Text], expected: MODEL,
        default: DefaultValue::Fixed("cross-encoder/ms-marco-MiniLM-L6-v2"),
        example: "\"cross-encoder/ms-marco-MiniLM-L12-v2\"", flag: None,
        doc: "The model that re-ranks the best results by reading the query together with each of them: a BERT sequence \
              classifier with one output.",
    }
    SCHEDULE_HISTORY: TimeDelta, value::history_time {
        key: "schedule.history", types: &[Type::Text],
        expected: "a duration from 1d to 3650d, such as 30d or 365d",
        default: DefaultValue::Fixed("90d"), example: "\"365d\"", flag: None,
        doc: "How long runs of jobs stay in the history. The last run of each job always stays.",
    }
    SCHEDULE_WEBHOOK_URL: Option<WebhookUrl>, WebhookUrl::parse {
        key: "schedule.webhook_url", types: &[Type::Text],
        expected: "a URL that begins with https:// or http://",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"https://alerts.example/hooks/plantlake\"", flag: None,
        doc: "The URL to which failed jobs are reported, by a POST of JSON with `job`, `kind`, `status`, `error`, \
              `attempts`, `host`, `pid`, `run`, `scheduled_for`, `started_at` and `ended_at`. It is not shown, because \
              anyone who knows it can write there.",
    }
    SCHEDULE_SHUTDOWN_TIMEOUT: TimeDelta, value::timeout {
        key: "schedule.shutdown_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("1min"), example: "\"10min\"", flag: None,
        doc: "How long running jobs may continue when their process is asked to stop. Then they are aborted, and the next \
              available process runs them again.",
    }
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
    LOG: String, value::log_filter {
        key: "log", types: &[Type::Text],
        expected: "a level (error, warn, info, debug, trace, off) or a filter such as \
                   warn,plantlake::lake=debug",
        default: DefaultValue::Fixed("warn"), example: "\"info\"", flag: Some("--log"),
        doc: "The filter of log lines on standard error, in the syntax of the tracing library.",
    }
    LOG_FORMAT: LogFormat, value::log_format {
        key: "log_format", types: &[Type::Text], expected: "`text` or `json`",
        default: DefaultValue::Fixed("text"), example: "\"json\"", flag: None,
        doc: "The format of log lines: text for people, or one JSON object per line.",
    }
    LOG_SQL: bool, value::boolean {
        key: "log_sql", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether the log contains the text of queries (level info), which may be confidential.",
    }
}
