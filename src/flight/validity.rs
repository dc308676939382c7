//! From when until when a certificate is good.
//!
//! rustls reads that, but tells it only when it refuses a certificate: it is asked about the beginning and the end of time.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

/// When a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub from: DateTime<Utc>,
    /// Not after this.
    pub until: DateTime<Utc>,
}

impl Validity {
    /// That of `certificate`; none if rustls cannot read it.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        // It need not be trusted by anybody: its dates are looked at before that.
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
    fn the_dates_are_those_that_the_certificate_was_made_with() {
        let at = |year: i32| {
            let date = NaiveDate::from_ymd_opt(year, 3, 5).unwrap();
            date.and_time(NaiveTime::MIN).and_utc()
        };
        let key = rcgen::KeyPair::generate().unwrap();
        for (from, until) in [(2020, 2021), (2026, 2031), (2049, 2051)] {
            let mut wanted = rcgen::CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
            wanted.not_before = rcgen::date_time_ymd(from, 3, 5);
            wanted.not_after = rcgen::date_time_ymd(until, 3, 5);
            // For itself and as an authority's: neither is refused for what it is.
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
                assert_eq!(Validity::of(made.der()), Some(expected));
            }
        }
        assert_eq!(
            Validity::of(&CertificateDer::from(b"none".as_slice())),
            None
        );
    }
}
