//! The units of the plant: their equipment and flows. These are tables that chemical engineers can extend.

use super::equipment::SpecificationValue::{Number, Text, Varied};
use super::equipment::{
    EquipmentTemplate, UnitTemplate, acidity, block_valve, composition, control_valve, drum,
    exchanger, flow, level, open_or_closed, position, power, pressure, pressure_drop, pump, speed,
    tank, temperature, vibration,
};

/// The units of a site, in the order in which product flows through them. Sites repeat them.
pub(super) const UNITS: &[UnitTemplate] = &[
    UnitTemplate {
        name: "Esterification",
        description: "makes ester from acid and alcohol over an acid catalyst",
        equipment: &[
            tank(
                "alcohol feed tank",
                &[
                    level("liquid level", 62.0, 6.0),
                    temperature("liquid temperature", -20.0, 80.0, 24.0, 3.0),
                ],
            ),
            pump(
                "reactor feed pump",
                &[
                    flow("discharge flow", 80.0, 42.0),
                    vibration("drive end bearing vibration", 2.4),
                    pressure("discharge pressure", 16.0, 7.8),
                    power("motor power", 30.0, 14.5),
                ],
            ),
            control_valve(
                "reactor feed flow control valve",
                &[position("stem position", 54.0)],
            ),
            exchanger(
                "feed preheater heated with steam",
                &[
                    temperature("feed outlet temperature", 0.0, 200.0, 96.0, 1.0),
                    flow("steam condensate flow", 10.0, 3.4),
                    temperature("steam temperature", 0.0, 250.0, 164.0, 0.5),
                ],
            ),
            EquipmentTemplate {
                letters: "R",
                kind: "stirred tank reactor",
                description: "jacketed, agitated reactor vessel for esterification",
                specifications: &[
                    ("volume_m3", Varied(16.0)),
                    ("design_pressure_bar", Number(10.0)),
                    ("design_temperature_c", Number(220.0)),
                    ("agitator_power_kw", Varied(30.0)),
                    ("material", Text("glass-lined steel")),
                ],
                sensors: &[
                    temperature("bulk temperature", 0.0, 250.0, 138.0, 1.2),
                    pressure("head pressure", 10.0, 3.2),
                    level("liquid level", 68.0, 2.0),
                    temperature("jacket outlet temperature", 0.0, 250.0, 152.0, 1.0),
                    acidity("liquid acidity", 3.4),
                    speed("agitator speed", 200.0, 96.0),
                    power("agitator power", 45.0, 21.0),
                    composition("ester content", 71.0),
                ],
            },
            exchanger(
                "product cooler",
                &[
                    temperature("product outlet temperature", 0.0, 150.0, 42.0, 2.5),
                    temperature("cooling water outlet temperature", 0.0, 60.0, 31.0, 3.0),
                    flow("cooling water flow", 160.0, 88.0),
                ],
            ),
            pump(
                "crude product pump",
                &[
                    flow("discharge flow", 80.0, 41.0),
                    vibration("drive end bearing vibration", 2.1),
                    pressure("discharge pressure", 16.0, 6.4),
                ],
            ),
            block_valve("crude product block valve", &[open_or_closed("position")]),
        ],
        flows: &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)],
        inlet: 0,
        outlet: 7,
    },
    UnitTemplate {
        name: "Distillation",
        description: "parts the crude ester from water and unused alcohol",
        equipment: &[
            pump(
                "column feed pump",
                &[
                    flow("discharge flow", 80.0, 40.0),
                    vibration("drive end bearing vibration", 2.6),
                    pressure("discharge pressure", 16.0, 6.9),
                ],
            ),
            EquipmentTemplate {
                letters: "C",
                kind: "distillation column",
                description: "packed vacuum distillation column, 36 theoretical stages",
                specifications: &[
                    ("height_m", Varied(28.0)),
                    ("diameter_m", Varied(1.8)),
                    ("stages", Number(36.0)),
                    ("design_pressure_bar", Number(4.0)),
                    ("design_temperature_c", Number(240.0)),
                    ("material", Text("316L stainless steel")),
                    ("packing", Text("structured, 250 m²/m³")),
                ],
                sensors: &[
                    temperature("top temperature", 0.0, 200.0, 78.4, 0.6),
                    pressure("top pressure", 2.5, 1.1),
                    temperature("bottom temperature", 0.0, 250.0, 161.0, 0.8),
                    pressure_drop("pressure drop over the packing", 120.0, 46.0),
                    level("sump level", 55.0, 3.0),
                    temperature("tray 12 temperature", 0.0, 220.0, 112.0, 0.8),
                    composition("distillate purity", 98.6),
                ],
            },
            exchanger(
                "overhead condenser",
                &[
                    temperature("condensate temperature", 0.0, 120.0, 52.0, 3.0),
                    temperature("cooling water outlet temperature", 0.0, 60.0, 33.0, 3.5),
                    flow("cooling water flow", 300.0, 190.0),
                ],
            ),
            drum(
                "reflux drum",
                &[
                    level("liquid level", 50.0, 4.0),
                    pressure("vapour pressure", 2.5, 1.0),
                ],
            ),
            pump(
                "reflux pump",
                &[
                    flow("discharge flow", 60.0, 33.0),
                    vibration("drive end bearing vibration", 1.9),
                    power("motor power", 22.0, 9.6),
                ],
            ),
            control_valve(
                "reflux flow control valve",
                &[position("stem position", 47.0)],
            ),
            exchanger(
                "thermosyphon reboiler heated with steam",
                &[
                    temperature("outlet temperature", 0.0, 250.0, 168.0, 0.6),
                    flow("steam condensate flow", 16.0, 6.2),
                    pressure("steam pressure", 16.0, 9.2),
                ],
            ),
            pump(
                "bottoms pump",
                &[
                    flow("discharge flow", 40.0, 18.0),
                    vibration("drive end bearing vibration", 2.3),
                ],
            ),
        ],
        flows: &[
            (0, 1),
            (1, 2),
            (2, 3),
            (3, 4),
            (4, 5),
            (5, 1),
            (1, 6),
            (6, 1),
            (1, 7),
        ],
        inlet: 0,
        outlet: 7,
    },
    UnitTemplate {
        name: "Hydrogen Compression",
        description: "brings hydrogen to the pressure of the hydrogenation",
        equipment: &[
            drum(
                "compressor suction drum",
                &[
                    pressure("gas pressure", 40.0, 19.5),
                    level("condensate level", 12.0, 2.5),
                ],
            ),
            EquipmentTemplate {
                letters: "K",
                kind: "centrifugal compressor",
                description: "two-stage hydrogen compressor with a variable speed drive",
                specifications: &[
                    ("rated_power_kw", Varied(900.0)),
                    ("rated_speed_rpm", Number(11_800.0)),
                    ("stages", Number(2.0)),
                    ("design_pressure_bar", Number(80.0)),
                    ("design_temperature_c", Number(180.0)),
                    (
                        "material",
                        Text("4140 alloy steel rotor, cast steel casing"),
                    ),
                ],
                sensors: &[
                    vibration("drive end shaft vibration", 3.1),
                    pressure("discharge pressure", 80.0, 48.0),
                    temperature("discharge temperature", 0.0, 200.0, 118.0, 1.8),
                    speed("shaft speed", 14_000.0, 11_250.0),
                    vibration("non-drive end shaft vibration", 2.8),
                    power("motor power", 1_200.0, 710.0),
                    temperature("thrust bearing temperature", 0.0, 150.0, 71.0, 2.0),
                ],
            },
            exchanger(
                "gas aftercooler",
                &[
                    temperature("gas outlet temperature", 0.0, 120.0, 38.0, 2.6),
                    temperature("cooling water outlet temperature", 0.0, 60.0, 30.0, 3.2),
                ],
            ),
            drum(
                "compressor discharge drum",
                &[
                    pressure("gas pressure", 80.0, 47.0),
                    level("condensate level", 8.0, 2.0),
                ],
            ),
            control_valve(
                "anti-surge control valve",
                &[position("stem position", 12.0)],
            ),
        ],
        flows: &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)],
        inlet: 0,
        outlet: 3,
    },
    UnitTemplate {
        name: "Hydrogenation",
        description: "turns ester into alcohol with hydrogen at high temperature and pressure",
        equipment: &[
            EquipmentTemplate {
                letters: "F",
                kind: "fired heater",
                description: "gas-fired furnace that heats the reactor feed",
                specifications: &[
                    ("duty_kw", Varied(3_200.0)),
                    ("design_temperature_c", Number(650.0)),
                    ("fuel", Text("natural gas")),
                    ("material", Text("347H stainless steel coils")),
                ],
                sensors: &[
                    temperature("coil outlet temperature", 0.0, 500.0, 318.0, 0.8),
                    temperature("fire box temperature", 0.0, 1_100.0, 742.0, 2.0),
                    flow("fuel gas flow", 600.0, 310.0),
                    composition("flue gas oxygen", 3.2),
                ],
            },
            EquipmentTemplate {
                letters: "R",
                kind: "fixed-bed reactor",
                description: "high-temperature, high-pressure reactor vessel with three beds of copper chromite catalyst",
                specifications: &[
                    ("volume_m3", Varied(24.0)),
                    ("catalyst_mass_kg", Varied(18_000.0)),
                    ("design_pressure_bar", Number(80.0)),
                    ("design_temperature_c", Number(420.0)),
                    ("material", Text("2.25Cr-1Mo steel, 347 stainless overlay")),
                ],
                sensors: &[
                    temperature("bed 1 temperature", 0.0, 450.0, 322.0, 0.6),
                    pressure("inlet pressure", 80.0, 46.0),
                    temperature("bed 2 temperature", 0.0, 450.0, 338.0, 0.6),
                    pressure_drop("pressure drop over the beds", 2_500.0, 840.0),
                    temperature("bed 3 temperature", 0.0, 450.0, 347.0, 0.6),
                    flow("hydrogen flow", 4_000.0, 2_350.0),
                    temperature("outlet temperature", 0.0, 450.0, 351.0, 0.6),
                ],
            },
            exchanger(
                "effluent cooler",
                &[
                    temperature("effluent outlet temperature", 0.0, 300.0, 58.0, 2.2),
                    flow("cooling water flow", 220.0, 134.0),
                ],
            ),
            drum(
                "high-pressure separator",
                &[
                    level("liquid level", 48.0, 3.5),
                    pressure("gas pressure", 80.0, 43.5),
                    temperature("liquid temperature", 0.0, 120.0, 52.0, 2.0),
                ],
            ),
            control_valve(
                "separator pressure control valve",
                &[position("stem position", 38.0)],
            ),
            block_valve(
                "emergency depressuring valve",
                &[open_or_closed("position")],
            ),
        ],
        flows: &[(0, 1), (1, 2), (2, 3), (3, 4), (3, 5)],
        inlet: 0,
        outlet: 4,
    },
    UnitTemplate {
        name: "Waste Water Neutralisation",
        description: "brings waste water to a neutral pH before it leaves the site",
        equipment: &[
            tank(
                "waste water equalisation tank",
                &[
                    level("liquid level", 57.0, 8.0),
                    acidity("inlet acidity", 4.6),
                ],
            ),
            tank(
                "caustic soda dosing tank",
                &[
                    level("liquid level", 70.0, 4.0),
                    temperature("liquid temperature", -10.0, 80.0, 26.0, 2.5),
                ],
            ),
            EquipmentTemplate {
                letters: "P",
                kind: "diaphragm dosing pump",
                description: "caustic soda dosing pump",
                specifications: &[
                    ("rated_flow_m3_per_h", Varied(1.2)),
                    ("design_pressure_bar", Number(10.0)),
                    ("material", Text("PVDF head, PTFE diaphragm")),
                ],
                sensors: &[
                    flow("dosing flow", 2.0, 0.8),
                    pressure("discharge pressure", 10.0, 3.6),
                ],
            },
            EquipmentTemplate {
                letters: "R",
                kind: "neutralisation reactor",
                description: "open, agitated neutralisation basin with two stages",
                specifications: &[
                    ("volume_m3", Varied(60.0)),
                    ("design_temperature_c", Number(60.0)),
                    ("material", Text("rubber-lined steel")),
                ],
                sensors: &[
                    acidity("first stage acidity", 6.1),
                    acidity("second stage acidity", 7.2),
                    temperature("liquid temperature", 0.0, 80.0, 29.0, 2.8),
                    level("liquid level", 74.0, 2.0),
                ],
            },
            pump(
                "effluent pump",
                &[
                    flow("discharge flow", 120.0, 64.0),
                    vibration("drive end bearing vibration", 2.9),
                    power("motor power", 30.0, 12.8),
                ],
            ),
            block_valve("effluent outfall valve", &[open_or_closed("position")]),
        ],
        flows: &[(0, 3), (1, 2), (2, 3), (3, 4), (4, 5)],
        inlet: 0,
        outlet: 4,
    },
    UnitTemplate {
        name: "Tank Farm",
        description: "stores feed and product, and loads road tankers",
        equipment: &[
            tank(
                "product day tank",
                &[
                    level("liquid level", 45.0, 9.0),
                    temperature("liquid temperature", -20.0, 80.0, 27.0, 3.0),
                ],
            ),
            tank(
                "product storage tank",
                &[
                    level("liquid level", 66.0, 7.0),
                    temperature("liquid temperature", -20.0, 80.0, 22.0, 3.5),
                    pressure("blanket gas pressure", 0.5, 0.2),
                ],
            ),
            tank(
                "off-specification product tank",
                &[
                    level("liquid level", 21.0, 3.0),
                    temperature("liquid temperature", -20.0, 80.0, 21.0, 3.5),
                ],
            ),
            pump(
                "transfer pump",
                &[
                    flow("discharge flow", 100.0, 48.0),
                    vibration("drive end bearing vibration", 2.2),
                    pressure("discharge pressure", 16.0, 5.2),
                ],
            ),
            pump(
                "tanker loading pump",
                &[
                    flow("discharge flow", 140.0, 72.0),
                    vibration("drive end bearing vibration", 2.7),
                    power("motor power", 30.0, 16.4),
                ],
            ),
            control_valve(
                "tanker loading flow control valve",
                &[position("stem position", 61.0)],
            ),
            block_valve("tanker loading block valve", &[open_or_closed("position")]),
        ],
        flows: &[(0, 3), (3, 1), (3, 2), (1, 4), (4, 5), (5, 6)],
        inlet: 0,
        outlet: 6,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_templates_are_consistent() {
        for unit in UNITS {
            let count = unit.equipment.len();
            assert!(unit.inlet < count && unit.outlet < count, "{}", unit.name);
            assert!(
                unit.flows
                    .iter()
                    .all(|&(from, to)| from < count && to < count && from != to),
                "{}",
                unit.name
            );
            for sensor in unit
                .equipment
                .iter()
                .flat_map(|equipment| equipment.sensors)
            {
                let span = sensor.high - sensor.low;
                assert!(
                    sensor.low <= sensor.normal && sensor.normal <= sensor.high,
                    "{sensor:?}"
                );
                assert!(
                    sensor.noise > 0.0 && sensor.noise + sensor.daily_amplitude < span / 4.0,
                    "{sensor:?}"
                );
                // Values are rounded to multiples of the step, which must be a decimal fraction.
                assert!(
                    [1.0, 10.0, 100.0].contains(&sensor.steps_per_unit),
                    "{sensor:?}"
                );
                assert!(span * sensor.steps_per_unit >= 20.0, "{sensor:?}");
            }
        }
    }

    #[test]
    fn unit_templates_contain_every_kind_of_the_design() {
        let equipment = || UNITS.iter().flat_map(|unit| unit.equipment);
        for word in [
            "reactor",
            "column",
            "exchanger",
            "pump",
            "tank",
            "compressor",
            "valve",
        ] {
            assert!(
                equipment().any(|equipment| equipment.kind.contains(word)),
                "{word}"
            );
        }
        for word in [
            "temperature",
            "pressure",
            "flow",
            "level",
            "pH",
            "vibration",
            "valve position",
        ] {
            assert!(
                equipment()
                    .flat_map(|equipment| equipment.sensors)
                    .any(|sensor| sensor.kind.contains(word)),
                "{word}"
            );
        }
    }
}
