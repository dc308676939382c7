//! Gauges whose values are read when the metrics are gathered.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

type Source = Box<dyn Fn() -> Option<f64> + Send + Sync>;

/// A gauge that reads its value from a source when the metrics are gathered. It has no value if there is no source, or if
/// the source returns none. Cheap to clone.
#[derive(Clone, Default)]
pub struct LazyGauge {
    source: Arc<Mutex<Option<Source>>>,
}

impl LazyGauge {
    /// Sets the source of the value. The source should not hold anything large, because it is never removed.
    pub fn set_source(&self, source: impl Fn() -> Option<f64> + Send + Sync + 'static) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(source));
    }

    fn read(&self) -> Option<f64> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        source.as_ref().and_then(|source| source())
    }
}

impl fmt::Debug for LazyGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulled").field(&self.read()).finish()
    }
}

impl EncodeMetric for LazyGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.read() {
            Some(value) => encoder.encode_gauge(&value),
            None => Ok(()),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
