//! The rule of the analyzer that reads and shows times in the session's zone. It comes after the coercion of types, so that
//! explicit and implied casts are alike, and changes no type.

use std::cell::OnceCell;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, binary_expr,
};
use datafusion::optimizer::AnalyzerRule;

use super::intervals::{add_in_zone, length_of};
use super::local_time::{UTC, session_zone};
use super::time_cast::TimeCast;

use crate::engine::comparisons::is_comparison;
use crate::engine::functions::exact::days_and_time;
use crate::engine::named_expressions::map_named_expressions;

/// Functions whose result depends on the local time of an instant.
const LOCAL_TIME_FUNCTIONS: [&str; 4] = ["date_part", "date_trunc", "to_char", "to_local_time"];

/// The label that DataFusion gives to local times that become arguments of a function of instants.
const COERCED: &str = "+00";

/// The maximum number of values of `IN` that are converted: of more, the types are not asked one by one.
const MAX_CONVERTED_VALUES: usize = 10_000;

/// Converts instants to the session's zone where their local time matters, and local times and texts to instants; compares
/// times in microseconds, and intervals by their length. The columns of the plan keep their names and types.
#[derive(Debug)]
pub(in crate::engine) struct SessionTimes;

impl AnalyzerRule for SessionTimes {
    fn name(&self) -> &str {
        "session_times"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = session_zone(config);
        let is_utc = &*zone == UTC;
        let mut found = false;
        plan.apply_with_subqueries(|node| {
            found = mentions_times(node, is_utc)?;
            Ok(match found {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })?;
        if !found {
            return Ok(plan);
        }
        let rewritten = plan.transform_up_with_subqueries(|node| {
            if !mentions_times(&node, is_utc)? {
                return Ok(Transformed::no(node));
            }
            let rewrite = Rewrite {
                zone: Arc::clone(&zone),
                schema: merge_schema(&node.inputs()),
            };
            let is_sort = matches!(node, LogicalPlan::Sort(_));
            map_named_expressions(node, |expression| {
                // The casts of a comparison are narrowed before they are evaluated.
                let narrowed = expression.transform_up(|part| Ok(rewrite.narrowed(part)))?;
                let mut rewritten = narrowed
                    .transform_data(|narrowed| narrowed.transform_up(|part| rewrite.part(part)))?;
                if is_sort && rewrite.is_interval(&rewritten.data) {
                    rewritten = rewritten.update_data(length_of);
                    rewritten.transformed = true;
                }
                Ok(rewritten)
            })
        });
        rewritten.map(|rewritten| rewritten.data)
    }
}

/// Whether the node has an expression that the rule may change.
fn mentions_times(node: &LogicalPlan, is_utc: bool) -> Result<bool> {
    if node.inputs().into_iter().any(has_intervals) {
        return Ok(true);
    }
    let mut found = false;
    node.apply_expressions(|expression| {
        expression.apply(|part| {
            found |= match part {
                Expr::Cast(cast) => is_of_times(cast.field.data_type(), &cast.expr, is_utc),
                Expr::TryCast(cast) => is_of_times(cast.field.data_type(), &cast.expr, is_utc),
                Expr::ScalarFunction(call) => {
                    !is_utc && LOCAL_TIME_FUNCTIONS.contains(&call.func.name())
                }
                Expr::Literal(value, _) => matches!(value.data_type(), DataType::Interval(_)),
                _ => false,
            };
            Ok(match found {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })
    })?;
    Ok(found)
}

fn has_intervals(node: &LogicalPlan) -> bool {
    let fields = node.schema().fields();
    fields
        .iter()
        .any(|field| matches!(field.data_type(), DataType::Interval(_)))
}

/// Whether a cast to this type may be of a time: to a time, or of a time to something else.
fn is_of_times(kind: &DataType, inner: &Expr, is_utc: bool) -> bool {
    kind.is_temporal() || (!is_utc && kind.is_string() && !matches!(inner, Expr::Literal(..)))
}

/// Whether the type holds a calendar day or a time of day, which differ between zones.
fn is_day_or_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Date32 | DataType::Date64) || is_time(kind)
}

/// Whether the type holds a time of day.
fn is_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Time32(_) | DataType::Time64(_))
}

/// Rewrites the expressions of one node of the plan.
struct Rewrite {
    zone: Arc<str>,
    /// The columns that the expressions refer to.
    schema: DFSchema,
}

