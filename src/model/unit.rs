//! Units of measurement: their symbols, names and spellings, and the conversion of values between them.
//!
//! Engineers are meant to check and extend the table. A unit is found by its symbol, its name or another spelling.
//! The lookup ignores blanks and accepts `m3` for `m³`. It is case-sensitive (`mbar`, `Mbar`).

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use Quantity::{
    AbsolutePressure, Acidity, Area, Conductivity, Current, Energy, Frequency, GaugePressure,
    Length, Mass, MassFlow, MassPerVolume, NormalVolumeFlow, Power, Pressure, Share, ShareByMass,
    ShareByVolume, Temperature, Time, Velocity, Viscosity, Voltage, Volume, VolumeFlow,
};

/// A physical quantity. Values are comparable only within a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names describe the quantities")]
pub enum Quantity {
    Temperature,
    /// With unspecified reference pressure.
    Pressure,
    /// Relative to the atmosphere.
    GaugePressure,
    /// Relative to vacuum.
    AbsolutePressure,
    Length,
    Area,
    Volume,
    Mass,
    Time,
    VolumeFlow,
    /// The flow of a gas, converted to normal conditions: 0 °C and 1 atm.
    NormalVolumeFlow,
    MassFlow,
    Power,
    Energy,
    Velocity,
    Frequency,
    Share,
    ShareByMass,
    ShareByVolume,
    Acidity,
    MassPerVolume,
    Viscosity,
    Conductivity,
    Voltage,
    Current,
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Temperature => "a temperature",
            Pressure => "a pressure",
            GaugePressure => "a gauge pressure",
            AbsolutePressure => "an absolute pressure",
            Length => "a length",
            Area => "an area",
            Volume => "a volume",
            Mass => "a mass",
            Time => "a time",
            VolumeFlow => "a volume flow",
            NormalVolumeFlow => "a flow of gas at normal conditions",
            MassFlow => "a mass flow",
            Power => "a power",
            Energy => "an energy",
            Velocity => "a velocity",
            Frequency => "a frequency",
            Share => "a share",
            ShareByMass => "a share by mass",
            ShareByVolume => "a share by volume",
            Acidity => "an acidity",
            MassPerVolume => "a mass per volume",
            Viscosity => "a viscosity",
            Conductivity => "a conductivity",
            Voltage => "a voltage",
            Current => "a current",
        })
    }
}

/// A unit of a quantity.
#[derive(Debug, PartialEq)]
pub struct Unit {
    /// The symbol as catalogs write it: `m³/h`.
    pub symbol: &'static str,
    /// The name in words, in the plural: `cubic metres per hour`.
    pub words: &'static str,
    /// The quantity that the unit measures.
    pub quantity: Quantity,
    /// `(value + shift) * factor` is the value in the quantity's base unit.
    shift: f64,
    factor: f64,
    /// Other spellings. Those that consist of letters, digits and `_` are also recognised as suffixes of
    /// specification keys.
    spellings: &'static [&'static str],
}

const fn unit(
    symbol: &'static str,
    words: &'static str,
    quantity: Quantity,
    factor: f64,
    spellings: &'static [&'static str],
) -> Unit {
    Unit {
        symbol,
        words,
        quantity,
        shift: 0.0,
        factor,
        spellings,
    }
}

const fn with_shift(shift: f64, unit: Unit) -> Unit {
    Unit { shift, ..unit }
}

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;
const LITRE: f64 = 0.001;
const GALLON: f64 = 0.003_785_411_784;
const POUND: f64 = 0.453_592_37;
const PSI: f64 = 6_894.757_293_168_36;

