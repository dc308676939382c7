//! A Qdrant server for tests: gRPC on a loopback port, with shards of Qdrant's engine behind it.
//!
//! It implements only the requests of plantlake: everything else is answered with `unimplemented`, so that no test
//! passes by chance. [`Faults`] make it fail on purpose.

mod collections;
mod points;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::{Qdrant, QdrantServer};
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};
use qdrant_edge::EdgeShard;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::sleep;
use tonic::{Request, Response, Status};

/// Implements a service: each call goes to a method of [`Fake`], or is answered with `unimplemented`.
macro_rules! service {
    ($service:path { $($name:ident($request:ty) -> $response:ty $(= $handler:ident)?;)* }) => {
        #[tonic::async_trait]
        impl $service for crate::vectors::fake::Fake {
            $(async fn $name(
                &self,
                request: tonic::Request<$request>,
            ) -> Result<tonic::Response<$response>, tonic::Status> {
                self.enter(request.metadata()).await?;
                service!(self, request, $name, $($handler)?)
            })*
        }
    };
    ($self:ident, $request:ident, $name:ident, $handler:ident) => {
        $self.$handler($request.into_inner()).map(tonic::Response::new)
    };
    ($self:ident, $request:ident, $name:ident,) => {{
        drop($request);
        Err(tonic::Status::unimplemented(stringify!($name)))
    }};
}
use service;

/// The faults of the server.
#[derive(Debug, Default)]
pub struct Faults {
    /// Whether it takes a minute to answer.
    pub hangs: AtomicBool,
    /// The number of calls that are answered with `unavailable`.
    pub unavailable: AtomicUsize,
    /// Whether it reports changes as acknowledged instead of completed.
    pub acknowledges_only: AtomicBool,
    /// The API key that it requires, if any.
    pub key: Mutex<Option<String>>,
    /// The number of calls for which it reports that it is building its index; the largest number means forever.
    pub yellow: AtomicUsize,
    /// Its version; `None` for a supported one.
    pub version: Mutex<Option<&'static str>>,
    /// The number of calls received.
    pub calls: AtomicUsize,
}

#[derive(Debug, Default)]
struct Contents {
    collections: HashMap<String, Arc<EdgeShard>>,
    aliases: HashMap<String, String>,
}

#[derive(Debug)]
struct State {
    contents: Mutex<Contents>,
    faults: Faults,
    /// The last field: a shard writes to the folder when it is closed, and panics if that fails.
    folder: TempDir,
}

/// Implements the services.
#[derive(Debug, Clone)]
struct Fake(Arc<State>);

/// A server, which can be stopped and resumed.
pub struct Server {
    fake: Fake,
    address: SocketAddr,
    /// Dropping it closes all connections.
    running: Option<Runtime>,
}

impl Server {
    /// Starts an empty server.
    pub fn start() -> Self {
        let fake = Fake(Arc::new(State {
            folder: tempfile::tempdir().unwrap(),
            contents: Mutex::default(),
            faults: Faults::default(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Self {
            fake,
            address,
            running: None,
        };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let fake = self.fake.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = futures::stream::unfold(listener, async |listener| {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                Some((accepted, listener))
            });
            tonic::transport::Server::builder()
                .add_service(PointsServer::new(fake.clone()).max_decoding_message_size(32 << 20))
                .add_service(CollectionsServer::new(fake.clone()))
                .add_service(QdrantServer::new(fake))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        self.running = Some(runtime);
    }

    /// Closes its port and all connections; its contents stay.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }

    /// Resumes after a stop.
    pub fn go_on(&mut self) {
        let listener = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            TcpListener::bind(self.address).ok()
        });
        self.serve(listener.expect("the port is free again"));
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns its faults, which a test may set.
    pub fn faults(&self) -> &Faults {
        &self.fake.0.faults
    }

    /// Returns the names of its collections.
    pub fn collections(&self) -> Vec<String> {
        let contents = self.fake.0.contents.lock().unwrap();
        let mut names: Vec<String> = contents.collections.keys().cloned().collect();
        names.sort();
        names
    }

    /// Removes a collection, as another process would.
    pub fn lose(&self, collection: &str) {
        let mut contents = self.fake.0.contents.lock().unwrap();
        contents.collections.remove(collection).unwrap();
    }

    /// Creates a collection and an alias that do not belong to plantlake.
    pub fn add_foreign(&self, collection: &str, alias: &str) {
        let shard = self.fake.shard(collection, None);
        let mut contents = self.fake.0.contents.lock().unwrap();
        contents.collections.insert(collection.to_owned(), shard);
        contents
            .aliases
            .insert(alias.to_owned(), collection.to_owned());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Fake {
    /// Counts a call, checks its key, and applies the faults.
    async fn enter(&self, metadata: &tonic::metadata::MetadataMap) -> Result<(), Status> {
        let faults = &self.0.faults;
        faults.calls.fetch_add(1, Ordering::SeqCst);
        if faults.hangs.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(60)).await;
        }
        let one_less = |left: usize| left.checked_sub(1);
        if faults
            .unavailable
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
        {
            return Err(Status::unavailable("starting up"));
        }
        if let Some(key) = &*faults.key.lock().unwrap() {
            let given = metadata
                .get("api-key")
                .map(|given| given.to_str().unwrap().to_owned());
            if given.as_ref() != Some(key) {
                return Err(Status::unauthenticated(format!(
                    "Must provide an API key or an Authorization bearer token, not {given:?}"
                )));
            }
        }
        Ok(())
    }

    fn found(&self, name: &str) -> Result<Arc<EdgeShard>, Status> {
        let contents = self.0.contents.lock().unwrap();
        let name = contents
            .aliases
            .get(name)
            .map_or(name, |target| target.as_str());
        let missing =
            || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        contents.collections.get(name).cloned().ok_or_else(missing)
    }
}

#[tonic::async_trait]
impl Qdrant for Fake {
    async fn health_check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckReply>, Status> {
        self.enter(request.metadata()).await?;
        let version = self.0.faults.version.lock().unwrap().unwrap_or("1.20.0");
        Ok(Response::new(HealthCheckReply {
            title: "qdrant - vector search engine".to_owned(),
            version: version.to_owned(),
            commit: None,
        }))
    }
}