impl Rewrite {
    fn part(&self, part: Expr) -> Result<Transformed<Expr>> {
        match part {
            Expr::Cast(Cast { expr, field }) => {
                Ok(match self.cast(*expr, field.data_type(), false)? {
                    Ok(rewritten) => Transformed::yes(rewritten),
                    Err(expr) => {
                        Transformed::no(Expr::Cast(Cast::new_from_field(Box::new(expr), field)))
                    }
                })
            }
            Expr::TryCast(TryCast { expr, field }) => {
                Ok(match self.cast(*expr, field.data_type(), true)? {
                    Ok(rewritten) => Transformed::yes(rewritten),
                    Err(expr) => Transformed::no(Expr::TryCast(TryCast::new_from_field(
                        Box::new(expr),
                        field,
                    ))),
                })
            }
            Expr::ScalarFunction(call) => Ok(self.call(call)),
            Expr::BinaryExpr(operation) if !is_comparison(operation.op) => {
                self.operation(operation)
            }
            part => {
                let are_intervals = |values: &[&Expr]| {
                    values.iter().any(|value| self.may_be_interval(value))
                        && values.iter().all(|value| self.is_interval(value))
                };
                Ok(compared(part, are_intervals, length_of))
            }
        }
    }

    /// Returns a comparison of times in microseconds, if it is one in nanoseconds that nobody asked for. An instant and a
    /// date are compared as instants: DataFusion would compare them as local times.
    fn narrowed(&self, part: Expr) -> Transformed<Expr> {
        let label = OnceCell::new();
        let are_widened = |values: &[&Expr]| {
            let are_widened = values.iter().all(|value| self.is_widened_to_nanos(value));
            if are_widened && let Some(found) = values.iter().find_map(|value| self.label(value)) {
                // It is set once, because this is called once.
                let _ = label.set(found);
            }
            are_widened
        };
        compared(part, are_widened, |value| {
            self.in_micros(value, label.get())
        })
    }

    /// Returns the label of the instant that is cast.
    fn label(&self, value: &Expr) -> Option<Arc<str>> {
        match value {
            Expr::Cast(Cast { expr, .. }) => match self.kind(expr)? {
                DataType::Timestamp(_, label) => label,
                _ => None,
            },
            _ => None,
        }
    }

    fn kind(&self, expression: &Expr) -> Option<DataType> {
        expression.get_type(&self.schema).ok()
    }

    fn is_interval(&self, expression: &Expr) -> bool {
        matches!(self.kind(expression), Some(DataType::Interval(_)))
    }

    fn is_utc(&self) -> bool {
        &*self.zone == UTC
    }

    /// Returns the zone of local times of instants with this label: the session's, unless the statement names another.
    fn zone_of(&self, label: &Arc<str>) -> Arc<str> {
        match matches!(&**label, UTC | COERCED) {
            true => Arc::clone(&self.zone),
            false => Arc::clone(label),
        }
    }

    /// Rewrites a cast of `inner` to the type `kind`. Returns `inner` if the cast is right as it is.
    fn cast(&self, inner: Expr, kind: &DataType, is_try: bool) -> Result<Result<Expr, Expr>> {
        let Some(source) = self.kind(&inner) else {
            return Ok(Err(inner));
        };
        let is_literal = matches!(inner, Expr::Literal(..));
        let in_zone = |inner, zone, unit: &TimeUnit, label: Option<&Arc<str>>| {
            TimeCast::new(zone, *unit, label.cloned(), is_try).into_expression(inner)
        };
        match (&source, kind) {
            (source, DataType::Timestamp(unit, Some(label))) if source.is_string() => {
                let zone = self.zone_of(label);
                match is_literal || &*zone != UTC {
                    true => in_zone(inner, zone, unit, Some(label)).map(Ok),
                    false => Ok(Err(inner)),
                }
            }
            (source, DataType::Timestamp(unit, None))
                if source.is_string() && (is_literal || !self.is_utc()) =>
            {
                in_zone(inner, Arc::clone(&self.zone), unit, None).map(Ok)
            }
            (
                DataType::Timestamp(_, None) | DataType::Date32,
                DataType::Timestamp(unit, Some(label)),
            ) => {
                let zone = self.zone_of(label);
                match &*zone == UTC {
                    true => Ok(Err(inner)),
                    false => in_zone(inner, zone, unit, Some(label)).map(Ok),
                }
            }
            (DataType::Timestamp(unit, None), kind) if is_time(kind) => {
                let local = in_zone(inner, UTC.into(), unit, None)?;
                Ok(Ok(cast_to(local, kind, is_try)))
            }
            (DataType::Timestamp(unit, Some(label)), kind) => {
                let zone = self.zone_of(label);
                match kind {
                    DataType::Timestamp(unit, None) if &*zone != UTC => {
                        in_zone(inner, zone, unit, None).map(Ok)
                    }
                    // DataFusion prunes by a cast as if it kept the order of values, which a time of day does not. It does not
                    // look into a call.
                    kind if is_day_or_time(kind) && (&*zone != UTC || is_time(kind)) => {
                        let local = in_zone(inner, zone, unit, None)?;
                        Ok(Ok(cast_to(local, kind, is_try)))
                    }
                    kind if kind.is_string() && zone != *label => {
                        let shown = cast_to(inner, &DataType::Timestamp(*unit, Some(zone)), false);
                        Ok(Ok(cast_to(shown, kind, is_try)))
                    }
                    _ => Ok(Err(inner)),
                }
            }
            _ => Ok(Err(inner)),
        }
    }

