//! An HTTP server for `/metrics`, `/healthz` and `/readyz`. It has a thread of its own, so that it responds whatever the
//! other threads do. It has no access control: it is meant for this machine, or for a network that may see all metrics.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

use super::registry::METRICS;

/// The maximum number of open connections: a few Prometheus servers, load balancers and people. At the limit, the oldest
/// idle connection is closed for a new one.
const MAX_CONNECTIONS: usize = 64;
/// The time limit for a client to send the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum lifetime of a connection: one that its client has forgotten must not keep others out.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// The maximum size of a request's headers, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// The pause after a connection could not be accepted.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The maximum number of requests that gather metrics at once. Gathering takes locks that others may hold, so it runs on
/// blocking threads.
const MAX_GATHERING: usize = 2;
/// The time limit for gathering metrics.
const GATHER_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle to the thread that serves HTTP. The thread ends when the handle is dropped.
#[derive(Debug)]
pub struct HttpServer {
    _stop: oneshot::Sender<()>,
}

impl HttpServer {
    /// Starts a server on `listener`.
    ///
    /// # Errors
    ///
    /// Fails if the thread cannot be started, or the listener cannot be used.
    pub fn start(listener: TcpListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_GATHERING)
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("metrics".to_owned());
        thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept_connections(listener) => {}
                    // The sender never sends; it is only dropped.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { _stop: stop })
    }
}

/// An open connection, from which the accept loop chooses one to close.
struct Connection {
    task: AbortHandle,
    is_busy: Arc<AtomicBool>,
}

async fn accept_connections(listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("cannot answer requests for metrics: {error}");
            return;
        }
    };
    let gathering = Arc::new(Semaphore::new(MAX_GATHERING));
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept a connection to the metrics: {error}");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.task.is_finished());
        if connections.len() >= MAX_CONNECTIONS {
            let mut all = connections.iter();
            let idle = all.position(|connection| !connection.is_busy.load(Ordering::Relaxed));
            connections.remove(idle.unwrap_or(0)).task.abort();
        }
        let is_busy = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(serve_connection(
            stream,
            Arc::clone(&is_busy),
            Arc::clone(&gathering),
        ));
        connections.push(Connection {
            task: task.abort_handle(),
            is_busy,
        });
    }
}

async fn serve_connection(stream: TcpStream, is_busy: Arc<AtomicBool>, gathering: Arc<Semaphore>) {
    let service = service_fn(async |request| {
        is_busy.store(true, Ordering::Relaxed);
        let response = respond(&request, &gathering).await;
        is_busy.store(false, Ordering::Relaxed);
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // Errors are ignored: the client has gone, and there is nobody to report them to.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

async fn respond(request: &Request<Incoming>, gathering: &Arc<Semaphore>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "use GET or HEAD\n".to_owned(),
        );
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => match tokio::time::timeout(GATHER_TIMEOUT, gather(gathering)).await {
            Ok(Some(gathered)) => {
                let mut metrics = text(StatusCode::OK, gathered);
                let kind = HeaderValue::from_static(prometheus_text::CONTENT_TYPE);
                metrics.headers_mut().insert(CONTENT_TYPE, kind);
                metrics
            }
            Ok(None) | Err(_) => {
                let why = "cannot gather the metrics\n";
                text(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
            }
        },
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match METRICS.health.check() {
            Ok(()) => text(StatusCode::OK, "ready\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "not found; use /metrics, /healthz or /readyz\n".to_owned(),
        ),
    }
}

/// Returns all metrics as text; none if gathering them failed.
async fn gather(gathering: &Arc<Semaphore>) -> Option<String> {
    let permit = Arc::clone(gathering).acquire_owned().await.ok()?;
    let gathered = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        METRICS.text()
    });
    gathered.await.ok()
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
