//! Formats of `to_char` as Postgres writes them, such as `YYYY-MM-DD HH24:MI`. DataFusion reads those of strftime; a format
//! with a `%` stays as it is.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// The patterns that are supported, longest first, with those of strftime, first with and then without padding.
const PATTERNS: &[(&str, &str, &str)] = &[
    ("HH24", "%H", "%-H"),
    ("HH12", "%I", "%-I"),
    ("YYYY", "%Y", "%Y"),
    ("IYYY", "%G", "%G"),
    ("DDD", "%j", "%-j"),
    ("HH", "%I", "%-I"),
    ("MI", "%M", "%-M"),
    ("SS", "%S", "%-S"),
    ("MS", "%3f", "%3f"),
    ("US", "%6f", "%6f"),
    ("MM", "%m", "%-m"),
    ("DD", "%d", "%-d"),
    ("YY", "%y", "%y"),
    ("IY", "%g", "%g"),
    ("IW", "%V", "%-V"),
    ("ID", "%u", "%u"),
    ("AM", "%p", "%p"),
    ("PM", "%p", "%p"),
];

/// Patterns for which the case of the letters matters.
const CASED_PATTERNS: &[(&str, &str)] = &[
    ("FMMonth", "%B"),
    ("FMDay", "%A"),
    ("Mon", "%b"),
    ("Dy", "%a"),
    ("am", "%P"),
    ("pm", "%P"),
];

/// Patterns of Postgres that strftime cannot express, longest first.
const UNSUPPORTED: &[&str] = &[
    "SSSSS", "MONTH", "Y,YYY", "SSSS", "A.M.", "P.M.", "B.C.", "A.D.", "IDDD", "MON", "DAY", "YYY",
    "IYY", "TZH", "TZM", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "BC", "AD", "DY", "WW", "CC",
    "RM", "TZ", "OF", "FX", "TM", "SP", "D", "W", "J", "Q", "I", "Y",
];

/// The name of the month, which begins like the pattern of its abbreviation.
const PADDED_MONTH: &str = "Month";

/// The patterns that errors list.
const LISTED: &str = "YYYY, YY, IYYY, IY, MM, Mon, FMMonth, DD, DDD, Dy, FMDay, ID, IW, HH24, HH12, MI, SS, MS, US, AM and PM";

/// Returns a format of Postgres as one of strftime.
///
/// # Errors
/// If it has a pattern that strftime cannot express.
fn convert_format(format: &str) -> Result<Cow<'_, str>> {
    if format.contains('%') {
        return Ok(Cow::Borrowed(format));
    }
    let mut converted = String::with_capacity(format.len() + 8);
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => quoted(rest, &mut converted),
            _ => pattern(rest, &mut converted)?,
        };
        rest = match length {
            0 => {
                converted.push(first);
                rest.get(first.len_utf8()..)
            }
            length => rest.get(length..),
        }
        .unwrap_or_default();
    }
    Ok(Cow::Owned(converted))
}

/// Adds the text in quotation marks that `rest` begins with, and returns its length with the marks.
fn quoted(rest: &str, converted: &mut String) -> usize {
    let inside = rest.get(1..).unwrap_or_default();
    let text = inside.split('"').next().unwrap_or_default();
    converted.push_str(text);
    (text.len() + 2).min(rest.len())
}

/// Adds the pattern that `rest` begins with, and returns its length; 0 if it begins with none.
fn pattern(rest: &str, converted: &mut String) -> Result<usize> {
    // Postgres pads it to nine characters.
    if rest.starts_with(PADDED_MONTH) {
        return Err(unknown(PADDED_MONTH));
    }
    if let Some((pattern, new)) = CASED_PATTERNS
        .iter()
        .find(|(pattern, _)| rest.starts_with(pattern))
    {
        converted.push_str(new);
        return Ok(pattern.len());
    }
    let is_at = |text: &str, pattern: &str| {
        let start = text.get(..pattern.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(pattern))
    };
    let is_unpadded = is_at(rest, "FM");
    let prefix = if is_unpadded { 2 } else { 0 };
    let after = rest.get(prefix..).unwrap_or_default();
    let unsupported = UNSUPPORTED.iter().find(|pattern| is_at(after, pattern));
    let supported = PATTERNS.iter().find(|(pattern, ..)| is_at(after, pattern));
    let unsupported_length = unsupported.map_or(0, |pattern| pattern.len());
    match supported {
        Some((pattern, padded, unpadded)) if pattern.len() >= unsupported_length => {
            let end = prefix + pattern.len();
            if rest.get(end..).is_some_and(|after| is_at(after, "TH")) {
                return Err(unknown("TH"));
            }
            converted.push_str(if is_unpadded { unpadded } else { padded });
            Ok(end)
        }
        _ => match unsupported {
            Some(pattern) => Err(unknown(pattern)),
            None => Ok(prefix),
        },
    }
}

