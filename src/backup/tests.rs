//! Tests of backups that are truncated, damaged or forged.

use std::path::{Path, PathBuf};

use super::member_names::{DIGESTS_FILE, HEADER_FILE};
use super::*;

fn head() -> BackupHeader {
    BackupHeader {
        format: FORMAT,
        program: "0.0.0".to_owned(),
        made_at: chrono::DateTime::default(),
        host: "here".to_owned(),
        lake: "lake".to_owned(),
        database: None,
        parts: vec![Part::Catalog],
    }
}

/// Writes a backup with two files.
fn written(folder: &Path) -> PathBuf {
    let place = folder.join("backup.tar.zst");
    let mut writer = BackupWriter::create(&place, &head()).unwrap();
    writer.add("catalog/assets.json", b"[]").unwrap();
    writer.add("catalog/views/a.sql", &[7; 300_000]).unwrap();
    writer.finish().unwrap().move_into_place().unwrap();
    place
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes an archive of just these members.
fn made_up(folder: &Path, members: &[(&str, &[u8], tar::EntryType)]) -> PathBuf {
    let place = folder.join("made-up.tar.zst");
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes, kind) in members {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    let bytes = tar.into_inner().unwrap();
    std::fs::write(&place, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    place
}

fn problem(path: &Path) -> String {
    let checked = Archive::open(path).and_then(Archive::verify);
    checked.err().unwrap().to_string()
}

#[test]
fn backup_is_read_as_written_and_leaves_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = written(folder.path());
    let checked = Archive::open(&place).unwrap().verify().unwrap();
    assert_eq!(checked.header(), &head());
    let files = checked.files_of(Part::Catalog);
    assert_eq!(files["assets.json"], Digest::compute(b"[]"));
    assert_eq!(files["views/a.sql"].bytes, 300_000);
    assert_eq!(names(folder.path()), ["backup.tar.zst"]);
    // A later backup replaces this one only once it is complete; a dropped one removes its temporary file.
    let unfinished = BackupWriter::create(&place, &head()).unwrap();
    assert_eq!(names(folder.path()).len(), 2);
    drop(unfinished);
    assert_eq!(names(folder.path()), ["backup.tar.zst"]);
    assert!(Archive::open(&place).unwrap().verify().is_ok());
}

#[cfg(unix)]
#[test]
fn backup_file_is_readable_by_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let about = written(folder.path()).metadata().unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
}

#[test]
fn backup_truncated_or_modified_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let place = written(folder.path());
    let whole = std::fs::read(&place).unwrap();
    std::fs::write(&place, &whole[..whole.len() / 2]).unwrap();
    assert!(problem(&place).contains("damaged or truncated"));
    for at in 0..whole.len() {
        std::fs::write(&place, &whole[..at]).unwrap();
        let said = problem(&place);
        assert!(
            said.contains("damaged") || said.contains("is not a backup"),
            "{at}: {said}"
        );
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        std::fs::write(&place, changed).unwrap();
        // Flipping a bit that zstd ignores changes nothing.
        if let Ok(checked) = Archive::open(&place).and_then(Archive::verify) {
            assert_eq!(
                checked.files_of(Part::Catalog)["assets.json"],
                Digest::compute(b"[]")
            );
        }
    }
}

