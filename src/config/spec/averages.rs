//! Settings of the averages: resampling, retention and maintenance.

use chrono::TimeDelta;
use chrono_tz::Tz;

use super::derived;
use super::setting::{DefaultValue, Setting, SettingSpec, Type, settings};
use crate::config::values as value;
use crate::config::values::{ExpiryAction, TimeBound};

const TIME_BOUND: &str = "a date (2024-12-31), a time with its zone (2024-12-31T08:00:00Z), \
                          or a distance from now in days or hours (+1d, -12h)";

/// The accepted retention times.
pub(super) const RETENTION_TIME: &str =
    "`forever`, or a duration from 1d to 36500d, such as 90d or 3652d";

settings! {
    RESAMPLE => ResampleSettings, "Settings of resampling.";

    RESAMPLE_MEMORY => memory: u64, value::memory {
        key: "resample.memory", types: &[Type::Text, Type::Integer],
        expected: "at least 64MiB: a number of bytes, or a number with a unit (512MiB, 1.5 GiB, 2GB)",
        default: DefaultValue::Fixed("1GiB"), example: "\"512MiB\"", flag: None,
        doc: "The maximum memory of the buffers of `plantlake resample`, however large the input is.",
    }
    RESAMPLE_THREADS => threads: usize, value::threads {
        key: "resample.threads", types: &[Type::Integer],
        expected: "a whole number from 1 to 1024",
        default: DefaultValue::Derived { description: "the number of cores", rule: derived::threads },
        example: "4", flag: None,
        doc: "The number of threads on which `plantlake resample` computes.",
    }
    RESAMPLE_TIMEZONE => timezone: Tz, value::timezone {
        key: "resample.timezone", types: &[Type::Text],
        expected: "the IANA name of a time zone, such as UTC or Europe/Berlin",
        default: DefaultValue::Fixed("UTC"), example: "\"Europe/Berlin\"", flag: None,
        doc: "The time zone of raw timestamps that are stored without one. Timestamps that are stored with a zone are \
              converted to UTC.",
    }
    RESAMPLE_EARLIEST => earliest: TimeBound, value::earliest {
        key: "resample.earliest", types: &[Type::Text, Type::Date], expected: TIME_BOUND,
        default: DefaultValue::Fixed("1970-01-01"), example: "\"2015-01-01\"", flag: None,
        doc: "The first plausible time: readings before it are left out and counted. \
              A date means its first instant, UTC.",
    }
    RESAMPLE_LATEST => latest: TimeBound, value::latest {
        key: "resample.latest", types: &[Type::Text, Type::Date], expected: TIME_BOUND,
        default: DefaultValue::Fixed("+1d"), example: "\"+1h\"", flag: None,
        doc: "The last plausible time: readings after it are left out and counted. \
              A date means its last instant, UTC.",
    }
}

settings! {
    RETENTION;

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
}

settings! {
    MAINTAIN => MaintainSettings, "Settings of the maintenance of files.";

    MAINTAIN_TARGET_FILE_SIZE => target_file_size: u64, value::file_size {
        key: "maintain.target_file_size", types: &[Type::Text, Type::Integer],
        expected: "from 1MiB to 4GiB: a number of bytes, or a number with a unit (64MiB, 1GB)",
        default: DefaultValue::Fixed("128MiB"), example: "\"256MiB\"", flag: None,
        doc: "The size of the files to which `plantlake maintain` compacts small files. Files of at least three quarters \
              of it are not compacted.",
    }
    MAINTAIN_GRACE => grace: TimeDelta, value::grace_period {
        key: "maintain.grace", types: &[Type::Text],
        expected: "a duration from 1h to 5d, such as 12h or 2d",
        default: DefaultValue::Fixed("24h"), example: "\"48h\"", flag: None,
        doc: "How long files stay that no published version references any more, for queries in progress and for external \
              readers. At least the hour for which tickets are valid, plus `serve.queue_timeout` and \
              `serve.query_timeout`, even if a shorter time is set.",
    }
}
