//! How a file is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::opening::OPEN_TIMEOUT;
use super::row::NEWEST_FORM;
use super::worker_handle::WorkerHandle;
use super::{Inner, Shared, SqliteStore};
use crate::clock::{Clock, SystemClock};
use crate::seal::KeyRing;
use crate::store::StoreError;
use crate::store::record_cipher::RecordCipher;

/// A store to be opened.
#[derive(Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct SqliteBuilder {
    pub(super) path: PathBuf,
    pub(super) keys: Option<KeyRing>,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) form: i64,
    /// How long an opening waits for other processes.
    pub(super) open_timeout: Duration,
    pub(super) in_clear: bool,
    pub(super) synchronous: Synchronous,
    pub(super) max_bytes: Option<u64>,
    pub(super) exclusive: bool,
    pub(super) by_group: bool,
}

impl SqliteBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            keys: None,
            clock: None,
            form: NEWEST_FORM,
            open_timeout: OPEN_TIMEOUT,
            in_clear: false,
            synchronous: Synchronous::Commits,
            max_bytes: None,
            exclusive: false,
            by_group: false,
        }
    }

    /// Seals records with these keys, whatever the supervisor's are.
    pub fn key_ring(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Takes all time from this clock. Defaults to that of the first supervisor that uses the
    /// store. Processes that share a file must have clocks that agree.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Writes tokens to the disk as they are, for whoever can read the file or a backup of it. A
    /// file is made for one or the other and keeps to it.
    pub fn tokens_in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    /// What waits for the disk. Defaults to [`Synchronous::Commits`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Lets the file grow to this and no further; its log is not counted. When less than 4 MiB of
    /// it are left, or of the disk, no refresh is begun any more. Defaults to what SQLite allows,
    /// 16 TB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Keeps every other process from the file for as long as this one has it, and whatever another
    /// one has claimed counts as a dead one's at once. Opening waits 5 s for a process that has it,
    /// and then fails with [`SqliteFault::Locked`](super::SqliteFault::Locked). For a backend that
    /// never runs twice on purpose: a second one started by mistake does not start, in place of
    /// sharing the sessions.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Takes a file that its group may write. Without it, such a file is refused as
    /// [`SqliteFault::Exposed`](super::SqliteFault::Exposed), as one that all others may write or
    /// that another user owns always is. Kubernetes lets a group write the files of a volume
    /// (`fsGroup`); who is in that group can then change the file.
    pub fn writable_by_group(mut self) -> Self {
        self.by_group = true;
        self
    }

    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`]; also if its records are sealed and this opens them in clear, or
    /// the other way round.
    pub fn open(mut self) -> Result<SqliteStore, StoreError> {
        let keys = self.keys.take();
        let cipher =
            if self.in_clear { RecordCipher::Plaintext } else { RecordCipher::with_keys(keys) };
        let clock = self.clock.take().map_or_else(OnceLock::new, OnceLock::from);
        let shared = Shared { cipher, clock, system: SystemClock::new(), form: self.form };
        let (path, shared) = (self.path.clone(), Arc::new(shared));
        let worker = WorkerHandle::open(self, Arc::clone(&shared))?;
        Ok(SqliteStore(Arc::new(Inner { path, worker, shared, reseal_position: Mutex::default() })))
    }
}

impl fmt::Debug for SqliteBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBuilder")
            .field("path", &self.path)
            .field("keys", &self.keys)
            .field("in_clear", &self.in_clear)
            .field("synchronous", &self.synchronous)
            .field("max_bytes", &self.max_bytes)
            .field("exclusive", &self.exclusive)
            .field("by_group", &self.by_group)
            .finish_non_exhaustive()
    }
}

/// Which writes wait until the disk has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// New credentials, closes and deletes: they survive a loss of power. Claims survive a killed
    /// process, and reach the disk with the next commit.
    Commits,
    /// All of them. A claim that a loss of power takes along costs no more than the reason why a
    /// refresh is in doubt, so this is seldom worth twice the writes.
    Everything,
    /// None: a loss of power takes along what was written last, and the users of these sessions
    /// must sign in again. A killed process still loses nothing.
    Nothing,
}

impl Synchronous {
    /// The pragma for a batch of writes. `durable` if one of them must survive a loss of power.
    pub(super) fn pragma(self, durable: bool) -> &'static str {
        let full = match self {
            Self::Commits => durable,
            Self::Everything => true,
            Self::Nothing => false,
        };
        if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" }
    }
}
