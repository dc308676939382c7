//! Settings of the server: its address, limits on queries and connections, and metering.

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::TimeDelta;

use super::averages::RETENTION_TIME;
use super::derived;
use super::setting::{DefaultValue, Setting, SettingSpec, Type, settings};
use crate::config::values as value;
use crate::config::values::JournalFullAction;
use crate::config::values::networks::Networks;

const CONNECTION_COUNT: &str = "a whole number from 8 to 1000000";
const TIMEOUT: &str = "a duration from 1s to 1d, such as 30s, 10min or 2h";

settings! {
    SERVE => ServeSettings { connections: ConnectionSettings }, "Settings of the server.";

    SERVE_LISTEN => listen: SocketAddr, value::address {
        key: "serve.listen", types: &[Type::Text], expected: "an address with a port, such as 127.0.0.1:50051",
        default: DefaultValue::Fixed("127.0.0.1:50051"), example: "\"0.0.0.0:50051\"",
        flag: Some("--listen (of `plantlake serve`)"),
        doc: "The address on which `plantlake serve` listens; port 0 picks a free port. An address that other machines can \
              reach requires TLS.",
    }
    SERVE_TLS_CERT => tls_cert: Option<PathBuf>, value::optional_file {
        key: "serve.tls_cert", types: &[Type::Text], expected: "a file on this machine",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"/etc/plantlake/server.pem\"", flag: Some("--tls-cert (of `plantlake serve`)"),
        doc: "The server's certificate and the intermediate certificates, PEM. A changed file is loaded without a restart.",
    }
    SERVE_TLS_KEY => tls_key: Option<PathBuf>, value::optional_file {
        key: "serve.tls_key", types: &[Type::Text], expected: "a file on this machine",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"/etc/plantlake/server.key\"", flag: Some("--tls-key (of `plantlake serve`)"),
        doc: "The private key of the certificate, PEM.",
    }
    SERVE_ALLOW_PLAINTEXT => allow_plaintext: bool, value::boolean {
        key: "serve.allow_plaintext", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true",
        flag: Some("--allow-plaintext (of `plantlake serve`)"),
        doc: "Whether `plantlake serve` may listen without TLS on an address that other machines can reach: passwords and \
              data can then be read in transit. For a proxy that terminates TLS.",
    }
    SERVE_QUERIES => queries: usize, value::threads {
        key: "serve.queries", types: &[Type::Integer],
        expected: "a whole number from 1 to 1024",
        default: DefaultValue::Derived { description: "one more than the number of cores", rule: derived::queries },
        example: "8", flag: None,
        doc: "The maximum number of long queries that `plantlake serve` runs at the same time. Others wait, and \
              organisations take turns; short queries do not wait. Each query uses all cores, so more of them take more \
              memory and do not finish sooner, unless they wait for a remote lake.",
    }
    SERVE_QUERY_MEMORY => query_memory: u64, value::memory {
        key: "serve.query_memory", types: &[Type::Text, Type::Integer],
        expected: "at least 64MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("512MiB"), example: "\"2GiB\"", flag: None,
        doc: "The maximum memory of one query for sorting, grouping and joining. Data that does not fit is spilled to \
              `<state>/spill`; a query whose data cannot be spilled is ended. For all purposes together, a query allocates \
              at most twice as much, or 256MiB if that is more.",
    }
    SERVE_TOTAL_MEMORY => total_memory: u64, value::memory {
        key: "serve.total_memory", types: &[Type::Text, Type::Integer],
        expected: "at least 64MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("2GiB"), example: "\"16GiB\"", flag: None,
        doc: "The maximum memory of all queries together for these purposes. When the memory of the process exceeds it by \
              an eighth (at least 24MiB, but at most 3/16), not counting the memory before the first query, the query that \
              holds most memory is ended.",
    }
    SERVE_SPILL => spill: u64, value::size {
        key: "serve.spill", types: &[Type::Text, Type::Integer],
        expected: "a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("16GiB"), example: "\"100GiB\"", flag: None,
        doc: "The maximum disk space of all queries together in `<state>/spill`.",
    }
    SERVE_QUERY_TIMEOUT => query_timeout: TimeDelta, value::timeout {
        key: "serve.query_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("10min"), example: "\"1h\"", flag: None,
        doc: "The maximum time that one query runs; the time that the client takes to read the result does not count.",
    }
    SERVE_QUEUE_TIMEOUT => queue_timeout: TimeDelta, value::timeout {
        key: "serve.queue_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("1min"), example: "\"10min\"", flag: None,
        doc: "How long a query waits for a permit, before its client is asked to try again later.",
    }
    SERVE_UNREAD_TIMEOUT => unread_timeout: TimeDelta, value::timeout {
        key: "serve.unread_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("5min"), example: "\"1h\"", flag: None,
        doc: "How long a result waits for its client to read on, before the query is ended and its memory freed. Its \
              permit is released after a second. A client that sends readings may pause for the same time.",
    }
    SERVE_SHUTDOWN_TIMEOUT => shutdown_timeout: TimeDelta, value::timeout {
        key: "serve.shutdown_timeout", types: &[Type::Text],
        expected: "a duration from 1s to 1d, such as 30s, 10min or 2h",
        default: DefaultValue::Fixed("1min"), example: "\"10min\"", flag: None,
        doc: "How long responses in progress may continue when the server is asked to stop.",
    }
    SERVE_LARGEST_INGEST => largest_ingest: u64, value::size {
        key: "serve.largest_ingest", types: &[Type::Text, Type::Integer],
        expected: "a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("1GiB"), example: "\"4GiB\"", flag: None,
        doc: "The maximum size of one ingest of readings, in bytes of Arrow data.",
    }
    SERVE_OLDEST_INGEST => oldest_ingest: Option<TimeDelta>, value::retention_time {
        key: "serve.oldest_ingest", types: &[Type::Text], expected: RETENTION_TIME,
        default: DefaultValue::Fixed("3650d"), example: "\"30d\"", flag: None,
        doc: "The maximum age of a reading that a client sends, counted back from now. An ingest with an older one is \
              refused, as is one with readings of more than 4,000 days (UTC), because the next run recomputes each of \
              these dates. `forever` accepts all times from `resample.earliest` on. Files in the raw folder may have \
              readings of any age.",
    }
}

