//! Faults of sensors. They are planned before any reading is generated, so that the ground truth is exact.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use serde_json::{Value, json};

use super::equipment::Behaviour;
use super::plan::{Schedule, Shape};
use super::plant::Sensor;
use super::random::{generator, mix_bits};

/// The number of faults per thousand sensors, and its increase per day: even a single day has some.
const FAULTS_PER_THOUSAND: u64 = 700;
const FAULTS_PER_THOUSAND_AND_DAY: u64 = 40;
/// The number of sensors with a jittering clock, out of ten.
const JITTERING_PER_TEN: u64 = 3;
/// The maximum jitter, in milliseconds.
const MAX_JITTER_MS: i64 = 50;
/// The maximum number of spikes in one fault.
const MAX_SPIKES: u64 = 20;

/// The kind of a fault.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FaultKind {
    /// The values drift away, until the sensor is calibrated; `offset` is the deviation at the end.
    Drift { offset: f64 },
    /// The value does not change.
    FlatLine,
    /// There are no readings.
    DropOut,
    /// Single readings, at the given ticks, deviate by the given amounts.
    Spikes { at: Vec<(u64, f64)> },
    /// The values are null.
    Null,
    /// The values are NaN.
    NotANumber,
    /// The readings are only in the late file.
    LateFile,
    /// Every reading is repeated: right after itself, or in the late file; unchanged, or with a value one step of the
    /// resolution away.
    Repeated { late: bool, revised: bool },
}

/// A fault of the ticks from `first` to `end`, exclusive.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub kind: FaultKind,
    pub first: u64,
    pub end: u64,
}

/// The times of a sensor's ticks.
#[derive(Debug, Clone)]
pub(super) struct Ticks {
    start_us: i64,
    end_us: i64,
    interval_us: i64,
    jitter_ms: u64,
    key: u64,
}

/// One line of `ground_truth.json`.
#[derive(Debug, Serialize)]
pub(super) struct GroundTruthEntry<'a> {
    asset: String,
    tag: &'a str,
    kind: &'static str,
    /// The first instant of the fault (UTC).
    start: String,
    /// The first instant after the fault (UTC).
    end: String,
    detail: Value,
}

impl Ticks {
    pub fn new(sensor: &Sensor, schedule: &Schedule) -> Self {
        let jitters = schedule.shape == Shape::Realistic
            && generator(sensor.key, "clock").u64(..10) < JITTERING_PER_TEN;
        // At most a quarter of the interval, so that readings stay in order.
        let widest = if jitters {
            MAX_JITTER_MS.min(schedule.interval_us / 4_000)
        } else {
            0
        };
        Self {
            start_us: schedule.start_us(),
            end_us: schedule.end_us(),
            interval_us: schedule.interval_us,
            jitter_ms: widest as u64,
            key: mix_bits(sensor.key),
        }
    }

    /// Returns the nominal time of a tick, in microseconds since the epoch.
    pub fn nominal_us(&self, tick: u64) -> i64 {
        self.start_us + tick as i64 * self.interval_us
    }

    /// Returns the time of its reading: at or after the nominal time, and before the end of the simulation.
    #[inline]
    pub fn reading_us(&self, tick: u64) -> i64 {
        let due = self.nominal_us(tick);
        if self.jitter_ms == 0 {
            return due;
        }
        // It is derived from the tick instead of a generator, so that the ground truth can compute it for any tick.
        let late_ms = ((mix_bits(self.key ^ tick) >> 32) * (self.jitter_ms + 1)) >> 32;
        (due + late_ms as i64 * 1_000).min((self.end_us - 1_000).max(due))
    }
}

