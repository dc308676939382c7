//! The clauses of function calls.

use std::collections::HashSet;
use std::sync::LazyLock;

use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::functions_window::all_default_window_functions;
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, NullTreatment, ObjectName,
};

use super::foreign_functions::remedy;
use super::queries::check_sort;
use super::refusal::{Checked, Refusal, refuse, refuse_if};

/// The names of aggregates, with their aliases, and with names in other databases under which they are accepted.
static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = all_default_aggregate_functions().into_iter();
    functions
        .flat_map(|function| names(function.name(), function.aliases()))
        .chain(["approx_count_distinct".to_owned()])
        .collect()
});

/// The names of window functions, with their aliases.
static WINDOWS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = all_default_window_functions().into_iter();
    functions
        .flat_map(|function| names(function.name(), function.aliases()))
        .collect()
});

/// Functions that read `IGNORE NULLS` with `OVER`.
const READ_NULL_TREATMENT: [&str; 6] = [
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "array_agg",
];
/// Aggregates for which an `ORDER BY` among the arguments would replace the first argument.
const ORDERED_SETS: [&str; 4] = [
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "percentile_cont",
    "quantile_cont",
];

fn names(name: &str, aliases: &[String]) -> Vec<String> {
    let aliases = aliases.iter().cloned();
    aliases.chain([name.to_owned()]).collect()
}

/// Returns the name of a function as the planner looks it up; `None` for names of several parts.
pub(super) fn function_name(name: &ObjectName) -> Option<String> {
    let [part] = name.0.as_slice() else {
        return None;
    };
    let part = part.as_ident()?;
    Some(match part.quote_style {
        Some(_) => part.value.clone(),
        None => part.value.to_lowercase(),
    })
}

/// Checks the clauses of a call, without its arguments.
pub(super) fn check_call(call: &Function) -> Checked {
    let Function {
        name,
        uses_odbc_syntax,
        parameters,
        args,
        filter,
        null_treatment,
        over,
        within_group,
    } = call;
    let name = function_name(name).unwrap_or_default();
    // The functions of `{fn …}` have definitions of their own.
    if !uses_odbc_syntax && let Some(remedy) = remedy(&name) {
        return refuse(format!("the function {name}"), remedy);
    }
    refuse_if(
        !matches!(parameters, FunctionArguments::None),
        "a second list of arguments",
        "write all arguments in one list",
    )?;
    within_group.iter().try_for_each(check_sort)?;
    let (is_aggregate, is_window) = (AGGREGATES.contains(&name), WINDOWS.contains(&name));
    let modifiers = Modifiers::from_arguments(args)?;
    let ignores_nulls = null_treatment.is_some() || modifiers.null_treatment.is_some();
    if is_aggregate {
        refuse_if(
            modifiers.is_distinct && modifiers.has_wildcard,
            "DISTINCT with an asterisk",
            "count the rows of a subquery: SELECT count(*) FROM (SELECT DISTINCT …)",
        )?;
        refuse_if(
            modifiers.is_ordered && ORDERED_SETS.contains(&name.as_str()),
            "ORDER BY among the arguments of a percentile",
            "use WITHIN GROUP (ORDER BY …)",
        )?;
    }
    if over.is_some() && (is_aggregate || is_window) {
        let is_read = READ_NULL_TREATMENT.contains(&name.as_str());
        let nulls = modifiers.null_treatment.or(*null_treatment);
        // Most aggregates ignore nulls anyway.
        let is_needed = is_window || nulls == Some(NullTreatment::RespectNulls);
        refuse_if(
            ignores_nulls && is_needed && !is_read,
            "IGNORE NULLS or RESPECT NULLS for this function",
            "leave it out",
        )?;
        return refuse_if(
            is_window && !is_aggregate && modifiers.is_distinct,
            "DISTINCT in a window function",
            "leave it out",
        );
    }
    if is_aggregate || is_window {
        return Ok(());
    }
    let used = [
        (over.is_some(), "OVER"),
        (filter.is_some(), "FILTER"),
        (!within_group.is_empty(), "WITHIN GROUP"),
        (ignores_nulls, "IGNORE NULLS or RESPECT NULLS"),
        (modifiers.is_distinct, "DISTINCT"),
        (modifiers.is_ordered, "ORDER BY among the arguments"),
    ];
    match used.iter().find(|(is_used, _)| *is_used) {
        Some((_, clause)) => refuse(
            format!("{clause} for {name}"),
            "it is for aggregates and window functions only",
        ),
        None => Ok(()),
    }
}

/// The clauses among the arguments of a call.
#[derive(Default)]
struct Modifiers {
    is_distinct: bool,
    is_ordered: bool,
    has_wildcard: bool,
    null_treatment: Option<NullTreatment>,
}

impl Modifiers {
    fn from_arguments(arguments: &FunctionArguments) -> Result<Self, Refusal> {
        let mut found = Self::default();
        let FunctionArgumentList {
            duplicate_treatment,
            args,
            clauses,
        } = match arguments {
            FunctionArguments::None => return Ok(found),
            FunctionArguments::Subquery(_) => {
                refuse(
                    "a query as the arguments of a function",
                    "use array_agg for ARRAY, and a second pair of parentheses for others",
                )?;
                return Ok(found);
            }
            FunctionArguments::List(list) => list,
        };
        found.is_distinct = matches!(duplicate_treatment, Some(DuplicateTreatment::Distinct));
        for argument in args {
            let (FunctionArg::Named { arg: argument, .. }
            | FunctionArg::ExprNamed { arg: argument, .. }
            | FunctionArg::Unnamed(argument)) = argument;
            match argument {
                FunctionArgExpr::Expr(_) => {}
                FunctionArgExpr::Wildcard => found.has_wildcard = true,
                FunctionArgExpr::QualifiedWildcard(table) => refuse(
                    format!("{table}.* as an argument"),
                    format!("name a column that is never null, such as count({table}.asset_id)"),
                )?,
                FunctionArgExpr::WildcardWithOptions(_) => refuse(
                    "an asterisk with options as an argument",
                    "name the columns",
                )?,
            }
        }
        for clause in clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(nulls) => {
                    found.null_treatment = Some(*nulls);
                }
                FunctionArgumentClause::OrderBy(sorts) => {
                    found.is_ordered = true;
                    sorts.iter().try_for_each(check_sort)?;
                }
                FunctionArgumentClause::Limit(_) => refuse(
                    "LIMIT among the arguments of a function",
                    "aggregate a subquery with LIMIT",
                )?,
                FunctionArgumentClause::OnOverflow(_) => refuse("ON OVERFLOW", "leave it out")?,
                FunctionArgumentClause::Having(_) => refuse(
                    "HAVING among the arguments of a function",
                    "use first_value(… ORDER BY …)",
                )?,
                FunctionArgumentClause::Separator(_) => {
                    refuse("SEPARATOR", "give it as the second argument of string_agg")?
                }
                FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::JsonReturningClause(_) => {
                    refuse("a clause of a JSON function", "leave it out")?;
                }
            }
        }
        Ok(found)
    }
}
