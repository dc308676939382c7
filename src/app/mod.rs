//! Puts the parts together: what a command needs of several modules that do not know each other.

mod jobs;
mod kinds;
mod monitoring;
mod schedule;
mod search;
mod serve;

pub use jobs::{NoJob, QuietProgress, jobs, resample_job};
pub use monitoring::{Monitoring, MonitoringError};
pub use schedule::{ScheduleError, Scheduling, worker};
pub use search::{index_folder, models, search};
pub use serve::{AppError, server};
