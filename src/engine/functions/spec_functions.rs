//! Functions for specifications as numbers with units: `spec_value`, `spec_unit` and `spec_in`, over the JSON in
//! `assets`.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, internal_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::scalar_doc_sections::DOC_SECTION_OTHER;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::spec_json::{NumericSpec, SpecUnit};
use crate::model::{Unit, is_difference};

/// Registers the functions with a session.
pub(in crate::engine) fn register(state: &mut SessionState) -> Result<()> {
    for asks in [SpecResult::Value, SpecResult::Unit, SpecResult::Converted] {
        let arguments = asks.documentation().arguments.as_ref().map_or(0, Vec::len);
        let function = SpecFunction {
            result: asks,
            signature: Signature::string(arguments, Volatility::Immutable),
        };
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(function)))?;
    }
    Ok(())
}

/// The result of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SpecResult {
    /// The number as written.
    Value,
    /// Its unit.
    Unit,
    /// The number converted to the requested unit.
    Converted,
}

impl SpecResult {
    const fn name(self) -> &'static str {
        match self {
            Self::Value => "spec_value",
            Self::Unit => "spec_unit",
            Self::Converted => "spec_in",
        }
    }

    fn documentation(self) -> &'static Documentation {
        static VALUE: LazyLock<Documentation> = LazyLock::new(|| {
            build_documentation(
                "Returns a specification as a number; null if it is missing or not a number.",
                "spec_value(specifications, key)",
                "spec_value(specifications, 'volume_m3')",
            )
        });
        static UNIT: LazyLock<Documentation> = LazyLock::new(|| {
            build_documentation(
                "Returns the unit of a numeric specification: the suffix of its key, or the asset's unit for range_low, range_high and resolution.",
                "spec_unit(specifications, key)",
                "spec_unit(specifications, 'range_high')",
            )
        });
        static CONVERTED: LazyLock<Documentation> = LazyLock::new(|| {
            let documented = build_documentation(
                "Returns a specification as a number, converted to a unit; null if it is missing, is not a number or has no unit, or if it is in the asset's unit and that measures another quantity.",
                "spec_in(specifications, key, unit)",
                "spec_in(specifications, 'design_pressure', 'kPa')",
            );
            let unit = ("unit".to_owned(), "The unit of the result.".to_owned());
            let arguments = documented.arguments.unwrap_or_default();
            Documentation {
                arguments: Some([arguments, vec![unit]].concat()),
                ..documented
            }
        });
        match self {
            Self::Value => &VALUE,
            Self::Unit => &UNIT,
            Self::Converted => &CONVERTED,
        }
    }
}

