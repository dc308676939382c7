//! The listener: accepts connections with or without TLS, and passes them to tonic.

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

use super::proxies;
use super::registry::{ConnectionLimitReached, ConnectionSlot, ConnectionState, Registry};
use super::tls::Tls;
use crate::config::Networks;
use crate::metrics::{CloseReason, METRICS};

/// The pause after a system error, such as too many open files, before the next connection is accepted.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The time for which a finished connection waits for its client to close it while the server shuts down; it starts again
/// whenever the client sends something.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The size of the buffer into which bytes are read that are discarded.
const DISCARD_BYTES: usize = 4 << 10;
/// The maximum number of connections that wait for tonic to take them.
const MAX_WAITING: usize = 64;

/// The configuration of new connections.
#[derive(Clone)]
pub(in crate::server) struct ListenerConfig {
    /// The TLS configuration; none for plain text.
    pub tls: Option<Tls>,
    /// The registry that limits connections.
    pub registry: Registry,
    /// The time limit for TLS and the PROXY protocol together.
    pub handshake_timeout: Duration,
    /// The proxies that are trusted to report client addresses.
    pub trusted_proxies: Networks,
    /// Whether trusted proxies report them by the PROXY protocol.
    pub proxy_protocol: bool,
}

/// The origin of a connection.
#[derive(Clone)]
pub(in crate::server) struct Peer {
    /// The remote address; with the PROXY protocol, that of the client.
    pub address: IpAddr,
    /// The state of the connection.
    pub state: Arc<ConnectionState>,
}

/// An accepted connection.
pub(in crate::server) struct Connection {
    stream: Socket,
    address: IpAddr,
    place: ConnectionSlot,
    /// Set until a call on the connection presents a valid credential.
    pending: Option<Pending>,
    /// The time limit for the client to close the connection; set once everything was sent and the server shuts down.
    closing: Option<Pin<Box<Sleep>>>,
}

/// The limits of a connection without a valid credential.
struct Pending {
    deadline: Pin<Box<Sleep>>,
    sent_bytes: u64,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Returns the connections of `listener`. One that does not finish its handshake does not delay others.
pub(in crate::server) fn connections(
    listener: TcpListener,
    listening: ListenerConfig,
) -> impl Stream<Item = io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    tokio::spawn(accept(listener, listening, sender));
    futures::stream::unfold(receiver, |mut receiver| async {
        let connection = receiver.recv().await?;
        Some((Ok(connection), receiver))
    })
}

async fn accept(
    listener: TcpListener,
    listening: ListenerConfig,
    sender: mpsc::Sender<Connection>,
) {
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
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let address = address.ip().to_canonical();
        let is_proxy = listening.trusted_proxies.contains(address);
        let place = listening.registry.open((!is_proxy).then_some(address));
        let Ok(place) = place else {
            count_refused(address);
            continue;
        };
        let has_header = is_proxy && listening.proxy_protocol;
        // Responses are small, and clients wait for them.
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
            match listening
                .complete_handshake(stream, address, place, has_header)
                .await
            {
                // This fails only when the server shuts down.
                Some(connection) => drop(sender.send(connection).await),
                None => tracing::debug!(%address, "a connection was not established"),
            }
        });
    }
}

fn count_refused(address: IpAddr) {
    METRICS.connections.count_closed(CloseReason::Full);
    tracing::debug!(%address, "connection refused: too many connections");
}

impl ListenerConfig {
    /// Completes the handshake of a connection. Returns none if it fails or takes too long, or if the place of the
    /// connection is needed.
    async fn complete_handshake(
        &self,
        stream: TcpStream,
        address: IpAddr,
        place: ConnectionSlot,
        has_header: bool,
    ) -> Option<Connection> {
        let state = Arc::clone(place.state());
        let begun = self.perform_handshake(stream, address, place, has_header);
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

    async fn perform_handshake(
        &self,
        mut stream: TcpStream,
        mut address: IpAddr,
        mut place: ConnectionSlot,
        has_header: bool,
    ) -> io::Result<Connection> {
        if has_header && let Some(client) = proxies::read_header(&mut stream).await? {
            address = client.ip();
            if !self.trusted_proxies.contains(address) {
                // The limit per address applies to the address of the client.
                let of_client = self.registry.open(Some(address));
                place = of_client.map_err(|ConnectionLimitReached| {
                    count_refused(address);
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
    fn new(stream: Socket, address: IpAddr, place: ConnectionSlot) -> Self {
        let remaining = place.state().remaining().unwrap_or_default();
        Self {
            stream,
            address,
            place,
            pending: Some(Pending {
                deadline: Box::pin(sleep(remaining)),
                sent_bytes: 0,
            }),
            closing: None,
        }
    }

    /// Checks whether the connection is to be closed. For a pending connection, registers the task to be woken at the
    /// deadline.
    ///
    /// # Errors
    /// Fails if the connection is to be closed.
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

    /// Whether the client may send more data for now.
    fn may_send(&self) -> bool {
        let state = self.place.state();
        let pending = self.pending.as_ref();
        pending.is_none_or(|pending| state.may_send(pending.sent_bytes))
    }

    /// Discards what the client still sends until it closes the connection, or has sent nothing for [`CLOSE_TIMEOUT`].
    ///
    /// The kernel answers bytes that arrive at a closed socket, and bytes that nobody has read when it is closed, with a
    /// reset. A client that gets a reset loses what is still on its way to it: the end of its result.
    fn poll_closed_by_client(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.check(context).is_err() {
            return Poll::Ready(());
        }
        let socket = match &mut self.stream {
            Socket::Plain(socket) => socket,
            // Nothing that arrives now is decrypted.
            Socket::Tls(stream) => stream.get_mut().0,
        };
        let mut discarded = [0; DISCARD_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            match Pin::new(&mut *socket).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.closing = None,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    let closing = self
                        .closing
                        .get_or_insert_with(|| Box::pin(sleep(CLOSE_TIMEOUT)));
                    return closing.as_mut().poll(context);
                }
            }
        }
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
            // The task is woken when a call was checked, or at the deadline.
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
        // Repeated calls have no effect on the socket.
        ready!(match &mut self.stream {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        })?;
        match self.place.state().is_server_stopping() {
            true => self.poll_closed_by_client(context).map(Ok),
            false => Poll::Ready(Ok(())),
        }
    }
}