    /// Gives instants to a function in the session's zone, if their local time matters there.
    fn call(&self, mut call: ScalarFunction) -> Transformed<Expr> {
        let is_local = LOCAL_TIME_FUNCTIONS.contains(&call.func.name());
        if self.is_utc() || !is_local {
            return Transformed::no(Expr::ScalarFunction(call));
        }
        let mut result = None;
        for argument in &mut call.args {
            if let Some(DataType::Timestamp(unit, Some(label))) = self.kind(argument)
                && &*label == UTC
            {
                let zone = Arc::clone(&self.zone);
                let inner = std::mem::take(argument);
                *argument = cast_to(inner, &DataType::Timestamp(unit, Some(zone)), false);
                result = Some(DataType::Timestamp(unit, Some(label)));
            }
        }
        let is_instant = call.func.name() == "date_trunc";
        let call = Expr::ScalarFunction(call);
        match result {
            Some(kind) if is_instant => Transformed::yes(cast_to(call, &kind, false)),
            Some(_) => Transformed::yes(call),
            None => Transformed::no(call),
        }
    }

    /// Returns a local time of the session's zone as an instant.
    fn instant(&self, local: Expr, unit: TimeUnit, label: Arc<str>) -> Result<Expr> {
        let zone = self.zone_of(&label);
        TimeCast::new(zone, unit, Some(label), false).into_expression(local)
    }

