//! A sensor's values without faults: daily cycle, noise, set points and resolution.

use std::f64::consts::TAU;

use fastrand::Rng;

use super::equipment::{Behaviour, SensorTemplate};
use super::plan::{Schedule, Shape};
use super::random::{gauss, generator};

const DAY_S: f64 = 86_400.0;
/// The mean time between changes of the set point, in seconds.
const MEAN_SET_POINT_INTERVAL_S: f64 = 12.0 * 3_600.0;
/// The time constant of the approach to a new set point, in seconds.
const SET_POINT_TIME_CONSTANT_S: f64 = 300.0;
/// The mean time that a valve stays open or closed, in seconds.
const MEAN_STATE_DURATION_S: f64 = 5.0 * 3_600.0;
/// The maximum deviation of a set point from the normal value, as a fraction of the range.
const MAX_SET_POINT_DEVIATION: f64 = 0.04;

/// Generates the values of one sensor, tick by tick.
#[derive(Debug)]
pub(super) struct Signal {
    rng: Rng,
    template: &'static SensorTemplate,
    shape: Shape,
    interval_s: f64,
    start_s: f64,
    /// The value on an average day, in the middle of the cycle.
    normal: f64,
    /// The second of the day at which the cycle rises through its middle.
    phase_s: f64,
    /// The coefficients of the autoregressive noise: the weight of the previous value, and that of the new random
    /// number.
    noise_weight: f64,
    innovation_weight: f64,
    noise: f64,
    /// The set point, and the value that the process has reached.
    set_point: f64,
    process_value: f64,
    approach: f64,
    next_change: u64,
    /// The value that a stepped sensor shows until the tick `held_until`.
    held: f64,
    held_until: u64,
}

impl Signal {
    pub fn new(template: &'static SensorTemplate, key: u64, schedule: &Schedule) -> Self {
        let mut rng = generator(key, "signal");
        let interval_s = schedule.interval_us as f64 / 1e6;
        let span = template.high - template.low;
        // Two sensors of a kind are similar, but not equal.
        let normal = (template.normal + span * 0.03 * (rng.f64() - 0.5))
            .clamp(template.low + span * 0.02, template.high - span * 0.02);
        let keeps = (-interval_s / template.noise_time_constant_s).exp();
        let mut signal = Self {
            template,
            shape: schedule.shape,
            interval_s,
            start_s: (schedule.start_us() as f64) / 1e6,
            normal,
            // The maximum is usually in the afternoon.
            phase_s: (8.0 + 2.0 * rng.f64()) * 3_600.0,
            noise_weight: keeps,
            innovation_weight: template.noise * (1.0 - keeps * keeps).sqrt(),
            noise: template.noise * gauss(&mut rng),
            set_point: normal,
            process_value: normal,
            approach: 1.0 - (-interval_s / SET_POINT_TIME_CONSTANT_S).exp(),
            next_change: 0,
            held: template.high,
            held_until: 0,
            rng,
        };
        signal.next_change = signal.ticks_until(MEAN_SET_POINT_INTERVAL_S);
        signal
    }

    /// Writes the values of the ticks from `first` on to `out`. Must be called in the order of the ticks.
    pub fn fill(&mut self, first: u64, out: &mut [f64]) {
        match (self.shape, self.template.behaviour) {
            (_, Behaviour::TwoState) => self.fill_states(first, out),
            (Shape::Clean, _) => self.fill_clean(first, out),
            (Shape::Realistic, Behaviour::Continuous) => {
                self.fill_process(first, out);
                for value in out {
                    *value = self.quantised(*value);
                }
            }
            (Shape::Realistic, Behaviour::Held(seconds)) => {
                self.fill_process(first, out);
                self.hold(first, out, seconds);
            }
        }
    }

    /// Returns the value that the sensor shows for `value`: within its range, and a multiple of its resolution.
    #[inline]
    pub fn quantised(&self, value: f64) -> f64 {
        let value = value.clamp(self.template.low, self.template.high);
        round_to_step(value, self.template.steps_per_unit)
    }

    /// Returns `value` with a spike of `off`, which points away from the nearer end of the range so that it is always
    /// visible.
    pub fn with_spike(&self, value: f64, off: f64) -> f64 {
        let up = value < (self.template.low + self.template.high) / 2.0;
        self.quantised(if up { value + off } else { value - off })
    }

    /// Returns the value one step of the resolution away from `value`.
    pub fn adjacent_step(&self, value: f64) -> f64 {
        let step = 1.0 / self.template.steps_per_unit;
        self.quantised(if value + step <= self.template.high {
            value + step
        } else {
            value - step
        })
    }

    fn fill_clean(&mut self, first: u64, out: &mut [f64]) {
        let noise = self.template.noise;
        let mut cycle = self.cycle(first);
        for value in out {
            *value = self.normal + cycle.next() + noise * gauss(&mut self.rng);
        }
    }

    fn fill_process(&mut self, first: u64, out: &mut [f64]) {
        let mut cycle = self.cycle(first);
        let mut done = 0;
        while done < out.len() {
            let tick = first + done as u64;
            if tick >= self.next_change {
                let span = self.template.high - self.template.low;
                self.set_point =
                    self.normal + span * MAX_SET_POINT_DEVIATION * (2.0 * self.rng.f64() - 1.0);
                self.next_change = tick + self.ticks_until(MEAN_SET_POINT_INTERVAL_S);
            }
            let until = (self.next_change - first).min(out.len() as u64) as usize;
            // Local variables let the loop keep them in registers.
            let (mut reached, mut noise) = (self.process_value, self.noise);
            for value in &mut out[done..until] {
                reached += self.approach * (self.set_point - reached);
                noise = noise * self.noise_weight + self.innovation_weight * gauss(&mut self.rng);
                *value = reached + cycle.next() + noise;
            }
            (self.process_value, self.noise) = (reached, noise);
            done = until;
        }
    }

