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

use super::raw_files::{FileFacts, RawFiles};
use super::raw_scan::{RawScanExec, ScanFile};
use super::visible_filter::visible_filter;
use super::wanted::Wanted;
use crate::catalog::Visible;
use crate::model::{AssetId, DateSet};
use crate::resample::schema::READINGS;

/// The raw files as one session sees them.
#[derive(Debug)]
pub(super) struct RawReadings {
    files: Arc<RawFiles>,
    visible: Arc<Visible>,
}

impl RawReadings {
    /// Creates the table of `files`, restricted to the assets in `visible`.
    pub fn new(files: Arc<RawFiles>, visible: Arc<Visible>) -> Self {
        Self { files, visible }
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
        let wanted = Wanted::of(filters, "id");
        let known = self.files.readable().await?;
        let mut relevance = Relevance::new(&wanted, &self.visible);
        let files = known.iter();
        let files = files.filter(|known| relevance.is_relevant(&known.facts));
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
        let scan = RawScanExec::grouped(format, partitions, wanted.window);
        // The readings that count for the caller are exactly those that are visible and match the pushed-down
        // conditions.
        let visible = wanted.visible(&self.visible);
        let visible = visible_filter(&visible, "id", 0, &READINGS)?;
        let files = Arc::clone(&self.files);
        let scan = scan.showing(visible, !wanted.untimed);
        let scan = scan.telling(Arc::new(move |file| files.leave_out(file)));
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

impl Wanted {
    /// Returns the visible assets that match the conditions; unchanged if everything is visible.
    fn visible(&self, visible: &Arc<Visible>) -> Arc<Visible> {
        match (&**visible, &self.assets) {
            (Visible::Only(ids), Some(_)) => {
                let ids = ids.iter().copied().filter(|&id| self.wants(id));
                Arc::new(Visible::Only(ids.collect()))
            }
            _ => Arc::clone(visible),
        }
    }
}

/// Selects the files that may have visible readings that match the conditions.
struct Relevance<'a> {
    wanted: &'a Wanted,
    visible: &'a Visible,
    dates: DateSet,
    /// Whether a list of assets has a visible one that matches, by the address of the list, because files share lists.
    known: HashMap<*const AssetId, bool>,
}

impl<'a> Relevance<'a> {
    fn new(wanted: &'a Wanted, visible: &'a Visible) -> Self {
        Self {
            wanted,
            visible,
            dates: wanted.window.dates(),
            known: HashMap::new(),
        }
    }

    fn is_relevant(&mut self, facts: &FileFacts) -> bool {
        let sees_all = matches!(self.visible, Visible::All);
        match &facts.contents {
            // Rows whose id is not an asset's are visible to callers who see everything.
            Some(contents) if !(sees_all && contents.has_other_ids) => {
                let mut groups = contents.groups.iter();
                groups.any(|group| {
                    self.is_in_time(&group.dates, group.untimed) && self.has_any(&group.assets)
                })
            }
            _ => self.is_in_time(&facts.dates, facts.irregular),
        }
    }

    fn is_in_time(&self, dates: &DateSet, untimed: bool) -> bool {
        self.wanted.untimed && untimed || self.dates.intersects(dates)
    }

    fn has_any(&mut self, assets: &Arc<[AssetId]>) -> bool {
        let (wanted, visible) = (self.wanted, self.visible);
        *self.known.entry(assets.as_ptr()).or_insert_with(|| {
            let mut assets = assets.iter();
            assets.any(|&asset| visible.contains(asset) && wanted.wants(asset))
        })
    }
}
