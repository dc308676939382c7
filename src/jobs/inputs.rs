//! What a run reads: raw files, and those of them that are in the archive, in the order in which later ones win.

use super::ledger::Ledger;
use super::resample::Attempt;
use crate::lake::Store;
use crate::lake::raw::RawFile;
use crate::model::DateSet;

/// A file that averages are made of.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// Its key in the ledger.
    pub key: String,
    /// The folder that it is in.
    pub folder: Store,
    /// The file, as it is there.
    pub file: RawFile,
}

/// Where raw files are that expired, below a lake.
pub(super) fn archive_of_raw(lake: &Store) -> Store {
    lake.child("archive").child("raw")
}

impl Attempt<'_> {
    /// The files that can be read, in the order in which later ones win.
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
                ranked.push(((known.rank(), file.path.clone()), input));
            }
        }
        let archive = archive_of_raw(&self.job.lake);
        for (name, archived) in &ledger.archived {
            if archived.file.quarantined.is_none() {
                let input = Input {
                    key: Ledger::archive_key(name),
                    folder: archive.clone(),
                    file: archived.stored(name),
                };
                ranked.push(((archived.file.rank(), archived.path.clone()), input));
            }
        }
        ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
        ranked.into_iter().map(|(_, input)| input).collect()
    }

    /// Those that have something to do with `dates`.
    pub(super) fn inputs_of(&self, ledger: &Ledger, dates: &DateSet) -> Vec<Input> {
        let mut inputs = self.inputs(ledger);
        inputs.retain(|input| {
            let known = ledger.file(&input.key);
            known.is_some_and(|known| known.dates.intersects(dates))
        });
        inputs
    }
}
