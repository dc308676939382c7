//! A server of the plant.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::place::Place;

/// The server, and where everything is.
pub struct Plant {
    /// Removed with the plant.
    place: Place,
    server: Child,
    address: String,
}

impl Plant {
    /// Makes the plant, and serves it on a free port.
    pub fn start() -> Self {
        let place = Place::make();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--json", "--log"];
        let mut server = place
            .plantlake(&[&serve[..], &["plantlake=warn"]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let address = said["listening"].as_str().unwrap();
        Self {
            place,
            server,
            address: address.replace("grpc://", "http://"),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The API key of an organisation.
    pub fn key(&self, organisation: &str) -> &str {
        self.place.key(organisation)
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}
