//! A file on the local disk that keeps new tokens until the store has them.
//!
//! A server that rotates refresh tokens strictly issues each one once. Between the response and
//! the commit, only this process has the new token. With a [`Journal`], it is encrypted and on the
//! local disk (fsync) before it is sent to the store. If the process is killed while the store is
//! away, the next process that opens a journal in the same folder saves it. The chapter
//! [`journal`](crate::guide::journal) says when to have a journal, what it costs, and what is lost
//! without one.
//!
//! ```no_run
//! use session_warden::Supervisor;
//! use session_warden::journal::Journal;
//! use session_warden::seal::KeyRing;
//! use session_warden::store::postgres::PostgresStore;
//!
//! # #[cfg(feature = "postgres")]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://warden:password@db.example.com/app";
//! let supervisor = Supervisor::builder()
//!     .key_ring(KeyRing::from_env("WARDEN_KEYS")?)
//!     .store(PostgresStore::connect(url).await?)
//!     .journal(Journal::open("/var/lib/my-backend/journal")?.max_entries(256))
//!     .start()
//!     .await?;
//! # Ok(())
//! # }
//! ```

mod dead_journal;
mod entry;
mod journal_fault;
mod journal_file;
mod journal_writer;
mod slot_format;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub(crate) use self::dead_journal::{DeadJournal, DeadJournals};
pub(crate) use self::entry::{Entry, EntryFault};
pub(crate) use self::journal_fault::JournalFault;
use self::journal_file::JournalFile;
pub(crate) use self::journal_writer::{JournalWriter, Room};
pub(crate) use self::slot_format::SlotContent;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::JOURNAL_ENTRIES;
use crate::seal::KeyRing;
use crate::store::Owner;

/// Where a supervisor writes new tokens before it saves them in the store. See the example of
/// [the module](self).
///
/// Each supervisor has a file of its own in the folder, and holds a lock on it. The operating system
/// releases the lock when the process ends. Another supervisor with a journal in the same folder
/// then takes the file over, saves what is in it, and removes it. It looks for such files at its
/// start and every 30 s.
///
/// The file grows with the number of exchanges that run at the same time, by 64 KiB for each, and
/// never shrinks while its supervisor runs.
pub struct Journal {
    file: JournalFile,
    max_entries: usize,
}

impl Journal {
    /// Opens a journal in this folder, and creates the folder if there is none. The folder must be
    /// on a local disk that outlives the process: a network volume may not tell when a process has
    /// ended, and the folder of a container is gone with it. Several processes of one machine can
    /// use the same folder. This blocks while it writes, so call it at the start.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] if the folder or a file in it cannot be made, or if the disk has
    /// no locks.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        // The program may change its current folder later.
        let folder = std::path::absolute(folder);
        let file = folder.and_then(|folder| JournalFile::create(&folder)).map_err(|error| {
            let fault = JournalFault::of(&error);
            Error::new(ErrorKind::Misconfigured)
                .about(
                    "the journal cannot be opened; give it a folder on a local disk that this \
                     process can write",
                )
                .with_source(fault)
        })?;
        Ok(Self { file, max_entries: JOURNAL_ENTRIES })
    }

    /// Sets how many entries the journal can have at the same time. Each exchange reserves one
    /// before it begins, and the tokens that the store lacks keep theirs. Without a free entry, no
    /// exchange begins. Defaults to 1,024, at most 64 MiB on the disk. Zero counts as 1.
    #[must_use]
    pub fn max_entries(self, max_entries: usize) -> Self {
        Self { max_entries: max_entries.max(1), ..self }
    }

    /// Begins to write, with the keys of this ring.
    pub(crate) fn start(self, owner: Owner, ring: KeyRing) -> Result<Arc<JournalWriter>> {
        let misconfigured = |about| Error::new(ErrorKind::Misconfigured).about(about);
        if ring.is_generated() || ring.is_weak() {
            return Err(misconfigured(
                "the journal is encrypted with keys that must outlive the process; give the \
                 supervisor a key ring (`SupervisorBuilder::key_ring` with `KeyRing::from_file` \
                 or `KeyRing::from_env`)",
            ));
        }
        JournalWriter::start(self.file, (owner, ring), self.max_entries).map_err(|error| {
            misconfigured("the journal cannot be written; free space on its disk")
                .with_source(JournalFault::of(&error))
        })
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("max_entries", &self.max_entries).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
