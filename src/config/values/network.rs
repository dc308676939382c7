//! Addresses of this server, and the URLs and keys of others.

use std::net::SocketAddr;

use url::Url;

use super::secret::Secret;

pub(in crate::config) fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim()
        .parse()
        .map_err(|_| "is not an address with a port".to_owned())
}

pub(in crate::config) fn optional_address(text: &str) -> Result<Option<SocketAddr>, String> {
    match text.trim() {
        "off" => Ok(None),
        text => address(text).map(Some),
    }
}

/// The URL of a webhook. It is a secret, because anyone who knows it can write there.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    pub(in crate::config) fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL ({error})"))?;
        match (url.scheme(), url.has_host()) {
            ("http" | "https", true) => Ok(Some(Self(url))),
            _ => Err("is not an http or https URL with a host".to_owned()),
        }
    }

    /// Returns the URL in clear text.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebhookUrl").finish_non_exhaustive()
    }
}

/// Parses the URL of a Qdrant server; returns `None` for an empty text.
pub(in crate::config) fn qdrant_url(text: &str) -> Result<Option<Url>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("has the unknown scheme {:?}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("contains a user or a password; set the key in `qdrant_api_key`".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err("has more than a host and a port".to_owned());
    }
    Ok(Some(url))
}

/// Parses a key; returns `None` for an empty text. The error does not contain the key.
pub(in crate::config) fn api_key(text: &str) -> Result<Option<Secret>, String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Some(text).filter(|text| !text.is_empty()).map(Secret::new)),
        false => Err("contains other characters".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::names::collection;

    #[test]
    fn qdrant_settings_are_validated() {
        let url = |text| qdrant_url(text).map(|url| url.map(String::from));
        assert_eq!(url(""), Ok(None));
        assert_eq!(
            url("http://localhost:6334"),
            Ok(Some("http://localhost:6334/".to_owned()))
        );
        for bad in [
            "localhost:6334",
            "grpc://localhost",
            "http://me:hush@localhost",
            "http://localhost/collections",
            "http://localhost?key=hush",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert_eq!(api_key(""), Ok(None));
        assert!(api_key("a b").is_err() && api_key("grün").is_err());
        assert!(collection("plantlake_2").is_ok());
        for bad in ["", "a-b", "a/b", "ä", &"a".repeat(65)] {
            assert!(collection(bad).is_err(), "{bad}");
        }
    }
}
