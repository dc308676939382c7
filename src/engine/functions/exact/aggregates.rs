//! Aggregates under their usual names, with accumulators of our own where DataFusion's give wrong results.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, GroupsAccumulator,
    ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};

use super::checked_sum::{self, CheckedSum, CheckedSums};
use super::extremes::Extreme;
use super::moment_groups;
use super::moments::Statistic;
use super::one_nan::{groups_with_one_nan, with_one_nan};
use super::quantile::{self, GroupedValues, Quantile, Values};

/// Returns the aggregate with right results, or the same one if its results are right.
pub(super) fn exact_aggregate(function: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    let name = function.name();
    let is_replaced = Statistic::from_name(name).is_some()
        || Extreme::from_name(name).is_some()
        || matches!(name, "median" | "percentile_cont" | "bit_xor");
    match is_replaced {
        true => Arc::new(AggregateUDF::new_from_impl(ExactAggregate(function))),
        false => function,
    }
}

/// An aggregate, some of whose accumulators are ours.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactAggregate(Arc<AggregateUDF>);

/// The accumulator of a call.
enum Plan {
    Sum(DataType),
    Quantile(Quantile),
    /// DataFusion's, except over a window that slides.
    Total(Statistic),
    Moments(Statistic),
    /// The least or greatest of floating-point numbers. The accumulator is DataFusion's, except of groups.
    Extreme(Extreme),
    /// DataFusion's.
    Inherited,
}

impl ExactAggregate {
    fn inner(&self) -> &dyn AggregateUDFImpl {
        self.0.inner().as_ref()
    }

    /// Returns whose accumulator a call with an argument and a result of these types uses.
    fn is_sum(&self, result: &DataType, is_distinct: bool) -> bool {
        self.name() == "sum" && !is_distinct && checked_sum::is_checked(result)
    }

    fn is_quantile(&self, argument: Option<&DataType>) -> bool {
        matches!(self.name(), "median" | "percentile_cont")
            && matches!(argument, Some(DataType::Float32 | DataType::Float64))
    }

    /// Returns the statistic that a call with such a result computes from doubles; `None` if it computes none.
    fn statistic(&self, result: &DataType, is_distinct: bool) -> Option<Statistic> {
        let computes_doubles = *result == DataType::Float64 || self.name() == "regr_count";
        let is_computed = computes_doubles && !is_distinct;
        Statistic::from_name(self.name()).filter(|_| is_computed)
    }

    fn plan(&self, args: &AccumulatorArgs) -> Result<Plan> {
        let result = args.return_field.data_type();
        let argument = args.expr_fields.first().map(|field| field.data_type());
        if self.is_sum(result, args.is_distinct) {
            return Ok(Plan::Sum(result.clone()));
        }
        if self.is_quantile(argument) {
            let fraction = match self.name() {
                "median" => 0.5,
                _ => fraction(args)?,
            };
            let order = args.order_bys.first();
            return Ok(Plan::Quantile(Quantile {
                fraction,
                is_descending: order.is_some_and(|order| order.options.descending),
                is_distinct: args.is_distinct,
                kind: result.clone(),
            }));
        }
        if let Some(extreme) = Extreme::from_name(self.name())
            && result.is_floating()
        {
            return Ok(Plan::Extreme(extreme));
        }
        Ok(match self.statistic(result, args.is_distinct) {
            Some(statistic) if statistic.is_total() => Plan::Total(statistic),
            Some(statistic) => Plan::Moments(statistic),
            None => Plan::Inherited,
        })
    }
}

/// Returns the constant fraction of `percentile_cont`.
fn fraction(args: &AccumulatorArgs) -> Result<f64> {
    let Some(expression) = args.exprs.get(1) else {
        return internal_err!("percentile_cont takes two arguments");
    };
    let no_rows = RecordBatch::new_empty(Arc::new(args.schema.clone()));
    let constant = match expression.evaluate(&no_rows) {
        Ok(ColumnarValue::Scalar(value)) => value.cast_to(&DataType::Float64)?,
        _ => ScalarValue::Null,
    };
    match constant {
        ScalarValue::Float64(Some(fraction)) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        ScalarValue::Float64(Some(fraction)) => plan_err!(
            "Percentile value must be between 0.0 and 1.0 inclusive, {fraction} is invalid"
        ),
        _ => plan_err!("Percentile value for 'PERCENTILE_CONT' must be a literal"),
    }
}

