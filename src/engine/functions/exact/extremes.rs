//! `min`, `max`, `greatest` and `least`. DataFusion's `min` and `max` of groups ignore NaN, and return the largest finite number
//! for a group that has infinity only. All of them compare intervals by their parts, and rows by their nulls.

use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, IntervalUnit,
};
use datafusion::common::{DFSchema, Result, internal_err, plan_err};
use datafusion::logical_expr::{Expr, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

use super::kinds::type_of;
use super::one_form::in_one_form_if;

/// Which of the values an aggregate keeps. NaN is greater than all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Least,
    Greatest,
}

impl Extreme {
    /// Returns the extreme that the aggregate finds; `None` if it finds none.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "min" => Some(Self::Least),
            "max" => Some(Self::Greatest),
            _ => None,
        }
    }

    /// Returns the accumulator of many groups of floating-point numbers.
    pub fn groups_accumulator(self, kind: &DataType) -> Result<Box<dyn GroupsAccumulator>> {
        macro_rules! accumulator {
            ($number:ty) => {{
                type Number = <$number as ArrowPrimitiveType>::Native;
                match self {
                    Self::Least => {
                        let keep = |least: &mut Number, value: Number| {
                            if value.total_cmp(least).is_lt() {
                                *least = value;
                            }
                        };
                        Box::new(
                            PrimitiveGroupsAccumulator::<$number, _>::new(kind, keep)
                                .with_starting_value(Number::NAN),
                        )
                    }
                    Self::Greatest => {
                        let keep = |greatest: &mut Number, value: Number| {
                            if value.total_cmp(greatest).is_gt() {
                                *greatest = value;
                            }
                        };
                        Box::new(
                            PrimitiveGroupsAccumulator::<$number, _>::new(kind, keep)
                                .with_starting_value(Number::NEG_INFINITY),
                        )
                    }
                }
            }};
        }
        Ok(match kind {
            DataType::Float16 => accumulator!(Float16Type),
            DataType::Float32 => accumulator!(Float32Type),
            DataType::Float64 => accumulator!(Float64Type),
            other => return internal_err!("{other} is no floating-point number"),
        })
    }
}

/// Returns the arguments with intervals in one form, whose order is that of their lengths; `None` if there are no intervals.
///
/// # Errors
/// A plan error for rows, of which DataFusion compares those with null fields wrongly (apache/datafusion#24915).
pub(super) fn comparable_arguments(
    name: &str,
    arguments: &[Expr],
    schema: &DFSchema,
) -> Result<Option<Vec<Expr>>> {
    let is_interval =
        |kind: &DataType| matches!(kind, DataType::Interval(IntervalUnit::MonthDayNano));
    let mut is_replaced = false;
    let mut comparable = Vec::with_capacity(arguments.len());
    for argument in arguments {
        if matches!(type_of(argument, schema), Some(DataType::Struct(_))) {
            return plan_err!(
                "{name} of rows is not supported, because their nulls have no order: use {name} of a field, or ORDER BY … LIMIT 1"
            );
        }
        let one_form = in_one_form_if(argument, schema, is_interval);
        is_replaced |= one_form.is_some();
        comparable.push(one_form.unwrap_or_else(|| argument.clone()));
    }
    Ok(is_replaced.then_some(comparable))
}
