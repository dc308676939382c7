//! The credential of a call: the header `authorization`, Basic (RFC 7617) or Bearer (RFC 6750).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tonic::metadata::MetadataMap;

/// Base64 with or without padding: Go sends none, others do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The maximum length of the header, in bytes; no valid credential is longer.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// The credentials of a call. Has no `Debug`, because they are secret.
#[derive(PartialEq, Eq)]
pub(in crate::server) enum Credentials {
    /// An API key or an access token.
    Bearer(String),
    /// A user's address and password; or any user, and a key or a token as the password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

/// The reason why there are no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum CredentialsError {
    #[error(
        "no credential was sent; connect with a user and a password, or send the header `authorization: Bearer` with an API key or an access token"
    )]
    Missing,
    #[error("the header `authorization` was sent more than once; send one")]
    Repeated,
    #[error(
        "the header `authorization` is neither `Basic` with user:password in base64, nor `Bearer` with a key or a token"
    )]
    Malformed,
}

impl Credentials {
    /// Reads the credentials from the headers of a call.
    pub fn from_headers(headers: &MetadataMap) -> Result<Self, CredentialsError> {
        let mut sent = headers.get_all("authorization").iter();
        let header = sent.next().ok_or(CredentialsError::Missing)?;
        if sent.next().is_some() {
            return Err(CredentialsError::Repeated);
        }
        let text = header.to_str().map_err(|_| CredentialsError::Malformed)?;
        if text.len() > MAX_HEADER_BYTES {
            return Err(CredentialsError::Malformed);
        }
        let (scheme, value) = text
            .trim()
            .split_once(' ')
            .ok_or(CredentialsError::Malformed)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            return Ok(Self::Bearer(value.to_owned()));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = BASE64.decode(value).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            // A password may contain colons, a user may not.
            if let Some((user, password)) = text.as_deref().and_then(|text| text.split_once(':')) {
                return Ok(Self::Basic {
                    user: user.to_owned(),
                    password: password.to_owned(),
                });
            }
        }
        Err(CredentialsError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(header: &str) -> Result<Credentials, CredentialsError> {
        let mut headers = MetadataMap::new();
        headers.insert("authorization", header.parse().unwrap());
        Credentials::from_headers(&headers)
    }

    #[test]
    fn credentials_of_basic_and_bearer_are_read_and_others_rejected() {
        assert!(parse("Bearer pl_a_b") == Ok(Credentials::Bearer("pl_a_b".to_owned())));
        assert!(parse("bearer  x ") == Ok(Credentials::Bearer("x".to_owned())));
        let basic = |user: &str, password: &str| {
            Ok(Credentials::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        };
        // `a:b:c`, with and without padding, and an empty user.
        assert!(parse("Basic YTpiOmM=") == basic("a", "b:c"));
        assert!(parse("Basic YTpiOmM") == basic("a", "b:c"));
        assert!(parse("basic OmI=") == basic("", "b"));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Basic",
            "Basic !",
            "Basic YQ==",
            "Digest a=b",
            "Basic /w==",
        ] {
            assert!(
                parse(wrong) == Err(CredentialsError::Malformed),
                "{wrong:?}"
            );
        }
        assert!(Credentials::from_headers(&MetadataMap::new()) == Err(CredentialsError::Missing));
        let mut twice = MetadataMap::new();
        twice.append("authorization", "Bearer a".parse().unwrap());
        twice.append("authorization", "Bearer b".parse().unwrap());
        assert!(Credentials::from_headers(&twice) == Err(CredentialsError::Repeated));
    }

    proptest! {
        #[test]
        fn credentials_of_any_header_never_panic(bytes in prop::collection::vec(32..127_u8, 0..60)) {
            let _ = parse(&String::from_utf8(bytes).unwrap());
        }
    }
}
