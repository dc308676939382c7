//! Tests of forged access tokens: each is refused for the expected reason.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use plantlake::auth::{Authenticator, Passwords, Requester};
use plantlake::store::{NewUser, OrganisationStore};
use serde_json::{Value, json};

use crate::organisation::databases::{Fresh, Kind, actor, new_user, organisation};

const PASSWORD: &str = "correct horse battery";

/// A server with one signed-in user, and the contents of the key folder as an attacker would have them.
struct Server {
    fresh: Fresh,
    store: OrganisationStore,
    authenticator: Authenticator,
    token: String,
    pkcs8: Vec<u8>,
}

impl Server {
    async fn new() -> Self {
        let fresh = Fresh::new(Kind::Sqlite).await;
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 9).await;
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash(Requester::Address(None), PASSWORD, None);
        let hash = hash.await.unwrap();
        let new = NewUser {
            password_hash: Some(hash),
            ..new_user(acme.id, "ada@x.y")
        };
        store.create_user(&actor(), new).await.unwrap();
        let authenticator = Authenticator::open(store.clone(), &fresh.settings.auth).unwrap();
        let token = authenticator
            .sign_in("ada@x.y", PASSWORD, None)
            .await
            .unwrap()
            .token;
        let file = std::fs::read_dir(&fresh.settings.auth.keys_dir)
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let key: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        let pkcs8 = STANDARD.decode(key["signing"].as_str().unwrap()).unwrap();
        Self {
            fresh,
            store,
            authenticator,
            token,
            pkcs8,
        }
    }

    fn part(&self, at: usize) -> Value {
        let part = self.token.split('.').nth(at).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    fn header(&self) -> Header {
        serde_json::from_value(self.part(0)).unwrap()
    }

    /// Returns a token with these claims instead of the real ones, signed with the real key.
    fn signed(&self, change: Value) -> String {
        let mut claims = self.part(1);
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        jsonwebtoken::encode(
            &self.header(),
            &claims,
            &EncodingKey::from_ed_der(&self.pkcs8),
        )
        .unwrap()
    }

    async fn refuses(&self, token: &str, reason: &str) {
        match self.authenticator.authenticate(token).await {
            Ok(_) => panic!("let in: {token}"),
            Err(error) => assert!(
                error.is_refusal() && error.to_string().contains(reason),
                "{error}: {token}"
            ),
        }
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", encode(header), encode(claims))
}

#[tokio::test]
async fn token_with_any_changed_byte_is_refused() {
    let server = Server::new().await;
    server
        .authenticator
        .authenticate(&server.token)
        .await
        .unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for at in 0..server.token.len() {
        let own = server.token.as_bytes()[at];
        // The adjacent character of the alphabet differs in the lowest bit, which may be unused at the end of a
        // part.
        let place = alphabet.bytes().position(|byte| byte == own);
        let others = [
            place.map_or(b'A', |place| alphabet.as_bytes()[place ^ 1]),
            b'.',
            b'=',
            b'A',
            b' ',
        ];
        for other in others.into_iter().filter(|other| *other != own) {
            let mut changed = server.token.clone().into_bytes();
            changed[at] = other;
            server
                .refuses(std::str::from_utf8(&changed).unwrap(), "")
                .await;
        }
    }
    for changed in [
        format!("{} ", server.token),
        format!("{}=", server.token),
        format!("{}A", server.token),
    ] {
        server.refuses(&changed, "").await;
    }
    server
        .refuses(&server.token[..server.token.len() - 1], "")
        .await;
}

#[tokio::test]
async fn token_with_another_algorithm_is_refused() {
    let server = Server::new().await;
    let (header, claims) = (server.part(0), server.part(1));
    for none in ["none", "None", "NONE", ""] {
        let mut header = header.clone();
        header["alg"] = json!(none);
        let token = unsigned(&header, &claims);
        server.refuses(&token, "").await;
        let signature = server.token.rsplit('.').next().unwrap();
        server.refuses(&format!("{token}{signature}"), "").await;
    }
    // Uses the public key as an HMAC secret, in each of its usual encodings.
    let pair = Ed25519KeyPair::from_pkcs8(&server.pkcs8).unwrap();
    let public = pair.public_key().as_ref().to_vec();
    for secret in [
        public.clone(),
        STANDARD.encode(&public).into_bytes(),
        URL_SAFE_NO_PAD.encode(&public).into_bytes(),
    ] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let mut header = server.header();
            header.alg = algorithm;
            let token =
                jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
            server
                .refuses(&token, "algorithm or type is not that")
                .await;
        }
    }
}

