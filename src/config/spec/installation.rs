//! Settings of an installation: further folders, databases, the index of search, and authentication.

use std::path::PathBuf;

use chrono::TimeDelta;
use url::Url;

use super::derived;
use super::roots::LOCATION;
use super::setting::{DefaultValue, Setting, SettingSpec, Type, settings};
use crate::config::values as value;
use crate::config::values::database_url::DatabaseUrl;
use crate::config::values::location::Location;
use crate::config::values::secret::Secret;

const COUNT_LIMIT: &str = "a whole number from 1 to 1000000";
const DATABASE: &str =
    "a URL such as sqlite:/srv/organisation.db or postgres://user@host/organisation";
const WINDOW: &str = "a duration from 1h to 36500d, such as 36h or 90d";

settings! {
    LOCATIONS;

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
}

settings! {
    MIRROR => MirrorSettings, "Settings of the mirror.";

    MIRROR_WINDOW_MIN => window_min: TimeDelta, value::window {
        key: "mirror.window_min", types: &[Type::Text], expected: WINDOW,
        default: DefaultValue::Fixed("7d"), example: "\"14d\"", flag: None,
        doc: "How far back from now minutes are mirrored, in whole UTC dates: the date on which the window begins is \
              included.",
    }
    MIRROR_WINDOW_H => window_h: TimeDelta, value::window {
        key: "mirror.window_h", types: &[Type::Text], expected: WINDOW,
        default: DefaultValue::Fixed("90d"), example: "\"180d\"", flag: None,
        doc: "How far back from now hours are mirrored.",
    }
    MIRROR_WINDOW_D => window_d: TimeDelta, value::window {
        key: "mirror.window_d", types: &[Type::Text], expected: WINDOW,
        default: DefaultValue::Fixed("1826d"), example: "\"3652d\"", flag: None,
        doc: "How far back from now days are mirrored.",
    }
    MIRROR_TIMEOUT => timeout: TimeDelta, value::timeout {
        key: "mirror.timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("5min"), example: "\"1h\"", flag: None,
        doc: "The maximum time of one statement in the mirror's Postgres (of up to a million rows). After it, Postgres \
              counts as unavailable.",
    }
    MIRROR_RETRY_FOR => retry_for: TimeDelta, value::retry_time {
        key: "mirror.retry_for", types: &[Type::Text],
        expected: "a duration from 0s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("2min"), example: "\"10min\"", flag: None,
        doc: "How long `plantlake mirror` retries while Postgres is unavailable or the connection is lost, counted from \
              the first failure.",
    }
}

settings! {
    QDRANT => QdrantSettings, "The server that holds the search index.";

    QDRANT_URL => url: Option<Url>, value::qdrant_url {
        key: "qdrant_url", types: &[Type::Text],
        expected: "the URL of gRPC, not of REST, such as https://qdrant.example:6334",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"https://qdrant.example:6334\"", flag: None,
        doc: "The Qdrant server (1.19 or newer) that stores the search index. Without it, the index is stored in \
              `<state>/search`, which one process at a time can use. The server's certificate is verified with the \
              certificates of this machine, or with those that the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name.",
    }
    QDRANT_API_KEY => api_key: Option<Secret>, value::api_key {
        key: "qdrant_api_key", types: &[Type::Text], expected: "visible ASCII characters without spaces",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"k3y\"", flag: None,
        doc: "The API key of the Qdrant server. It is masked wherever settings are shown, and sent to a server on another \
              machine by `https` only.",
    }
    QDRANT_COLLECTION => collection: String, value::collection {
        key: "qdrant_collection", types: &[Type::Text],
        expected: "1 to 64 letters, digits and underscores",
        default: DefaultValue::Fixed("plantlake"), example: "\"plantlake_test\"", flag: None,
        doc: "The name of the search index on the Qdrant server: the name of an alias, and the prefix of the collections. \
              Installations that share a Qdrant server need different names; servers of one installation need the same \
              name.",
    }
    QDRANT_TIMEOUT => timeout: TimeDelta, value::timeout {
        key: "qdrant_timeout", types: &[Type::Text], expected: "a duration from 1s to 1d, such as 5s",
        default: DefaultValue::Fixed("5s"), example: "\"2s\"", flag: None,
        doc: "The maximum time that a search waits for the Qdrant server. Indexing waits 12 times as long.",
    }
}

settings! {
    AUTH => AuthSettings, "Settings of authentication.";

    KEYS_DIR => keys_dir: PathBuf, value::folder {
        key: "keys_dir", types: &[Type::Text], expected: "a folder on this machine",
        default: DefaultValue::Derived { description: "`<state>/keys`", rule: derived::keys_dir },
        example: "\"/etc/plantlake/keys\"", flag: None,
        doc: "The folder of the keys that sign access tokens; readable by their owner only. Replicas of a server share one \
              folder.",
    }
    AUTH_TOKEN_LIFETIME => token_lifetime: TimeDelta, value::token_lifetime {
        key: "auth.token_lifetime", types: &[Type::Text],
        expected: "a duration from 1min to 30d, such as 15min, 12h or 7d",
        default: DefaultValue::Fixed("12h"), example: "\"15min\"", flag: None,
        doc: "How long an access token is valid after sign-in. A revoked one ends within seconds.",
    }
    AUTH_ISSUER => issuer: String, value::name {
        key: "auth.issuer", types: &[Type::Text], expected: "a name or a URL",
        default: DefaultValue::Fixed("plantlake"), example: "\"https://plantlake.example\"", flag: None,
        doc: "The issuer of access tokens (their `iss`); tokens of other issuers are refused.",
    }
    AUTH_AUDIENCE => audience: String, value::name {
        key: "auth.audience", types: &[Type::Text], expected: "a name or a URL",
        default: DefaultValue::Fixed("plantlake"), example: "\"plantlake-production\"", flag: None,
        doc: "The audience of access tokens (their `aud`); tokens for other audiences are refused.",
    }
    AUTH_KEYS_PER_ORGANISATION => keys_per_organisation: u64, value::count_limit {
        key: "auth.keys_per_organisation", types: &[Type::Integer], expected: COUNT_LIMIT,
        default: DefaultValue::Fixed("1000"), example: "5000", flag: None,
        doc: "The maximum number of API keys of an organisation that are neither revoked nor expired. An organisation that \
              has reached it cannot create another.",
    }
    AUTH_SESSIONS_PER_USER => sessions_per_user: u64, value::count_limit {
        key: "auth.sessions_per_user", types: &[Type::Integer], expected: COUNT_LIMIT,
        default: DefaultValue::Fixed("1000"), example: "200", flag: None,
        doc: "The maximum number of sessions of a user. A sign-in beyond it ends the oldest session.",
    }
    AUTH_CHANGES_PER_DAY => changes_per_day: u64, value::count_limit {
        key: "auth.changes_per_day", types: &[Type::Integer], expected: COUNT_LIMIT,
        default: DefaultValue::Fixed("5000"), example: "500", flag: None,
        doc: "The maximum number of changes that a user of an organisation makes within 24 hours: changes of users and \
              keys by its admins, and of their own passwords. Revoking keys, and deactivating and removing users, is \
              always possible. Operators are not limited.",
    }
}

settings! {
    SOURCES;

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
}
