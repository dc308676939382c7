//! A low-level gRPC client that sends any bytes to any path and reads the reply.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::{Body as _, Service, http};
use tonic::service::AxumBody;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// The time after which an unanswered call counts as a hang. The server's own timeouts are far below.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The timeout of each read from a raw connection.
const MOMENT: Duration = Duration::from_millis(200);
/// The number of bytes of a reply after which the client stops reading and cancels the call.
const ENOUGH: usize = 32 << 20;

/// The reply to a call.
#[derive(Debug, Default)]
pub struct Reply {
    /// The status; `None` if the client cancelled the stream or the reply was not gRPC.
    pub status: Option<Status>,
    /// The messages that arrived completely.
    pub messages: Vec<Vec<u8>>,
    /// Whether the call timed out.
    pub hangs: bool,
}

impl Reply {
    /// Whether the status is OK.
    pub fn is_ok(&self) -> bool {
        matches!(&self.status, Some(status) if status.code() == Code::Ok)
    }
}

/// A connection to the server, which is reopened when it breaks.
#[derive(Clone)]
pub struct Wire {
    address: SocketAddr,
    channel: Channel,
}

impl Wire {
    /// Creates a client that connects at the first call.
    pub fn new(address: SocketAddr) -> Self {
        let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
        Self {
            address,
            channel: endpoint.connect_lazy(),
        }
    }

    /// Sends `body` to `path` and returns the reply.
    pub async fn send(&mut self, path: &str, authorization: Option<&str>, body: Vec<u8>) -> Reply {
        let mut request = http::Request::builder()
            .method("POST")
            .uri(path)
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        // The HTTP client cannot send an invalid path or header.
        if !path.starts_with('/') {
            return Reply::default();
        }
        let Ok(request) = request.body(Body::new(AxumBody::from(body))) else {
            return Reply::default();
        };
        let answered = timeout(CALL_TIMEOUT, self.answer(request)).await;
        answered.unwrap_or_else(|_| Reply {
            hangs: true,
            ..Reply::default()
        })
    }

    async fn answer(&mut self, request: http::Request<Body>) -> Reply {
        let mut reply = Reply::default();
        let is_ready = poll_fn(|context| self.channel.poll_ready(context)).await;
        let response = match is_ready {
            Ok(()) => self.channel.call(request).await,
            Err(error) => Err(error),
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                reply.status = Some(Status::from_error(error.into()));
                return reply;
            }
        };
        reply.status = Status::from_header_map(response.headers());
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => bytes.extend_from_slice(&data),
                Ok(Err(frame)) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        reply.status = Status::from_header_map(&trailers);
                    }
                }
                Err(status) => {
                    reply.status = Some(status);
                    break;
                }
            }
            if bytes.len() > ENOUGH {
                break;
            }
        }
        reply.messages = messages(&bytes);
        reply
    }

    /// Sends any bytes on a separate connection, and reads until it is closed or silent for [`MOMENT`].
    pub async fn send_bytes(&self, bytes: &[u8]) {
        let Ok(mut connection) = TcpStream::connect(self.address).await else {
            return;
        };
        // The server may close the connection at any time.
        let _ = connection.write_all(bytes).await;
        let mut read = [0; 4096];
        while let Ok(Ok(1..)) = timeout(MOMENT, connection.read(&mut read)).await {}
    }
}

/// Returns the messages in gRPC frames: a flag for no compression, the length, and the message.
pub fn framed<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    for message in messages {
        body.push(0);
        body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend_from_slice(message);
    }
    body
}

/// Returns the complete messages of a body.
fn messages(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some((message, rest)) = rest.split_at_checked(length) else {
            break;
        };
        messages.push(message.to_vec());
        body = rest;
    }
    messages
}
