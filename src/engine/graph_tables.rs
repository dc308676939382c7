//! Table functions over the catalog's graph: `neighbours`, `upstream`, `downstream` and `path_between`.
//!
//! Like the catalog tables, they show the catalog in force, restricted to the visible assets. The error for a hidden
//! asset is the same as for one that does not exist. Names of assets are resolved when a query is about to run, because
//! a prepared statement or a view may be used by callers who see different assets.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::catalog_tables::{BATCH_ROWS, CatalogSource};
use super::table_arguments::{Argument, ArgumentType, FunctionSignature};
use crate::catalog::{
    Asset, FlowDirection, PathStep, ReachedAsset, Relation, Snapshot, Topology, VisibleAssets,
};

/// The maximum number of edges that a call may ask for.
const MAX_HOPS: i64 = 100;

/// The assets near an asset.
pub(super) static NEIGHBOURS: FunctionSignature = FunctionSignature {
    name: "neighbours",
    parameters: &[ArgumentType::Text, ArgumentType::Integer],
    required: 1,
    example: "neighbours('R-101', 2)",
};

/// The assets upstream of an asset.
pub(super) static UPSTREAM: FunctionSignature = FunctionSignature {
    name: "upstream",
    parameters: &[ArgumentType::Text, ArgumentType::Integer],
    required: 1,
    example: "upstream('R-101')",
};

/// The assets downstream of an asset.
pub(super) static DOWNSTREAM: FunctionSignature = FunctionSignature {
    name: "downstream",
    parameters: &[ArgumentType::Text, ArgumentType::Integer],
    required: 1,
    example: "downstream('R-101')",
};

/// A shortest path between two assets.
pub(super) static PATH_BETWEEN: FunctionSignature = FunctionSignature {
    name: "path_between",
    parameters: &[ArgumentType::Text, ArgumentType::Text, ArgumentType::Text],
    required: 2,
    example: "path_between('P-101', 'R-101')",
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GraphFunctionKind {
    Neighbours,
    AlongFlow(FlowDirection),
    Path,
}

impl GraphFunctionKind {
    const ALL: [Self; 4] = [
        Self::Neighbours,
        Self::AlongFlow(FlowDirection::Upstream),
        Self::AlongFlow(FlowDirection::Downstream),
        Self::Path,
    ];

    fn signature(self) -> &'static FunctionSignature {
        match self {
            Self::Neighbours => &NEIGHBOURS,
            Self::AlongFlow(FlowDirection::Upstream) => &UPSTREAM,
            Self::AlongFlow(FlowDirection::Downstream) => &DOWNSTREAM,
            Self::Path => &PATH_BETWEEN,
        }
    }

    fn schema(self) -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8View, false);
        let number = |name| Field::new(name, DataType::Int64, false);
        let mut fields = ["asset_id", "name", "type", "location"].map(text).to_vec();
        match self {
            Self::Path => {
                fields.insert(0, number("step"));
                fields.extend(["relation", "direction"].map(|name| text(name).with_nullable(true)));
            }
            _ => {
                fields.push(number("distance"));
                fields.extend(["relation", "direction", "via"].map(text));
            }
        }
        Arc::new(Schema::new(fields))
    }
}

/// Registers the functions with a session that sees the assets in `visible`.
pub(super) fn register(
    state: &mut SessionState,
    catalog: &Arc<CatalogSource>,
    visible: &Arc<VisibleAssets>,
) {
    for function in GraphFunctionKind::ALL {
        let table_function = GraphFunction {
            function,
            catalog: Arc::clone(catalog),
            visible: Arc::clone(visible),
        };
        state.register_udtf(function.signature().name, Arc::new(table_function));
    }
}

struct GraphFunction {
    function: GraphFunctionKind,
    catalog: Arc<CatalogSource>,
    visible: Arc<VisibleAssets>,
}

impl fmt::Debug for GraphFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GraphFunction")
            .field(&self.function)
            .finish()
    }
}

impl TableFunctionImpl for GraphFunction {
    fn call_with_args(&self, call: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (signature, arguments) = (self.function.signature(), call.exprs());
        signature.check_count(arguments)?;
        let (mut other, mut relation, mut max_hops) =
            (Argument::Absent, Argument::Absent, Argument::Absent);
        match self.function {
            GraphFunctionKind::Path => {
                other = signature.text(arguments, 1)?;
                relation = signature.text(arguments, 2)?;
            }
            _ => max_hops = signature.integer(arguments, 1)?,
        }
        if let Argument::Given(hops) = max_hops
            && !(1..=MAX_HOPS).contains(&hops)
        {
            return Err(signature.error(format_args!(
                "hops must be between 1 and {MAX_HOPS}, not {hops}"
            )));
        }
        Ok(Arc::new(GraphTable {
            function: self.function,
            asset: signature.text(arguments, 0)?,
            other,
            relation,
            max_hops,
            catalog: Arc::clone(&self.catalog),
            visible: Arc::clone(&self.visible),
            schema: self.function.schema(),
        }))
    }
}

