//! What goes on now: counted while something is held.

use prometheus_client::metrics::gauge::Gauge;

/// Counts one more in a gauge, until it is dropped.
#[derive(Debug)]
pub struct Running(Gauge);

impl Running {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
