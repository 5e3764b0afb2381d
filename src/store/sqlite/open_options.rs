//! The options with which a file is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::seal::KeyRing;
use crate::store::session_row::NEWEST_FORM;

/// How long an opening waits for other processes that open or write. Defaults to 5 s, in which each
/// of them finishes.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings with which a file is opened.
///
/// ```
/// use std::error::Error as _;
/// use session_warden::store::sqlite::{SqliteBuilder, SqliteFault, SqliteStore, Synchronous};
/// use session_warden::store::{SealFault, StoreErrorKind};
/// use session_warden::{ErrorKind, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let settings: SqliteBuilder = SqliteStore::builder(folder.join("sessions.db"))
///     .synchronous(Synchronous::Everything) // claims wait for the disk too
///     .max_bytes(2 << 30); // 2 GiB
/// let store = settings.open()?;
///
/// // Without a key ring, the supervisor does not start.
/// let refused = Supervisor::builder().store(store).start().await.unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Misconfigured);
/// let seal_fault = refused.source().and_then(|cause| cause.source()?.downcast_ref());
/// assert_eq!(seal_fault, Some(&SealFault::GeneratedKeys));
///
/// // The path must name a file, not a folder.
/// let refused = SqliteStore::open(folder).unwrap_err();
/// assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
/// let fault = refused.source().and_then(|fault| fault.downcast_ref());
/// assert_eq!(fault, Some(&SqliteFault::NotAFile));
/// # Ok(())
/// # }
/// ```
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

    /// Encrypts records with these keys instead of the supervisor's.
    pub fn key_ring(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Takes all times from this clock. Defaults to the clock of the first supervisor that uses the
    /// store. The clocks of processes that share a file must agree.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Writes tokens to the disk without encryption. Every user who can read the file or a backup
    /// of it can use the tokens. You choose this when the file is created, and cannot change it
    /// later.
    pub fn tokens_in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    /// Which writes wait for the disk. Defaults to [`Synchronous::Commits`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Limits the size of the file, not counting its log. While less than 4 MiB are left within
    /// this limit or on the disk, the crate starts no refresh. Defaults to SQLite's own limit, 16
    /// TB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Lets no other process open the file while this process has it open. So the store knows that
    /// all other processes which claimed sessions have ended, and does not wait for them. If
    /// another process has the file open, `open` waits 5 s, and then fails with
    /// [`SqliteFault::InUse`](super::SqliteFault::InUse). Use this for a backend that never runs
    /// twice on purpose: a second process that is started by mistake then fails, instead of sharing
    /// the sessions.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Accepts a file that its group may write. Without this setting, `open` refuses such a file
    /// with [`SqliteFault::Exposed`](super::SqliteFault::Exposed). Even with this setting, it
    /// refuses a file that all users may write or that another user owns. You need this setting on
    /// Kubernetes if a volume has an `fsGroup`, which lets a group write its files. Every member of
    /// that group can then change the file.
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

/// Which writes wait until the disk has them. See the example of [`SqliteBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// New credentials, closes and deletions wait, so they survive a loss of power. Claims do not
    /// wait: they survive if the process is killed, and reach the disk with the next commit.
    Commits,
    /// All writes wait. This makes twice as many writes to the disk, and is seldom worth it: if a
    /// loss of power deletes a claim, the next process only does not know why a refresh is in
    /// doubt.
    Everything,
    /// No write waits. A loss of power deletes the last writes, and the users of these sessions
    /// must sign in again. If the process is killed, nothing is lost.
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