#[test]
fn archive_forged_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let file = tar::EntryType::Regular;
    let head = serde_json::to_vec(&head()).unwrap();
    let first = (HEADER_FILE, &head[..], file);
    let fails = |members: &[_], part: &str| {
        let said = problem(&made_up(folder.path(), members));
        assert!(said.contains(part), "{said}");
    };
    for name in [
        "catalog/../../x",
        "/etc/x",
        "catalog//x",
        "catalog/./x",
        "catalog/.restore-1/x",
        "catalog/",
    ] {
        fails(&[first, (name, b"", file)], "invalid name");
    }
    fails(
        &[first, ("catalog/x", b"", tar::EntryType::Symlink)],
        "is not a file",
    );
    fails(&[first, ("other/x", b"", file)], "belongs to no known part");
    fails(
        &[first, ("catalog/x", b"", file), ("catalog/x", b"", file)],
        "occurs twice",
    );
    fails(&[first, ("catalog/x", b"", file)], "its end is missing");
    fails(&[first, first], "is at the wrong position");
    fails(&[first, (DIGESTS_FILE, b"{}", file)], "has no digest");
    fails(
        &[first, (DIGESTS_FILE, b"{}", file), ("catalog/x", b"", file)],
        "follows the last member",
    );
    let said = serde_json::to_vec(&Digests::from([
        (HEADER_FILE.to_owned(), Digest::compute(&head)),
        ("catalog/x".to_owned(), Digest::compute(b"1")),
    ]));
    let last = (DIGESTS_FILE, &said.unwrap()[..], file);
    fails(&[first, last], "catalog/x is missing");
    fails(
        &[first, ("catalog/x", b"2", file), last],
        "does not match its digest",
    );
    assert!(
        Archive::open(&made_up(
            folder.path(),
            &[first, ("catalog/x", b"1", file), last]
        ))
        .unwrap()
        .verify()
        .is_ok()
    );
    fails(&[("x", b"", file)], "is not a backup");
    let later = br#"{"format": 2, "program": "9.9.9", "else": true}"#;
    fails(&[(HEADER_FILE, later, file)], "was made by plantlake 9.9.9");
}

#[test]
fn writer_never_replaces_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("accounts.xls");
    std::fs::write(&place, "precious").unwrap();
    let refused = BackupWriter::create(&place, &head()).err().unwrap();
    assert!(
        matches!(refused, BackupError::DestinationExists(_)),
        "{refused}"
    );
    assert_eq!(std::fs::read(&place).unwrap(), b"precious");
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn writer_removes_partial_file_of_killed_backup() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("backup.tar.zst.partial-1");
    std::fs::write(&left, "half").unwrap();
    let place = folder.path().join("backup.tar.zst");
    let other = BackupWriter::create(&place, &head()).unwrap();
    assert!(!left.exists());
    // A temporary file that is being written stays.
    written(folder.path());
    assert_eq!(names(folder.path()).len(), 2);
    other.finish().unwrap().move_into_place().unwrap();
    assert_eq!(names(folder.path()), ["backup.tar.zst"]);
}

#[test]
fn restore_folder_adds_missing_files_and_reports_differing_ones() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("a/catalog");
    let wanted = Digests::from([
        ("assets.json".to_owned(), Digest::compute(b"[]")),
        ("views/a.sql".to_owned(), Digest::compute(b"SELECT 1")),
    ]);
    let fill = |place: &mut RestoreFolder, name: &str, bytes: &[u8]| {
        if let Some(mut staged) = place.stage(name).unwrap() {
            staged.write(bytes).unwrap();
            staged.finish().unwrap();
        }
    };
    // A dropped place leaves nothing behind.
    let mut given_up = RestoreFolder::inspect(&place, false, &wanted).unwrap();
    fill(&mut given_up, "views/a.sql", b"SELECT 1");
    drop(given_up);
    assert!(names(folder.path()).is_empty());
    // An identical file stays as it is.
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("assets.json"), "[]").unwrap();
    let mut half = RestoreFolder::inspect(&place, false, &wanted).unwrap();
    assert!(half.conflicting_files().is_empty() && !half.is_complete());
    assert!(half.stage("assets.json").unwrap().is_none());
    fill(&mut half, "views/a.sql", b"SELECT 1");
    assert_eq!(files_below(&place).unwrap(), ["assets.json"]);
    half.commit(|| ()).unwrap();
    assert_eq!(names(&place), ["assets.json", "views"]);
    assert!(
        RestoreFolder::inspect(&place, false, &wanted)
            .unwrap()
            .is_complete()
    );
    // Files that differ or are not expected stay as they are.
    std::fs::write(place.join("assets.json"), "[1]").unwrap();
    std::fs::write(place.join("graph.json"), "{}").unwrap();
    let other = RestoreFolder::inspect(&place, false, &wanted).unwrap();
    assert_eq!(
        other.conflicting_files(),
        [place.join("assets.json"), place.join("graph.json")]
    );
}
