//! The assets that a walk over the catalog's graph reaches: the table of `neighbours`, `upstream` and `downstream`.
//!
//! Like the catalog tables, it shows the catalog in force, restricted to the visible assets. The error for a hidden asset
//! is the same as for one that does not exist. Names of assets are resolved when a query is about to run, because a
//! prepared statement or a view may be used by callers who see different assets.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::logical_expr::Expr;

use super::asset_columns::{asset_columns, asset_fields, integer_array, text_array};
use super::computed_table::{ComputedRows, ComputedTable};
use super::function::{CallTable, VisibleCatalog};
use super::signature::{Argument, FunctionSignature};
use crate::catalog::{ReachedAsset, Snapshot, Topology};
use crate::engine::tables::catalog_tables::BATCH_ROWS;
use crate::engine::tables::engine_table::Contents;
use crate::model::AssetId;

/// The maximum number of edges that a call may ask for.
const MAX_HOPS: i64 = 100;

/// A walk from an asset over at most this number of edges.
type Walk = for<'a> fn(&Topology<'a>, AssetId, Option<usize>) -> Vec<ReachedAsset<'a>>;

/// The result of a call with the arguments `asset` and `hops`.
pub(super) struct ReachedAssets {
    signature: &'static FunctionSignature,
    walk: Walk,
    asset: Argument<String>,
    max_hops: Argument<i64>,
    catalog: VisibleCatalog,
    schema: SchemaRef,
}

impl ReachedAssets {
    /// Returns the table of a call.
    pub fn table(
        signature: &'static FunctionSignature,
        catalog: VisibleCatalog,
        arguments: &[Expr],
        walk: Walk,
    ) -> Result<CallTable> {
        let max_hops = signature.integer(arguments, 1)?;
        if let Argument::Given(hops) = max_hops
            && !(1..=MAX_HOPS).contains(&hops)
        {
            return Err(signature.error(format_args!(
                "hops must be between 1 and {MAX_HOPS}, not {hops}"
            )));
        }
        let text = |name| Field::new(name, DataType::Utf8View, false);
        let mut fields = asset_fields();
        fields.push(Field::new("distance", DataType::Int64, false));
        fields.extend(["relation", "direction", "via"].map(text));
        Ok(Arc::new(ComputedTable(Self {
            signature,
            walk,
            asset: signature.text(arguments, 0)?,
            max_hops,
            catalog,
            schema: Arc::new(Schema::new(fields)),
        })))
    }

    fn rows(&self, snapshot: &Snapshot) -> Result<Vec<RecordBatch>> {
        let signature = self.signature;
        let max_hops = signature.value(&self.max_hops)?;
        let max_hops = max_hops.and_then(|hops| usize::try_from(hops).ok());
        let asset = signature.value(&self.asset)?.unwrap_or_default();
        let visible = &self.catalog.visible;
        let asset = snapshot.find(&asset, visible);
        let asset = asset.map_err(|error| signature.error(error))?.id;
        let reached = (self.walk)(&snapshot.topology(visible), asset, max_hops);
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
}

impl fmt::Debug for ReachedAssets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.signature.name;
        f.debug_tuple("ReachedAssets").field(&name).finish()
    }
}

#[async_trait]
impl ComputedRows for ReachedAssets {
    const CONTENTS: Contents = Contents::Immutable;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn compute(&self) -> Result<Vec<RecordBatch>> {
        self.rows(self.catalog.snapshot().await?)
    }
}
