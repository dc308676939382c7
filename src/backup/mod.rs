//! The file format of backups: a tar archive compressed with zstd, which `tar --zstd -xf` extracts, too.
//!
//! The first member is the header ([`BackupHeader`]). The last member contains the digests ([`Digest`]) of all others;
//! a file without it was truncated. Each member in between is named `<part>/<file>` and is a file of a [`Part`]. A
//! backup is written next to its destination and moved there once it is on disk. Nothing is extracted before the whole
//! archive has been read once and compared with the digests.

mod digest;
mod error;
mod folder;
mod header;
mod member_names;
mod reader;
mod restore_folder;
mod writer;

pub use digest::{Digest, DigestHasher, Digests};
pub use error::BackupError;
pub use folder::{Stamps, files_below};
pub use header::{BackupHeader, DatabaseHeader, FORMAT, Part};
pub use reader::{Archive, Member, VerifiedBackup};
pub use restore_folder::{NewFolders, RestoreFolder};
pub use writer::{BackupWriter, FinishedBackup};

#[cfg(test)]
mod tests;