/// All units. For a spelling with a `/`, specification keys use `_per_` instead: `rated_flow_m3_per_h`.
// One per line, to read as a table.
#[rustfmt::skip]
static UNITS: &[Unit] = &[
    unit("K", "kelvin", Temperature, 1.0, &["k"]),
    with_shift(273.15, unit("°C", "degrees Celsius", Temperature, 1.0, &["C", "c", "degC", "deg_c", "celsius"])),
    with_shift(459.67, unit("°F", "degrees Fahrenheit", Temperature, 5.0 / 9.0, &["F", "f", "degF", "deg_f", "fahrenheit"])),
    unit("Pa", "pascals", Pressure, 1.0, &["pa"]),
    unit("hPa", "hectopascals", Pressure, 100.0, &["hpa"]),
    unit("kPa", "kilopascals", Pressure, 1e3, &["kpa"]),
    unit("MPa", "megapascals", Pressure, 1e6, &["mpa"]),
    unit("mbar", "millibar", Pressure, 100.0, &[]),
    unit("bar", "bar", Pressure, 1e5, &[]),
    unit("atm", "atmospheres", Pressure, 101_325.0, &[]),
    unit("psi", "pounds per square inch", Pressure, PSI, &[]),
    unit("mmHg", "millimetres of mercury", Pressure, 133.322_387_415, &["mmhg"]),
    unit("bar(g)", "bar above the atmosphere", GaugePressure, 1e5, &["barg", "bar_g"]),
    unit("kPa(g)", "kilopascals above the atmosphere", GaugePressure, 1e3, &["kPag", "kpag", "kpa_g"]),
    unit("psi(g)", "pounds per square inch above the atmosphere", GaugePressure, PSI, &["psig", "psi_g"]),
    unit("bar(a)", "bar absolute", AbsolutePressure, 1e5, &["bara", "bar_a"]),
    unit("kPa(a)", "kilopascals absolute", AbsolutePressure, 1e3, &["kPaa", "kpaa", "kpa_a"]),
    unit("psi(a)", "pounds per square inch absolute", AbsolutePressure, PSI, &["psia", "psi_a"]),
    unit("m", "metres", Length, 1.0, &["metre"]),
    unit("km", "kilometres", Length, 1e3, &[]),
    unit("cm", "centimetres", Length, 0.01, &[]),
    unit("mm", "millimetres", Length, 0.001, &[]),
    unit("µm", "micrometres", Length, 1e-6, &["um"]),
    unit("inch", "inches", Length, 0.0254, &[]),
    unit("ft", "feet", Length, 0.3048, &["foot"]),
    unit("m²", "square metres", Area, 1.0, &["sqm"]),
    unit("cm²", "square centimetres", Area, 1e-4, &[]),
    unit("mm²", "square millimetres", Area, 1e-6, &[]),
    unit("ft²", "square feet", Area, 0.3048 * 0.3048, &[]),
    unit("m³", "cubic metres", Volume, 1.0, &["cbm"]),
    unit("L", "litres", Volume, LITRE, &["l", "litre", "liter", "liters"]),
    unit("mL", "millilitres", Volume, LITRE / 1e3, &["ml"]),
    unit("gal", "US gallons", Volume, GALLON, &["gallons"]),
    unit("kg", "kilograms", Mass, 1.0, &[]),
    unit("g", "grams", Mass, 0.001, &[]),
    unit("mg", "milligrams", Mass, 1e-6, &[]),
    unit("t", "tonnes", Mass, 1e3, &["tonne", "tons"]),
    unit("lb", "pounds", Mass, POUND, &["lbs"]),
    unit("s", "seconds", Time, 1.0, &["sec"]),
    unit("ms", "milliseconds", Time, 0.001, &[]),
    unit("min", "minutes", Time, MINUTE, &["minute"]),
    unit("h", "hours", Time, HOUR, &["hr", "hour"]),
    unit("d", "days", Time, DAY, &["day"]),
    unit("m³/s", "cubic metres per second", VolumeFlow, 1.0, &[]),
    unit("m³/min", "cubic metres per minute", VolumeFlow, 1.0 / MINUTE, &[]),
    unit("m³/h", "cubic metres per hour", VolumeFlow, 1.0 / HOUR, &["m3h", "m3_h", "cbm/h"]),
    unit("m³/d", "cubic metres per day", VolumeFlow, 1.0 / DAY, &["m3_d"]),
    unit("L/s", "litres per second", VolumeFlow, LITRE, &["l/s"]),
    unit("L/min", "litres per minute", VolumeFlow, LITRE / MINUTE, &["l/min", "lpm"]),
    unit("L/h", "litres per hour", VolumeFlow, LITRE / HOUR, &["l/h"]),
    unit("gal/min", "US gallons per minute", VolumeFlow, GALLON / MINUTE, &["gpm"]),
    unit("Nm³/h", "normal cubic metres per hour", NormalVolumeFlow, 1.0 / HOUR, &["nm3/h", "nm3h", "nm3_h"]),
    unit("kg/s", "kilograms per second", MassFlow, 1.0, &["kg_s"]),
    unit("kg/min", "kilograms per minute", MassFlow, 1.0 / MINUTE, &["kg_min"]),
    unit("kg/h", "kilograms per hour", MassFlow, 1.0 / HOUR, &["kgh", "kg_h"]),
    unit("t/h", "tonnes per hour", MassFlow, 1e3 / HOUR, &["tph", "t_h"]),
    unit("t/d", "tonnes per day", MassFlow, 1e3 / DAY, &["tpd", "t_d"]),
    unit("g/s", "grams per second", MassFlow, 0.001, &[]),
    unit("lb/h", "pounds per hour", MassFlow, POUND / HOUR, &[]),
    unit("W", "watts", Power, 1.0, &["w"]),
    unit("kW", "kilowatts", Power, 1e3, &["kw"]),
    unit("MW", "megawatts", Power, 1e6, &["mw"]),
    unit("hp", "horsepower", Power, 745.699_871_582_27, &[]),
    unit("J", "joules", Energy, 1.0, &["j"]),
    unit("kJ", "kilojoules", Energy, 1e3, &["kj"]),
    unit("MJ", "megajoules", Energy, 1e6, &["mj"]),
    unit("GJ", "gigajoules", Energy, 1e9, &["gj"]),
    unit("kWh", "kilowatt hours", Energy, 1e3 * HOUR, &["kwh"]),
    unit("MWh", "megawatt hours", Energy, 1e6 * HOUR, &["mwh"]),
    unit("m/s", "metres per second", Velocity, 1.0, &["m_s"]),
    unit("mm/s", "millimetres per second", Velocity, 0.001, &["mm_s"]),
    unit("km/h", "kilometres per hour", Velocity, 1e3 / HOUR, &["kmh"]),
    unit("Hz", "hertz", Frequency, 1.0, &["hz"]),
    unit("kHz", "kilohertz", Frequency, 1e3, &["khz"]),
    unit("rpm", "revolutions per minute", Frequency, 1.0 / MINUTE, &["1/min", "r/min"]),
    unit("%", "percent", Share, 0.01, &["pct"]),
    unit("‰", "per mille", Share, 0.001, &["permille"]),
    unit("ppm", "parts per million", Share, 1e-6, &[]),
    unit("ppb", "parts per billion", Share, 1e-9, &[]),
    unit("% w/w", "percent by mass", ShareByMass, 0.01, &["wt%", "% m/m", "pct_w", "wt_pct"]),
    unit("ppm w/w", "parts per million by mass", ShareByMass, 1e-6, &["ppmw"]),
    unit("% v/v", "percent by volume", ShareByVolume, 0.01, &["vol%", "pct_v", "vol_pct"]),
    unit("ppm v/v", "parts per million by volume", ShareByVolume, 1e-6, &["ppmv"]),
    unit("pH", "pH", Acidity, 1.0, &["ph"]),
    unit("kg/m³", "kilograms per cubic metre", MassPerVolume, 1.0, &["kg_m3"]),
    unit("g/L", "grams per litre", MassPerVolume, 1.0, &["g/l"]),
    unit("mg/L", "milligrams per litre", MassPerVolume, 0.001, &["mg/l"]),
    unit("g/cm³", "grams per cubic centimetre", MassPerVolume, 1e3, &[]),
    unit("Pa·s", "pascal seconds", Viscosity, 1.0, &["pas", "pa_s"]),
    unit("mPa·s", "millipascal seconds", Viscosity, 0.001, &["mpas", "mpa_s", "cP"]),
    unit("µS/cm", "microsiemens per centimetre", Conductivity, 1e-4, &["us/cm"]),
    unit("mS/cm", "millisiemens per centimetre", Conductivity, 0.1, &["ms/cm"]),
    unit("V", "volts", Voltage, 1.0, &["v"]),
    unit("mV", "millivolts", Voltage, 0.001, &["mv"]),
    // `kv` is not a spelling: it is a valve's flow coefficient.
    unit("kV", "kilovolts", Voltage, 1e3, &[]),
    unit("A", "amperes", Current, 1.0, &["a"]),
    unit("mA", "milliamperes", Current, 0.001, &["ma"]),
];

