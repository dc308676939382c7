//! The templates of the simulated plant: units, their equipment, and its sensors.
//!
//! These are tables instead of code, so that a chemical engineer can check and extend them.

/// A unit: a part of the site with one purpose.
#[derive(Debug)]
pub(super) struct UnitTemplate {
    pub name: &'static str,
    pub description: &'static str,
    pub equipment: &'static [EquipmentTemplate],
    /// Pairs of indices into `equipment`: source and target.
    pub flows: &'static [(usize, usize)],
    /// The index of the equipment that the previous unit feeds.
    pub inlet: usize,
    /// The index of the equipment that feeds the next unit.
    pub outlet: usize,
}

/// A vessel, machine or valve.
#[derive(Debug)]
pub(super) struct EquipmentTemplate {
    /// The letters of its tag, as on a flow sheet: `R` for a reactor.
    pub letters: &'static str,
    pub kind: &'static str,
    pub description: &'static str,
    pub specifications: &'static [(&'static str, SpecificationValue)],
    /// The sensors, the most informative one first: a small plant has only that one.
    pub sensors: &'static [SensorTemplate],
}

/// A specification of a piece of equipment.
#[derive(Debug, Clone, Copy)]
pub(super) enum SpecificationValue {
    Text(&'static str),
    /// A number that is the same for every piece.
    Number(f64),
    /// A number that varies from piece to piece by up to a third, rounded to three significant digits.
    Varied(f64),
}

/// A measured quantity and its behaviour. Values are in `unit`.
#[derive(Debug)]
pub(super) struct SensorTemplate {
    /// The letters of its tag (ISA 5.1): `TT` for a temperature transmitter.
    pub letters: &'static str,
    pub kind: &'static str,
    pub quantity: &'static str,
    pub unit: &'static str,
    pub low: f64,
    pub high: f64,
    /// The number of steps of the resolution per unit: 10 for a resolution of 0.1.
    pub steps_per_unit: f64,
    /// The usual value.
    pub normal: f64,
    /// The amplitude of the daily cycle.
    pub daily_amplitude: f64,
    /// The standard deviation of its noise.
    pub noise: f64,
    /// The time constant of the autocorrelation of the noise, in seconds.
    pub noise_time_constant_s: f64,
    pub behaviour: Behaviour,
}

/// The behaviour of a sensor's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Behaviour {
    /// The value follows the process.
    Continuous,
    /// The value is either `low` or `high`, for hours.
    TwoState,
    /// The value follows the process, but is measured only every given number of seconds and held in between.
    Held(f64),
}

const fn continuous(
    letters: &'static str,
    kind: &'static str,
    what: &'static str,
    unit: &'static str,
) -> SensorTemplate {
    SensorTemplate {
        letters,
        kind,
        quantity: what,
        unit,
        low: 0.0,
        high: 100.0,
        steps_per_unit: 10.0,
        normal: 50.0,
        daily_amplitude: 0.0,
        noise: 1.0,
        noise_time_constant_s: 60.0,
        behaviour: Behaviour::Continuous,
    }
}

/// A temperature in °C. `swing` is the amplitude of the daily cycle.
pub(super) const fn temperature(
    what: &'static str,
    low: f64,
    high: f64,
    normal: f64,
    swing: f64,
) -> SensorTemplate {
    SensorTemplate {
        low,
        high,
        normal,
        daily_amplitude: swing,
        noise: (high - low) / 200.0,
        noise_time_constant_s: 900.0,
        ..continuous("TT", "temperature sensor", what, "°C")
    }
}

/// A pressure in bar above atmospheric pressure.
pub(super) const fn pressure(what: &'static str, high: f64, normal: f64) -> SensorTemplate {
    SensorTemplate {
        high,
        normal,
        steps_per_unit: 100.0,
        daily_amplitude: normal / 100.0,
        noise: normal / 80.0,
        noise_time_constant_s: 120.0,
        ..continuous("PT", "pressure sensor", what, "bar")
    }
}

/// A pressure drop in mbar across a bed, a column or a filter.
pub(super) const fn pressure_drop(what: &'static str, high: f64, normal: f64) -> SensorTemplate {
    SensorTemplate {
        high,
        normal,
        noise: normal / 30.0,
        daily_amplitude: normal / 50.0,
        ..continuous("PDT", "differential pressure sensor", what, "mbar")
    }
}

/// A flow in m³/h.
pub(super) const fn flow(what: &'static str, high: f64, normal: f64) -> SensorTemplate {
    SensorTemplate {
        high,
        normal,
        steps_per_unit: 100.0,
        daily_amplitude: normal / 40.0,
        noise: normal / 50.0,
        noise_time_constant_s: 45.0,
        ..continuous("FT", "flow sensor", what, "m³/h")
    }
}

/// A level in percent of the vessel's height.
pub(super) const fn level(what: &'static str, normal: f64, noise: f64) -> SensorTemplate {
    SensorTemplate {
        normal,
        noise,
        daily_amplitude: noise / 2.0,
        noise_time_constant_s: 14_400.0,
        ..continuous("LT", "level sensor", what, "%")
    }
}

pub(super) const fn acidity(what: &'static str, normal: f64) -> SensorTemplate {
    SensorTemplate {
        high: 14.0,
        normal,
        steps_per_unit: 100.0,
        daily_amplitude: 0.08,
        noise: 0.12,
        noise_time_constant_s: 1_200.0,
        ..continuous("AT", "pH sensor", what, "pH")
    }
}

