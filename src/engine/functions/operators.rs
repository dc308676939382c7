//! Enforces the limits of functions on all expressions, including operators, and functions that the planner does not
//! take from the session.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Like, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{self, Column, LikeExpr, Literal};

use super::allow_list::{Bounds, Output, UNSUPPORTED, Work};
use super::bounded::BoundedFunction;
use super::checks::{
    check_text_lengths, copies_texts, may_parse_long_texts, with_interruption_check,
};
use super::{bounded_function, function_bounds};
use crate::engine::named_expressions::map_named_expressions;

/// The length in bytes above which a text in a statement may make searches slow, as the text or as the pattern.
const LONG_TEXT_BYTES: usize = 4 << 10;
/// The maximum number of operators that copy texts without a check in between. Each takes at most a tenth of a second.
const MAX_UNCHECKED_COPIES: usize = 4;

/// Enforces the limits of every function call and every search for a pattern, and refuses unsupported functions.
///
/// Search operators stay unchanged if no text can be long, as in the tables, which contain names only: the optimiser
/// has more rules for operators than for functions.
#[derive(Debug)]
pub(in crate::engine) struct BoundExpressions;

impl AnalyzerRule for BoundExpressions {
    fn name(&self) -> &str {
        "bound_expressions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let found = PlanFeatures::from_plan(&plan)?;
        let bounds_searches = found.searches && found.makes_texts;
        let bounds_texts = found.parses_texts;
        let interrupts = found.copies > MAX_UNCHECKED_COPIES;
        if !bounds_searches && !bounds_texts && !interrupts && !found.has_unbounded {
            return Ok(plan);
        }
        let mut copies = 0;
        let bound = plan.transform_up_with_subqueries(|node| {
            let schema = bounds_texts.then(|| merge_schema(&node.inputs()));
            let node = map_named_expressions(node, |expression| {
                expression.transform_up(|part| {
                    let mut part = bound_expression(part, bounds_searches);
                    if bounds_texts {
                        let schema = schema.as_ref();
                        part = part.transform_data(|part| Ok(check_text_lengths(part, schema)))?;
                    }
                    if interrupts && copies_texts(&part.data) {
                        copies += 1;
                        if copies % MAX_UNCHECKED_COPIES == 0 {
                            part = Transformed::yes(with_interruption_check(part.data));
                        }
                    }
                    Ok(part)
                })
            })?;
            match node.transformed {
                true => node.map_data(LogicalPlan::recompute_schema),
                false => Ok(node),
            }
        });
        bound.map(|bound| bound.data)
    }
}

/// The features of a plan that determine which limits to enforce.
#[derive(Default)]
struct PlanFeatures {
    /// Whether it calls a function whose limits are not enforced.
    has_unbounded: bool,
    /// Whether an operator searches for a pattern.
    searches: bool,
    /// Whether a cast or a call may parse a long text.
    parses_texts: bool,
    /// The number of operators that may copy all texts of a batch.
    copies: usize,
    /// Whether it contains a long text, or an expression that may produce one.
    makes_texts: bool,
}

impl PlanFeatures {
    fn from_plan(plan: &LogicalPlan) -> Result<Self> {
        let mut found = Self::default();
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    found.inspect(part)?;
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(found)
    }

    fn inspect(&mut self, part: &Expr) -> Result<()> {
        self.parses_texts |= may_parse_long_texts(part, None);
        self.copies += usize::from(copies_texts(part));
        match part {
            Expr::ScalarFunction(call) => {
                let name = call.func.name();
                if UNSUPPORTED.contains(&name) {
                    return plan_err!(
                        "unsupported function {name}; SHOW FUNCTIONS lists the supported ones"
                    );
                }
                if let Some(bounds) = function_bounds(name) {
                    self.makes_texts |= makes_texts(bounds.output);
                    self.has_unbounded |= bounds.is_check_required() && !is_bounded(&call.func);
                }
            }
            Expr::AggregateFunction(call) => {
                self.makes_texts |= ["string_agg", "array_agg"].contains(&call.func.name());
            }
            Expr::BinaryExpr(BinaryExpr { op, .. }) if is_search(*op) => self.searches = true,
            Expr::BinaryExpr(BinaryExpr {
                op: Operator::StringConcat,
                ..
            }) => self.makes_texts = true,
            Expr::Like(_) | Expr::SimilarTo(_) => self.searches = true,
            Expr::Literal(value, _) => {
                let text = value.try_as_str().flatten();
                self.makes_texts |= text.is_some_and(|text| text.len() > LONG_TEXT_BYTES);
            }
            _ => {}
        }
        Ok(())
    }
}

