//! The raw files as the table `raw_readings`: every reading that can be read, also those that averages leave out.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use futures::{StreamExt, stream};

use super::ingest::{Ingest, IngestAssets, IngestError};
use super::raw_scan::{RawScanExec, ScanFile};
use super::visible_filter::visible_filter;
use super::wanted::Wanted;
use crate::catalog::Visible;
use crate::clock::Stopwatch;
use crate::lake::Store;
use crate::lake::raw::{RawFile, RawFormat, Survey, list, survey};
use crate::model::Window;
use crate::resample::schema::READINGS;

/// Files that are looked into at once.
const SURVEYS: usize = 16;
/// The folder is listed again after so long.
const FRESH: Duration = Duration::from_secs(1);

/// The raw files, and what is known of each. Shared by all sessions.
pub struct RawFiles {
    raw: Store,
    format: Arc<RawFormat>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    listed: Option<(Stopwatch, Arc<[RawFile]>)>,
    /// By path and version; none for a file that cannot be read, which the job quarantines and reports.
    surveys: HashMap<(String, String), Option<Arc<Survey>>>,
}

impl fmt::Debug for RawFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawFiles").finish_non_exhaustive()
    }
}

impl RawFiles {
    /// The files below `raw`, with columns as in `format`. Times outside its plausible range are shown too.
    pub fn new(raw: Store, format: RawFormat) -> Self {
        let format = RawFormat {
            plausible: Window::ALL,
            ..format
        };
        Self {
            raw,
            format: Arc::new(format),
            known: Mutex::default(),
        }
    }

    /// Readings that are to become the raw file `path`; see [`Ingest`].
    pub(super) fn ingest(
        &self,
        path: &str,
        schema: &Schema,
        allowed: IngestAssets,
        plausible: RangeInclusive<i64>,
    ) -> std::result::Result<Ingest, IngestError> {
        Ingest::begin(&self.raw, &self.format, path, schema, allowed, plausible)
    }

    async fn files(&self) -> Result<Arc<[RawFile]>> {
        if let Some((since, files)) = &self.locked().listed
            && since.elapsed() < FRESH
        {
            return Ok(Arc::clone(files));
        }
        let files = list(&self.raw)
            .await
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let files: Arc<[RawFile]> = files.into();
        let mut known = self.locked();
        let there: BTreeSet<_> = files.iter().map(key_of).collect();
        known.surveys.retain(|key, _| there.contains(key));
        known.listed = Some((Stopwatch::start(), Arc::clone(&files)));
        Ok(files)
    }

    /// The files, each with what is known of it, without those that cannot be read.
    async fn surveyed(&self) -> Result<Vec<(RawFile, Arc<Survey>)>> {
        let files = self.files().await?.to_vec();
        let surveys = stream::iter(files).map(|file| async {
            let survey = self.survey(&file).await?;
            Some((file, survey))
        });
        let surveys: Vec<_> = surveys.buffered(SURVEYS).collect().await;
        Ok(surveys.into_iter().flatten().collect())
    }

    async fn survey(&self, file: &RawFile) -> Option<Arc<Survey>> {
        let key = key_of(file);
        if let Some(known) = self.locked().surveys.get(&key) {
            return known.clone();
        }
        let found = match survey(&self.raw, file, &self.format).await {
            Ok(survey) => Some(Arc::new(survey)),
            Err(fault) => {
                tracing::debug!("not in raw_readings: {fault}");
                None
            }
        };
        self.locked().surveys.insert(key, found.clone());
        found
    }

    /// Leaves a file out from now on, as the job does that quarantines it.
    fn leave_out(&self, file: &RawFile) {
        tracing::warn!(
            "{} cannot be read, and is no longer in raw_readings",
            file.path
        );
        self.locked().surveys.insert(key_of(file), None);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names one version of a file.
fn key_of(file: &RawFile) -> (String, String) {
    (file.path.clone(), file.etag.clone())
}

/// The raw files in a session.
#[derive(Debug)]
pub(super) struct RawReadings {
    files: Arc<RawFiles>,
    visible: Arc<Visible>,
}

impl RawReadings {
    /// What may be seen of `files`.
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
        let files = self.files.surveyed().await?.into_iter();
        let files = files.filter(|(_, survey)| wanted.may_be_in(survey, &self.visible));
        let files: Vec<_> = files
            .map(|(file, survey)| ScanFile {
                folder: self.files.raw.clone(),
                file,
                untimed: wanted.untimed && survey.irregular,
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
        // What is counted of readings is what may be seen and is wanted, exactly.
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
    /// What may be seen of the assets that are wanted, where not everything may be.
    fn visible(&self, visible: &Arc<Visible>) -> Arc<Visible> {
        match (&**visible, &self.assets) {
            (Visible::Only(ids), Some(_)) => {
                let ids = ids.iter().copied().filter(|&id| self.wants(id));
                Arc::new(Visible::Only(ids.collect()))
            }
            _ => Arc::clone(visible),
        }
    }

    fn may_be_in(&self, survey: &Survey, visible: &Visible) -> bool {
        let is_asked = |asset| visible.contains(asset) && self.wants(asset);
        survey.asset.is_none_or(is_asked)
            && (self.untimed && survey.irregular || self.window.dates().intersects(&survey.dates))
    }
}