fn build_documentation(description: &str, syntax: &str, example: &str) -> Documentation {
    Documentation::builder(DOC_SECTION_OTHER, description, syntax)
        .with_argument("specifications", "The specifications of an asset, as JSON.")
        .with_argument(
            "key",
            "The key of the specification, with or without its unit suffix.",
        )
        .with_sql_example(format!("SELECT name, {example} FROM assets"))
        .build()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SpecFunction {
    result: SpecResult,
    signature: Signature,
}

impl ScalarUDFImpl for SpecFunction {
    fn name(&self) -> &str {
        self.result.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.result {
            SpecResult::Value | SpecResult::Converted => DataType::Float64,
            SpecResult::Unit => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_one = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let are_all_scalar = call.args.iter().all(is_one);
        let rows = if are_all_scalar { 1 } else { call.number_rows };
        let texts = call.args.iter().map(TextArgument::from_value);
        let texts: Vec<TextArgument> = texts.collect::<Result<_>>()?;
        let answers = self.evaluate(&texts, rows)?;
        Ok(match are_all_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?),
            false => ColumnarValue::Array(answers),
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(self.result.documentation())
    }
}

impl SpecFunction {
    fn evaluate(&self, texts: &[TextArgument], rows: usize) -> Result<ArrayRef> {
        let (specifications, key, wanted) = match texts {
            [specifications, key] => (specifications, key, None),
            [specifications, key, wanted] => (specifications, key, Some(wanted)),
            _ => return internal_err!("{} has {} arguments", self.result.name(), texts.len()),
        };
        let found = |row| match (specifications.value_at(row), key.value_at(row)) {
            (Some(specifications), Some(key)) => self.find(specifications, key),
            _ => Ok(None),
        };
        let rows = 0..rows;
        Ok(match (self.result, wanted) {
            (SpecResult::Unit, _) => {
                let unit = |row| Ok(found(row)?.and_then(|found| found.unit.into_text()));
                Arc::new(rows.map(unit).collect::<Result<StringArray>>()?)
            }
            (SpecResult::Converted, Some(wanted)) => {
                let converted = |row| {
                    let Some(wanted) = wanted.value_at(row) else {
                        return Ok(None);
                    };
                    let Some(unit) = Unit::from_name(wanted) else {
                        return exec_err!(
                            "spec_in: the unit '{wanted}' is not known; units are written as °C, bar, kPa, m3, m3/h, kg/h, kW, mm, min or %"
                        );
                    };
                    match (found(row)?, key.value_at(row)) {
                        (Some(found), Some(key)) => convert(&found, unit, key),
                        _ => Ok(None),
                    }
                };
                Arc::new(rows.map(converted).collect::<Result<Float64Array>>()?)
            }
            _ => {
                let value = |row| Ok(found(row)?.map(|found| found.value));
                Arc::new(rows.map(value).collect::<Result<Float64Array>>()?)
            }
        })
    }

    /// Returns the specification with this name, if it is a number.
    fn find(&self, specifications: &str, key: &str) -> Result<Option<NumericSpec>> {
        NumericSpec::from_json(specifications, key).map_err(|error| {
            let shown: String = specifications.chars().take(60).collect();
            DataFusionError::Execution(format!(
                "{}: specifications are a JSON object, not {shown:?} ({error})",
                self.result.name()
            ))
        })
    }
}

/// The values of a text argument.
struct TextArgument {
    values: StringViewArray,
    is_scalar: bool,
}

impl TextArgument {
    fn from_value(argument: &ColumnarValue) -> Result<Self> {
        let (values, is_one) = match argument {
            ColumnarValue::Array(values) => (Arc::clone(values), false),
            ColumnarValue::Scalar(value) => (value.to_array()?, true),
        };
        let values = cast(&values, &DataType::Utf8View)?;
        Ok(Self {
            values: values.as_string_view().clone(),
            is_scalar: is_one,
        })
    }

    fn value_at(&self, row: usize) -> Option<&str> {
        let row = if self.is_scalar { 0 } else { row };
        self.values.is_valid(row).then(|| self.values.value(row))
    }
}

/// Converts the number to the requested unit.
fn convert(found: &NumericSpec, wanted: &'static Unit, key: &str) -> Result<Option<f64>> {
    let told = |unit: &'static Unit| unit.convert(found.value, wanted, is_difference(key));
    match &found.unit {
        SpecUnit::Key(unit) => match told(unit) {
            Ok(value) => Ok(Some(value)),
            Err(error) => exec_err!("spec_in: cannot convert '{key}' to that unit: {error}"),
        },
        // The asset's unit differs between assets, and a thermometer has no range in bar, so another quantity gives
        // null.
        SpecUnit::Asset(unit) => Ok(Unit::from_name(unit).and_then(|unit| told(unit).ok())),
        SpecUnit::None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::util::display::array_value_to_string;
    use datafusion::prelude::SessionContext;

    use super::*;

    /// Returns the first column of the result as text.
    async fn ask(sql: &str) -> Result<Vec<String>> {
        let lake = tempfile::tempdir().unwrap();
        let lake = crate::lake::Store::open(lake.path().to_str().unwrap(), &Default::default());
        let state =
            crate::engine::session::base_state::base_state(&lake.unwrap(), Default::default());
        let context = SessionContext::new_with_state(state.unwrap());
        let batches: Vec<RecordBatch> = context.sql(sql).await?.collect().await?;
        let rows = batches.iter().flat_map(|batch| {
            let column = batch.column(0);
            (0..batch.num_rows()).map(move |row| array_value_to_string(column, row).unwrap())
        });
        Ok(rows.collect())
    }

    const REACTOR: &str = r#"{"tag":"R-101","volume_m3":12.5,"design_pressure_bar":10,"stages":36,"fails":"closed","revision_c":"B","about":{"unit":[1,{}]},"empty_kg":null}"#;
    const SENSOR: &str = r#"{"unit":"°C","range_low":-20.0,"range_high":80.0,"resolution":0.1,"design_pressure_bar":6}"#;

    #[tokio::test]
    async fn spec_functions_return_values_and_units() {
        for (call, expected) in [
            ("spec_value(r, 'volume_m3')", "12.5"),
            ("spec_value(r, 'volume')", "12.5"),
            ("spec_value(r, 'design_pressure')", "10.0"),
            ("spec_value(r, 'stages')", "36.0"),
            ("spec_unit(r, 'volume')", "m³"),
            ("spec_unit(r, 'design_pressure_bar')", "bar"),
            ("spec_unit(r, 'stages')", ""),
            ("spec_value(r, 'fails')", ""),
            ("spec_value(r, 'revision')", ""),
            ("spec_unit(r, 'revision_c')", ""),
            ("spec_value(r, 'empty')", ""),
            ("spec_value(r, 'about')", ""),
            ("spec_value(r, 'vol')", ""),
            ("spec_value(r, 'volume_l')", ""),
            ("spec_value(r, '')", ""),
            ("spec_value(r, NULL)", ""),
            ("spec_value(NULL, 'volume')", ""),
            ("spec_in(r, 'volume', 'L')", "12500.0"),
            ("spec_in(r, 'design_pressure_bar', 'kPa')", "1000.0"),
            ("spec_in(r, 'design_pressure', NULL)", ""),
            ("spec_in(r, 'stages', 'm')", ""),
            ("spec_unit(s, 'range_high')", "°C"),
            ("spec_in(s, 'range_high', '°F')", "176.0"),
            ("spec_in(s, 'resolution', '°F')", "0.18"),
            ("spec_in(s, 'range_low', 'K')", "253.15"),
            ("spec_in(s, 'range_high', 'bar')", ""),
            ("spec_in(s, 'design_pressure', 'MPa')", "0.6"),
            (
                "spec_unit(arrow_cast(s, 'LargeUtf8'), arrow_cast('range_low', 'Utf8View'))",
                "°C",
            ),
        ] {
            for from in ["", " FROM range(3)"] {
                let call = call.replace("(r,", &format!("('{REACTOR}',"));
                let call = call.replace("(s,", &format!("('{SENSOR}',"));
                let sql = format!("SELECT {call}{from}");
                let rows = ask(&sql).await.unwrap();
                assert!(
                    !rows.is_empty() && rows.iter().all(|row| row == expected),
                    "{sql}: {rows:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn spec_in_on_columns_converts_each_row() {
        let sql = format!(
            "SELECT spec_in(column1, column2, column3) FROM (VALUES
             ('{REACTOR}', 'volume', 'm3'), (NULL, 'volume', 'm3'), ('{SENSOR}', 'range_high', 'K'), ('{{}}', 'x', 'bar'))"
        );
        assert_eq!(ask(&sql).await.unwrap(), ["12.5", "", "353.15", ""]);
    }

    #[tokio::test]
    async fn spec_functions_reject_invalid_arguments() {
        for (call, says) in [
            (
                "spec_in(r, 'volume', 'bar')",
                "cannot convert 'volume' to that unit: m³ is the unit of a volume, and bar that of a pressure",
            ),
            (
                "spec_in(r, 'volume', 'buckets')",
                "the unit 'buckets' is not known",
            ),
            (
                "spec_in(NULL, 'volume', 'buckets')",
                "the unit 'buckets' is not known",
            ),
            ("spec_value('[1]', 'volume')", "a JSON object, not \"[1]\""),
            (
                "spec_unit('', 'volume')",
                "spec_unit: specifications are a JSON object",
            ),
            ("spec_value('{} {}', 'volume')", "a JSON object"),
            ("spec_value(r)", "spec_value"),
        ] {
            let call = call.replace("(r", &format!("('{REACTOR}'"));
            let error = ask(&format!("SELECT {call}"))
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{call}: {error}");
        }
    }
}
