//! Copies whole raw files between folders byte by byte, and computes their SHA-256.

use aws_lc_rs::digest::{Context, Digest, SHA256};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, WriteMultipart};

use super::raw_file::RawFile;
use crate::lake::storage::store::{Store, delete_if_exists};
use crate::model::hex;

/// The size in bytes of an upload part.
const PART_BYTES: usize = 8 << 20;

/// The reasons why a file cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The object store fails.
    #[error("cannot {action} the raw file {path} in {folder}")]
    Store {
        /// The path of the file.
        path: String,
        /// The folder of the file.
        folder: String,
        /// The attempted action, as a verb.
        action: &'static str,
        /// The store's error.
        source: object_store::Error,
    },
    /// The file is not the version that was listed, or does not exist any more.
    #[error("{path} changed or disappeared while it was copied; run again")]
    Changed {
        /// The path of the file.
        path: String,
    },
}

fn to_store_path(path: &str) -> Path {
    // `path` is escaped as in a listing; `Path::from` would escape it again.
    Path::parse(path).unwrap_or_else(|_| Path::from(path))
}

/// Returns options that fail for any other version of the file.
fn version_options(file: &RawFile) -> GetOptions {
    let made_up = file.etag == format!("{}-{}", file.modified, file.size);
    GetOptions {
        if_match: (!made_up).then(|| file.etag.clone()),
        ..GetOptions::default()
    }
}

fn copy_error<'a>(
    folder: &'a Store,
    path: &'a str,
    action: &'static str,
) -> impl Fn(object_store::Error) -> CopyError + Copy + 'a {
    move |source| match source {
        object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. } => {
            CopyError::Changed {
                path: path.to_owned(),
            }
        }
        source => CopyError::Store {
            path: path.to_owned(),
            folder: folder.to_string(),
            action,
            source,
        },
    }
}

/// Converts an error of the folder that is written to, whatever its kind: the file that is read may be unchanged.
fn write_error<'a>(
    folder: &'a Store,
    path: &'a str,
) -> impl Fn(object_store::Error) -> CopyError + Copy + 'a {
    move |source| CopyError::Store {
        path: path.to_owned(),
        folder: folder.to_string(),
        action: "write",
        source,
    }
}

/// Copies `file` in `from` to `name` in `to`, replacing an existing file. Returns the copy as it is listed in `to`, and
/// its SHA-256. When the function returns, the copy is on the disk. A transfer that fails leaves no file.
///
/// # Errors
///
/// [`CopyError::Changed`] if the file is not the version that was listed, or if its SHA-256 is not `expected`.
pub async fn copy(
    from: &Store,
    file: &RawFile,
    to: &Store,
    name: &str,
    expected: Option<&str>,
) -> Result<(RawFile, String), CopyError> {
    let failed = copy_error(from, &file.path, "copy");
    let not_written = write_error(to, name);
    let target = to_store_path(name);
    let objects = from.objects();
    let got = objects
        .get_opts(&to_store_path(&file.path), version_options(file))
        .await;
    let mut bytes = got.map_err(failed)?.into_stream();
    let upload = to.objects().put_multipart(&target).await;
    let upload = upload.map_err(not_written)?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let (mut hash, mut size) = (Context::new(&SHA256), 0);
    let copied: Result<(), CopyError> = async {
        while let Some(part) = bytes.try_next().await.map_err(failed)? {
            hash.update(&part);
            size += part.len() as u64;
            let ready = upload.wait_for_capacity(2).await;
            ready.map_err(not_written)?;
            upload.put(part);
        }
        Ok(())
    }
    .await;
    let sha256 = to_hex(hash.finish());
    let is_it = size == file.size && expected.is_none_or(|expected| sha256 == expected);
    if copied.is_err() || !is_it {
        // Report the first error, not that of the abort.
        let _ = upload.abort().await;
        copied?;
        return Err(CopyError::Changed {
            path: file.path.clone(),
        });
    }
    upload.finish().await.map_err(not_written)?;
    to.sync(&target).await.map_err(not_written)?;
    let stored = find_file(to, name).await?;
    let stored = stored.ok_or_else(|| CopyError::Changed {
        path: name.to_owned(),
    })?;
    Ok((stored, sha256))
}

