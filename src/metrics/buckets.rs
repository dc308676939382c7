//! The buckets of histograms.

/// The buckets of histograms for latencies that users experience, in seconds: 1 ms to 10 minutes.
pub(super) const LATENCIES: [f64; 15] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0,
];
/// The buckets of histograms for background work, in seconds: 0.1 s to 6 hours.
pub(super) const DURATIONS: [f64; 11] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 7_200.0, 21_600.0,
];
