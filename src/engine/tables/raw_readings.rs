//! The raw files as the table `raw_readings`: every readable reading, including those that averages leave out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;

use super::engine_table::{Contents, TableProperties, UNKNOWN_ROWS};
use crate::catalog::VisibleAssets;
use crate::engine::raw::raw_files::{FileFacts, RawFiles};
use crate::engine::scan::raw_scan::{RawScanExec, ScanFile};
use crate::engine::scan::scan_pruning::ScanPruning;
use crate::engine::scan::visible_filter::visible_filter;
use crate::model::{AssetId, DateSet};
use crate::rollup::schema::READINGS;

/// The raw files as one session sees them.
#[derive(Debug)]
pub(in crate::engine) struct RawReadings {
    files: Arc<RawFiles>,
    visible: Arc<VisibleAssets>,
}

impl RawReadings {
    /// Creates the table of `files`, restricted to the assets in `visible`.
    pub fn new(files: Arc<RawFiles>, visible: Arc<VisibleAssets>) -> Self {
        Self { files, visible }
    }
}

impl TableProperties for RawReadings {
    fn estimated_rows(&self, _: &[Expr], _: Option<usize>) -> f64 {
        UNKNOWN_ROWS
    }

    fn contents(&self) -> Contents {
        Contents::Changing
    }
}

#[async_trait]
impl TableProvider for RawReadings {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&READINGS)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = ScanPruning::from_filters(filters, "id");
        let known = self.files.readable().await?;
        let mut relevance = FilePruner::new(&wanted, &self.visible);
        let files = known.iter();
        let files = files.filter(|known| relevance.may_match(&known.facts));
        let files: Vec<_> = files
            .map(|known| ScanFile {
                folder: self.files.raw.clone(),
                file: known.file.clone(),
                untimed: wanted.untimed && known.facts.irregular,
            })
            .collect();
        let all: Vec<usize> = (0..READINGS.fields().len()).collect();
        let columns = projection.unwrap_or(&all);
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(
                READINGS.project(columns)?,
            ))));
        }
        let mut partitions =
            vec![Vec::new(); state.config().target_partitions().clamp(1, files.len())];
        let count = partitions.len();
        for (index, file) in files.into_iter().enumerate() {
            if let Some(partition) = partitions.get_mut(index % count) {
                partition.push(file);
            }
        }
        let format = Arc::clone(&self.files.format);
        let scan = RawScanExec::with_partitions(format, partitions, wanted.window);
        // The readings that count for the caller are exactly those that are visible and match the pushed-down
        // conditions.
        let visible = wanted.restrict_visible(&self.visible);
        let visible = visible_filter(&visible, "id", 0, &READINGS)?;
        let files = Arc::clone(&self.files);
        let scan = scan.with_visible(visible, !wanted.untimed);
        let scan = scan.with_on_unreadable(Arc::new(move |file| files.exclude(file)));
        let mut plan: Arc<dyn ExecutionPlan> = Arc::new(scan);
        if projection.is_some() {
            let columns = columns.iter().map(|&index| {
                let name = READINGS.field(index).name();
                (Arc::new(Column::new(name, index)) as _, name.clone())
            });
            plan = Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?);
        }
        Ok(plan)
    }
}

impl ScanPruning {
    /// Returns the visible assets that match the conditions; unchanged if everything is visible.
    fn restrict_visible(&self, visible: &Arc<VisibleAssets>) -> Arc<VisibleAssets> {
        match (&**visible, &self.assets) {
            (VisibleAssets::Only(ids), Some(_)) => {
                let ids = ids.iter().copied().filter(|&id| self.includes(id));
                Arc::new(VisibleAssets::Only(ids.collect()))
            }
            _ => Arc::clone(visible),
        }
    }
}

/// Selects the files that may have visible readings that match the conditions.
struct FilePruner<'a> {
    pruning: &'a ScanPruning,
    visible: &'a VisibleAssets,
    dates: DateSet,
    /// Whether a list of assets has a visible one that matches, by the address of the list, because files share lists.
    matching_lists: HashMap<*const AssetId, bool>,
}

impl<'a> FilePruner<'a> {
    fn new(wanted: &'a ScanPruning, visible: &'a VisibleAssets) -> Self {
        Self {
            pruning: wanted,
            visible,
            dates: wanted.window.dates(),
            matching_lists: HashMap::new(),
        }
    }

    fn may_match(&mut self, facts: &FileFacts) -> bool {
        let sees_all = matches!(self.visible, VisibleAssets::All);
        match &facts.contents {
            // Rows whose id is not an asset's are visible to callers who see everything.
            Some(contents) if !(sees_all && contents.has_other_ids) => {
                let mut groups = contents.groups.iter();
                groups.any(|group| {
                    self.overlaps_dates(&group.dates, group.untimed)
                        && self.has_matching_asset(&group.assets)
                })
            }
            _ => self.overlaps_dates(&facts.dates, facts.irregular),
        }
    }

    fn overlaps_dates(&self, dates: &DateSet, untimed: bool) -> bool {
        self.pruning.untimed && untimed || self.dates.intersects(dates)
    }

    fn has_matching_asset(&mut self, assets: &Arc<[AssetId]>) -> bool {
        let (wanted, visible) = (self.pruning, self.visible);
        *self
            .matching_lists
            .entry(assets.as_ptr())
            .or_insert_with(|| {
                let mut assets = assets.iter();
                assets.any(|&asset| visible.contains(asset) && wanted.includes(asset))
            })
    }
}