/// Computes the SHA-256 of a file's bytes.
pub async fn sha256(folder: &Store, file: &RawFile) -> Result<String, CopyError> {
    let failed = copy_error(folder, &file.path, "read");
    let objects = folder.objects();
    let got = objects
        .get_opts(&to_store_path(&file.path), version_options(file))
        .await;
    let mut bytes = got.map_err(failed)?.into_stream();
    let mut hash = Context::new(&SHA256);
    while let Some(part) = bytes.try_next().await.map_err(failed)? {
        hash.update(&part);
    }
    Ok(to_hex(hash.finish()))
}

/// Whether the folder contains any file.
pub async fn has_files(folder: &Store) -> Result<bool, CopyError> {
    let listed = folder.objects().list(None).try_next().await;
    let first = listed.map_err(|source| CopyError::Store {
        path: "/".to_owned(),
        folder: folder.to_string(),
        action: "list",
        source,
    })?;
    Ok(first.is_some())
}

/// Returns the metadata of a file, or `None` if it does not exist.
pub async fn find_file(folder: &Store, path: &str) -> Result<Option<RawFile>, CopyError> {
    match folder.objects().head(&to_store_path(path)).await {
        // The store reports the path relative to its own root.
        Ok(found) => Ok(Some(RawFile {
            path: path.to_owned(),
            ..RawFile::from_object(found)
        })),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(source) => Err(CopyError::Store {
            path: path.to_owned(),
            folder: folder.to_string(),
            action: "read",
            source,
        }),
    }
}

/// Deletes a file. Succeeds if the file does not exist.
pub async fn delete(folder: &Store, path: &str) -> Result<(), CopyError> {
    let deleted = delete_if_exists(&*folder.objects(), &to_store_path(path)).await;
    deleted.map_err(copy_error(folder, path, "delete"))
}

fn to_hex(digest: Digest) -> String {
    hex(digest.as_ref())
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::lake::storage::store::StoreOptions;

    fn folder(name: &str) -> Store {
        Store::open(&format!("memory://shelf-test/{name}"), &StoreOptions::new()).unwrap()
    }

    async fn put(folder: &Store, name: &str, bytes: &'static [u8]) -> RawFile {
        let path = to_store_path(name);
        folder.objects().put(&path, bytes.into()).await.unwrap();
        find_file(folder, name).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn copy_to_unusable_folder_names_that_folder() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("archive");
        let to = Store::open(path.to_str().unwrap(), &StoreOptions::new()).unwrap();
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "not a folder").unwrap();
        let from = folder("from-readable");
        let file = put(&from, "a.parquet", b"bytes").await;
        let error = copy(&from, &file, &to, "x/1", None).await.unwrap_err();
        let said = error.to_string();
        assert_eq!(said, format!("cannot write the raw file x/1 in {to}"));
    }

    #[tokio::test]
    async fn copy_of_another_version_fails_and_leaves_no_file() {
        let (from, to) = (folder("from"), folder("to"));
        assert!(!has_files(&to).await.unwrap());
        let first = put(&from, "a/b c.parquet", b"first").await;
        let (copied, hash) = copy(&from, &first, &to, "x/1", None).await.unwrap();
        assert_eq!((copied.path.as_str(), copied.size), ("x/1", 5));
        assert_eq!(sha256(&to, &copied).await.unwrap(), hash);
        // The SHA-256 must be as expected,
        let again = copy(&from, &first, &to, "x/2", Some(&hash)).await;
        assert_eq!(again.unwrap().1, hash);
        let other = copy(&from, &first, &to, "x/3", Some("00")).await;
        assert!(matches!(other, Err(CopyError::Changed { .. })));
        // the version must be the listed one,
        let second = put(&from, "a/b c.parquet", b"other").await;
        let changed = copy(&from, &first, &to, "x/4", None).await;
        assert!(matches!(changed, Err(CopyError::Changed { .. })));
        // the size must be the listed one,
        let fixed = RawFile::immutable("a/b c.parquet", 4);
        let shorter = copy(&from, &fixed, &to, "x/5", None).await;
        assert!(matches!(shorter, Err(CopyError::Changed { .. })));
        // and the file must exist.
        delete(&from, &second.path).await.unwrap();
        delete(&from, &second.path).await.unwrap();
        let gone = copy(&from, &second, &to, "x/6", None).await;
        assert!(matches!(gone, Err(CopyError::Changed { .. })));
        for name in ["x/3", "x/4", "x/5", "x/6"] {
            assert_eq!(find_file(&to, name).await.unwrap(), None, "{name}");
        }
        assert!(has_files(&to).await.unwrap());
    }
}
