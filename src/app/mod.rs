//! Combines modules that do not depend on each other, as the commands need them.

mod backup;
pub mod demo;
mod disk_space;
pub mod doctor;
mod job_kinds;
mod jobs;
mod monitoring;
mod resample_job;
mod schedule;
mod search;
mod serve;
mod service;
mod shared_writing;

pub use backup::{
    BackupFailure, BackupReport, PartReport, RestoreOutcome, RestoreReport, back_up, check, restore,
};
pub use disk_space::{DiskSpaceError, check_free_space, check_writable, free_space};
pub use job_kinds::{job_kind_rows, job_kinds, read_jobs};
pub use jobs::{QuietProgress, existing_resample_job, jobs, resample_job};
pub use monitoring::{Monitoring, MonitoringError};
pub use resample_job::ResampleJobError;
pub use schedule::{ScheduleError, ScheduleRunner, worker};
pub use search::{index_folder, models, search};
pub use serve::{AppError, local_session, server};
pub use service::{Ports, Service, ServiceError};
pub use shared_writing::{SharedWriting, no_write_grant_warning};