settings! {
    CONNECTIONS => ConnectionSettings, "Limits on connections and on their requests.";

    SERVE_CONNECTIONS => total: usize, value::connections {
        key: "serve.connections", types: &[Type::Integer], expected: CONNECTION_COUNT,
        default: DefaultValue::Fixed("4096"), example: "20000", flag: None,
        doc: "The maximum number of connections at once; fewer, if the limit of open files does not allow as many in \
              addition to the files of the server itself (half of the limit, at most 1024). When all are in use, the \
              oldest connection without a valid credential is closed for a new one.",
    }
    SERVE_CONNECTIONS_PER_ADDRESS => per_address: usize, value::connections {
        key: "serve.connections_per_address", types: &[Type::Integer], expected: CONNECTION_COUNT,
        default: DefaultValue::Fixed("1024"), example: "200", flag: None,
        doc: "The maximum number of connections at once from one address (IPv6: from one /64). Trusted proxies are exempt.",
    }
    SERVE_HANDSHAKE_TIMEOUT => handshake_timeout: TimeDelta, value::timeout {
        key: "serve.handshake_timeout", types: &[Type::Text],
        expected: TIMEOUT,
        default: DefaultValue::Fixed("10s"), example: "\"5s\"", flag: None,
        doc: "How long a client may take for the TLS handshake, and again for the headers of its first request, before its connection \
              is closed.",
    }
    SERVE_UNAUTHENTICATED_TIMEOUT => unauthenticated_timeout: TimeDelta, value::timeout {
        key: "serve.unauthenticated_timeout", types: &[Type::Text],
        expected: TIMEOUT,
        default: DefaultValue::Fixed("30s"), example: "\"10s\"", flag: None,
        doc: "How long a connection stays open without a valid credential. Each request of gRPC's health service extends it.",
    }
    SERVE_MESSAGE_TIMEOUT => message_timeout: TimeDelta, value::timeout {
        key: "serve.message_timeout", types: &[Type::Text],
        expected: TIMEOUT,
        default: DefaultValue::Fixed("1min"), example: "\"5min\"", flag: None,
        doc: "How long one message of a request may take to arrive, before the call ends with an error. A message of an ingest has \
              up to 64 MiB.",
    }
    SERVE_MESSAGE_MEMORY => message_memory: u64, value::memory {
        key: "serve.message_memory", types: &[Type::Text, Type::Integer],
        expected: "at least 64MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("256MiB"), example: "\"1GiB\"", flag: None,
        doc: "The maximum memory for the messages of requests that arrive at once. One organisation gets a quarter of it, \
              but at least 64 MiB; its further messages wait.",
    }
    SERVE_TRUSTED_PROXIES => trusted_proxies: Networks, Networks::parse {
        key: "serve.trusted_proxies", types: &[Type::Text],
        expected: "addresses and networks in CIDR notation, separated by commas",
        default: DefaultValue::Derived { description: "none", rule: derived::none },
        example: "\"10.0.0.0/8, 192.0.2.7\"", flag: None,
        doc: "Proxies and load balancers that are trusted to report a client's address: by the header `x-forwarded-for`, \
              and by the PROXY protocol if `serve.proxy_protocol` is set. From other addresses both are ignored. Sign-ins \
              are throttled by the client's address, which is also recorded and logged.",
    }
    SERVE_PROXY_PROTOCOL => proxy_protocol: bool, value::boolean {
        key: "serve.proxy_protocol", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether each connection from `serve.trusted_proxies` begins with a PROXY protocol header (version 1 or 2), before TLS. \
              A connection from them without one is closed.",
    }
}

settings! {
    METERING => MeteringSettings, "Settings of metering.";

    METERING_SQL => sql: bool, value::boolean {
        key: "metering.sql", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether the ledger of requests stores the text of statements, in addition to their fingerprint.",
    }
    METERING_JOURNAL_SIZE => journal_size: u64, value::journal_size {
        key: "metering.journal_size", types: &[Type::Text, Type::Integer],
        expected: "at least 1MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("1GiB"), example: "\"10GiB\"", flag: None,
        doc: "The maximum size of the journal in `<state>/journal`, which stores requests until the organisation database \
              has them. A request takes about 1 KiB.",
    }
    METERING_JOURNAL_FULL => journal_full: JournalFullAction, value::journal_full {
        key: "metering.journal_full", types: &[Type::Text], expected: "`refuse` or `go-on`",
        default: DefaultValue::Fixed("refuse"), example: "\"go-on\"", flag: None,
        doc: "The behaviour while requests cannot be recorded, because the journal has reached its size or the disk is \
              full: refuse new requests, or answer them and count those that are in no invoice.",
    }
    METERING_JOURNAL_SYNC => journal_sync: bool, value::boolean {
        key: "metering.journal_sync", types: &[Type::Boolean], expected: "`true` or `false`",
        default: DefaultValue::Fixed("false"), example: "true", flag: None,
        doc: "Whether the last message of a response waits until its record is synchronised to disk, and survives a power \
              cut. Otherwise, records are synchronised within a tenth of a second afterwards. A crash of the process loses \
              no record in either case.",
    }
}