fn makes_texts(output: Output) -> bool {
    matches!(
        output,
        Output::Concatenated
            | Output::Repeated
            | Output::Padded
            | Output::Replaced
            | Output::RegexReplaced
            | Output::Joined
    )
}

fn is_bounded(function: &ScalarUDF) -> bool {
    function.inner().is::<BoundedFunction>()
}

fn is_search(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch
            | Operator::LikeMatch
            | Operator::ILikeMatch
            | Operator::NotLikeMatch
            | Operator::NotILikeMatch
    )
}

/// Returns the expression with its limits enforced.
fn bound_expression(part: Expr, bounds_searches: bool) -> Transformed<Expr> {
    let bounded = |search: Search, one: Box<Expr>, other: Box<Expr>| {
        let function = search.into_function();
        Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
            function,
            vec![*one, *other],
        )))
    };
    match part {
        Expr::ScalarFunction(call) if !is_bounded(&call.func) => {
            let needs_limits =
                function_bounds(call.func.name()).is_some_and(Bounds::is_check_required);
            match needs_limits.then(|| bounded_function(Arc::clone(&call.func))) {
                Some(Some(function)) => Transformed::yes(Expr::ScalarFunction(
                    ScalarFunction::new_udf(function, call.args),
                )),
                _ => Transformed::no(Expr::ScalarFunction(call)),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if bounds_searches && is_search(op) => {
            bounded(Search::Operator(op), left, right)
        }
        // The planner refuses other escape characters.
        Expr::Like(like) if bounds_searches && matches!(like.escape_char, None | Some('\\')) => {
            let Like {
                negated,
                expr,
                pattern,
                case_insensitive,
                ..
            } = like;
            bounded(
                Search::Like {
                    negated,
                    case_insensitive,
                },
                expr,
                pattern,
            )
        }
        Expr::SimilarTo(like) if bounds_searches && like.escape_char.is_none() => {
            let operator = match (like.negated, like.case_insensitive) {
                (false, false) => Operator::RegexMatch,
                (false, true) => Operator::RegexIMatch,
                (true, false) => Operator::RegexNotMatch,
                (true, true) => Operator::RegexNotIMatch,
            };
            bounded(Search::Operator(operator), like.expr, like.pattern)
        }
        part => Transformed::no(part),
    }
}

/// An operator that searches a text for a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Search {
    Operator(Operator),
    Like {
        negated: bool,
        case_insensitive: bool,
    },
}

impl Search {
    /// Converts the operator to a function with limits.
    fn into_function(self) -> Arc<ScalarUDF> {
        let work = match self {
            Self::Operator(
                Operator::RegexMatch
                | Operator::RegexIMatch
                | Operator::RegexNotMatch
                | Operator::RegexNotIMatch,
            ) => Work::Search,
            _ => Work::LikeSearch,
        };
        let bounds = Bounds {
            output: Output::Fixed,
            work,
        };
        let inner = SearchFunction {
            search: self,
            signature: Signature::any(2, Volatility::Immutable),
        };
        Arc::new(BoundedFunction::new(Arc::new(inner.into()), bounds).into())
    }
}

/// A search operator as a function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SearchFunction {
    search: Search,
    signature: Signature,
}

impl ScalarUDFImpl for SearchFunction {
    fn name(&self) -> &str {
        match self.search {
            Search::Like { .. } => "LIKE",
            Search::Operator(_) => "a search for a pattern",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let is_nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(
            self.name(),
            DataType::Boolean,
            is_nullable,
        )))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (mut fields, mut columns): (Vec<FieldRef>, Vec<ArrayRef>) = Default::default();
        let mut sides = Vec::new();
        for (value, field) in call.args.into_iter().zip(&call.arg_fields) {
            let side: Arc<dyn PhysicalExpr> = match value {
                ColumnarValue::Scalar(value) => Arc::new(Literal::new(value)),
                ColumnarValue::Array(values) => {
                    let side = Column::new(field.name(), columns.len());
                    let field = Field::new(field.name(), values.data_type().clone(), true);
                    fields.push(Arc::new(field));
                    columns.push(values);
                    Arc::new(side)
                }
            };
            sides.push(side);
        }
        let [Some(text), Some(pattern)] = [0, 1].map(|at| sides.get(at).map(Arc::clone)) else {
            return internal_err!("a search takes a text and a pattern");
        };
        let schema = Arc::new(Schema::new(fields));
        let search: Arc<dyn PhysicalExpr> = match self.search {
            Search::Operator(operator) => expressions::binary(text, operator, pattern, &schema)?,
            Search::Like {
                negated,
                case_insensitive,
            } => Arc::new(LikeExpr::new(negated, case_insensitive, text, pattern)),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(call.number_rows));
        search.evaluate(&RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}
