//! The journals that dead processes left in the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::journal_file::{JournalFile, is_journal};
use super::journal_writer::JournalWriter;
use super::slot_format::SlotContent;
use crate::policy::JOURNAL_FILES;
use crate::store::Owner;

/// The journal of a dead process, which this process has locked.
pub(crate) struct DeadJournal {
    owner: Owner,
    file: JournalFile,
    /// Its torn entries were reported.
    pub(crate) reported: bool,
}

impl DeadJournal {
    /// The supervisor that wrote it.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// The slots that are not free. One that the disk does not give back keeps no other from being
    /// read.
    pub(crate) fn entries(&mut self) -> io::Result<Vec<(u32, io::Result<SlotContent>)>> {
        let mut entries = Vec::new();
        for slot in 0..self.file.slots()? {
            let content = self.file.read(slot);
            if !matches!(content, Ok(SlotContent::Free)) {
                entries.push((slot, content));
            }
        }
        Ok(entries)
    }

    /// Frees a slot whose entry the store has.
    pub(crate) fn erase(&mut self, slot: u32) -> io::Result<()> {
        self.file.erase(slot)
    }

    /// Removes the file.
    pub(crate) fn remove(self) -> io::Result<()> {
        self.file.remove()
    }
}

/// Finds the journals of dead processes.
pub(crate) struct DeadJournals {
    folder: PathBuf,
    own: PathBuf,
}

impl DeadJournals {
    pub(crate) fn beside(writer: &JournalWriter) -> Self {
        let own = writer.path().to_owned();
        Self { folder: own.parent().map(Path::to_owned).unwrap_or_default(), own }
    }

    /// Locks the journals of dead processes that this process has not locked yet. Removes files
    /// whose process died before it wrote anything, and leaves files alone that are no journals.
    pub(crate) fn take_over(&self, known: usize) -> io::Result<Vec<DeadJournal>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if known + found.len() >= JOURNAL_FILES {
                break;
            }
            let path = entry.path();
            if path == self.own || !is_journal(&entry.file_name()) {
                continue;
            }
            // One file that cannot be read must not keep the others from being replayed.
            let Ok(Some(mut file)) = JournalFile::take_over(&path) else { continue };
            match file.owner() {
                Ok(Some(owner)) => found.push(DeadJournal { owner, file, reported: false }),
                Ok(None) if file.is_blank().unwrap_or(false) => drop(file.remove()),
                Ok(None) | Err(_) => {}
            }
        }
        Ok(found)
    }
}
