//! Whether the file and its disk have space for new credentials. The store checks it before a
//! claim, so that no refresh is sent whose result could not be stored.

use std::path::Path;

use rusqlite::{Connection, Statement};

use super::sqlite_fault::SqliteFault;
use super::statement_error::StatementError;

/// The store refuses claims while less than this is free, within `max_bytes` or on the disk.
/// Defaults to 4 MiB: as many claims as one batch has may be open, and each brings some 4 KiB
/// twice, first in SQLite's log and then in the file.
pub(super) const MIN_FREE_BYTES: u64 = 4 * 1024 * 1024;

/// The check, with its result for the present batch.
pub(super) struct FreeSpace<'c> {
    folder: &'c Path,
    page_counts: [Statement<'c>; 3],
    page_bytes: u64,
    enough: Option<bool>,
}

impl<'c> FreeSpace<'c> {
    pub(super) fn new(conn: &'c Connection, folder: &'c Path) -> rusqlite::Result<Self> {
        let page_bytes: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let page_counts = [
            conn.prepare("PRAGMA max_page_count")?,
            conn.prepare("PRAGMA page_count")?,
            conn.prepare("PRAGMA freelist_count")?,
        ];
        Ok(Self {
            folder,
            page_counts,
            page_bytes: u64::try_from(page_bytes).unwrap_or(0),
            enough: None,
        })
    }

    /// Drops the last result: between two batches other processes may have filled the disk.
    pub(super) fn begin_batch(&mut self) {
        self.enough = None;
    }

    /// Fails if too little is free.
    pub(super) fn check(&mut self) -> Result<(), StatementError> {
        let enough = match self.enough {
            Some(enough) => enough,
            None => self.in_file()? >= MIN_FREE_BYTES && on_disk(self.folder) >= MIN_FREE_BYTES,
        };
        self.enough = Some(enough);
        if enough { Ok(()) } else { Err(SqliteFault::NoRoom.into()) }
    }

    fn in_file(&mut self) -> Result<u64, StatementError> {
        let mut counts = [0_u64; 3];
        for (count, pragma) in counts.iter_mut().zip(&mut self.page_counts) {
            let pages: i64 = pragma.query_row([], |row| row.get(0))?;
            *count = u64::try_from(pages).unwrap_or(0);
        }
        let [most, used, free] = counts;
        Ok((most.saturating_sub(used) + free).saturating_mul(self.page_bytes))
    }
}

/// The bytes that are free on the disk. Elsewhere the system is not asked, and a full disk shows
/// when a write fails.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn on_disk(folder: &Path) -> u64 {
    let stat = rustix::fs::statvfs(folder);
    stat.map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn on_disk(_: &Path) -> u64 {
    u64::MAX
}
