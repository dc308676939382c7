//! The table function `path_between('asset', 'asset' [, 'relation'])`: a shortest path between two assets.
//!
//! Names of assets are resolved when a query is about to run, as those of the [reached assets](super::reached_assets).

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::Result;

use super::asset_columns::{asset_columns, asset_fields, integer_array};
use super::computed_table::{ComputedRows, ComputedTable};
use super::function::{Implementation, TableFunction, VisibleCatalog};
use super::signature::{Argument, ArgumentType, FunctionSignature};
use crate::catalog::{PathStep, Relation, Snapshot, Topology};
use crate::engine::tables::engine_table::Contents;

pub(super) static PATH_BETWEEN: TableFunction = TableFunction {
    signature: FunctionSignature {
        name: "path_between",
        parameters: &[
            ("a", ArgumentType::Text),
            ("b", ArgumentType::Text),
            ("relation", ArgumentType::Text),
        ],
        required: 2,
        example: "path_between('P-101', 'R-101')",
    },
    documentation: "a shortest path",
    implementation: Implementation::Catalog(|catalog, arguments| {
        let signature = &PATH_BETWEEN.signature;
        let to = signature.text(arguments, 1)?;
        let relation = signature.text(arguments, 2)?;
        Ok(Arc::new(ComputedTable(Path {
            from: signature.text(arguments, 0)?,
            to,
            relation,
            catalog,
            schema: schema(),
        })))
    }),
};

/// The path of one call.
struct Path {
    from: Argument<String>,
    to: Argument<String>,
    /// The relation of its edges.
    relation: Argument<String>,
    catalog: VisibleCatalog,
    schema: SchemaRef,
}

fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8View, true);
    let mut fields = asset_fields();
    fields.insert(0, Field::new("step", DataType::Int64, false));
    fields.extend(["relation", "direction"].map(text));
    Arc::new(Schema::new(fields))
}

impl Path {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let signature = &PATH_BETWEEN.signature;
        let visible = &self.catalog.visible;
        let find = |argument: &Argument<String>| {
            let text = signature.value(argument)?.unwrap_or_default();
            let found = snapshot.find(&text, visible);
            found.map_err(|error| signature.error(error))
        };
        let from = find(&self.from)?.id;
        let topology = snapshot.topology(visible);
        let relation = signature.value(&self.relation)?.map(Relation::from);
        check_relation(relation.as_ref(), &topology)?;
        let to = find(&self.to)?.id;
        self.batch(&topology.path(from, to, relation.as_ref()))
    }

    fn batch(&self, steps: &[PathStep<'_>]) -> Result<RecordBatch> {
        let rows = || steps.iter();
        let mut columns = asset_columns(rows().map(|step| step.asset));
        columns.insert(0, integer_array(0..steps.len()));
        let relations = rows().map(|step| step.by.map(|(relation, _)| relation.text()));
        columns.push(Arc::new(relations.collect::<StringViewArray>()));
        let directions = rows().map(|step| step.by.map(|(_, direction)| direction.text()));
        columns.push(Arc::new(directions.collect::<StringViewArray>()));
        Ok(RecordBatch::try_new(self.schema(), columns)?)
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
    Err(PATH_BETWEEN.signature.error(format_args!(
        "unknown relation '{text}'; use one of {}",
        known.join(", ")
    )))
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Path")
    }
}

#[async_trait]
impl ComputedRows for Path {
    const CONTENTS: Contents = Contents::Immutable;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn compute(&self) -> Result<Vec<RecordBatch>> {
        Ok(vec![self.rows(self.catalog.snapshot().await?)?])
    }
}