/// The result of a call of a graph function.
pub(super) struct GraphTable {
    function: GraphFunctionKind,
    asset: Argument<String>,
    /// The other end of a path.
    other: Argument<String>,
    /// The relation of the edges of a path.
    relation: Argument<String>,
    max_hops: Argument<i64>,
    catalog: Arc<CatalogSource>,
    visible: Arc<VisibleAssets>,
    schema: SchemaRef,
}

impl GraphTable {
    fn rows(&self, snapshot: &Snapshot) -> Result<Vec<RecordBatch>> {
        let signature = self.function.signature();
        let find = |argument: &Argument<String>| {
            let text = signature.value(argument)?.unwrap_or_default();
            let found = snapshot.find(&text, &self.visible);
            found.map_err(|error| signature.error(error))
        };
        let max_hops = signature.value(&self.max_hops)?;
        let max_hops = max_hops.and_then(|hops| usize::try_from(hops).ok());
        let asset = find(&self.asset)?.id;
        let topology = snapshot.topology(&self.visible);
        match self.function {
            GraphFunctionKind::Neighbours => {
                self.reached_rows(&topology.neighbours(asset, max_hops.unwrap_or(1)))
            }
            GraphFunctionKind::AlongFlow(flow) => self.reached_rows(&topology.follow_flow(
                asset,
                flow,
                max_hops.unwrap_or(usize::MAX),
            )),
            GraphFunctionKind::Path => {
                let relation = signature.value(&self.relation)?.map(Relation::from);
                check_relation(relation.as_ref(), &topology)?;
                let other = find(&self.other)?.id;
                self.path_rows(&topology.path(asset, other, relation.as_ref()))
            }
        }
    }

    fn reached_rows(&self, reached: &[ReachedAsset<'_>]) -> Result<Vec<RecordBatch>> {
        let batch = |rows: &[ReachedAsset<'_>]| {
            let mut columns = asset_columns(rows.iter().map(|row| row.asset));
            columns.push(integer_array(rows.iter().map(|row| row.distance)));
            columns.push(text_array(rows.iter().map(|row| row.relation.text())));
            columns.push(text_array(rows.iter().map(|row| row.direction.text())));
            columns.push(text_array(rows.iter().map(|row| row.via.id.to_string())));
            Ok(RecordBatch::try_new(self.schema(), columns)?)
        };
        reached.chunks(BATCH_ROWS).map(batch).collect()
    }

    fn path_rows(&self, steps: &[PathStep<'_>]) -> Result<Vec<RecordBatch>> {
        let rows = || steps.iter();
        let mut columns = asset_columns(rows().map(|step| step.asset));
        columns.insert(0, integer_array(0..steps.len()));
        let relations = rows().map(|step| step.by.map(|(relation, _)| relation.text()));
        columns.push(Arc::new(relations.collect::<StringViewArray>()));
        let directions = rows().map(|step| step.by.map(|(_, direction)| direction.text()));
        columns.push(Arc::new(directions.collect::<StringViewArray>()));
        Ok(vec![RecordBatch::try_new(self.schema(), columns)?])
    }
}

/// Returns an error for a mistyped relation: neither a standard relation nor that of a visible edge.
fn check_relation(relation: Option<&Relation>, topology: &Topology<'_>) -> Result<()> {
    let Some(unknown @ Relation::Other(text)) = relation else {
        return Ok(());
    };
    let seen = topology.relations();
    if seen.contains(&unknown) {
        return Ok(());
    }
    let known = [Relation::FlowsTo, Relation::Measures, Relation::PartOf];
    let others = seen.into_iter().filter(|other| !known.contains(other));
    let known: Vec<&str> = known.iter().chain(others).map(Relation::text).collect();
    let text: String = text.chars().take(80).collect();
    Err(PATH_BETWEEN.error(format_args!(
        "unknown relation '{text}'; use one of {}",
        known.join(", ")
    )))
}

/// Returns the columns that identify assets: id, name, type and location.
fn asset_columns<'a>(assets: impl Iterator<Item = &'a Asset> + Clone) -> Vec<ArrayRef> {
    let assets = || assets.clone();
    vec![
        text_array(assets().map(|asset| asset.id.to_string())),
        text_array(assets().map(|asset| asset.name.as_str())),
        text_array(assets().map(|asset| asset.kind.as_str())),
        text_array(assets().map(|asset| asset.location.as_str())),
    ]
}

fn text_array(values: impl Iterator<Item = impl AsRef<str>>) -> ArrayRef {
    let mut texts = StringViewBuilder::new();
    for value in values {
        texts.append_value(value);
    }
    Arc::new(texts.finish())
}

fn integer_array(values: impl Iterator<Item = usize>) -> ArrayRef {
    let values = values.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    Arc::new(values.map(Some).collect::<Int64Array>())
}

impl fmt::Debug for GraphTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GraphTable").field(&self.function).finish()
    }
}

#[async_trait]
impl TableProvider for GraphTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = self.catalog.snapshot().await;
        let snapshot = snapshot.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(MemorySourceConfig::try_new_exec(
            &[self.rows(snapshot)?],
            self.schema(),
            projection.cloned(),
        )?)
    }
}
