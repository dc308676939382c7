//! The settings `storage.*`: a map of options for the object store, with the names of `object_store`.

use std::collections::HashMap;
use std::fmt;

use object_store::aws::AmazonS3ConfigKey;

/// The prefix of the keys.
pub(in crate::config) const PREFIX: &str = "storage.";

/// The description of the group.
pub(in crate::config) const DOC: &str = "Settings of the object store, for lakes and raw files at `s3://…`, with the names of the \
    `object_store` library. Settings that are missing here are taken from the usual `AWS_*` variables. \
    Those with `secret`, `token`, `password` or `customer_key` in the name are masked wherever they are shown.";

/// The documented names under `storage.`, which are also suggested for misspelled ones. `object_store` accepts a few
/// more synonyms.
pub(in crate::config) const KNOWN_OPTIONS: &[(&str, &str)] = &[
    (
        "aws_endpoint",
        "URL of the S3 service, such as `https://minio.example:9000`",
    ),
    (
        "aws_region",
        "region; many servers other than Amazon's accept any",
    ),
    ("aws_access_key_id", "access key"),
    ("aws_secret_access_key", "secret key"),
    ("aws_session_token", "token of a temporary key"),
    ("aws_allow_http", "`true` allows an endpoint without TLS"),
    (
        "aws_virtual_hosted_style_request",
        "`true` puts the bucket into the host name",
    ),
    ("aws_bucket", "bucket, if the URL does not name it"),
    ("aws_default_region", "region when none is given"),
    ("aws_endpoint_url_s3", "endpoint for S3 alone"),
    ("aws_endpoint_url_sts", "endpoint of the token service"),
    ("aws_skip_signature", "`true` for public buckets"),
    (
        "aws_unsigned_payload",
        "`true` leaves bodies out of the signature",
    ),
    ("aws_checksum_algorithm", "`sha256` to send checksums"),
    (
        "aws_disable_tagging",
        "`true` for servers without object tags",
    ),
    ("aws_request_payer", "`true` if the requester pays"),
    ("aws_s3_express", "`true` for S3 Express"),
    ("aws_role_arn", "role to assume"),
    ("aws_role_session_name", "name of the role's session"),
    (
        "aws_web_identity_token_file",
        "file with the web identity's token",
    ),
    (
        "aws_imdsv1_fallback",
        "`true` allows the old instance metadata service",
    ),
    (
        "aws_metadata_endpoint",
        "endpoint of the instance metadata service",
    ),
    (
        "aws_container_credentials_relative_uri",
        "relative URI of a container's credentials",
    ),
    (
        "aws_container_credentials_full_uri",
        "full URI of a container's credentials",
    ),
    (
        "aws_container_authorization_token_file",
        "file with the container's token",
    ),
    (
        "aws_server_side_encryption",
        "`AES256`, `aws:kms`, `aws:kms:dsse` or `sse-c`",
    ),
    ("aws_sse_kms_key_id", "key for `aws:kms`"),
    ("aws_sse_bucket_key_enabled", "`true` uses the bucket's key"),
    ("aws_sse_customer_key_base64", "key for `sse-c`"),
    (
        "aws_copy_if_not_exists",
        "how the server copies without overwriting",
    ),
    (
        "aws_conditional_put",
        "how the server creates without overwriting; needed for commits",
    ),
    (
        "aws_allow_invalid_certificates",
        "`true` trusts any certificate: for tests only",
    ),
    ("aws_connect_timeout", "time to connect, such as `5s`"),
    ("aws_timeout", "time of a whole request, such as `30s`"),
    (
        "aws_pool_idle_timeout",
        "how long idle connections are kept",
    ),
    (
        "aws_pool_max_idle_per_host",
        "how many idle connections are kept",
    ),
    ("aws_proxy_url", "proxy"),
    (
        "aws_proxy_ca_certificate",
        "certificate of the proxy's authority, PEM",
    ),
    ("aws_proxy_excludes", "hosts that the proxy is not used for"),
    ("aws_http1_only", "`true` for HTTP/1 only"),
    ("aws_http2_only", "`true` for HTTP/2 only"),
    ("aws_http2_keep_alive_interval", "time between HTTP/2 pings"),
    ("aws_http2_keep_alive_timeout", "time to answer a ping"),
    (
        "aws_http2_keep_alive_while_idle",
        "`true` pings idle connections too",
    ),
    ("aws_http2_max_frame_size", "largest HTTP/2 frame"),
    ("aws_default_content_type", "content type of objects"),
    (
        "aws_randomize_addresses",
        "`true` spreads requests over the server's addresses",
    ),
    ("aws_user_agent", "user agent in requests to the server"),
];

/// Returns the canonical name of `name` (without the prefix) and all its synonyms; `None` if there is no such
/// setting.
pub(in crate::config) fn canonical(name: &str) -> Option<String> {
    name.parse::<AmazonS3ConfigKey>()
        .ok()
        .map(|key| key.as_ref().to_owned())
}

/// Whether the value of `name` is a secret, which must never be shown.
pub(in crate::config) fn is_secret(name: &str) -> bool {
    ["secret", "token", "password", "customer_key"]
        .iter()
        .any(|word| name.contains(word))
}

/// Options of the object store. `Debug` masks secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StorageSettings {
    options: HashMap<String, String>,
}

impl StorageSettings {
    pub(in crate::config) fn new(options: HashMap<String, String>) -> Self {
        Self { options }
    }

    /// Returns the options with the names that `object_store` uses.
    pub fn options(&self) -> &HashMap<String, String> {
        &self.options
    }
}

impl fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&String, &String)| {
            (
                name.clone(),
                crate::config::redact::mask_value(value, is_secret(name)),
            )
        };
        f.debug_map()
            .entries(self.options.iter().map(shown))
            .finish()
    }
}
