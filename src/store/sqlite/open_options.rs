//! The options with which a file is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::row::NEWEST_FORM;
use crate::clock::Clock;
use crate::seal::KeyRing;

/// How long an opening waits for other processes that open or write. Defaults to 5 s, in which each
/// of them finishes.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of a store that is not open yet.
#[derive(Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct SqliteBuilder {
    pub(super) path: PathBuf,
    pub(super) keys: Option<KeyRing>,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) form: i64,
    /// How long `open` waits for other processes.
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

    /// Seals records with these keys instead of the supervisor's.
    pub fn key_ring(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Uses this clock for all times. Defaults to the clock of the first supervisor that uses the
    /// store. The clocks of processes that share a file must agree.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Writes tokens to the disk unencrypted. Anybody who can read the file or a backup of it can
    /// use them. A file is created for one or the other and cannot be changed later.
    pub fn tokens_in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    /// Which writes wait for the disk. Defaults to [`Synchronous::Commits`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Limits the size of the file, without its log. When less than 4 MiB are left within this
    /// limit or on the disk, no refresh is started any more. Defaults to SQLite's own limit, 16 TB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Lets no other process open the file while this one has it. Claims of other processes then
    /// count as those of dead ones at once. `open` waits 5 s for a process that has the file, and
    /// then fails with [`SqliteFault::InUse`](super::SqliteFault::InUse). Use it for a backend
    /// that never runs twice on purpose: a second process that is started by mistake then fails,
    /// instead of sharing the sessions.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Accepts a file that its group may write. Without this setting, `open` refuses such a file
    /// with [`SqliteFault::Exposed`](super::SqliteFault::Exposed). It always refuses a file that
    /// all users may write or that another user owns. Kubernetes lets a group write the files of a
    /// volume (`fsGroup`); every member of that group can then change the file.
    pub fn writable_by_group(mut self) -> Self {
        self.by_group = true;
        self
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
    /// New credentials, closes and deletes, which then survive a loss of power. Claims survive a
    /// killed process, and reach the disk with the next commit.
    Commits,
    /// All of them. If a loss of power deletes a claim, only the reason why a refresh is in doubt
    /// is lost, so this is seldom worth twice the writes.
    Everything,
    /// None. A loss of power deletes the last writes, and the users of these sessions must sign in
    /// again. A killed process still loses nothing.
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
