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
const LONGEST: usize = 8 << 10;

/// The credentials of a call. Has no `Debug`, because they are secret.
#[derive(PartialEq, Eq)]
pub(super) enum Credentials {
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
pub(super) enum NoCredentials {
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
    pub fn of(headers: &MetadataMap) -> Result<Self, NoCredentials> {
        let mut sent = headers.get_all("authorization").iter();
        let header = sent.next().ok_or(NoCredentials::Missing)?;
        if sent.next().is_some() {
            return Err(NoCredentials::Repeated);
        }
        let text = header.to_str().map_err(|_| NoCredentials::Malformed)?;
        if text.len() > LONGEST {
            return Err(NoCredentials::Malformed);
        }
        let (scheme, value) = text
            .trim()
            .split_once(' ')
            .ok_or(NoCredentials::Malformed)?;
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
        Err(NoCredentials::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(header: &str) -> Result<Credentials, NoCredentials> {
        let mut headers = MetadataMap::new();
        headers.insert("authorization", header.parse().unwrap());
        Credentials::of(&headers)
    }

    #[test]
    fn credentials_of_basic_and_bearer_are_read_and_others_rejected() {
        assert!(of("Bearer pl_a_b") == Ok(Credentials::Bearer("pl_a_b".to_owned())));
        assert!(of("bearer  x ") == Ok(Credentials::Bearer("x".to_owned())));
        let basic = |user: &str, password: &str| {
            Ok(Credentials::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        };
        // `a:b:c`, with and without padding, and an empty user.
        assert!(of("Basic YTpiOmM=") == basic("a", "b:c"));
        assert!(of("Basic YTpiOmM") == basic("a", "b:c"));
        assert!(of("basic OmI=") == basic("", "b"));
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
            assert!(of(wrong) == Err(NoCredentials::Malformed), "{wrong:?}");
        }
        assert!(Credentials::of(&MetadataMap::new()) == Err(NoCredentials::Missing));
        let mut twice = MetadataMap::new();
        twice.append("authorization", "Bearer a".parse().unwrap());
        twice.append("authorization", "Bearer b".parse().unwrap());
        assert!(Credentials::of(&twice) == Err(NoCredentials::Repeated));
    }

    proptest! {
        #[test]
        fn credentials_of_any_header_never_panic(bytes in prop::collection::vec(32..127_u8, 0..60)) {
            let _ = of(&String::from_utf8(bytes).unwrap());
        }
    }
}
