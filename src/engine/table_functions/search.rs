//! The table function `search('description' [, limit])`: assets that match a description, best first.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Float32Array, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::stream;

use super::function::{CallTable, Implementation, TableFunction, VisibleCatalog};
use super::signature::{Argument, ArgumentType, FunctionSignature};
use crate::catalog::Snapshot;
use crate::engine::tables::engine_table::{Contents, TableProperties, UNKNOWN_ROWS};
use crate::search::{MAX_RESULTS, Search, SearchRequest, SearchResult, check_text};

pub(super) static SEARCH: TableFunction = TableFunction {
    signature: FunctionSignature {
        name: "search",
        parameters: &[
            ("text", ArgumentType::Text),
            ("limit", ArgumentType::Integer),
        ],
        required: 1,
        example: "search('high-temperature reactor vessel', 5)",
    },
    documentation: "[assets that match a description](search.md); `limit` up to 1,000",
    implementation: Implementation::Search(SearchTable::table),
};

/// The number of results if no limit is given.
const DEFAULT_LIMIT: usize = 10;

/// One call of the function.
struct SearchTable {
    search: Search,
    catalog: VisibleCatalog,
    text: Argument<String>,
    limit: Argument<i64>,
    schema: SchemaRef,
}

impl SearchTable {
    fn table(search: Search, catalog: VisibleCatalog, arguments: &[Expr]) -> Result<CallTable> {
        let signature = &SEARCH.signature;
        let text = signature.text(arguments, 0)?;
        if let Argument::Given(text) = &text {
            check_text(text).map_err(|error| signature.error(error))?;
        }
        let limit = signature.integer(arguments, 1)?;
        if let Argument::Given(limit) = limit
            && !(1..=MAX_RESULTS as i64).contains(&limit)
        {
            return Err(signature.error(format_args!(
                "limit must be between 1 and {MAX_RESULTS}, not {limit}"
            )));
        }
        Ok(Arc::new(Self {
            search,
            catalog,
            text,
            limit,
            schema: schema(),
        }))
    }
}

/// Returns the schema of the results.
fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8View, false);
    Arc::new(Schema::new(vec![
        text("asset_id"),
        text("name"),
        text("type"),
        text("location"),
        Field::new("score", DataType::Float64, false),
        Field::new("similarity", DataType::Float32, true),
        Field::new("rank", DataType::Int64, false),
        text("ranked_by"),
    ]))
}

impl fmt::Debug for SearchTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchTable")
    }
}

impl TableProperties for SearchTable {
    fn estimated_rows(&self, _: &[Expr], _: Option<usize>) -> f64 {
        // A search runs models, so it is never short.
        UNKNOWN_ROWS
    }

    fn contents(&self) -> Contents {
        Contents::Changing
    }
}

#[async_trait]
impl TableProvider for SearchTable {
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
        let signature = &SEARCH.signature;
        let text = signature.value(&self.text)?.unwrap_or_default();
        let limit = signature.value(&self.limit)?;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let snapshot = self.catalog.snapshot().await?;
        let request = SearchRequest {
            text,
            limit: limit.unwrap_or(DEFAULT_LIMIT),
            granted: Arc::clone(&self.catalog.visible),
            by: None,
        };
        let found: Arc<dyn ExecutionPlan> = Arc::new(SearchExec {
            search: self.search.clone(),
            snapshot: Arc::clone(snapshot),
            request,
            properties: Arc::new(PlanProperties::new(
                EquivalenceProperties::new(self.schema()),
                Partitioning::UnknownPartitioning(1),
                EmissionType::Final,
                Boundedness::Bounded,
            )),
        });
        let Some(columns) = projection else {
            return Ok(found);
        };
        let column = |index: &usize| {
            let name = self.schema.field(*index).name();
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, *index));
            (column, name.clone())
        };
        let columns: Vec<_> = columns.iter().map(column).collect();
        Ok(Arc::new(ProjectionExec::try_new(columns, found)?))
    }
}

/// Runs the search at execution, so that planning a statement uses neither the index nor the models.
#[derive(Debug)]
struct SearchExec {
    search: Search,
    snapshot: Arc<Snapshot>,
    request: SearchRequest,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for SearchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SearchExec: limit={}", self.request.limit)
    }
}

impl ExecutionPlan for SearchExec {
    fn name(&self) -> &'static str {
        "SearchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (search, ask) = (self.search.clone(), self.request.clone());
        let (snapshot, schema) = (Arc::clone(&self.snapshot), self.schema());
        let rows_schema = Arc::clone(&schema);
        let rows = async move {
            let found = search.search(&ask, &snapshot).await;
            let found = found.map_err(|error| DataFusionError::External(Box::new(error)))?;
            rows(rows_schema, &found, &snapshot)
        };
        let rows = stream::once(rows);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    /// Returns a small number of rows, so that a join builds its hash table from them and prunes the other side by
    /// their assets.
    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(self.request.limit);
        statistics.total_byte_size = Precision::Inexact(self.request.limit * 200);
        Ok(Arc::new(statistics))
    }
}

fn rows(schema: SchemaRef, found: &[SearchResult], snapshot: &Snapshot) -> Result<RecordBatch> {
    let assets = || found.iter().filter_map(|found| snapshot.asset(found.id));
    let columns = vec![
        Arc::new(StringViewArray::from_iter_values(
            assets().map(|asset| asset.id.to_string()),
        )) as _,
        Arc::new(StringViewArray::from_iter_values(
            assets().map(|asset| &*asset.name),
        )) as _,
        Arc::new(StringViewArray::from_iter_values(
            assets().map(|asset| &*asset.kind),
        )) as _,
        Arc::new(StringViewArray::from_iter_values(
            assets().map(|asset| &*asset.location),
        )) as _,
        Arc::new(Float64Array::from_iter_values(
            found.iter().map(|found| found.score),
        )) as _,
        Arc::new(
            found
                .iter()
                .map(|found| found.similarity)
                .collect::<Float32Array>(),
        ) as _,
        Arc::new(Int64Array::from_iter_values(
            found.iter().map(|found| found.rank as i64),
        )) as _,
        Arc::new(StringViewArray::from_iter_values(
            found.iter().map(|found| found.ranked_by.text()),
        )) as _,
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}
