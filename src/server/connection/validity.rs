//! The validity of a certificate.
//!
//! rustls parses it, but returns it only when it rejects a certificate. Therefore rustls verifies the certificate for the
//! beginning and for the end of time.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

/// The time during which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The start of the validity.
    pub from: DateTime<Utc>,
    /// The end of the validity.
    pub until: DateTime<Utc>,
}

impl Validity {
    /// Returns the validity of `certificate`; none if rustls cannot parse it.
    pub(in crate::server) fn from_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        // The certificate need not be trusted: rustls checks the dates first.
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone().into_owned()).ok()?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .ok()?;
        let anyone = ServerName::try_from("localhost").ok()?;
        let refused_at = |seconds: u64| {
            let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
            match verifier.verify_server_cert(certificate, &[], &anyone, &[], at) {
                Err(Error::InvalidCertificate(why)) => Some(why),
                _ => None,
            }
        };
        let Some(CertificateError::ExpiredContext { not_after, .. }) = refused_at(u64::MAX) else {
            return None;
        };
        let from = match refused_at(0) {
            Some(CertificateError::NotValidYetContext { not_before, .. }) => not_before,
            _ => UnixTime::since_unix_epoch(std::time::Duration::ZERO),
        };
        let instant = |time: UnixTime| DateTime::from_timestamp(time.as_secs().try_into().ok()?, 0);
        Some(Self {
            from: instant(from)?,
            until: instant(not_after)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, NaiveTime};

    use super::*;

    #[test]
    fn validity_of_certificate_has_its_dates() {
        let at = |year: i32| {
            let date = NaiveDate::from_ymd_opt(year, 3, 5).unwrap();
            date.and_time(NaiveTime::MIN).and_utc()
        };
        let key = rcgen::KeyPair::generate().unwrap();
        for (from, until) in [(2020, 2021), (2026, 2031), (2049, 2051)] {
            let mut wanted = rcgen::CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
            wanted.not_before = rcgen::date_time_ymd(from, 3, 5);
            wanted.not_after = rcgen::date_time_ymd(until, 3, 5);
            // As an end-entity and as a CA certificate: neither is rejected for its kind.
            for is_ca in [
                rcgen::IsCa::NoCa,
                rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
            ] {
                wanted.is_ca = is_ca;
                let made = wanted.self_signed(&key).unwrap();
                let expected = Validity {
                    from: at(from),
                    until: at(until),
                };
                assert_eq!(Validity::from_certificate(made.der()), Some(expected));
            }
        }
        assert_eq!(
            Validity::from_certificate(&CertificateDer::from(b"none".as_slice())),
            None
        );
    }
}
