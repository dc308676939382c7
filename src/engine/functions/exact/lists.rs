//! Searches in lists: the functions that compare elements, and `= ANY`, which is planned as a `CASE` with `array_has`.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{Case, Cast, Expr, lit, when};

use super::kinds::type_of;
use super::members::replace_list;
use super::one_form::in_one_form;

/// The maximum number of elements of a constant list that is searched as `IN`.
const MAX_VALUES: usize = 10_000;

/// Whether the function compares elements of lists.
pub(super) fn compares_elements(name: &str) -> bool {
    matches!(
        name,
        "array_distinct"
            | "array_except"
            | "array_has"
            | "array_has_all"
            | "array_has_any"
            | "array_intersect"
            | "array_position"
            | "array_positions"
            | "array_remove"
            | "array_remove_all"
            | "array_remove_n"
            | "array_replace"
            | "array_replace_all"
            | "array_replace_n"
            | "array_union"
    )
}

/// Returns the call with elements in one form, and with null where a null decides; `None` if its result is right.
///
/// # Errors
/// A plan error for the position of a list in lists, which DataFusion does not find if it is null (apache/datafusion#21792).
pub(super) fn search_lists(call: &ScalarFunction, schema: &DFSchema) -> Result<Option<Expr>> {
    if let ("array_has", [list, value]) = (call.name(), &*call.args)
        && let Some(found) = find_constant(list, value, schema)
    {
        let replaced = replace_list(&found, schema);
        return Ok(Some(replaced.unwrap_or(Expr::InList(found))));
    }
    let mut replaced = call.clone();
    let mut is_replaced = false;
    for argument in &mut replaced.args {
        if let Some(one_form) = in_one_form(argument, schema) {
            *argument = one_form;
            is_replaced = true;
        }
    }
    match (replaced.name(), &*replaced.args) {
        ("array_has_all" | "array_has_any", [list, others]) => {
            let is_null = list.clone().is_null().or(others.clone().is_null());
            let null = lit(ScalarValue::Boolean(None));
            let found = Expr::ScalarFunction(replaced);
            Ok(Some(when(is_null, null).otherwise(found)?))
        }
        ("array_position" | "array_positions", [_, value, ..])
            if type_of(value, schema).is_some_and(|kind| is_list(&kind)) =>
        {
            plan_err!(
                "{} of a list in a list of lists is not supported: use array_has",
                call.name()
            )
        }
        _ => Ok(is_replaced.then_some(Expr::ScalarFunction(replaced))),
    }
}

fn is_list(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
    )
}

/// Returns the search of a constant list as `IN` its elements that are not null, by which files are pruned; `None` if it is not
/// constant.
fn find_constant(list: &Expr, value: &Expr, schema: &DFSchema) -> Option<InList> {
    if value.is_volatile() {
        return None;
    }
    let mut values = elements(list)?;
    if !values.iter().all(is_constant) {
        return None;
    }
    values.retain(|value| !is_null(value));
    let kind = type_of(value, schema)?;
    for element in &mut values {
        let of_element = type_of(element, schema)?;
        // The function compares texts of any two types, but `IN` does not.
        if of_element.is_string() && kind.is_string() && of_element != kind {
            *element = Expr::Cast(Cast::new(Box::new(std::mem::take(element)), kind.clone()));
        } else if of_element != kind {
            return None;
        }
    }
    // `IN ()` is false, and the search of an empty list for null is null.
    let is_searched = (1..=MAX_VALUES).contains(&values.len());
    is_searched.then(|| InList::new(Box::new(value.clone()), values, false))
}

fn is_constant(value: &Expr) -> bool {
    match value {
        Expr::Literal(..) => true,
        Expr::Cast(cast) => is_constant(&cast.expr),
        _ => false,
    }
}

fn is_null(value: &Expr) -> bool {
    match value {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        _ => false,
    }
}

/// Whether the expression may be `a <> ALL(list)`.
pub(super) fn may_be_search(case: &Case) -> bool {
    case.expr.is_none() && case.when_then_expr.len() == 5
}

/// Returns `a <> ALL(list)` of a constant list without nulls as `NOT IN`, by which files are pruned; `None` for others. The
/// planner writes it as a `CASE` whose search is replaced already.
pub(super) fn not_in_constant(case: &Case) -> Option<Expr> {
    let [no_list, no_elements, no_value, found, has_null] = &*case.when_then_expr else {
        return None;
    };
    let otherwise = case.else_expr.as_deref()?;
    let is = |result: &Expr, wanted: Option<bool>| match result {
        Expr::Literal(ScalarValue::Boolean(result), _) => *result == wanted,
        Expr::Literal(result, _) => wanted.is_none() && result.is_null(),
        Expr::Cast(cast) => wanted.is_none() && is_null(&cast.expr),
        _ => false,
    };
    let are_results = is(&no_list.1, None)
        && is(&no_elements.1, Some(true))
        && is(&no_value.1, None)
        && is(&found.1, Some(false))
        && is(&has_null.1, None)
        && is(otherwise, Some(true));
    let (Expr::IsNull(list), Expr::IsNull(value), Expr::InList(within)) =
        (&*no_list.0, &*no_value.0, &*found.0)
    else {
        return None;
    };
    let Expr::IsNotNull(position) = &*has_null.0 else {
        return None;
    };
    let has_null_element = match &**position {
        Expr::ScalarFunction(call) if call.name() == "array_position" => {
            elements(list)?.iter().any(is_null)
        }
        _ => return None,
    };
    let is_search = are_results
        && !within.negated
        && !has_null_element
        && without_casts(&within.expr) == without_casts(value)
        && elements(list)?.len() == within.list.len();
    is_search.then(|| {
        Expr::InList(InList {
            negated: true,
            ..within.clone()
        })
    })
}

/// Returns the elements of a constant list, which may be null.
fn elements(list: &Expr) -> Option<Vec<Expr>> {
    match without_casts(list) {
        Expr::Literal(ScalarValue::List(list), _) => {
            let values = list.iter().next()??;
            let values = (0..values.len()).map(|row| ScalarValue::try_from_array(&values, row));
            values.map(|value| value.map(lit).ok()).collect()
        }
        Expr::ScalarFunction(call) if call.name() == "make_array" => Some(call.args.clone()),
        _ => None,
    }
}

fn without_casts(expression: &Expr) -> &Expr {
    match expression {
        Expr::Cast(cast) => without_casts(&cast.expr),
        other => other,
    }
}