/// Returns the faults of a sensor, in order and without overlap.
pub(super) fn plan(sensor: &Sensor, index: usize, schedule: &Schedule) -> Vec<Fault> {
    if schedule.shape == Shape::Clean {
        return Vec::new();
    }
    let mut rng = generator(sensor.key, "faults");
    let ticks = schedule.ticks();
    let of_thousand = FAULTS_PER_THOUSAND + FAULTS_PER_THOUSAND_AND_DAY * u64::from(schedule.days);
    let before = |index: usize| (index as u64 * of_thousand).div_ceil(1_000);
    let wanted = before(index + 1) - before(index);
    // Each fault has its own slot, with room for readings before and after it.
    let count = wanted.min(ticks / 8);
    let stepped = sensor.template.behaviour != Behaviour::Continuous;
    let mut faults = Vec::with_capacity(count as usize);
    for number in 0..count {
        let (slot, slot_end) = (ticks * number / count, ticks * (number + 1) / count);
        // The kinds alternate from fault to fault and from sensor to sensor, so that a small plant has all of them.
        let turn = mix_bits(schedule.seed) % 8 + before(index) + number;
        let (shortest_s, longest_s) = match (turn % 8, stepped) {
            (1, false) => (6.0 * 3_600.0, 48.0 * 3_600.0),
            (5, false) => (600.0, 14_400.0),
            (0, _) => (600.0, 21_600.0),
            _ => (120.0, 3_600.0),
        };
        let seconds = shortest_s + (longest_s - shortest_s) * rng.f64();
        let wanted = (seconds * 1e6 / schedule.interval_us as f64) as u64;
        let room = slot_end - slot;
        let length = wanted.clamp(1, (room * 3 / 4).max(1));
        let first = slot + rng.u64(1..=(room - length).max(1)).min(room - length);
        let end = first + length;
        let span = sensor.template.high - sensor.template.low;
        let mut sign = || if rng.bool() { 1.0 } else { -1.0 };
        let kind = match (turn % 8, stepped) {
            (0, _) => FaultKind::LateFile,
            (1, false) => FaultKind::Drift {
                offset: sign() * span * (0.06 + 0.1 * rng.f64()),
            },
            (2, false) => {
                let many = (1 + rng.u64(..MAX_SPIKES)).min(length);
                let mut at: Vec<_> = (0..many)
                    .map(|_| (first + rng.u64(..length), span * (0.3 + 0.4 * rng.f64())))
                    .collect();
                at.sort_by_key(|spike| spike.0);
                at.dedup_by_key(|spike| spike.0);
                FaultKind::Spikes { at }
            }
            (3, _) => FaultKind::Null,
            (4, _) => FaultKind::Repeated {
                late: (turn / 8).is_multiple_of(2),
                revised: rng.bool(),
            },
            (5, false) => FaultKind::FlatLine,
            (6, _) => FaultKind::NotANumber,
            // A valve's state cannot drift or spike, and is constant when healthy.
            _ => FaultKind::DropOut,
        };
        faults.push(Fault { kind, first, end });
    }
    faults
}

impl Fault {
    /// Returns the number of readings that it affects or removes.
    pub fn ticks(&self) -> u64 {
        self.end - self.first
    }

    /// Returns the number of rows that it adds to the sensor's files; negative if it removes rows.
    pub fn extra_rows(&self) -> i64 {
        match self.kind {
            FaultKind::DropOut => -(self.ticks() as i64),
            FaultKind::Repeated { .. } => self.ticks() as i64,
            _ => 0,
        }
    }

    /// Whether some of its readings are in the late file.
    pub fn is_late(&self) -> bool {
        matches!(
            self.kind,
            FaultKind::LateFile | FaultKind::Repeated { late: true, .. }
        )
    }