    fn fill_states(&mut self, first: u64, out: &mut [f64]) {
        for (tick, value) in (first..).zip(out) {
            if tick >= self.held_until {
                self.held_until = tick + self.ticks_until(MEAN_STATE_DURATION_S);
                // The first state is random, then the states alternate.
                let open = if tick == 0 {
                    self.rng.bool()
                } else {
                    self.held == self.template.low
                };
                self.held = if open {
                    self.template.high
                } else {
                    self.template.low
                };
            }
            *value = self.held;
        }
    }

    fn hold(&mut self, first: u64, out: &mut [f64], seconds: f64) {
        let every = ((seconds / self.interval_s).round() as u64).max(1);
        for (tick, value) in (first..).zip(out) {
            if tick >= self.held_until {
                self.held_until = tick + every;
                self.held = self.quantised(*value);
            }
            *value = self.held;
        }
    }

    /// Returns a random number of ticks, at least one, from an exponential distribution, so that changes are
    /// independent.
    fn ticks_until(&mut self, mean_s: f64) -> u64 {
        let seconds = -mean_s * (1.0 - self.rng.f64()).ln();
        (seconds / self.interval_s) as u64 + 1
    }

    /// Returns the daily cycle from the tick `first` on. `sin_cos` gives its start, and each tick rotates it.
    fn cycle(&self, first: u64) -> Cycle {
        let second =
            (self.start_s + first as f64 * self.interval_s - self.phase_s).rem_euclid(DAY_S);
        let (sin, cos) = (TAU * second / DAY_S).sin_cos();
        let (turn_sin, turn_cos) = (TAU * self.interval_s / DAY_S).sin_cos();
        Cycle {
            sin: sin * self.template.daily_amplitude,
            cos: cos * self.template.daily_amplitude,
            turn_sin,
            turn_cos,
        }
    }
}

/// A sine wave as a point that rotates on a circle, at four multiplications per tick. After the tens of thousands of
/// ticks of a chunk, its error is of the order of 1e-12.
struct Cycle {
    sin: f64,
    cos: f64,
    turn_sin: f64,
    turn_cos: f64,
}

impl Cycle {
    #[inline]
    fn next(&mut self) -> f64 {
        let now = self.sin;
        (self.sin, self.cos) = (
            self.sin * self.turn_cos + self.cos * self.turn_sin,
            self.cos * self.turn_cos - self.sin * self.turn_sin,
        );
        now
    }
}

/// Rounds to the nearest multiple of `1 / steps_per_unit`: the double that is nearest to the decimal number.
#[inline]
fn round_to_step(value: f64, steps_per_unit: f64) -> f64 {
    // Adding and subtracting 1.5 × 2^52 rounds to an integer; `round` would be a call to libm here.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    ((value * steps_per_unit + ROUNDER) - ROUNDER) / steps_per_unit
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::NaiveDate;

    use super::*;
    use crate::simulate::plan::Plan;
    use crate::simulate::units::UNITS;

    fn schedule(shape: Shape) -> Schedule {
        Plan {
            assets: 1,
            days: 3,
            start: NaiveDate::from_ymd_opt(2026, 3, 1),
            interval: Duration::from_secs(10),
            seed: 1,
            shape,
        }
        .schedule()
        .unwrap()
    }

    #[test]
    fn round_to_step_rounds_to_decimal_steps() {
        for (value, steps, expected) in [
            (0.34, 10.0, 0.3),
            (-7.76, 10.0, -7.8),
            (1.23456, 100.0, 1.23),
            (2.6, 1.0, 3.0),
        ] {
            assert_eq!(round_to_step(value, steps), expected);
        }
    }

    #[test]
    fn signal_stays_in_range_and_on_steps() {
        for template in UNITS
            .iter()
            .flat_map(|unit| unit.equipment)
            .flat_map(|equipment| equipment.sensors)
        {
            let mut values = vec![0.0; 3 * 8_640];
            Signal::new(template, 9, &schedule(Shape::Realistic)).fill(0, &mut values);
            for &value in &values {
                assert!(
                    (template.low..=template.high).contains(&value),
                    "{template:?}: {value}"
                );
                let steps = value * template.steps_per_unit;
                assert!(
                    (steps - steps.round()).abs() < 1e-6,
                    "{template:?}: {value}"
                );
            }
            assert!(
                values.iter().any(|value| *value != values[0]),
                "{template:?} never moves"
            );
        }
    }

    #[test]
    fn fill_in_chunks_differs_only_by_rounding() {
        let template = &UNITS[0].equipment[0].sensors[1];
        let (mut whole, mut parts) = (vec![0.0; 9_000], vec![0.0; 9_000]);
        Signal::new(template, 3, &schedule(Shape::Clean)).fill(0, &mut whole);
        let mut signal = Signal::new(template, 3, &schedule(Shape::Clean));
        let (a, b) = parts.split_at_mut(1_234);
        signal.fill(0, a);
        signal.fill(1_234, b);
        assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-9));
    }
}