#[tokio::test]
async fn token_with_wrong_claims_is_refused() {
    let server = Server::new().await;
    server
        .authenticator
        .authenticate(&server.signed(json!({})))
        .await
        .unwrap();
    let now = plantlake::clock::now().timestamp();
    let others_session = uuid::Uuid::from_u128(7).to_string();
    for (change, reason) in [
        (json!({"iss": "another"}), "another issuer"),
        (json!({"iss": null}), "claim is missing"),
        (json!({"iss": ["plantlake", "x"]}), ""),
        (json!({"aud": "another"}), "another audience"),
        (json!({"aud": null}), "claim is missing"),
        (json!({"aud": []}), ""),
        (json!({"exp": now - 1}), "has expired"),
        (json!({"exp": null}), "claim is missing"),
        (json!({"exp": "never"}), "claim is missing"),
        (json!({"iat": now + 3_600}), "issued in the future"),
        (json!({"sub": others_session}), "does not match its session"),
        (json!({"org": others_session}), "does not match its session"),
        (json!({"sid": others_session}), "session that has ended"),
        (json!({"sid": null}), "claim is missing"),
        (json!({"jti": null}), "claim is missing"),
        (json!({"role": "root"}), "claim is missing"),
    ] {
        server.refuses(&server.signed(change), reason).await;
    }
    // The role in the token has no effect.
    let access = server
        .authenticator
        .authenticate(&server.signed(json!({"role": "admin"})))
        .await
        .unwrap();
    assert_eq!(access.principal().role, plantlake::model::Role::Analyst);
}

#[tokio::test]
async fn token_signed_with_unknown_key_is_refused() {
    let server = Server::new().await;
    let claims = server.part(1);
    let stranger = Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap();
    let stranger = EncodingKey::from_ed_der(stranger.as_ref());
    let sign = |header: &Header| jsonwebtoken::encode(header, &claims, &stranger).unwrap();
    server
        .refuses(&sign(&server.header()), "signature is wrong")
        .await;
    let mut header = server.header();
    header.kid = Some("../../etc/passwd".to_owned());
    server.refuses(&sign(&header), "unknown key").await;
    header.kid = None;
    server.refuses(&sign(&header), "has no key id").await;
    // A key that the token refers to is ignored.
    let mut header = server.header();
    header.jku = Some("http://127.0.0.1:1/keys".to_owned());
    server.refuses(&sign(&header), "signature is wrong").await;
    let mut header = server.header();
    header.typ = Some("JWT".to_owned());
    let token =
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&server.pkcs8)).unwrap();
    server
        .refuses(&token, "algorithm or type is not that")
        .await;
}

#[tokio::test]
async fn token_of_revoked_session_or_other_issuer_is_refused() {
    let server = Server::new().await;
    for (issuer, audience, reason) in [
        ("other", "plantlake", "another"),
        ("plantlake", "other", "audience"),
    ] {
        let settings = plantlake::config::AuthSettings {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            ..server.fresh.settings.auth.clone()
        };
        let other = Authenticator::open(server.store.clone(), &settings).unwrap();
        let error = other
            .authenticate(&server.token)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
    let user = server.store.user("ada@x.y").await.unwrap();
    server
        .store
        .revoke_sessions(&actor(), user.id)
        .await
        .unwrap();
    server.refuses(&server.token, "was revoked").await;
}
