//! Keeps expressions within the limits of functions, whichever way they came about: by an operator, or by the planner, which
//! takes some functions from elsewhere than the session.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Like, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{self, Column, LikeExpr, Literal};

use super::bounded::BoundedFunction;
use super::checks::{copies_texts, interruptible, may_parse_long_texts, of_short_texts};
use super::offered::{Bounds, NOT_CALLED, Output, Work};
use super::{bounds_of, within_limits};

/// Texts longer than this in a statement may be patterns or texts that take long, in bytes.
const LONG_TEXT_BYTES: usize = 4 << 10;
/// The maximum number of operators that copy texts without a check in between: each takes a tenth of a second at most.
const MAX_UNCHECKED_COPIES: usize = 4;

/// Puts every function call and every search for a pattern within limits, and refuses functions that are not offered.
///
/// Operators that search stay as they are where no text can be long: the optimiser knows more of them, and the tables hold
/// names only.
#[derive(Debug)]
pub(in crate::engine) struct BoundExpressions;

impl AnalyzerRule for BoundExpressions {
    fn name(&self) -> &str {
        "bound_expressions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let found = Found::of(&plan)?;
        let bounds_searches = found.searches && found.makes_texts;
        let bounds_texts = found.parses_texts;
        let interrupts = found.copies > MAX_UNCHECKED_COPIES;
        if !bounds_searches && !bounds_texts && !interrupts && !found.has_unbounded {
            return Ok(plan);
        }
        let mut copies = 0;
        let bound = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            let schema = bounds_texts.then(|| merge_schema(&node.inputs()));
            let node = node.map_expressions(|expression| {
                let name = names.save(&expression);
                let bound = expression.transform_up(|part| {
                    let mut part = within(part, bounds_searches);
                    if bounds_texts {
                        let schema = schema.as_ref();
                        part = part.transform_data(|part| Ok(of_short_texts(part, schema)))?;
                    }
                    if interrupts && copies_texts(&part.data) {
                        copies += 1;
                        if copies % MAX_UNCHECKED_COPIES == 0 {
                            part = Transformed::yes(interruptible(part.data));
                        }
                    }
                    Ok(part)
                })?;
                Ok(bound.update_data(|expression| name.restore(expression)))
            })?;
            match node.transformed {
                true => node.map_data(LogicalPlan::recompute_schema),
                false => Ok(node),
            }
        });
        bound.map(|bound| bound.data)
    }
}

/// What there is in a plan.
#[derive(Default)]
struct Found {
    /// A call of a function that is not within its limits.
    has_unbounded: bool,
    /// An operator that searches for a pattern.
    searches: bool,
    /// A cast or a call that may parse a long text.
    parses_texts: bool,
    /// The number of operators that may copy all texts of a batch.
    copies: usize,
    /// Something by which a text may become long, or a long text.
    makes_texts: bool,
}

impl Found {
    fn of(plan: &LogicalPlan) -> Result<Self> {
        let mut found = Self::default();
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    found.look(part)?;
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(found)
    }

    fn look(&mut self, part: &Expr) -> Result<()> {
        self.parses_texts |= may_parse_long_texts(part, None);
        self.copies += usize::from(copies_texts(part));
        match part {
            Expr::ScalarFunction(call) => {
                let name = call.func.name();
                if NOT_CALLED.contains(&name) {
                    return plan_err!(
                        "unsupported function {name}; SHOW FUNCTIONS lists the supported ones"
                    );
                }
                if let Some(bounds) = bounds_of(name) {
                    self.makes_texts |= makes_texts(bounds.output);
                    self.has_unbounded |= bounds.must_be_checked() && !is_bounded(&call.func);
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

/// The expression within limits.
fn within(part: Expr, bounds_searches: bool) -> Transformed<Expr> {
    let bounded = |search: Search, one: Box<Expr>, other: Box<Expr>| {
        let function = search.within_limits();
        Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
            function,
            vec![*one, *other],
        )))
    };
    match part {
        Expr::ScalarFunction(call) if !is_bounded(&call.func) => {
            let needs_limits = bounds_of(call.func.name()).is_some_and(Bounds::must_be_checked);
            match needs_limits.then(|| within_limits(Arc::clone(&call.func))) {
                Some(Some(function)) => Transformed::yes(Expr::ScalarFunction(
                    ScalarFunction::new_udf(function, call.args),
                )),
                _ => Transformed::no(Expr::ScalarFunction(call)),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if bounds_searches && is_search(op) => {
            bounded(Search::Operator(op), left, right)
        }
        // The planner refuses other escapes.
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
    /// It as a function, within limits.
    fn within_limits(self) -> Arc<ScalarUDF> {
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

/// The operator as a function.
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
