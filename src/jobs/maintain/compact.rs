//! Selects the files of a table to merge into one. Pure: no I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::lake::delta::partition::{DataFile, Partition};

/// Files to merge into one.
pub(super) type FileGroup = Vec<DataFile>;

/// Returns groups of small files of one partition. A file is small below three quarters of `target`, and a group has at
/// most `target` bytes. Files are grouped in order of their assets, so that merged files cover separate ranges of
/// assets if the small ones did. Partitions in `without` are skipped.
pub(super) fn group_small_files(
    files: Vec<DataFile>,
    target: u64,
    without: &BTreeSet<Partition>,
) -> Vec<FileGroup> {
    let mut partitions: BTreeMap<Partition, Vec<DataFile>> = BTreeMap::new();
    for file in files {
        let is_small = file.size < target - target / 4;
        if is_small && !without.contains(&file.partition) {
            let files = partitions.entry(file.partition.clone()).or_default();
            files.push(file);
        }
    }
    let mut found = Vec::new();
    for mut files in partitions.into_values() {
        files.sort_by(|a, b| (&a.min_asset, &a.path).cmp(&(&b.min_asset, &b.path)));
        let (mut group, mut size) = (FileGroup::new(), 0);
        for file in files {
            if size + file.size > target {
                found.push(std::mem::take(&mut group));
                size = 0;
            }
            size += file.size;
            group.push(file);
        }
        found.push(group);
    }
    found.retain(|group| group.len() > 1);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Resolution;

    fn file(number: usize, day: i32, size: u64) -> DataFile {
        DataFile {
            path: format!("{number}"),
            size,
            rows: Some(1),
            partition: Partition::containing(Resolution::Minute, day),
            min_time: None,
            max_time: None,
            min_asset: Some(format!("{:03}", (number * 37) % 101)),
            max_asset: None,
        }
    }

    fn sizes(groups: &[FileGroup]) -> Vec<Vec<u64>> {
        let of = |group: &FileGroup| group.iter().map(|file| file.size).collect();
        groups.iter().map(of).collect()
    }

    #[test]
    fn groups_contain_small_files_up_to_target_size() {
        let files = vec![
            file(0, 1, 10),
            file(1, 1, 20),
            file(2, 2, 30),
            file(3, 1, 90),
        ];
        let found = group_small_files(files.clone(), 100, &BTreeSet::new());
        assert_eq!(sizes(&found), [[10, 20]]);
        let without = BTreeSet::from([Partition::containing(Resolution::Minute, 1)]);
        assert_eq!(group_small_files(files, 100, &without).len(), 0);
    }

    proptest! {
        #[test]
        fn groups_merged_repeatedly_end_with_few_files(
            files in proptest::collection::vec((0..3_i32, 1..120_u64), 0..40),
        ) {
            let files: Vec<DataFile> = files.iter().enumerate()
                .map(|(number, (day, size))| file(number, *day, *size)).collect();
            let bytes: u64 = files.iter().map(|file| file.size).sum();
            let mut now = files;
            loop {
                let found = group_small_files(now.clone(), 100, &BTreeSet::new());
                if found.is_empty() {
                    break;
                }
                for group in &found {
                    let size: u64 = group.iter().map(|file| file.size).sum();
                    prop_assert!(group.len() > 1 && size <= 100);
                    prop_assert!(group.iter().all(|file| file.partition == group[0].partition));
                    now.retain(|file| !group.contains(file));
                    now.push(DataFile { size, ..group[0].clone() });
                }
            }
            prop_assert_eq!(now.iter().map(|file| file.size).sum::<u64>(), bytes);
            for day in 0..3 {
                let partition = Partition::containing(Resolution::Minute, day);
                let mut sizes: Vec<u64> = now.iter().filter(|file| file.partition == partition).map(|file| file.size).collect();
                let size: u64 = sizes.iter().sum();
                prop_assert!(sizes.len() <= 1 || size > 75, "{:?}", sizes);
                // No two adjacent small files fit into one.
                sizes.retain(|size| *size < 75);
                prop_assert!(sizes.len() as u64 <= 2 * size / 100 + 1);
            }
        }
    }
}
