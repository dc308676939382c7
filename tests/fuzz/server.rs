//! Starts the server in this process, so that the panic hook and the coverage counters cover it.

use std::net::SocketAddr;
use std::path::Path;

use plantlake::config::{Inputs, Override, load};
use plantlake::server::FlightServer;
use tokio::net::TcpListener;

/// The server's timeouts, far below the time after which a call counts as a hang.
const QUERY_TIMEOUT: &str = "3s";

/// Serves the plant in `folder` until the process ends, and returns the address of the server.
pub async fn serve(folder: &Path) -> SocketAddr {
    let within = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let setting = |key, value: &str| Override {
        key,
        flag: "of the fuzzer",
        value: value.to_owned(),
    };
    let inputs = Inputs {
        folder: folder.to_owned(),
        overrides: vec![
            setting("lake", &within("lake")),
            setting("catalog", &within("catalog")),
            setting("jobs", &within("jobs")),
            setting("auth.token_lifetime", "1d"),
            setting("serve.query_timeout", QUERY_TIMEOUT),
            setting("serve.queue_timeout", QUERY_TIMEOUT),
            setting("serve.unread_timeout", QUERY_TIMEOUT),
            setting("serve.query_memory", "256 MB"),
            setting("serve.total_memory", "1 GB"),
            setting("serve.spill", "256 MB"),
            setting("serve.largest_ingest", "8 MB"),
        ],
        ..Inputs::default()
    };
    let settings = load(&inputs).unwrap().settings;
    let server = plantlake::app::server(&settings).await.unwrap();
    let serving = FlightServer::new(server, None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let never = std::future::pending;
    tokio::spawn(serving.run(listener, never(), never()));
    address
}
