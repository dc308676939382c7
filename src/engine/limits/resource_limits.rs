//! The limits on memory and disk of queries, which protect the server from a single large query.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::clock;
use crate::engine::query_error::QueryError;
use crate::memory::{self, QueryMemory};
use crate::metrics::METRICS;

/// The name under which a sort's merge of runs reserves memory, up to the partition number.
const MERGE_CONSUMER: &str = "ExternalSorterMerge[";
/// The factor by which a merge of spilled runs exceeds its reservation: it also holds prefetched batches and the rows
/// in the format in which they are compared. Both derive from a batch, whose size alone is reserved.
const MERGE_FACTOR: usize = 2;
/// The size in bytes of the cache of Parquet footers.
const FOOTER_CACHE_BYTES: usize = 64 << 20;

/// The limits, in bytes. They apply to memory that operators reserve: sorts, aggregates, joins. Batches in flight
/// through a plan come on top, a few megabytes for each query.
#[derive(Debug, Clone)]
pub struct MemoryLimits {
    /// The memory limit of one query.
    pub query_memory_bytes: usize,
    /// The memory limit of all queries together.
    pub total_memory_bytes: usize,
    /// The spill folder. Several processes may share it.
    pub spill_folder: PathBuf,
    /// The maximum size of all spill files.
    pub spill_bytes: u64,
}

/// Creates a runtime environment for each query, with its own memory limit within the limit of all queries.
#[derive(Debug)]
pub(in crate::engine) struct RuntimeEnvFactory {
    query_memory_bytes: usize,
    total: Arc<GreedyMemoryPool>,
    /// The disk manager, caches and object stores that queries share.
    shared: Arc<RuntimeEnv>,
    /// The same environment with the disk manager disabled.
    without_disk: Arc<RuntimeEnv>,
    /// The lock that marks this process's spill folder as in use.
    _spill: SpillFolder,
}

impl RuntimeEnvFactory {
    pub fn new(limits: &MemoryLimits) -> std::result::Result<Self, QueryError> {
        let spill =
            SpillFolder::create(&limits.spill_folder).map_err(|source| QueryError::Spill {
                folder: limits.spill_folder.clone(),
                source,
            })?;
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill.path.clone()]))
            .with_max_temp_directory_size(limits.spill_bytes);
        let total = Arc::new(GreedyMemoryPool::new(limits.total_memory_bytes));
        let shared = RuntimeEnvBuilder::new()
            .with_metadata_cache_limit(FOOTER_CACHE_BYTES)
            .with_disk_manager_builder(disk)
            .with_memory_pool(Arc::clone(&total) as _)
            .build_arc()?;
        let none = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let without_disk = Arc::new(RuntimeEnv {
            disk_manager: Arc::new(none.build()?),
            ..shared.as_ref().clone()
        });
        Self::register_gauges(limits, &total, &shared.disk_manager);
        memory::set_query_limits(limits.query_memory_bytes, limits.total_memory_bytes);
        Ok(Self {
            query_memory_bytes: limits.query_memory_bytes,
            total,
            shared,
            without_disk,
            _spill: spill,
        })
    }

    /// Registers gauges of the memory and disk that queries use, and of their limits.
    fn register_gauges(
        limits: &MemoryLimits,
        total: &Arc<GreedyMemoryPool>,
        disk: &Arc<DiskManager>,
    ) {
        let (memory_limit, spill_limit) =
            (limits.total_memory_bytes as f64, limits.spill_bytes as f64);
        let (total, disk) = (Arc::downgrade(total), Arc::downgrade(disk));
        let metrics = &METRICS.engine;
        metrics
            .memory_bytes
            .set_source(move || Some(total.upgrade()?.reserved() as f64));
        metrics
            .memory_limit_bytes
            .set_source(move || Some(memory_limit));
        metrics
            .spill_bytes
            .set_source(move || Some(disk.upgrade()?.used_disk_space() as f64));
        metrics
            .spill_limit_bytes
            .set_source(move || Some(spill_limit));
    }

    /// Returns the environment that all queries share.
    pub fn shared_env(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.shared)
    }

    /// Returns the environment of one query: a memory pool of its own, the rest shared. A query that shows settings
    /// gets no disk manager, because the settings would reveal the path of the spill folder.
    pub fn query_env(&self, shows_settings: bool) -> Arc<RuntimeEnv> {
        let shared = match shows_settings {
            true => &self.without_disk,
            false => &self.shared,
        };
        let pool = QueryPool {
            own: FairSpillPool::new(self.query_memory_bytes),
            total: Arc::clone(&self.total),
            memory: OnceLock::new(),
        };
        Arc::new(RuntimeEnv {
            memory_pool: Arc::new(pool),
            ..shared.as_ref().clone()
        })
    }
}

/// The spill folder of this process. It is removed when the process ends, or, if the process was killed, when the next
/// one starts.
#[derive(Debug)]
struct SpillFolder {
    path: PathBuf,
    /// The lock file, locked for the lifetime of the process.
    lock: File,
    lock_path: PathBuf,
}