    fn operation(&self, operation: BinaryExpr) -> Result<Transformed<Expr>> {
        let BinaryExpr { left, op, right } = operation;
        let unchanged =
            |left, right| Transformed::no(Expr::BinaryExpr(BinaryExpr::new(left, op, right)));
        if self.is_utc() || !matches!(op, Operator::Plus | Operator::Minus) {
            return Ok(unchanged(left, right));
        }
        let kinds = (self.kind(&left), self.kind(&right));
        let (instant, interval, kind) = match kinds {
            // Postgres compares instants; DataFusion takes the local time for one in UTC.
            (Some(DataType::Timestamp(unit, Some(label))), Some(DataType::Timestamp(_, None)))
                if op == Operator::Minus =>
            {
                let right = self.instant(*right, unit, label)?;
                return Ok(Transformed::yes(difference(*left, right)));
            }
            (Some(DataType::Timestamp(_, None)), Some(DataType::Timestamp(unit, Some(label))))
                if op == Operator::Minus =>
            {
                let left = self.instant(*left, unit, label)?;
                return Ok(Transformed::yes(difference(left, *right)));
            }
            // As in Postgres, a difference of times has days, which are those of the zone.
            (Some(kind @ DataType::Timestamp(_, Some(_))), Some(DataType::Duration(_))) => {
                (left, Box::new(days_and_time(*right)), kind)
            }
            (Some(DataType::Duration(_)), Some(kind @ DataType::Timestamp(_, Some(_))))
                if op == Operator::Plus =>
            {
                (right, Box::new(days_and_time(*left)), kind)
            }
            (Some(kind @ DataType::Timestamp(_, Some(_))), Some(DataType::Interval(_))) => {
                (left, right, kind)
            }
            (Some(DataType::Interval(_)), Some(kind @ DataType::Timestamp(_, Some(_))))
                if op == Operator::Plus =>
            {
                (right, left, kind)
            }
            _ => return Ok(unchanged(left, right)),
        };
        // An elapsed time is the same in any zone.
        let is_elapsed = matches!(
            &*interval,
            Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _)
                if value.months == 0 && value.days == 0
        );
        if is_elapsed {
            return Ok(unchanged(instant, interval));
        }
        let zone = match &kind {
            DataType::Timestamp(_, Some(label)) => self.zone_of(label),
            _ => Arc::clone(&self.zone),
        };
        let is_subtracted = op == Operator::Minus;
        let sum = add_in_zone(*instant, *interval, kind, &zone, is_subtracted);
        Ok(Transformed::yes(sum))
    }

    fn may_be_interval(&self, value: &Expr) -> bool {
        match value {
            Expr::Literal(value, _) => matches!(value, ScalarValue::IntervalMonthDayNano(_)),
            Expr::Cast(cast) => matches!(cast.field.data_type(), DataType::Interval(_)),
            Expr::Column(_) | Expr::ScalarFunction(_) | Expr::BinaryExpr(_) => {
                self.is_interval(value)
            }
            _ => false,
        }
    }

    /// Whether the value is converted to nanoseconds only to compare it: such values are limited to the years from 1677 to
    /// 2262, and times in the tables are not.
    fn is_widened_to_nanos(&self, value: &Expr) -> bool {
        match value {
            Expr::Cast(Cast { expr, field }) => {
                let is_nanos = matches!(
                    field.data_type(),
                    DataType::Timestamp(TimeUnit::Nanosecond, _)
                );
                is_nanos
                    && self.kind(expr).is_some_and(|source| match source {
                        DataType::Date32 => true,
                        DataType::Timestamp(unit, _) => unit != TimeUnit::Nanosecond,
                        source => source.is_string(),
                    })
            }
            _ => false,
        }
    }

    /// Returns a value for which `is_widened_to_nanos` in microseconds, and with the label of the instants with which it is
    /// compared.
    fn in_micros(&self, value: Expr, label: Option<&Arc<str>>) -> Expr {
        let Expr::Cast(Cast { expr, field }) = value else {
            return value;
        };
        let own = match field.data_type() {
            DataType::Timestamp(_, own) => own.as_ref(),
            _ => None,
        };
        let kind = DataType::Timestamp(TimeUnit::Microsecond, label.or(own).cloned());
        match self.kind(&expr) {
            Some(source) if source == kind => *expr,
            _ => cast_to(*expr, &kind, false),
        }
    }
}

/// Converts the values that a comparison, `BETWEEN` or `IN` compares, if they are `wanted`.
fn compared(
    part: Expr,
    wanted: impl FnOnce(&[&Expr]) -> bool,
    convert: impl Fn(Expr) -> Expr,
) -> Transformed<Expr> {
    let values: Vec<&Expr> = match &part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            vec![left.as_ref(), right.as_ref()]
        }
        Expr::Between(between) => vec![
            between.expr.as_ref(),
            between.low.as_ref(),
            between.high.as_ref(),
        ],
        Expr::InList(within) if within.list.len() <= MAX_CONVERTED_VALUES => {
            std::iter::once(&*within.expr).chain(&within.list).collect()
        }
        _ => return Transformed::no(part),
    };
    if !wanted(&values) {
        return Transformed::no(part);
    }
    let converted = values.into_iter().cloned().map(convert).collect();
    with_values(part, converted)
}

/// Returns the comparison with other values.
fn with_values(part: Expr, values: Vec<Expr>) -> Transformed<Expr> {
    let mut values = values.into_iter().map(Box::new);
    let mut next = || values.next().unwrap_or_default();
    Transformed::yes(match part {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => {
            let left = next();
            Expr::BinaryExpr(BinaryExpr::new(left, op, next()))
        }
        Expr::Between(Between { negated, .. }) => {
            let (expr, low) = (next(), next());
            Expr::Between(Between::new(expr, negated, low, next()))
        }
        Expr::InList(InList { negated, .. }) => {
            let expr = next();
            let list = values.map(|value| *value).collect();
            Expr::InList(InList::new(expr, list, negated))
        }
        other => other,
    })
}

fn difference(left: Expr, right: Expr) -> Expr {
    binary_expr(left, Operator::Minus, right)
}

fn cast_to(inner: Expr, kind: &DataType, is_try: bool) -> Expr {
    match is_try {
        true => Expr::TryCast(TryCast::new(Box::new(inner), kind.clone())),
        false => Expr::Cast(Cast::new(Box::new(inner), kind.clone())),
    }
}
