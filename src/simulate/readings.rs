//! A sensor's readings as rows of its files: the signal with its faults.

use super::faults::{Fault, FaultKind, Ticks};
use super::plan::Schedule;
use super::plant::Sensor;
use super::signal::Signal;

/// The number of ticks per chunk, small enough for the processor's cache.
const TICKS_PER_CHUNK: u64 = 16_384;

/// Rows that wait to be written, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Microseconds since the epoch.
    pub timestamps: Vec<i64>,
    /// The values; those of nulls are ignored.
    pub values: Vec<f64>,
    /// The indices of the rows whose value is null, in order.
    pub nulls: Vec<usize>,
}

impl Rows {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    fn push(&mut self, timestamp: i64, value: f64) {
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    fn extend(&mut self, timestamps: &[i64], values: &[f64]) {
        self.timestamps.extend_from_slice(timestamps);
        self.values.extend_from_slice(values);
    }
}

/// Generates the readings of one sensor in chunks.
#[derive(Debug)]
pub(super) struct Readings {
    signal: Signal,
    ticks: Ticks,
    faults: Vec<Fault>,
    /// The index of the first fault that has not ended.
    fault: usize,
    /// The value of a flat line.
    frozen: f64,
    next: u64,
    end: u64,
    timestamps: Vec<i64>,
    values: Vec<f64>,
}

impl Readings {
    pub fn new(sensor: &Sensor, ticks: Ticks, faults: Vec<Fault>, schedule: &Schedule) -> Self {
        Self {
            signal: Signal::new(sensor.template, sensor.key, schedule),
            ticks,
            faults,
            fault: 0,
            frozen: 0.0,
            next: 0,
            end: schedule.ticks(),
            timestamps: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Appends the rows of the next chunk of ticks; returns whether there are more.
    pub fn next_chunk(&mut self, main: &mut Rows, late: &mut Rows) -> bool {
        let (start, end) = (self.next, self.end.min(self.next + TICKS_PER_CHUNK));
        self.values.resize((end - start) as usize, 0.0);
        self.signal.fill(start, &mut self.values);
        self.timestamps.clear();
        self.timestamps
            .extend((start..end).map(|tick| self.ticks.reading_us(tick)));
        let mut at = start;
        while let Some(fault) = self
            .faults
            .get(self.fault)
            .filter(|fault| fault.first < end)
        {
            let (first, until) = (fault.first.max(start), fault.end.min(end));
            let healthy = (at - start) as usize..(first - start) as usize;
            main.extend(&self.timestamps[healthy.clone()], &self.values[healthy]);
            if fault.first >= start {
                self.frozen = self.values[(first - start) as usize];
            }
            let faulty = (first - start) as usize..(until - start) as usize;
            append_faulty(
                fault,
                first,
                &self.timestamps[faulty.clone()],
                &self.values[faulty],
                self.frozen,
                &self.signal,
                main,
                late,
            );
            at = until;
            if fault.end > end {
                break;
            }
            self.fault += 1;
        }
        let healthy = (at - start) as usize..;
        main.extend(&self.timestamps[healthy.clone()], &self.values[healthy]);
        self.next = end;
        end < self.end
    }
}

/// Appends readings under a fault; `first` is the tick of the first of them.
#[expect(
    clippy::too_many_arguments,
    reason = "borrows parts of `Readings` separately"
)]
fn append_faulty(
    fault: &Fault,
    first: u64,
    timestamps: &[i64],
    values: &[f64],
    frozen: f64,
    signal: &Signal,
    main: &mut Rows,
    late: &mut Rows,
) {
    let readings = timestamps.iter().copied().zip(values.iter().copied());
    match &fault.kind {
        FaultKind::Drift { offset } => {
            let slope = offset / fault.ticks() as f64;
            for (gone, (timestamp, value)) in (first - fault.first + 1..).zip(readings) {
                main.push(timestamp, signal.quantised(value + slope * gone as f64));
            }
        }
        FaultKind::FlatLine => readings.for_each(|(timestamp, _)| main.push(timestamp, frozen)),
        FaultKind::DropOut => {}
        FaultKind::Spikes { at } => {
            let mut spikes = at[at.partition_point(|spike| spike.0 < first)..]
                .iter()
                .peekable();
            for (tick, (timestamp, value)) in (first..).zip(readings) {
                match spikes.next_if(|spike| spike.0 == tick) {
                    Some(&(_, off)) => main.push(timestamp, signal.with_spike(value, off)),
                    None => main.push(timestamp, value),
                }
            }
        }
        FaultKind::Null => {
            main.nulls.extend(main.len()..main.len() + timestamps.len());
            main.extend(timestamps, values);
        }
        FaultKind::NotANumber => readings.for_each(|(timestamp, _)| main.push(timestamp, f64::NAN)),
        FaultKind::LateFile => late.extend(timestamps, values),
        FaultKind::Repeated {
            late: false,
            revised,
        } => {
            for (timestamp, value) in readings {
                main.push(timestamp, value);
                main.push(
                    timestamp,
                    if *revised {
                        signal.adjacent_step(value)
                    } else {
                        value
                    },
                );
            }
        }
        FaultKind::Repeated {
            late: true,
            revised,
        } => {
            main.extend(timestamps, values);
            for (timestamp, value) in readings {
                late.push(
                    timestamp,
                    if *revised {
                        signal.adjacent_step(value)
                    } else {
                        value
                    },
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::NaiveDate;

    use super::*;
    use crate::simulate::plan::{Plan, Shape};
    use crate::simulate::plant;

    fn rows(faults: Vec<Fault>, schedule: &Schedule, sensor: &Sensor) -> (Rows, Rows) {
        let mut readings = Readings::new(sensor, Ticks::new(sensor, schedule), faults, schedule);
        let (mut main, mut late) = (Rows::default(), Rows::default());
        while readings.next_chunk(&mut main, &mut late) {}
        (main, late)
    }

    #[test]
    fn faults_change_only_their_own_readings() {
        let schedule = Plan {
            assets: 1,
            days: 1,
            start: NaiveDate::from_ymd_opt(2026, 3, 1),
            interval: Duration::from_secs(1),
            seed: 1,
            shape: Shape::Realistic,
        }
        .schedule()
        .unwrap();
        // The liquid temperature of a tank, which is far from both ends of its range.
        let plant = plant::build(60, 1);
        let sensor = plant
            .sensors
            .iter()
            .find(|sensor| sensor.tag == "TT-101")
            .unwrap();
        let (healthy, _) = rows(Vec::new(), &schedule, sensor);
        assert_eq!(healthy.len(), 86_400);
        let span = 10_000..40_000; // spans two chunk boundaries
        let fault = |kind| Fault {
            kind,
            first: span.start as u64,
            end: span.end as u64,
        };
        let check = |kind: FaultKind, expected: (usize, usize)| {
            let (main, late) = rows(vec![fault(kind)], &schedule, sensor);
            assert_eq!((main.len(), late.len()), expected);
            assert_eq!(main.values[..span.start], healthy.values[..span.start]);
            let after = healthy.len() - span.end;
            assert_eq!(
                main.values[main.len() - after..],
                healthy.values[span.end..]
            );
            assert!(main.timestamps.is_sorted() && late.timestamps.is_sorted());
            (main, late)
        };
        let (whole, part) = (86_400, 30_000);
        let (main, _) = check(FaultKind::Drift { offset: 12.0 }, (whole, 0));
        let off = main.values[span.end - 1] - healthy.values[span.end - 1];
        assert!((off - 12.0).abs() < 0.11, "{off}");
        let off = main.values[25_000] - healthy.values[25_000];
        assert!((off - 6.0).abs() < 0.11, "{off}");
        let (main, _) = check(FaultKind::FlatLine, (whole, 0));
        assert!(
            main.values[span.clone()]
                .iter()
                .all(|&v| v == healthy.values[span.start])
        );
        check(FaultKind::DropOut, (whole - part, 0));
        let spikes = vec![(10_000, 30.0), (16_384, 30.0), (39_999, 30.0)];
        let (main, _) = check(FaultKind::Spikes { at: spikes }, (whole, 0));
        let differ: Vec<_> = (0..whole)
            .filter(|&i| main.values[i] != healthy.values[i])
            .collect();
        assert_eq!(differ, [10_000, 16_384, 39_999]);
        let (main, _) = check(FaultKind::Null, (whole, 0));
        assert!(main.nulls.iter().copied().eq(span.clone()));
        let (main, _) = check(FaultKind::NotANumber, (whole, 0));
        assert!(main.values[span.clone()].iter().all(|value| value.is_nan()));
        let (_, late) = check(FaultKind::LateFile, (whole - part, part));
        assert_eq!(late.values, healthy.values[span.clone()]);
        let (main, _) = check(
            FaultKind::Repeated {
                late: false,
                revised: false,
            },
            (whole + part, 0),
        );
        assert_eq!(main.values[10_000], main.values[10_001]);
        let (_, late) = check(
            FaultKind::Repeated {
                late: true,
                revised: true,
            },
            (whole, part),
        );
        let step = 1.0 / sensor.template.steps_per_unit;
        for (revised, value) in late.values.iter().zip(&healthy.values[span.clone()]) {
            assert!(
                ((revised - value).abs() - step).abs() < 1e-9,
                "{revised} {value}"
            );
        }
    }
}