impl SpillFolder {
    fn create(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        Self::remove_abandoned(parent)?;
        let (path, lock_path, lock) = loop {
            let path = parent.join(clock::new_id().to_string());
            let lock_path = path.with_extension("lock");
            let lock = File::create(&lock_path)?;
            lock.lock()?;
            // Before the file was locked, another process that starts may have removed it as abandoned.
            if lock_path.exists() {
                break (path, lock_path, lock);
            }
        };
        std::fs::create_dir(&path)?;
        Ok(Self {
            path,
            lock,
            lock_path,
        })
    }

    /// Removes the folders of processes that were killed.
    fn remove_abandoned(parent: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(parent)? {
            let lock_path = entry?.path();
            // Earlier versions locked the file under another name, which a process that was killed left behind.
            let is_lock = |kind: &OsStr| kind == "lock" || kind == "new";
            if !lock_path.extension().is_some_and(is_lock) {
                continue;
            }
            // It stays locked until it is removed.
            let lock = File::open(&lock_path);
            if lock.as_ref().is_ok_and(|lock| lock.try_lock().is_ok()) {
                // Another process that starts now may remove them first.
                let _ = std::fs::remove_dir_all(lock_path.with_extension(""));
                let _ = std::fs::remove_file(&lock_path);
            }
        }
        Ok(())
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        // If this fails, the next process removes the folder.
        let _ = std::fs::remove_dir_all(&self.path);
        let _ = std::fs::remove_file(&self.lock_path);
        let _ = self.lock.unlock();
    }
}

/// The memory pool of one query. Reservations count towards the query's own limit and the limit of all queries.
#[derive(Debug)]
struct QueryPool {
    own: FairSpillPool,
    total: Arc<GreedyMemoryPool>,
    /// The allocator's account of the query; set by the first reservation of an operator.
    memory: OnceLock<Arc<QueryMemory>>,
}

impl QueryPool {
    /// Reports the reserved bytes to the query's account. An operator makes the first reservation, on a thread that is
    /// charged to the query.
    fn report_reserved(&self) {
        let known = self.memory.get().or_else(|| {
            let memory = QueryMemory::current()?;
            Some(self.memory.get_or_init(|| memory))
        });
        if let Some(memory) = known {
            memory.set_reserved(self.own.reserved());
        }
    }

    /// Returns the bytes to count for a reservation of `bytes`.
    fn counted_bytes(reservation: &MemoryReservation, bytes: usize) -> usize {
        let is_merge = reservation.consumer().name().starts_with(MERGE_CONSUMER);
        bytes.saturating_mul(if is_merge { MERGE_FACTOR } else { 1 })
    }

    fn is_stopped(&self) -> bool {
        self.memory.get().is_some_and(|memory| memory.is_stopped())
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({}, {})", self.own, self.total)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let additional = Self::counted_bytes(reservation, additional);
        self.own.grow(reservation, additional);
        self.total.grow(reservation, additional);
        self.report_reserved();
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let shrink = Self::counted_bytes(reservation, shrink);
        self.own.shrink(reservation, shrink);
        self.total.shrink(reservation, shrink);
        self.report_reserved();
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if self.is_stopped() {
            return Err(DataFusionError::ResourcesExhausted(
                "all queries together hold too much memory".to_owned(),
            ));
        }
        let additional = Self::counted_bytes(reservation, additional);
        self.own.try_grow(reservation, additional)?;
        self.total
            .try_grow(reservation, additional)
            .inspect_err(|_| self.own.shrink(reservation, additional))?;
        self.report_reserved();
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn query(total: &Arc<GreedyMemoryPool>) -> Arc<dyn MemoryPool> {
        Arc::new(QueryPool {
            own: FairSpillPool::new(64 * MIB),
            total: Arc::clone(total),
            memory: OnceLock::new(),
        })
    }

    #[test]
    fn create_removes_what_killed_processes_left_only() {
        let parent = tempfile::tempdir().unwrap();
        let running = SpillFolder::create(parent.path()).unwrap();
        for name in ["killed.lock", "early.new", "other"] {
            File::create(parent.path().join(name)).unwrap();
        }
        let killed = parent.path().join("killed");
        std::fs::create_dir(&killed).unwrap();
        File::create(killed.join("spilled")).unwrap();
        let started = SpillFolder::create(parent.path()).unwrap();
        let entries = std::fs::read_dir(parent.path()).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        let mut expected = vec![parent.path().join("other")];
        for folder in [&running, &started] {
            expected.extend([folder.path.clone(), folder.lock_path.clone()]);
        }
        left.sort();
        expected.sort();
        assert_eq!(left, expected);
        drop((running, started));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn merge_of_spilled_runs_counts_twice_its_reservation() {
        let total = Arc::new(GreedyMemoryPool::new(128 * MIB));
        let pool = query(&total);
        let sort = MemoryConsumer::new("ExternalSorter[0]").with_can_spill(true);
        let sort = sort.register(&pool);
        let merge = MemoryConsumer::new("ExternalSorterMerge[0]").register(&pool);
        sort.try_grow(24 * MIB).unwrap();
        merge.try_grow(20 * MIB).unwrap();
        assert_eq!((pool.reserved(), total.reserved()), (64 * MIB, 64 * MIB));
        assert!(merge.try_grow(1).is_err());
        merge.shrink(3);
        merge.try_grow(3).unwrap();
        drop((sort, merge));
        assert_eq!((pool.reserved(), total.reserved()), (0, 0));
    }
}
