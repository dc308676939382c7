//! A server for the plant.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::sql::place::Place;

/// A running server, with the folder of its plant.
pub struct Plant {
    /// Removed when the plant is dropped.
    place: Place,
    server: Child,
    address: String,
}

impl Plant {
    /// Creates the plant, and serves it on a free port.
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

    /// Returns the server's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the API key of an organisation.
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
