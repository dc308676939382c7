//! Asset ids in any spelling: a UUID in a condition on an id is compared in the spelling of the tables.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{BinaryExpr, Case, Distinct, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use crate::engine::named_expressions::map_named_expressions;
use crate::engine::tables::engine_table::{Contents, EngineTable};
use crate::model::AssetId;

/// The lengths of the spellings of a UUID: from 32 digits to a URN.
const SPELLING_BYTES: std::ops::RangeInclusive<usize> = 32..=45;
/// The columns with ids of assets.
const ID_COLUMNS: [&str; 4] = ["asset_id", "id", "source", "target"];

/// Replaces UUIDs that are compared with a column of asset ids by their canonical spelling. The columns of the plan keep
/// their names.
#[derive(Debug)]
pub(in crate::engine) struct AssetIdLiterals;

impl AnalyzerRule for AssetIdLiterals {
    fn name(&self) -> &str {
        "asset_id_literals"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut found = false;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    found |= matches!(part, Expr::Literal(value, _) if canonical(value).is_some());
                    Ok(match found {
                        true => TreeNodeRecursion::Stop,
                        false => TreeNodeRecursion::Continue,
                    })
                })
            })
        })?;
        if !found {
            return Ok(plan);
        }
        let rewritten = plan.transform_up_with_subqueries(|node| {
            let inputs: Vec<LogicalPlan> = node.inputs().into_iter().cloned().collect();
            map_named_expressions(node, |expression| {
                expression.transform_up(|part| Ok(rewrite(part, &inputs)))
            })
        });
        rewritten.map(|rewritten| rewritten.data)
    }
}

/// Rewrites a comparison of an id.
fn rewrite(part: Expr, inputs: &[LogicalPlan]) -> Transformed<Expr> {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = match (is_asset_id(&left, inputs), is_asset_id(&right, inputs)) {
                (true, false) => (left, Box::new(with_canonical_ids(*right))),
                (false, true) => (Box::new(with_canonical_ids(*left)), right),
                _ => return Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            };
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::InList(mut within) if is_asset_id(&within.expr, inputs) => {
            within.list = within.list.into_iter().map(with_canonical_ids).collect();
            Transformed::yes(Expr::InList(within))
        }
        Expr::Between(mut between) if is_asset_id(&between.expr, inputs) => {
            between.low = Box::new(with_canonical_ids(*between.low));
            between.high = Box::new(with_canonical_ids(*between.high));
            Transformed::yes(Expr::Between(between))
        }
        // `= ANY(…)` is planned as this function.
        Expr::ScalarFunction(mut call) if call.func.name() == "array_has" => {
            let is_of_ids = call.args.get(1).is_some_and(|id| is_asset_id(id, inputs));
            match call.args.first_mut() {
                Some(list) if is_of_ids => {
                    let inner = std::mem::take(list);
                    *list = with_canonical_ids(inner);
                    Transformed::yes(Expr::ScalarFunction(call))
                }
                _ => Transformed::no(Expr::ScalarFunction(call)),
            }
        }
        Expr::ScalarFunction(mut call) if call.func.name() == "nullif" => {
            let is_of_ids = call.args.first().is_some_and(|id| is_asset_id(id, inputs));
            if is_of_ids {
                call.args = call.args.into_iter().map(with_canonical_ids).collect();
            }
            Transformed::new_transformed(Expr::ScalarFunction(call), is_of_ids)
        }
        Expr::Case(mut case) if is_choice_of_ids(&case, inputs) => {
            for (value, _) in &mut case.when_then_expr {
                **value = with_canonical_ids(std::mem::take(value));
            }
            Transformed::yes(Expr::Case(case))
        }
        part => Transformed::no(part),
    }
}

/// Whether the expression is `CASE asset_id WHEN … END`.
fn is_choice_of_ids(case: &Case, inputs: &[LogicalPlan]) -> bool {
    let base = case.expr.as_ref();
    base.is_some_and(|base| is_asset_id(base, inputs))
}

/// Returns a constant, or a list or a cast of constants, with canonical ids.
fn with_canonical_ids(value: Expr) -> Expr {
    match value {
        Expr::Literal(value, metadata) => {
            let canonical = canonical(&value);
            Expr::Literal(canonical.unwrap_or(value), metadata)
        }
        Expr::Cast(mut cast) => {
            let inner = std::mem::take(&mut *cast.expr);
            *cast.expr = with_canonical_ids(inner);
            Expr::Cast(cast)
        }
        Expr::ScalarFunction(mut call) if call.func.name() == "make_array" => {
            call.args = call.args.into_iter().map(with_canonical_ids).collect();
            Expr::ScalarFunction(call)
        }
        other => other,
    }
}

