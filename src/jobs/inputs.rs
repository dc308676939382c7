//! The inputs of a run: raw files and archived raw files in order of precedence, in which later files win.

use super::attempt::Attempt;
use super::ledger::Ledger;
use crate::lake::Store;
use crate::lake::raw::RawFile;
use crate::model::DateSet;

/// A file whose readings are averaged.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// The key of the file in the ledger.
    pub key: String,
    /// The folder that contains the file.
    pub folder: Store,
    /// The file as it is in the folder.
    pub file: RawFile,
}

/// Returns the archive folder of a lake for expired raw files.
pub(super) fn raw_archive(lake: &Store) -> Store {
    lake.child("archive").child("raw")
}

impl Attempt<'_> {
    /// Returns the files that can be read, in order of precedence; later files win.
    pub(super) fn inputs(&self, ledger: &Ledger) -> Vec<Input> {
        let mut ranked = Vec::new();
        for file in &self.listed {
            let known = ledger.files.get(&file.path);
            if let Some(known) = known.filter(|known| known.quarantined.is_none()) {
                let input = Input {
                    key: file.path.clone(),
                    folder: self.job.raw.clone(),
                    file: file.clone(),
                };
                ranked.push(((known.precedence(), file.path.clone()), input));
            }
        }
        let archive = raw_archive(&self.job.lake);
        for (name, archived) in &ledger.archived {
            if archived.file.quarantined.is_none() {
                let input = Input {
                    key: Ledger::archive_key(name),
                    folder: archive.clone(),
                    file: archived.to_raw_file(name),
                };
                ranked.push(((archived.file.precedence(), archived.path.clone()), input));
            }
        }
        ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
        ranked.into_iter().map(|(_, input)| input).collect()
    }

    /// Returns the inputs that have readings on `dates`.
    pub(super) fn inputs_on(&self, ledger: &Ledger, dates: &DateSet) -> Vec<Input> {
        let mut inputs = self.inputs(ledger);
        inputs.retain(|input| {
            let known = ledger.file(&input.key);
            known.is_some_and(|known| known.dates.intersects(dates))
        });
        inputs
    }
}
