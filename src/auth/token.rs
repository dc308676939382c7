//! Access tokens: JWTs (RFC 7519, RFC 9068) signed with EdDSA over Ed25519.
//!
//! The algorithm is fixed here and never taken from a token. A token says who signed in. The user's current permissions
//! come from the database.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::AuthError;
use super::key_ring::KeyRing;
use super::random::random;
use crate::model::{OrganisationId, Role, SessionId, UserId};

/// The `typ` header of RFC 9068, section 2.1. It distinguishes access tokens from other kinds of JWT.
const TOKEN_TYPE: &str = "at+jwt";
/// The maximum clock difference between servers that share keys.
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::seconds(30);

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The issuer.
    pub iss: String,
    /// The audience.
    pub aud: String,
    /// The user.
    pub sub: UserId,
    /// The user's organisation.
    pub org: OrganisationId,
    /// The user's role at sign-in. Clients may show it; the server does not use it.
    pub role: Role,
    /// The id of the session, which can be revoked.
    pub sid: SessionId,
    /// The id of the token.
    pub jti: Uuid,
    /// The time of issue, in seconds since the epoch.
    pub iat: i64,
    /// The time of expiry, in seconds since the epoch.
    pub exp: i64,
}

/// Issues and checks tokens of one issuer for one audience.
#[derive(Debug, Clone)]
pub(super) struct TokenIssuer {
    pub keys: KeyRing,
    pub issuer: String,
    pub audience: String,
}

impl TokenIssuer {
    /// Signs a token with the newest key.
    pub fn issue(
        &self,
        user: (UserId, OrganisationId, Role),
        session: SessionId,
        issued_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<String, AuthError> {
        let (sub, org, role) = user;
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub,
            org,
            role,
            sid: session,
            jti: Uuid::from_bytes(random()?),
            iat: issued_at.timestamp(),
            exp: expires_at.timestamp(),
        };
        let key = self.keys.newest()?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = Some(key.id().to_owned());
        jsonwebtoken::encode(&header, &claims, key.signing_key())
            .map_err(|_| AuthError::InvalidToken("it cannot be signed"))
    }

    /// Returns the claims of a token and the id of the key that signed it, if the token was issued here and is valid at
    /// `now`.
    pub fn check(&self, token: &str, now: DateTime<Utc>) -> Result<(Claims, String), AuthError> {
        let malformed = AuthError::InvalidToken("it is not a JWT");
        let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
            // Algorithms that the library does not know, such as `none`, fail to parse.
            ErrorKind::Json(_) => {
                AuthError::InvalidToken("its header is not that of an access token")
            }
            _ => malformed,
        })?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(TOKEN_TYPE) {
            return Err(AuthError::InvalidToken(
                "its algorithm or type is not that of an access token",
            ));
        }
        let kid = header
            .kid
            .as_deref()
            .ok_or(AuthError::InvalidToken("it has no key id"))?;
        let key = self.keys.find(kid)?;
        let key = key.ok_or(AuthError::InvalidToken("it is signed with an unknown key"))?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // The expiry is checked below against `now`; the library would read the system clock itself.
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Claims>(token, key.verifying_key(), &validation);
        let claims = decoded
            .map_err(|error| AuthError::InvalidToken(describe_error(error.kind())))?
            .claims;
        if claims.exp <= now.timestamp() {
            return Err(AuthError::NoLongerValid {
                what: "access token",
                state: "has expired; sign in again",
            });
        }
        if claims.iat > (now + MAX_CLOCK_SKEW).timestamp() {
            return Err(AuthError::InvalidToken(
                "it was issued in the future; check the servers' clocks",
            ));
        }
        Ok((claims, key.id().to_owned()))
    }
}

fn describe_error(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidIssuer => "it has another issuer",
        ErrorKind::InvalidAudience => "it has another audience",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => {
            "a claim is missing or malformed"
        }
        _ => "it is malformed",
    }
}