/// A vibration in mm/s, root mean square.
pub(super) const fn vibration(what: &'static str, normal: f64) -> SensorTemplate {
    SensorTemplate {
        high: 20.0,
        normal,
        steps_per_unit: 100.0,
        daily_amplitude: normal / 30.0,
        noise: normal / 8.0,
        noise_time_constant_s: 20.0,
        ..continuous("VT", "vibration sensor", what, "mm/s")
    }
}

/// A position in percent open.
pub(super) const fn position(what: &'static str, normal: f64) -> SensorTemplate {
    SensorTemplate {
        normal,
        daily_amplitude: 1.5,
        noise: 2.5,
        noise_time_constant_s: 240.0,
        ..continuous("ZT", "valve position sensor", what, "%")
    }
}

/// Closed (0) or open (100).
pub(super) const fn open_or_closed(what: &'static str) -> SensorTemplate {
    SensorTemplate {
        steps_per_unit: 1.0,
        normal: 100.0,
        behaviour: Behaviour::TwoState,
        ..continuous("ZS", "valve position switch", what, "%")
    }
}

/// A composition in percent by mass, from a chromatograph that measures every 15 minutes.
pub(super) const fn composition(what: &'static str, normal: f64) -> SensorTemplate {
    SensorTemplate {
        normal,
        steps_per_unit: 100.0,
        noise: 0.4,
        daily_amplitude: 0.2,
        noise_time_constant_s: 7_200.0,
        behaviour: Behaviour::Held(900.0),
        ..continuous("AT", "composition analyser", what, "% w/w")
    }
}

pub(super) const fn speed(what: &'static str, high: f64, normal: f64) -> SensorTemplate {
    SensorTemplate {
        high,
        normal,
        steps_per_unit: 1.0,
        noise: normal / 300.0,
        daily_amplitude: normal / 400.0,
        ..continuous("ST", "speed sensor", what, "rpm")
    }
}

pub(super) const fn power(what: &'static str, high: f64, normal: f64) -> SensorTemplate {
    SensorTemplate {
        high,
        normal,
        noise: normal / 60.0,
        daily_amplitude: normal / 50.0,
        ..continuous("JT", "power meter", what, "kW")
    }
}

use SpecificationValue::{Number, Text, Varied};

pub(super) const fn pump(
    description: &'static str,
    sensors: &'static [SensorTemplate],
) -> EquipmentTemplate {
    EquipmentTemplate {
        letters: "P",
        kind: "centrifugal pump",
        description,
        specifications: &[
            ("rated_flow_m3_per_h", Varied(45.0)),
            ("rated_head_m", Varied(62.0)),
            ("motor_power_kw", Varied(18.5)),
            ("rated_speed_rpm", Number(2_950.0)),
            ("material", Text("CF8M stainless steel")),
            ("seal", Text("double mechanical seal")),
        ],
        sensors,
    }
}

pub(super) const fn exchanger(
    description: &'static str,
    sensors: &'static [SensorTemplate],
) -> EquipmentTemplate {
    EquipmentTemplate {
        letters: "E",
        kind: "shell and tube heat exchanger",
        description,
        specifications: &[
            ("area_m2", Varied(85.0)),
            ("duty_kw", Varied(1_400.0)),
            ("design_pressure_bar", Number(16.0)),
            ("design_temperature_c", Number(300.0)),
            (
                "material",
                Text("316L stainless steel tubes, carbon steel shell"),
            ),
        ],
        sensors,
    }
}

pub(super) const fn tank(
    description: &'static str,
    sensors: &'static [SensorTemplate],
) -> EquipmentTemplate {
    EquipmentTemplate {
        letters: "T",
        kind: "storage tank",
        description,
        specifications: &[
            ("volume_m3", Varied(400.0)),
            ("design_pressure_bar", Number(0.1)),
            ("design_temperature_c", Number(80.0)),
            ("material", Text("304L stainless steel")),
            ("roof", Text("fixed, nitrogen blanketed")),
        ],
        sensors,
    }
}

pub(super) const fn drum(
    description: &'static str,
    sensors: &'static [SensorTemplate],
) -> EquipmentTemplate {
    EquipmentTemplate {
        letters: "V",
        kind: "pressure vessel",
        description,
        specifications: &[
            ("volume_m3", Varied(12.0)),
            ("design_pressure_bar", Number(60.0)),
            ("design_temperature_c", Number(200.0)),
            ("material", Text("P355GH carbon steel")),
        ],
        sensors,
    }
}

pub(super) const fn control_valve(
    description: &'static str,
    sensors: &'static [SensorTemplate],
) -> EquipmentTemplate {
    EquipmentTemplate {
        letters: "FV",
        kind: "control valve",
        description,
        specifications: &[
            ("size_mm", Number(80.0)),
            ("flow_coefficient_kv", Varied(63.0)),
            ("fails", Text("closed")),
            ("characteristic", Text("equal percentage")),
            ("material", Text("316 stainless steel")),
        ],
        sensors,
    }
}

pub(super) const fn block_valve(
    description: &'static str,
    sensors: &'static [SensorTemplate],
) -> EquipmentTemplate {
    EquipmentTemplate {
        letters: "XV",
        kind: "on/off ball valve",
        description,
        specifications: &[
            ("size_mm", Number(100.0)),
            ("fails", Text("closed")),
            ("material", Text("316 stainless steel")),
        ],
        sensors,
    }
}