/// The error for a conversion between units of different quantities.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{} is the unit of {}, and {} that of {}", from.symbol, from.quantity, to.symbol, to.quantity)]
pub struct QuantityMismatch {
    from: &'static Unit,
    to: &'static Unit,
}

/// Units by their normalised spellings.
static UNITS_BY_SPELLING: LazyLock<HashMap<String, &'static Unit>> = LazyLock::new(|| {
    let all = UNITS
        .iter()
        .flat_map(|unit| unit.normalised_spellings().map(move |text| (text, unit)));
    all.collect()
});

/// Normalises a text for the lookup of units: without blanks and `·`, and in characters that a keyboard has, except
/// `°`.
fn normalise(text: &str) -> String {
    let characters = text.chars().filter(|c| !c.is_whitespace() && *c != '·');
    let plain = characters.map(|c| match c {
        '²' => '2',
        '³' => '3',
        'µ' | 'μ' => 'u',
        'º' => '°',
        other => other,
    });
    plain.collect()
}

impl Unit {
    /// Returns the unit with this spelling: `m3/h`, `m³/h`, `m3_per_h` or `cubic metres per hour`.
    pub fn from_name(text: &str) -> Option<&'static Self> {
        UNITS_BY_SPELLING.get(&normalise(text)).copied()
    }

    /// Returns all spellings of the unit, normalised.
    fn normalised_spellings(&'static self) -> impl Iterator<Item = String> {
        let names = [self.symbol, self.words].into_iter();
        let names = names.chain(self.spellings.iter().copied()).map(normalise);
        names.flat_map(|name| {
            let in_keys = name.contains('/').then(|| name.replace('/', "_per_"));
            in_keys.into_iter().chain([name])
        })
    }

    /// Converts a value in this unit to another unit, to twelve digits. For a difference between two values only the
    /// factor applies: 10 °C warmer is 18 °F warmer.
    pub fn convert(
        &'static self,
        value: f64,
        to: &'static Self,
        is_difference: bool,
    ) -> Result<f64, QuantityMismatch> {
        if self.quantity != to.quantity {
            return Err(QuantityMismatch { from: self, to });
        }
        if std::ptr::eq(self, to) {
            return Ok(value);
        }
        let (from, back) = match is_difference {
            true => (0.0, 0.0),
            false => (self.shift, to.shift),
        };
        let converted = (value + from) * self.factor / to.factor - back;
        // Further digits are rounding errors: 80 °C is 176 °F, not 176.00000000000006.
        Ok(format!("{converted:.11e}").parse().unwrap_or(converted))
    }
}

