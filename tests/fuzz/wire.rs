//! gRPC below its messages: a body of any bytes to any path, and what comes back.

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

/// A call that is not answered for so long hangs. The server's own limits are far below.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A connection of no use is waited for so long.
const MOMENT: Duration = Duration::from_millis(200);
/// Most bytes of an answer that are read; then the client goes away.
const ENOUGH: usize = 32 << 20;

/// What came back.
#[derive(Debug, Default)]
pub struct Reply {
    /// None if the stream was left before its end, or nothing that is gRPC came back.
    pub status: Option<Status>,
    /// The messages that came whole.
    pub messages: Vec<Vec<u8>>,
    /// Whether there was no answer in time.
    pub hangs: bool,
}

impl Reply {
    /// Whether all is well.
    pub fn is_ok(&self) -> bool {
        matches!(&self.status, Some(status) if status.code() == Code::Ok)
    }
}

/// A connection to the server, opened anew when it breaks.
#[derive(Clone)]
pub struct Wire {
    address: SocketAddr,
    channel: Channel,
}

impl Wire {
    /// Connects when there is something to send.
    pub fn new(address: SocketAddr) -> Self {
        let endpoint = Endpoint::new(format!("http://{address}")).unwrap();
        Self {
            address,
            channel: endpoint.connect_lazy(),
        }
    }

    /// Sends `body` to `path`.
    pub async fn send(&mut self, path: &str, authorization: Option<&str>, body: Vec<u8>) -> Reply {
        let mut request = http::Request::builder()
            .method("POST")
            .uri(path)
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        // A path or a header that HTTP does not know cannot be sent.
        if !path.starts_with('/') {
            return Reply::default();
        }
        let Ok(request) = request.body(Body::new(AxumBody::from(body))) else {
            return Reply::default();
        };
        let answered = timeout(PATIENCE, self.answer(request)).await;
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

    /// Sends bytes that need not be HTTP/2 on a connection of their own, and reads a while.
    pub async fn send_bytes(&self, bytes: &[u8]) {
        let Ok(mut connection) = TcpStream::connect(self.address).await else {
            return;
        };
        // The server may close it at any time.
        let _ = connection.write_all(bytes).await;
        let mut read = [0; 4096];
        while let Ok(Ok(1..)) = timeout(MOMENT, connection.read(&mut read)).await {}
    }
}

/// Messages, each with its frame: no compression, and its length.
pub fn framed<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    for message in messages {
        body.push(0);
        body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend_from_slice(message);
    }
    body
}

/// The messages of a body, as far as they are whole.
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
