//! The tables that finished runs published: one consistent set of versions, opened once and shared.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::engine::query_error::QueryError;
use crate::lake::Store;
use crate::lake::delta::error::TableError;
use crate::lake::delta::partition::DataFile;
use crate::lake::delta::table::Table;
use crate::lake::delta::table_columns::current_schema;
use crate::lake::records::runs::{Publication, Runs, Versions};
use crate::metrics::METRICS;
use crate::model::{AssetId, Resolution};
use crate::rollup_schema::RollupSchema;

/// The maximum number of publications that stay open. A query continues with the publication that it began with.
const MAX_OPEN_PUBLICATIONS: usize = 8;

/// The files of the three tables, as one run published them.
#[derive(Debug, Default)]
pub struct PublishedTables {
    run: u64,
    tables: [Option<PublishedTable>; 3],
    archive: Arc<Archive>,
}

/// The archive tables of a publication. Each is opened when a query names it, so that other queries neither wait for it
/// nor fail because it cannot be read.
#[derive(Debug, Default)]
struct Archive {
    /// The folder and the versions; `None` before anything was archived.
    location: Option<(Store, Versions)>,
    tables: [OnceCell<PublishedTable>; 3],
}

impl Archive {
    async fn table(&self, resolution: Resolution) -> Result<Option<&PublishedTable>, TableError> {
        let Some((folder, versions)) = &self.location else {
            return Ok(None);
        };
        let table = self.tables[resolution as usize]
            .get_or_try_init(|| open_table(folder, resolution, versions))
            .await?;
        Ok(Some(table))
    }
}

/// The files of one table.
#[derive(Debug, Clone)]
pub(in crate::engine) struct PublishedTable {
    pub store: Store,
    /// The columns that are queried. Files of older versions may lack later ones.
    pub schema: RollupSchema,
    pub files: Arc<[PublishedFile]>,
}

/// A data file and the bounds that decide whether a query needs it.
#[derive(Debug, Clone)]
pub(in crate::engine) struct PublishedFile {
    pub file: DataFile,
    /// The smallest and the largest asset, if they are known.
    pub assets: Option<(AssetId, AssetId)>,
}

impl PublishedFile {
    fn new(file: DataFile) -> Self {
        let bound = |text: &Option<String>| AssetId::parse(text.as_deref()?).ok();
        let assets = bound(&file.min_asset).zip(bound(&file.max_asset));
        Self { file, assets }
    }
}

impl PublishedTables {
    /// Opens the latest publication. Before the first run the tables are empty.
    pub async fn latest(lake: &Store) -> Result<Self, QueryError> {
        match Runs::open(lake).latest_publication().await? {
            Some(publication) => Self::open(lake, &publication, &[]).await,
            None => Ok(Self::default()),
        }
    }

    /// Opens the tables of a publication. The archive is shared with the one in `known` that has the same versions.
    async fn open(
        lake: &Store,
        publication: &Publication,
        known: &[Arc<Self>],
    ) -> Result<Self, QueryError> {
        let mut tables = [None, None, None];
        for (slot, resolution) in tables.iter_mut().zip(Resolution::ALL) {
            *slot = Some(open_table(lake, resolution, &publication.versions).await?);
        }
        let versions = publication.archive;
        let has_it = |known: &&Arc<Self>| {
            let at = known.archive.location.as_ref();
            at.map(|(_, versions)| *versions) == versions
        };
        let archive = match known.iter().find(has_it) {
            Some(known) => Arc::clone(&known.archive),
            None => Arc::new(Archive {
                location: versions.map(|versions| (lake.child("archive"), versions)),
                tables: Default::default(),
            }),
        };
        Ok(Self {
            run: publication.run,
            tables,
            archive,
        })
    }

    /// Returns the run that published the tables; 0 before the first.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Sets the metrics of the newest bucket of each table.
    fn update_metrics(&self) {
        for resolution in Resolution::ALL {
            let files = self
                .table(resolution)
                .into_iter()
                .flat_map(|table| table.files.iter());
            if let Some(newest) = files.filter_map(|known| known.file.max_time).max() {
                METRICS
                    .tables
                    .set_newest_bucket(resolution.table(), newest.div_euclid(1_000_000));
            }
        }
    }

    pub(in crate::engine) fn table(&self, resolution: Resolution) -> Option<&PublishedTable> {
        self.tables[resolution as usize].as_ref()
    }

    /// Whether anything was archived.
    pub(in crate::engine) fn has_archive(&self) -> bool {
        self.archive.location.is_some()
    }

    /// Returns the archive of a table; `None` before anything was archived.
    pub(in crate::engine) async fn archived_table(
        &self,
        resolution: Resolution,
    ) -> Result<Option<&PublishedTable>, TableError> {
        self.archive.table(resolution).await
    }
}