/// Splits the key of a specification into its subject and the unit that it ends with: `design_pressure_bar` is a
/// `design_pressure` in bar. Use it only for numeric values: a `revision_c` may be a text.
pub fn split_key(key: &str) -> (&str, Option<&'static Unit>) {
    // The longest suffix is the unit: in `rated_flow_m3_per_h` it is not the last letter.
    let mut ends = key.match_indices('_').filter(|(at, _)| *at > 0);
    let found = ends.find_map(|(at, _)| {
        let unit = UNITS_BY_SPELLING.get(key.get(at + 1..)?)?;
        Some((key.get(..at)?, Some(*unit)))
    });
    found.unwrap_or((key, None))
}

/// Splits a key like [`split_key`], with blanks between the words of the subject: `design pressure`.
pub fn key_in_words(key: &str) -> (String, Option<&'static Unit>) {
    let (about, unit) = split_key(key);
    (about.replace('_', " "), unit)
}

/// Whether the key names a difference between two values.
pub fn is_difference(key: &str) -> bool {
    const DIFFERENCES: [&str; 9] = [
        "resolution",
        "accuracy",
        "tolerance",
        "deviation",
        "difference",
        "delta",
        "rise",
        "drop",
        "hysteresis",
    ];
    key.split('_').any(|word| DIFFERENCES.contains(&word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn convert(value: f64, from: &str, to: &str) -> f64 {
        let (from, to) = (Unit::from_name(from).unwrap(), Unit::from_name(to).unwrap());
        from.convert(value, to, false).unwrap()
    }

    #[test]
    fn unit_spellings_are_unique() {
        let mut owners: HashMap<String, &str> = HashMap::new();
        for unit in UNITS {
            for text in unit.normalised_spellings() {
                let other = owners.insert(text.clone(), unit.symbol);
                assert!(
                    other.is_none_or(|other| other == unit.symbol),
                    "{text}: {} and {other:?}",
                    unit.symbol
                );
            }
        }
    }

    #[test]
    fn convert_within_quantity_returns_converted_value() {
        for (value, from, to, expected) in [
            (100.0, "°C", "K", 373.15),
            (80.0, "°C", "°F", 176.0),
            (-40.0, "degF", "c", -40.0),
            (0.0, "K", "°C", -273.15),
            (16.0, "bar", "kPa", 1_600.0),
            (10.0, "bar", "MPa", 1.0),
            (1.0, "bar", "psi", 14.5037737730),
            (250.0, "mbar", "Pa", 25_000.0),
            (12.5, "m3", "L", 12_500.0),
            (18.5, "kW", "W", 18_500.0),
            (0.9, "MW", "kW", 900.0),
            (80.0, "mm", "cm", 8.0),
            (36.0, "m³/h", "l / s", 10.0),
            (45.0, "m3_per_h", "L/min", 750.0),
            (7_200.0, "kg/h", "t/h", 7.2),
            (90.0, "min", "h", 1.5),
            (2_950.0, "rpm", "Hz", 49.1666666667),
            (3.0, "%", "ppm", 30_000.0),
            (2.0, "cubic metres", "litres", 2_000.0),
            (1.2, "g/cm3", "kg/m³", 1_200.0),
        ] {
            assert_eq!(convert(value, from, to), expected, "{value} {from} in {to}");
        }
    }

    #[test]
    fn convert_of_difference_ignores_zero_point() {
        let [celsius, fahrenheit] = ["°C", "°F"].map(|text| Unit::from_name(text).unwrap());
        assert_eq!(celsius.convert(0.1, fahrenheit, true), Ok(0.18));
        assert!(is_difference("resolution") && is_difference("pressure_drop_mbar"));
        assert!(!is_difference("design_pressure_bar"));
    }

    #[test]
    fn convert_across_quantities_is_an_error() {
        for (one, other) in [
            ("bar", "°C"),
            ("bar", "barg"),
            ("m³/h", "kg/h"),
            ("%", "wt%"),
        ] {
            let [one, other] = [one, other].map(|text| Unit::from_name(text).unwrap());
            let error = one.convert(1.0, other, false).unwrap_err().to_string();
            assert!(
                error.contains(one.symbol) && error.contains(other.symbol),
                "{error}"
            );
        }
        assert_eq!(Unit::from_name("furlong"), None);
        assert_eq!(Unit::from_name(""), None);
    }

    #[test]
    fn key_in_words_splits_off_unit() {
        for (key, about, symbol) in [
            ("design_pressure_bar", "design pressure", Some("bar")),
            ("volume_m3", "volume", Some("m³")),
            ("rated_flow_m3_per_h", "rated flow", Some("m³/h")),
            ("design_temperature_c", "design temperature", Some("°C")),
            ("motor_power_kw", "motor power", Some("kW")),
            ("flow_coefficient_kv", "flow coefficient kv", None),
            ("rated_speed_rpm", "rated speed", Some("rpm")),
            ("stages", "stages", None),
            ("m3", "m3", None),
            ("_m3", " m3", None),
            ("größe_mm", "größe", Some("mm")),
        ] {
            let (words, unit) = key_in_words(key);
            assert_eq!(
                (words.as_str(), unit.map(|unit| unit.symbol)),
                (about, symbol)
            );
        }
    }

    proptest! {
        #[test]
        fn convert_there_and_back_returns_original_value(
            value in -1e6_f64..1e6,
            from in 0..UNITS.len(),
            to in 0..UNITS.len(),
            is_difference: bool,
        ) {
            let (from, to) = (&UNITS[from], &UNITS[to]);
            if let Ok(there) = from.convert(value, to, is_difference) {
                let back = to.convert(there, from, is_difference).unwrap();
                let scale = value.abs().max(1_000.0);
                prop_assert!((back - value).abs() <= scale * 1e-8, "{value} {from:?} {there} {back}");
            }
        }
    }
}
