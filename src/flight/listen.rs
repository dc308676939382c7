//! Listening: connections with TLS or without, as tonic takes them.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::connections::{ConnectionState, NoPlace, Place, Registry};
use super::proxies;
use super::tls::Tls;
use crate::config::Networks;
use crate::metrics::{CloseReason, METRICS};

/// After an error of the system, such as too many open files, accepting pauses.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait for tonic to take them.
const MAX_WAITING: usize = 64;

/// How connections begin.
#[derive(Clone)]
pub(super) struct Listening {
    /// Their encryption.
    pub tls: Option<Tls>,
    /// Their places.
    pub registry: Registry,
    /// How long TLS and the PROXY protocol may take.
    pub handshake_timeout: Duration,
    /// Whose word for clients' addresses is taken.
    pub trusted_proxies: Networks,
    /// Whether the PROXY protocol is how it is given.
    pub proxy_protocol: bool,
}

/// Where a connection comes from.
#[derive(Clone)]
pub(super) struct Peer {
    /// The address; behind the PROXY protocol, that of the client.
    pub address: IpAddr,
    /// What is known of the connection.
    pub state: Arc<ConnectionState>,
}

/// A connection that was accepted.
pub(super) struct Connection {
    stream: Socket,
    address: IpAddr,
    place: Place,
    /// While no call on it has shown a valid credential.
    pending: Option<Pending>,
}

/// What a connection without a credential is held to.
struct Pending {
    deadline: Pin<Box<Sleep>>,
    sent_bytes: u64,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The connections of `listener`. One that does not finish its handshake holds up no other.
pub(super) fn connections(
    listener: TcpListener,
    listening: Listening,
) -> impl Stream<Item = io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    tokio::spawn(accept(listener, listening, sender));
    futures::stream::unfold(receiver, |mut receiver| async {
        let connection = receiver.recv().await?;
        Some((Ok(connection), receiver))
    })
}

async fn accept(listener: TcpListener, listening: Listening, sender: mpsc::Sender<Connection>) {
    let listening = Arc::new(listening);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let address = address.ip().to_canonical();
        let is_proxy = listening.trusted_proxies.contains(address);
        let place = listening.registry.open((!is_proxy).then_some(address));
        let Ok(place) = place else {
            refuse(address);
            continue;
        };
        let has_header = is_proxy && listening.proxy_protocol;
        // Answers are small and awaited.
        let _ = stream.set_nodelay(true);
        if listening.tls.is_none() && !has_header {
            let connection = Connection::new(Socket::Plain(stream), address, place);
            if sender.send(connection).await.is_err() {
                return;
            }
            continue;
        }
        let (listening, sender) = (Arc::clone(&listening), sender.clone());
        tokio::spawn(async move {
            match listening.begin(stream, address, place, has_header).await {
                // Nobody takes it when the server ends.
                Some(connection) => drop(sender.send(connection).await),
                None => tracing::debug!(%address, "a connection did not begin"),
            }
        });
    }
}

fn refuse(address: IpAddr) {
    METRICS.connections.count_closed(CloseReason::Full);
    tracing::debug!(%address, "a connection is refused: all are in use");
}

impl Listening {
    /// Lets a connection begin, unless it takes too long or its place is needed.
    async fn begin(
        &self,
        stream: TcpStream,
        address: IpAddr,
        place: Place,
        has_header: bool,
    ) -> Option<Connection> {
        let state = Arc::clone(place.state());
        let begun = self.shake_hands(stream, address, place, has_header);
        tokio::select! {
            begun = tokio::time::timeout(self.handshake_timeout, begun) => match begun {
                Ok(Ok(connection)) => Some(connection),
                Ok(Err(error)) => {
                    tracing::debug!(%address, "the handshake failed: {error}");
                    None
                }
                Err(_) => {
                    METRICS.connections.count_closed(CloseReason::Timeout);
                    None
                }
            },
            () = poll_fn(|context| state.poll_closed(context)) => None,
        }
    }

    async fn shake_hands(
        &self,
        mut stream: TcpStream,
        mut address: IpAddr,
        mut place: Place,
        has_header: bool,
    ) -> io::Result<Connection> {
        if has_header && let Some(client) = proxies::read_header(&mut stream).await? {
            address = client.ip();
            if !self.trusted_proxies.contains(address) {
                // The limit on an address goes by the client's.
                let of_client = self.registry.open(Some(address));
                place = of_client.map_err(|NoPlace| {
                    refuse(address);
                    io::Error::from(io::ErrorKind::ConnectionRefused)
                })?;
            }
        }
        let stream = match &self.tls {
            Some(tls) => Socket::Tls(Box::new(tls.acceptor().accept(stream).await?)),
            None => Socket::Plain(stream),
        };
        place.state().end_handshake();
        Ok(Connection::new(stream, address, place))
    }
}

impl Connection {
    fn new(stream: Socket, address: IpAddr, place: Place) -> Self {
        let remaining = place.state().remaining().unwrap_or_default();
        Self {
            stream,
            address,
            place,
            pending: Some(Pending {
                deadline: Box::pin(sleep(remaining)),
                sent_bytes: 0,
            }),
        }
    }

    /// Fails if the connection is to be closed. A pending one has this looked at again in time.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let state = self.place.state();
        let Some(pending) = &mut self.pending else {
            return match state.is_authenticated() {
                true => Ok(()),
                false => Err(io::ErrorKind::ConnectionAborted.into()),
            };
        };
        let is_closed = state.poll_closed(context).is_ready();
        if state.is_authenticated() {
            self.pending = None;
            return Ok(());
        }
        if is_closed {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while pending.deadline.as_mut().poll(context).is_ready() {
            pending.deadline = Box::pin(sleep(state.remaining()?));
        }
        Ok(())
    }

    /// Whether the client may send more for now.
    fn may_send(&self) -> bool {
        let state = self.place.state();
        let pending = self.pending.as_ref();
        pending.is_none_or(|pending| state.may_send(pending.sent_bytes))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer {
            address: self.address,
            state: Arc::clone(self.place.state()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        if !self.may_send() {
            // Woken when a call was looked at, or when the time is over.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        })?;
        if let Some(pending) = &mut self.pending {
            pending.sent_bytes += (buffer.filled().len() - before) as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Socket::Plain(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
