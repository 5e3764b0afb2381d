//! Bounds of stores, and of how much is read and written at once.

use std::time::Duration;

/// The time between renewals of a claim while its request is open; a quarter of the lease where
/// that is shorter. Defaults to 5 s, so that two renewals in a row may fail within a
/// [`lease`](super::Policy::lease) of 20 s, and the third is in time.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(5);

/// The first pause before a process looks again at another process's claim on a session. Defaults
/// to 20 ms because its refresh takes that long at least, and callers wait.
pub const CLAIM_LOOK: Duration = Duration::from_millis(20);

/// The longest pause between two such looks; each pause is twice as long as the one before.
/// Defaults to 500 ms because a caller that has waited for a second waits for a slow server, and
/// half a second more does not matter.
pub const CLAIM_LOOK_CAP: Duration = Duration::from_millis(500);

/// The pause before a supervisor asks the store again what other processes changed. Defaults to 250
/// ms: a token that they replaced is served for no longer than that and the time to read the new
/// one.
pub const CHANGES_LOOK: Duration = Duration::from_millis(250);

/// How many changes one question reads. Defaults to 1,024, some 100 KB.
pub const CHANGES_PAGE: usize = 1024;

/// How often a supervisor tells the store that it goes on. Defaults to 1 min, which costs nothing.
pub const PRESENCE_RENEWAL: Duration = Duration::from_secs(60);

/// How many changes a [`MemoryStore`](crate::store::MemoryStore) remembers for the supervisors that
/// share it. Defaults to 4,096, more than are made between two looks of one supervisor.
pub const MEMORY_NEWS: usize = 4096;

/// How many records that other processes changed are read at once. Defaults to 256, some 250 KB
/// with their tokens: a reading that a caller waits for has no more than that before it.
pub const READ_PAGE: usize = 256;

/// How many due records are read from the store at once. Defaults to 256, some 25 KB, so that a
/// caller's statement waits behind no longer read than that.
pub const DUE_PAGE: usize = 256;

/// How often a supervisor asks the store for each provider's due records. Defaults to 30 s: a
/// record that another process left is looked at no later than that.
pub const DUE_LOOK: Duration = Duration::from_secs(30);

/// The schedule keeps in memory what is due within this, and leaves the rest to the store. Defaults
/// to 2 min, four times [`DUE_LOOK`], so that a store may fail for more than a minute.
pub const DUE_WITHIN: Duration = Duration::from_secs(120);

/// How many records are sealed anew at once after the ring's key was changed. Defaults to 128,
/// which is one transaction of a few milliseconds: no refresh waits for longer.
pub const RESEAL_PAGE: usize = 128;

/// The pause before each of these pages. Defaults to 250 ms, four writes to the disk in a second: a
/// million records take half an hour, and nobody waits for them.
pub const RESEAL_PAUSE: Duration = Duration::from_millis(250);

/// While other keys still seal records, a supervisor goes through them again after this. Defaults
/// to 1 h because by then the claims of the last time have ended, and processes that got the new
/// key later have it.
pub const RESEAL_AGAIN: Duration = Duration::from_secs(3600);

/// How many steps SQLite does for one statement at most; what needs more fails as
/// [`TooLong`](crate::store::sqlite::SqliteFault::TooLong). Defaults to 500 million, some 5 s:
/// going through 4 million sessions takes fewer than 100 million, and only a file that was made to
/// be read for ever takes more.
#[cfg(feature = "sqlite")]
pub const SQLITE_STEPS: u64 = 500_000_000;

/// A record of a file with more bytes of sealed credentials is taken as damaged, and is not
/// written. Defaults to 16 MiB because a server's answer has at most 256 KiB, and what an import
/// brings has no more.
#[cfg(feature = "sqlite")]
pub const SEALED_BYTES: usize = 16 * 1024 * 1024;

/// How many lock files of other processes are looked at beside a file; where there are more, other
/// processes count as there. Defaults to 1,024 because a machine runs a handful of them, and a
/// killed one's is removed.
#[cfg(feature = "sqlite")]
pub const OWNER_LOCKS: usize = 1024;

/// How often a process tries to make its lock beside a file. Defaults to 16 because only another
/// process that clears up in the same instant is in the way.
#[cfg(feature = "sqlite")]
pub const OWNER_LOCK_TRIES: usize = 16;

/// How soon the log of a file is cut again after something was forgotten, while another process
/// reads it. Defaults to 250 ms because a read takes milliseconds.
#[cfg(feature = "sqlite")]
pub const FORGET_AGAIN: Duration = Duration::from_millis(250);
