//! The declaration of every setting: name, type, default, flag and documentation.

mod averages;
pub(super) mod derived;
mod installation;
pub(super) mod keys;
mod operation;
pub(super) mod roots;
mod server;
pub(super) mod setting;

pub use averages::*;
pub use installation::*;
pub use operation::*;
pub(super) use roots::*;
pub use server::*;

use setting::SettingSpec;

/// The groups of settings, in the order in which they are shown.
const GROUPS: [&[SettingSpec]; 17] = [
    ROOTS,
    LOCATIONS,
    MIRROR,
    QDRANT,
    AUTH,
    SOURCES,
    RESAMPLE,
    RETENTION,
    MAINTAIN,
    SERVE,
    CONNECTIONS,
    METERING,
    SEARCH,
    SCHEDULE,
    METRICS,
    BILLING,
    LOGGING,
];

/// Every setting, in the order in which they are shown. Those of `storage.*` are not included: their names
/// are `object_store`'s.
pub const SETTINGS: &[SettingSpec] = &concatenate::<{ count(&GROUPS) }>(&GROUPS);

/// Returns the number of settings in all groups.
const fn count(groups: &[&[SettingSpec]]) -> usize {
    let (mut group, mut total) = (0, 0);
    while group < groups.len() {
        total += groups[group].len();
        group += 1;
    }
    total
}

/// Returns the settings of all groups in one array, whose length `N` is their number.
const fn concatenate<const N: usize>(groups: &[&[SettingSpec]]) -> [SettingSpec; N] {
    let mut all = [groups[0][0]; N];
    let (mut group, mut filled) = (0, 0);
    while group < groups.len() {
        let mut index = 0;
        while index < groups[group].len() {
            all[filled] = groups[group][index];
            filled += 1;
            index += 1;
        }
        group += 1;
    }
    all
}