/// Returns the canonical spelling of the UUID in the value; `None` if it is none, or has that spelling.
fn canonical(value: &ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Utf8(Some(text)) => {
            canonical_text(text).map(|text| ScalarValue::Utf8(Some(text)))
        }
        ScalarValue::LargeUtf8(Some(text)) => {
            canonical_text(text).map(|text| ScalarValue::LargeUtf8(Some(text)))
        }
        ScalarValue::Utf8View(Some(text)) => {
            canonical_text(text).map(|text| ScalarValue::Utf8View(Some(text)))
        }
        ScalarValue::Dictionary(key, inside) => {
            canonical(inside).map(|inside| ScalarValue::Dictionary(key.clone(), Box::new(inside)))
        }
        ScalarValue::List(list) => {
            canonical_list(list).map(|list| ScalarValue::List(Arc::new(list)))
        }
        _ => None,
    }
}

fn canonical_text(text: &str) -> Option<String> {
    if !SPELLING_BYTES.contains(&text.len()) {
        return None;
    }
    let canonical = AssetId::parse(text).ok()?.to_string();
    (canonical != text).then_some(canonical)
}

fn canonical_list(list: &ListArray) -> Option<ListArray> {
    let DataType::List(field) = list.data_type() else {
        return None;
    };
    let texts = list.values().as_string_opt::<i32>()?;
    let mut is_changed = false;
    let spelled = texts.iter().map(|text| {
        let text = text?;
        let canonical = canonical_text(text);
        is_changed |= canonical.is_some();
        Some(canonical.unwrap_or_else(|| text.to_owned()))
    });
    let spelled: ArrayRef = Arc::new(spelled.collect::<StringArray>());
    if !is_changed {
        return None;
    }
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    ListArray::try_new(Arc::clone(field), offsets, spelled, nulls).ok()
}

/// Whether the expression is a column of asset ids, perhaps in another type of text.
fn is_asset_id(expression: &Expr, inputs: &[LogicalPlan]) -> bool {
    match expression {
        Expr::Column(column) => inputs.iter().any(|input| has_asset_id(input, column)),
        Expr::Cast(cast) => cast.field.data_type().is_string() && is_asset_id(&cast.expr, inputs),
        Expr::Alias(alias) => is_asset_id(&alias.expr, inputs),
        Expr::ScalarFunction(call) if call.func.name() == "coalesce" => {
            let mut ids = call.args.iter();
            ids.any(|id| is_asset_id(id, inputs))
        }
        _ => false,
    }
}

fn has_asset_id(plan: &LogicalPlan, column: &Column) -> bool {
    let index = plan.schema().maybe_index_of_column(column);
    index.is_some_and(|index| is_id_column(plan, index))
}

/// Whether the column of the plan comes from a column of ids in one of the engine's tables.
fn is_id_column(plan: &LogicalPlan, index: usize) -> bool {
    let from_expression = |expression: &Expr, input: &LogicalPlan| {
        let inputs = std::slice::from_ref(input);
        is_asset_id(expression, inputs)
    };
    match plan {
        LogicalPlan::TableScan(scan) => is_id_of_table(&scan.projected_schema, index, plan),
        LogicalPlan::SubqueryAlias(alias) => is_id_column(&alias.input, index),
        LogicalPlan::Filter(filter) => is_id_column(&filter.input, index),
        LogicalPlan::Sort(sort) => is_id_column(&sort.input, index),
        LogicalPlan::Limit(limit) => is_id_column(&limit.input, index),
        LogicalPlan::Distinct(Distinct::All(input)) => is_id_column(input, index),
        LogicalPlan::Projection(projection) => projection
            .expr
            .get(index)
            .is_some_and(|expression| from_expression(expression, &projection.input)),
        LogicalPlan::Aggregate(aggregate) => aggregate
            .group_expr
            .get(index)
            .is_some_and(|expression| from_expression(expression, &aggregate.input)),
        LogicalPlan::Window(window) => {
            index < window.input.schema().fields().len() && is_id_column(&window.input, index)
        }
        LogicalPlan::Union(union) => {
            !union.inputs.is_empty() && union.inputs.iter().all(|input| is_id_column(input, index))
        }
        LogicalPlan::Join(join) => {
            let (qualifier, field) = plan.schema().qualified_field(index);
            let column = Column::from((qualifier, field));
            has_asset_id(&join.left, &column) || has_asset_id(&join.right, &column)
        }
        _ => false,
    }
}

fn is_id_of_table(schema: &DFSchema, index: usize, plan: &LogicalPlan) -> bool {
    let LogicalPlan::TableScan(scan) = plan else {
        return false;
    };
    let field = schema.field(index);
    if !ID_COLUMNS.contains(&field.name().as_str()) {
        return false;
    }
    let Ok(provider) = source_as_provider(&scan.source) else {
        return false;
    };
    match provider.downcast_ref::<EngineTable>() {
        // The keys of users are no ids of assets.
        Some(table) => table.contents() != Contents::OfUser,
        None => provider.get_logical_plan().is_some_and(|view| {
            let index = view.schema().index_of_column_by_name(None, field.name());
            index.is_some_and(|index| is_id_column(&view, index))
        }),
    }
}