impl AggregateUDFImpl for ExactAggregate {
    fn name(&self) -> &str {
        self.inner().name()
    }

    fn aliases(&self) -> &[String] {
        self.inner().aliases()
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner().window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner().display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner().window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.inner().signature()
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner().return_type(kinds)
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner().return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner().is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        let accumulator: Box<dyn Accumulator> = match self.plan(&args)? {
            Plan::Sum(kind) => Box::new(CheckedSum::new(kind)),
            Plan::Quantile(quantile) => Box::new(Values::new(quantile)),
            Plan::Moments(statistic) => moment_groups::accumulator(statistic),
            Plan::Total(_) | Plan::Extreme(_) | Plan::Inherited => {
                self.inner().accumulator(args)?
            }
        };
        Ok(with_one_nan(accumulator, &result))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        let accumulator: Box<dyn Accumulator> = match self.plan(&args)? {
            Plan::Sum(kind) => Box::new(CheckedSum::new(kind)),
            Plan::Quantile(quantile) => Box::new(Values::new(quantile)),
            Plan::Total(statistic) | Plan::Moments(statistic) => statistic.accumulator(),
            Plan::Extreme(_) | Plan::Inherited => self.inner().create_sliding_accumulator(args)?,
        };
        Ok(with_one_nan(accumulator, &result))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let argument = args.input_fields.first().map(|field| field.data_type());
        if self.is_sum(args.return_type(), args.is_distinct) {
            return Ok(vec![checked_sum::state_field(args.name)]);
        }
        if self.is_quantile(argument) {
            return Ok(vec![quantile::state_field(args.name)]);
        }
        match self.statistic(args.return_type(), args.is_distinct) {
            Some(statistic) if !statistic.is_total() => {
                Ok(moment_groups::state_fields(args.name, statistic))
            }
            _ => self.inner().state_fields(args),
        }
    }

    /// Distinct values of a group are exclusive-or-ed from a list of them, which DataFusion's accumulator of many groups does
    /// not have (apache/datafusion#24989).
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match self.plan(&args) {
            Ok(Plan::Sum(_) | Plan::Quantile(_) | Plan::Moments(_)) => true,
            _ if self.name() == "bit_xor" && args.is_distinct => false,
            _ => self.inner().groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let result = args.return_field.data_type().clone();
        let accumulator: Box<dyn GroupsAccumulator> = match self.plan(&args)? {
            Plan::Sum(kind) => Box::new(CheckedSums::new(kind)),
            Plan::Quantile(quantile) => Box::new(GroupedValues::new(quantile)),
            Plan::Moments(statistic) => moment_groups::groups_accumulator(statistic),
            Plan::Extreme(extreme) => extreme.groups_accumulator(&result)?,
            Plan::Total(_) | Plan::Inherited => self.inner().create_groups_accumulator(args)?,
        };
        Ok(groups_with_one_nan(accumulator, &result))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner().order_sensitivity()
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner().simplify()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner().reverse_expr() {
            ReversedUDAF::Reversed(other) => ReversedUDAF::Reversed(exact_aggregate(other)),
            other => other,
        }
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(kinds)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner().is_descending()
    }

    /// Statistics of files do not tell NaN.
    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        match args.return_type.is_floating() {
            true => None,
            false => self.inner().value_from_stats(args),
        }
    }

    fn default_value(&self, kind: &DataType) -> Result<ScalarValue> {
        self.inner().default_value(kind)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner().supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner().supports_within_group_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.inner().set_monotonicity(kind)
    }
}
