//! Combines modules that do not depend on each other, as the commands need them.

mod backup;
pub mod demo;
pub mod doctor;
mod jobs;
mod kinds;
mod monitoring;
mod room;
mod schedule;
mod search;
mod serve;
mod service;
mod shared_writing;

pub use backup::{
    BackupFailure, BackupReport, PartReport, Put, RestoreReport, back_up, check, restore,
};
pub use jobs::{NoJob, QuietProgress, jobs, resample_job};
pub use monitoring::{Monitoring, MonitoringError};
pub use room::{RoomError, check_room, free_space, try_to_write};
pub use schedule::{ScheduleError, Scheduling, worker};
pub use search::{index_folder, models, search};
pub use serve::{AppError, server};
pub use service::{Ports, Service, ServiceError};
pub use shared_writing::{SharedWriting, no_write_grant};