/// Opens the table in a folder at the published version.
async fn open_table(
    folder: &Store,
    resolution: Resolution,
    versions: &Versions,
) -> Result<PublishedTable, TableError> {
    let version = versions.get(resolution);
    let table = Table::open_at(folder, current_schema(), resolution, version).await?;
    Ok(PublishedTable {
        store: table.store().clone(),
        schema: table.schema().clone(),
        files: sorted(table.files()).into(),
    })
}

/// Sorts the files by date, and within a date by asset and time, like their rows.
fn sorted(files: Vec<DataFile>) -> Vec<PublishedFile> {
    let mut files: Vec<_> = files.into_iter().map(PublishedFile::new).collect();
    files.sort_by_cached_key(|known| {
        let file = &known.file;
        (file.partition.days(), known.assets, file.min_time)
    });
    files
}

/// The open publications of a lake, the newest last.
#[derive(Debug)]
pub(in crate::engine) struct Publications {
    lake: Store,
    open: Mutex<VecDeque<Arc<PublishedTables>>>,
    /// The run of the newest publication, for the metrics.
    newest_run: Arc<AtomicU64>,
}

impl Publications {
    /// Opens the latest publication.
    pub async fn open(lake: &Store) -> Result<Self, QueryError> {
        let newest = Arc::new(PublishedTables::latest(lake).await?);
        newest.update_metrics();
        let run = Arc::new(AtomicU64::new(newest.run));
        let known = Arc::clone(&run);
        METRICS
            .tables
            .run
            .set_source(move || Some(known.load(Ordering::Relaxed) as f64));
        Ok(Self {
            lake: lake.clone(),
            open: Mutex::new(VecDeque::from([newest])),
            newest_run: run,
        })
    }

    /// Returns the newest publication that [`refresh`](Self::refresh) has found.
    pub fn newest(&self) -> Arc<PublishedTables> {
        let newest = self.locked().back().cloned();
        newest.unwrap_or_default()
    }

    /// Returns the publication of a run, opened again if needed; `None` if its records are gone.
    pub async fn get(&self, run: u64) -> Result<Option<Arc<PublishedTables>>, QueryError> {
        let known = self.locked().iter().find(|known| known.run == run).cloned();
        if known.is_some() || run == 0 {
            return Ok(known.or_else(|| Some(Arc::default())));
        }
        let Some(publication) = Runs::open(&self.lake).publication(run).await? else {
            return Ok(None);
        };
        let tables = Arc::new(self.open_publication(&publication).await?);
        Ok(Some(self.insert(tables)))
    }

    async fn open_publication(
        &self,
        publication: &Publication,
    ) -> Result<PublishedTables, QueryError> {
        let known: Vec<_> = self.locked().iter().cloned().collect();
        PublishedTables::open(&self.lake, publication, &known).await
    }

    /// Opens the latest publication if it is newer than the known ones.
    pub async fn refresh(&self) -> Result<(), QueryError> {
        let latest = Runs::open(&self.lake).latest_publication().await?;
        if let Some(publication) = latest
            && publication.run > self.newest().run
        {
            let tables = self.open_publication(&publication).await?;
            tracing::info!(run = tables.run, "activated the tables of a new run");
            tables.update_metrics();
            self.newest_run.store(tables.run, Ordering::Relaxed);
            self.insert(Arc::new(tables));
        }
        Ok(())
    }

    /// Adds a publication, unless another caller has opened the same one meanwhile. Returns the one that is shared. If
    /// too many are open, the oldest other one is closed.
    fn insert(&self, tables: Arc<PublishedTables>) -> Arc<PublishedTables> {
        let mut open = self.locked();
        let at = open.partition_point(|known| known.run < tables.run);
        if let Some(known) = open.get(at).filter(|known| known.run == tables.run) {
            return Arc::clone(known);
        }
        open.insert(at, Arc::clone(&tables));
        if open.len() > MAX_OPEN_PUBLICATIONS {
            open.remove(usize::from(at == 0));
        }
        tables
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<PublishedTables>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::StoreOptions;

    #[test]
    fn insert_adds_each_run_once_and_closes_the_oldest_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().to_str().unwrap();
        let publications = Publications {
            lake: Store::open(location, &StoreOptions::new()).unwrap(),
            open: Mutex::default(),
            newest_run: Arc::default(),
        };
        let insert = |run| {
            publications.insert(Arc::new(PublishedTables {
                run,
                ..PublishedTables::default()
            }))
        };
        let runs = || -> Vec<u64> {
            let open = publications.locked();
            open.iter().map(|known| known.run).collect()
        };
        let first = insert(11);
        assert!(Arc::ptr_eq(&first, &insert(11)));
        for run in 12..=18 {
            insert(run);
        }
        assert_eq!(runs(), (11..=18).collect::<Vec<_>>());
        // A query continues with an older publication than all that are open.
        insert(10);
        assert_eq!(runs(), [10, 12, 13, 14, 15, 16, 17, 18]);
        insert(19);
        assert_eq!(runs(), (12..=19).collect::<Vec<_>>());
    }
}