fn unknown(pattern: &str) -> DataFusionError {
    DataFusionError::Execution(format!(
        "to_char does not support the pattern {pattern}; use {LISTED}, text in \"quotation marks\", or a format of strftime such as %Y-%m-%d"
    ))
}

/// Returns `to_char` with formats of Postgres, and other functions as they are.
pub(super) fn with_postgres_formats(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match function.name() {
        "to_char" => Arc::new(PostgresFormats { inner: function }.into()),
        _ => function,
    }
}

/// `to_char` with formats of Postgres.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PostgresFormats {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for PostgresFormats {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner.return_type(kinds)
    }

    fn invoke_with_args(&self, mut call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [value, format] = call.args.as_mut_slice() {
            if !matches!(value.data_type(), DataType::Duration(_)) {
                convert_formats(format)?;
            }
            // DataFusion would use the first format for all rows.
            if let (ColumnarValue::Scalar(time), ColumnarValue::Array(formats)) =
                (&*value, &*format)
            {
                *value = ColumnarValue::Array(time.to_array_of_size(formats.len())?);
            }
        }
        self.inner.invoke_with_args(call)
    }

    /// Checks a constant format before the statement runs.
    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let [time, Expr::Literal(format, _)] = &*args
            && let Some(text) = format.try_as_str().flatten()
            && !matches!(context.get_data_type(time)?, DataType::Duration(_))
        {
            convert_format(text)?;
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

fn convert_formats(format: &mut ColumnarValue) -> Result<()> {
    match format {
        ColumnarValue::Scalar(value) => {
            if let Some(text) = value.try_as_str().flatten() {
                *value = ScalarValue::Utf8(Some(convert_format(text)?.into_owned()));
            }
        }
        ColumnarValue::Array(values) => {
            let texts = cast(values, &DataType::Utf8)?;
            let texts: &StringArray = texts.as_string();
            let converted: StringArray = texts
                .iter()
                .map(|text| text.map(convert_format).transpose())
                .collect::<Result<_>>()?;
            *values = Arc::new(converted) as ArrayRef;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_postgres_become_those_of_strftime() {
        for (format, expected) in [
            ("YYYY-MM-DD", "%Y-%m-%d"),
            ("yyyy-mm-dd hh24:mi:ss", "%Y-%m-%d %H:%M:%S"),
            ("YYYYMMDD\"T\"HH24MISS.US", "%Y%m%dT%H%M%S.%6f"),
            ("FMDD.FMMM.YY", "%-d.%-m.%y"),
            ("Dy, DD Mon YYYY HH12:MI AM", "%a, %d %b %Y %I:%M %p"),
            ("FMMonth IYYY-IW-ID", "%B %G-%V-%u"),
            ("%Y-%m", "%Y-%m"),
            ("DDD", "%j"),
            ("\"Zeit: \"HH24 h", "Zeit: %H h"),
            ("ä/YYYY", "ä/%Y"),
            ("", ""),
        ] {
            assert_eq!(convert_format(format).unwrap(), expected, "{format}");
        }
        for format in [
            "MONTH", "Month", "DAY", "MON", "WW", "DDTH", "SSSS", "Q", "Y,YYY", "TZ",
        ] {
            let refused = convert_format(format).unwrap_err().to_string();
            assert!(
                refused.contains("does not support the pattern"),
                "{format}: {refused}"
            );
        }
    }
}
