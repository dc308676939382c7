//! Answers `/metrics`, `/healthz` and `/readyz` by HTTP. For this machine, or a network that may know it all.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::METRICS;

/// Connections at once: a few Prometheus servers, load balancers, people.
const CONNECTIONS: usize = 32;
/// How long a client may take to ask.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
/// How long one connection lasts: one that its client forgot must not keep others out.
const LONGEST: Duration = Duration::from_secs(600);
/// How long it waits when the system has no connection to give.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers for as long as the future is polled.
pub async fn answer(listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection to the metrics cannot be taken: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ASKED_WITHIN)
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(async |request| Ok::<_, Infallible>(respond(&request))),
                );
            // Whoever went away needs no answer.
            let _ = tokio::time::timeout(LONGEST, connection).await;
            drop(place);
        });
    }
}

fn respond(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let mut metrics = text(StatusCode::OK, METRICS.text());
            let kind = HeaderValue::from_static(prometheus_text::CONTENT_TYPE);
            metrics.headers_mut().insert(CONTENT_TYPE, kind);
            metrics
        }
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match METRICS.health.check() {
            Ok(()) => text(StatusCode::OK, "ready\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
    }
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
