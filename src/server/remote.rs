//! The client: sends queries and administration orders to a server, and decodes the responses.

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightDescriptor, HandshakeRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{TryStreamExt, stream};
use prost::Message;
use std::sync::Arc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::action_names::ADMINISTER;
use super::limits::MAX_SENT_MESSAGE_BYTES;
use crate::auth::{AdminCommand, AdminOutcome};

/// The credential of the caller. Has no `Debug`, because it is secret.
pub enum Credential {
    /// An API key or an access token.
    Bearer(String),
    /// An email address and a password to sign in with.
    Password {
        /// The email address.
        email: String,
        /// The password.
        password: String,
    },
}

/// The error of a call to a server.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The URL cannot be used.
    #[error(
        "{url:?} is not the URL of a server; expected grpc://HOST:PORT or grpc+tls://HOST:PORT{why}"
    )]
    Url {
        /// The URL as it was given.
        url: String,
        /// The reason, as the end of the error text; may be empty.
        why: &'static str,
    },
    /// The server does not respond.
    #[error(
        "cannot reach the server {url}; check the address, that it is running, and whether it uses TLS"
    )]
    Unreachable {
        /// The URL.
        url: String,
        /// The transport error.
        source: tonic::transport::Error,
    },
    /// The call was refused.
    #[error("{0}")]
    Refused(String),
    /// The statement has no result.
    #[error("the statement returns no rows, and its effect ends with this call; send a query")]
    NoResult,
    /// The response has an unexpected format.
    #[error("cannot decode the server's response; the server may be of another version")]
    Malformed(#[from] serde_json::Error),
}

impl From<Status> for RemoteError {
    fn from(status: Status) -> Self {
        Self::Refused(match status.code() {
            Code::Unimplemented => format!("not supported by the server: {}", status.message()),
            _ => status.message().to_owned(),
        })
    }
}

/// A connection to a server, with the credential of the caller.
#[derive(Clone)]
pub struct RemoteServer {
    client: FlightServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl RemoteServer {
    /// Connects to a server, and signs in if the credential is a password. With `roots` (PEM), only these certificates are
    /// trusted instead of the system's.
    ///
    /// # Errors
    /// Fails if the URL has no TLS and names another machine, among others: credentials are not sent to other machines in
    /// plain text.
    pub async fn connect(
        url: &str,
        roots: Option<&[u8]>,
        credential: Credential,
    ) -> Result<Self, RemoteError> {
        let wrong = |why| RemoteError::Url {
            url: url.to_owned(),
            why,
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(""))?;
        let (scheme, has_tls) = match scheme {
            "grpc" | "grpc+tcp" | "http" => ("http", false),
            "grpc+tls" | "https" => ("https", true),
            _ => return Err(wrong("")),
        };
        let mut endpoint =
            Endpoint::from_shared(format!("{scheme}://{rest}")).map_err(|_| wrong(""))?;
        if has_tls {
            let mut tls = ClientTlsConfig::new();
            tls = match roots {
                Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                None => tls.with_native_roots(),
            };
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|source| unreachable(url, source))?;
        } else if !is_local(endpoint.uri().host()) {
            return Err(wrong(
                ": without TLS, credentials are sent to this machine only",
            ));
        }
        let channel = endpoint
            .connect()
            .await
            .map_err(|source| unreachable(url, source))?;
        let client =
            FlightServiceClient::new(channel).max_decoding_message_size(MAX_SENT_MESSAGE_BYTES);
        let authorization = match credential {
            Credential::Bearer(text) => to_header(&format!("Bearer {text}"))?,
            Credential::Password { email, password } => {
                sign_in(client.clone(), &email, &password).await?
            }
        };
        Ok(Self {
            client,
            authorization,
        })
    }

    /// Sends an order to the server. Returns its outcome.
    pub async fn carry_out(&self, order: &AdminCommand) -> Result<AdminOutcome, RemoteError> {
        let request = self.request(Action {
            r#type: ADMINISTER.to_owned(),
            body: serde_json::to_vec(order)?.into(),
        });
        let mut client = self.client.clone();
        let mut results = client.do_action(request).await?.into_inner();
        let result = results.message().await?;
        let result = result.ok_or_else(|| Status::internal("the server's response is empty"))?;
        Ok(serde_json::from_slice(&result.body)?)
    }

    /// Runs a query. Returns its rows.
    pub async fn query(&self, sql: &str) -> Result<SendableRecordBatchStream, RemoteError> {
        let command = CommandStatementQuery {
            query: sql.to_owned(),
            transaction_id: None,
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let mut client = self.client.clone();
        let info = client.get_flight_info(self.request(descriptor)).await?;
        let info = info.into_inner();
        let mut endpoints = info.endpoint.clone().into_iter();
        let ticket = endpoints.next().and_then(|endpoint| endpoint.ticket);
        let ticket = ticket.ok_or(RemoteError::NoResult)?;
        let schema = info.try_decode_schema();
        let schema = Arc::new(schema.map_err(|_| Status::internal("the schema is malformed"))?);
        let answer = client.do_get(self.request(ticket)).await?.into_inner();
        let messages = answer.map_err(|status| FlightError::Tonic(Box::new(status)));
        let rows = FlightRecordBatchStream::new_from_flight_data(messages).map_err(|error| {
            DataFusionError::External(match error {
                FlightError::Tonic(status) => Box::new(RemoteError::from(*status)),
                error => Box::new(error),
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("authorization", self.authorization.clone());
        request
    }
}

async fn sign_in(
    mut client: FlightServiceClient<Channel>,
    email: &str,
    password: &str,
) -> Result<MetadataValue<Ascii>, RemoteError> {
    let mut request = Request::new(stream::empty::<HandshakeRequest>());
    let basic = STANDARD.encode(format!("{email}:{password}"));
    let headers = request.metadata_mut();
    headers.insert("authorization", to_header(&format!("Basic {basic}"))?);
    let answer = client.handshake(request).await?;
    let token = answer.metadata().get("authorization").cloned();
    token.ok_or_else(|| RemoteError::Refused("the server returned no token".to_owned()))
}

fn to_header(text: &str) -> Result<MetadataValue<Ascii>, RemoteError> {
    let mut value: MetadataValue<Ascii> = text.parse().map_err(|_| {
        RemoteError::Refused("the credential contains invalid characters".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn unreachable(url: &str, source: tonic::transport::Error) -> RemoteError {
    RemoteError::Unreachable {
        url: url.to_owned(),
        source,
    }
}

fn is_local(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