    /// Returns its name in the ground truth.
    pub fn name(&self) -> &'static str {
        match self.kind {
            FaultKind::Drift { .. } => "drift",
            FaultKind::FlatLine => "flat_line",
            FaultKind::DropOut => "drop_out",
            FaultKind::Spikes { .. } => "spikes",
            FaultKind::Null => "null",
            FaultKind::NotANumber => "nan",
            FaultKind::LateFile => "late_file",
            FaultKind::Repeated { .. } => "repeated",
        }
    }

    /// Returns its line in the ground truth.
    pub fn ground_truth<'a>(&self, sensor: &'a Sensor, ticks: &Ticks) -> GroundTruthEntry<'a> {
        let readings = self.ticks();
        let detail = match &self.kind {
            FaultKind::Drift { offset } => {
                json!({ "readings": readings, "offset_at_end": offset, "unit": sensor.template.unit })
            }
            FaultKind::Spikes { at } => json!({
                "readings": at.len(),
                "times": at.iter().map(|spike| text(ticks.reading_us(spike.0))).collect::<Vec<_>>(),
            }),
            FaultKind::LateFile => json!({ "readings": readings, "file": late_file(&sensor.tag) }),
            FaultKind::Repeated { late, revised } => json!({
                "readings": readings,
                "file": if *late { late_file(&sensor.tag) } else { main_file(&sensor.tag) },
                "values": if *revised { "revised" } else { "same" },
            }),
            _ => json!({ "readings": readings }),
        };
        // A jittering reading is never before its nominal time, so the nominal times are bounds.
        let (start, end) = (
            text(ticks.nominal_us(self.first)),
            text(ticks.nominal_us(self.end)),
        );
        GroundTruthEntry {
            asset: sensor.id.to_string(),
            tag: &sensor.tag,
            kind: self.name(),
            start,
            end,
            detail,
        }
    }
}

/// Returns the path of a sensor's readings, relative to the lake.
pub(super) fn main_file(tag: &str) -> String {
    format!("raw/{tag}.parquet")
}

/// Returns the path of a sensor's late readings, relative to the lake. The file sorts after the main file (`_`
/// follows `.`) and is finished after it, so that it wins where both have a reading.
pub(super) fn late_file(tag: &str) -> String {
    format!("raw/{tag}_late.parquet")
}

fn text(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use chrono::NaiveDate;

    use super::*;
    use crate::simulate::plan::Plan;
    use crate::simulate::plant;

    fn schedule(days: u32, interval: Duration) -> Schedule {
        Plan {
            assets: 20,
            days,
            start: NaiveDate::from_ymd_opt(2026, 3, 1),
            interval,
            seed: 1,
            shape: Shape::Realistic,
        }
        .schedule()
        .unwrap()
    }

    #[test]
    fn plan_keeps_faults_inside_simulation_and_disjoint() {
        let plant = plant::build(200, 3);
        for (days, interval) in [
            (1, 10_000),
            (400, 60_000),
            (1, 3_600_000),
            (3, 86_400_000),
            (1, 7),
        ] {
            let schedule = schedule(days, Duration::from_millis(interval));
            for (index, sensor) in plant.sensors.iter().enumerate() {
                let mut before = 0;
                for fault in plan(sensor, index, &schedule) {
                    assert!(
                        fault.first >= before
                            && fault.first < fault.end
                            && fault.end <= schedule.ticks(),
                        "{fault:?}"
                    );
                    before = fault.end;
                }
            }
        }
    }

    #[test]
    fn plan_of_small_plant_has_every_kind_of_fault() {
        let plant = plant::build(40, 3);
        let schedule = schedule(7, Duration::from_secs(10));
        let kinds: HashSet<_> = plant
            .sensors
            .iter()
            .enumerate()
            .flat_map(|(index, sensor)| plan(sensor, index, &schedule))
            .map(|fault| fault.name())
            .collect();
        assert_eq!(kinds.len(), 8, "{kinds:?}");
    }

    #[test]
    fn jitter_keeps_readings_in_order_and_inside() {
        for interval in [1, 5, 999, 10_000] {
            let schedule = schedule(1, Duration::from_millis(interval));
            for sensor in &plant::build(12, 3).sensors {
                let ticks = Ticks::new(sensor, &schedule);
                for tick in (0..schedule.ticks().min(5_000)).chain([schedule.ticks() - 1]) {
                    let taken = ticks.reading_us(tick);
                    assert!(
                        taken >= ticks.nominal_us(tick)
                            && taken < ticks.nominal_us(tick + 1)
                            && taken < schedule.end_us()
                    );
                }
            }
        }
    }
}
