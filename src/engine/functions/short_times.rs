//! Times without seconds, such as `'2026-01-01 06:00'`, where a text of the statement is cast to a timestamp. People type them,
//! and Arrow's parser requires seconds.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, TryCast};
use datafusion::optimizer::AnalyzerRule;

/// The number of bytes of a date and a time without seconds: `2026-01-01 06:00`.
const LENGTH: usize = 16;

/// Adds the seconds to literal times without them. The columns of the plan keep their names.
#[derive(Debug)]
pub(in crate::engine) struct ShortTimes;

impl AnalyzerRule for ShortTimes {
    fn name(&self) -> &str {
        "short_times"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        if !has_short_times(&plan)? {
            return Ok(plan);
        }
        let completed = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expression| {
                let name = names.save(&expression);
                let completed = expression.transform_up(|part| Ok(complete(part)))?;
                Ok(completed.update_data(|expression| name.restore(expression)))
            })
        });
        completed.map(|completed| completed.data)
    }
}

fn has_short_times(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                found |= completed_literal(part).is_some();
                Ok(match found {
                    true => TreeNodeRecursion::Stop,
                    false => TreeNodeRecursion::Continue,
                })
            })
        })
    })?;
    Ok(found)
}

fn complete(part: Expr) -> Transformed<Expr> {
    let Some(text) = completed_literal(&part) else {
        return Transformed::no(part);
    };
    let text = Box::new(Expr::Literal(ScalarValue::Utf8(Some(text)), None));
    match part {
        Expr::Cast(cast) => Transformed::yes(Expr::Cast(Cast { expr: text, ..cast })),
        Expr::TryCast(cast) => Transformed::yes(Expr::TryCast(TryCast { expr: text, ..cast })),
        other => Transformed::no(other),
    }
}

/// Returns the text with seconds, if the expression casts a literal time without them to a timestamp.
fn completed_literal(part: &Expr) -> Option<String> {
    let (expression, field) = match part {
        Expr::Cast(cast) => (&cast.expr, &cast.field),
        Expr::TryCast(cast) => (&cast.expr, &cast.field),
        _ => return None,
    };
    let Expr::Literal(literal, _) = &**expression else {
        return None;
    };
    let is_timestamp = matches!(field.data_type(), DataType::Timestamp(..));
    is_timestamp
        .then(|| literal.try_as_str().flatten().and_then(with_seconds))
        .flatten()
}

/// Returns a text such as `2026-01-01 06:00`, `2026-01-01T06:00Z` or `2026-01-01 06:00+02:00` with seconds, or `None` for any
/// other text.
fn with_seconds(text: &str) -> Option<String> {
    let (time, zone) = text.split_at_checked(LENGTH)?;
    let is_time = time
        .bytes()
        .zip("dddd-dd-ddTdd:dd".bytes())
        .all(|(found, expected)| match expected {
            b'd' => found.is_ascii_digit(),
            b'T' => found == b'T' || found == b' ',
            other => found == other,
        });
    let is_zone = zone.is_empty() || zone.starts_with(['Z', 'z', '+', '-', ' ']);
    (is_time && is_zone).then(|| format!("{time}:00{zone}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_seconds_gets_them_and_other_texts_stay() {
        for (text, expected) in [
            ("2026-01-01 06:00", "2026-01-01 06:00:00"),
            ("2026-01-01T06:00", "2026-01-01T06:00:00"),
            ("2026-01-01T06:00Z", "2026-01-01T06:00:00Z"),
            ("2026-01-01 06:00+02:00", "2026-01-01 06:00:00+02:00"),
            (
                "2026-01-01 06:00 Europe/Berlin",
                "2026-01-01 06:00:00 Europe/Berlin",
            ),
        ] {
            assert_eq!(with_seconds(text).as_deref(), Some(expected));
        }
        for text in [
            "",
            "2026-01-01",
            "2026-01-01 06",
            "2026-01-01 06:00:00",
            "2026-01-01 06:001",
            "2026/01/01 06:00",
            "2026-01-01 6:00 am",
            "2026-01-01_06:00",
            "äääääääää 06:00",
        ] {
            assert_eq!(with_seconds(text), None, "{text}");
        }
    }
}
