//! The catalog tables: `assets`, and `asset_edges`, the edges between assets.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints, DataFusionError, Result};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::engine_table::{Contents, SMALL_TABLE_ROWS, TableProperties};
use crate::catalog::{Asset, CatalogError, Edge, Snapshot, VisibleAssets};

/// Rows in a batch, the same as DataFusion's default.
pub(in crate::engine) const BATCH_ROWS: usize = 8_192;

/// The source of a session's catalog.
#[derive(Debug)]
pub(in crate::engine) enum CatalogSource {
    /// The catalog in force.
    Active(Arc<Snapshot>),
    /// A catalog folder, read by the first query that needs it.
    Folder(PathBuf, OnceCell<Arc<Snapshot>>),
}

impl CatalogSource {
    /// Returns the catalog in `folder`, without reading it.
    pub fn folder(folder: PathBuf) -> Self {
        Self::Folder(folder, OnceCell::new())
    }

    /// Returns the catalog; reads the folder on the first call.
    pub async fn snapshot(&self) -> Result<&Arc<Snapshot>, CatalogError> {
        let (folder, snapshot) = match self {
            Self::Active(snapshot) => return Ok(snapshot),
            Self::Folder(folder, snapshot) => (folder, snapshot),
        };
        let read = || async {
            let path = folder.clone();
            match spawn_blocking(move || Snapshot::read(&path)).await {
                Ok(outcome) => outcome.map(Arc::new),
                Err(error) => Err(CatalogError::Io {
                    action: "read",
                    path: folder.clone(),
                    source: std::io::Error::other(error),
                }),
            }
        };
        snapshot.get_or_try_init(read).await
    }
}

/// A table of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum CatalogTable {
    /// The table `assets`: a row for each asset.
    Assets,
    /// The table `asset_edges`: a row for each edge of the graph.
    Edges,
}

impl CatalogTable {
    /// All catalog tables.
    pub const ALL: [Self; 2] = [Self::Assets, Self::Edges];

    /// Returns the table's name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assets => "assets",
            Self::Edges => "asset_edges",
        }
    }

    fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8View, false);
        let columns = match self {
            Self::Assets => &["id", "name", "type", "location", "specifications"][..],
            Self::Edges => &["source", "target", "relation"][..],
        };
        Arc::new(Schema::new(
            columns.iter().map(|name| text(name)).collect::<Vec<_>>(),
        ))
    }

    /// Returns the primary key. The checks of the catalog guarantee that it is unique.
    fn primary_key(self) -> Constraints {
        let columns = match self {
            Self::Assets => vec![0],
            Self::Edges => vec![0, 1, 2],
        };
        Constraints::new_unverified(vec![Constraint::PrimaryKey(columns)])
    }

    /// Returns the visible rows. An edge is visible if both of its ends are.
    fn rows(self, snapshot: &Snapshot, visible: &VisibleAssets) -> Result<Vec<RecordBatch>> {
        let catalog = snapshot.catalog();
        match self {
            Self::Assets => {
                let assets = catalog.assets.iter();
                asset_rows(
                    self.schema(),
                    assets.filter(|asset| visible.contains(asset.id)),
                )
            }
            Self::Edges => {
                let edges =
                    catalog.graph.edges.iter().filter(|edge| {
                        visible.contains(edge.source) && visible.contains(edge.target)
                    });
                edge_rows(self.schema(), edges)
            }
        }
    }
}

/// Returns rows of `assets`. The specifications are a JSON object as text.
fn asset_rows<'a>(
    schema: SchemaRef,
    assets: impl Iterator<Item = &'a Asset>,
) -> Result<Vec<RecordBatch>> {
    let columns = [
        |asset: &Asset| Ok(asset.id.to_string()),
        |asset: &Asset| Ok(asset.name.clone()),
        |asset: &Asset| Ok(asset.kind.clone()),
        |asset: &Asset| Ok(asset.location.clone()),
        |asset: &Asset| serde_json::to_string(&asset.specifications),
    ];
    batches(schema, assets, &columns)
}

/// Returns rows of `asset_edges`.
fn edge_rows<'a>(
    schema: SchemaRef,
    edges: impl Iterator<Item = &'a Edge>,
) -> Result<Vec<RecordBatch>> {
    let columns = [
        |edge: &Edge| Ok(edge.source.to_string()),
        |edge: &Edge| Ok(edge.target.to_string()),
        |edge: &Edge| Ok(edge.relation.text().to_owned()),
    ];
    batches(schema, edges, &columns)
}

/// A function that returns the text of one column for an entry of the catalog.
type Column<T> = fn(&T) -> serde_json::Result<String>;

fn batches<'a, T: 'a>(
    schema: SchemaRef,
    entries: impl Iterator<Item = &'a T>,
    columns: &[Column<T>],
) -> Result<Vec<RecordBatch>> {
    let entries: Vec<&T> = entries.collect();
    let batch = |entries: &[&T]| {
        let column = |text: &Column<T>| {
            let mut values = StringViewBuilder::with_capacity(entries.len());
            for entry in entries {
                let text = text(entry).map_err(|error| DataFusionError::External(error.into()))?;
                values.append_value(text);
            }
            let values: StringViewArray = values.finish();
            Ok(Arc::new(values) as ArrayRef)
        };
        let columns = columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
    };
    entries.chunks(BATCH_ROWS).map(batch).collect()
}

/// A catalog table as one session sees it.
pub(in crate::engine) struct CatalogTableProvider {
    table: CatalogTable,
    catalog: Arc<CatalogSource>,
    visible: Arc<VisibleAssets>,
    schema: SchemaRef,
    primary_key: Constraints,
}

impl CatalogTableProvider {
    /// Creates `table` of `catalog`, restricted to the assets in `visible`.
    pub fn new(
        table: CatalogTable,
        catalog: Arc<CatalogSource>,
        visible: Arc<VisibleAssets>,
    ) -> Self {
        Self {
            table,
            catalog,
            visible,
            schema: table.schema(),
            primary_key: table.primary_key(),
        }
    }
}

impl fmt::Debug for CatalogTableProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CatalogTableProvider")
            .field(&self.table)
            .finish()
    }
}

impl TableProperties for CatalogTableProvider {
    fn estimated_rows(&self, _: &[Expr], _: Option<usize>) -> f64 {
        SMALL_TABLE_ROWS
    }

    fn contents(&self) -> Contents {
        Contents::Immutable
    }
}

#[async_trait]
impl TableProvider for CatalogTableProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.primary_key)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
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
        let rows = self.table.rows(snapshot, &self.visible)?;
        Ok(MemorySourceConfig::try_new_exec(
            &[rows],
            self.schema(),
            projection.cloned(),
        )?)
    }
}
