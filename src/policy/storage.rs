//! Bounds of stores, and of how much a supervisor reads and writes at once.

use std::time::Duration;

/// The time between renewals of a claim while its request is open, or a quarter of the lease if
/// that is shorter. Defaults to 5 s, so that two renewals in a row may fail within a
/// [`lease`](super::Policy::lease) of 20 s, and the third is still in time.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(5);

/// The first pause before a process checks again whether another process still has its claim on a
/// session. Defaults to 20 ms because the other's refresh takes at least that long, and callers
/// wait.
pub const CLAIM_POLL: Duration = Duration::from_millis(20);

/// The longest pause between two such checks; each pause is twice as long as the one before.
/// Defaults to 500 ms because after a second the server is slow, and half a second more does not
/// matter.
pub const CLAIM_POLL_CAP: Duration = Duration::from_millis(500);

/// The pause before a supervisor asks the store again what other processes changed. Defaults to 250
/// ms: a supervisor hands out a token that another process replaced for no longer than that and the
/// time to load the new one.
pub const CHANGES_POLL: Duration = Duration::from_millis(250);

/// How many changes a supervisor reads from the store at once. Defaults to 1,024, some 100 KB.
pub const CHANGES_PAGE: usize = 1024;

/// How often a supervisor writes to the store that it is still running. Defaults to 1 min, at which
/// the writes cost almost nothing.
pub const PRESENCE_RENEWAL: Duration = Duration::from_secs(60);

/// How often a supervisor reads from the store which clients are held back, while one is. Otherwise
/// the store says how often: in memory each minute, in PostgreSQL every 5 s. Defaults to 1 s: a stop ends in all processes a
/// second after the server accepted the client in one of them.
pub const CLIENTS_POLL: Duration = Duration::from_secs(1);

/// For this long after a client was replaced in a process, the stops of other processes do not hold
/// for it there. Defaults to 10 min: by then an operator has replaced it in all processes.
pub const CLIENT_APART: Duration = Duration::from_secs(600);

/// How many clients that are held back a supervisor reads from the store at once. Defaults to 256,
/// some 50 KB. Most programs have fewer clients.
pub const CLIENTS_PAGE: usize = 256;

/// How many clients a supervisor changes in the store at the same time. Defaults to 8, because a
/// client is changed seldom, and callers use the store too.
pub const CLIENTS_AT_ONCE: usize = 8;

/// How many changes of one client are written in a row before other clients get their turn.
/// Defaults to 8: a stop takes two, and further ones come while these are written.
pub const CLIENT_CHANGES: u32 = 8;

/// How many changes a [`MemoryStore`](crate::store::MemoryStore) remembers for the supervisors that
/// share it. Defaults to 4,096, more than happen between two requests of one supervisor.
pub const MEMORY_NEWS: usize = 4096;

/// How many entries a [`Journal`](crate::journal::Journal) has, unless
/// [`max_entries`](crate::journal::Journal::max_entries) says otherwise. Defaults to 1,024, which is
/// 64 MiB: more exchanges than most backends run at the same time.
pub const JOURNAL_ENTRIES: usize = 1024;

/// How many bytes an entry of a journal has on the disk. Credentials that do not fit are saved
/// without the journal. Defaults to 64 KiB because the tokens of most servers take less than 8 KiB.
pub const JOURNAL_SLOT: usize = 64 * 1024;

/// How many entries of a journal share one fsync. Defaults to 64, which is 4 MiB, so that the first
/// of them does not wait for a long write.
pub const JOURNAL_BATCH: usize = 64;

/// How many journals of dead processes a supervisor replays at the same time. Defaults to 256
/// because each of them is an open file, and a machine runs a handful of processes.
pub const JOURNAL_FILES: usize = 256;

/// How often a process tries to create its journal file. Defaults to 16 because a try fails only if
/// another process looks for journals of dead processes at the same instant.
pub const JOURNAL_FILE_TRIES: usize = 16;

/// How often a supervisor looks for journals of dead processes in the folder of its own. Defaults to
/// 30 s: four looks within a [`journal_hold`](super::Policy::journal_hold) of 120 s.
pub const JOURNAL_POLL: Duration = Duration::from_secs(30);

/// How many records that other processes changed are loaded at once. Defaults to 256, some 250 KB
/// with their tokens: a load that a caller waits for has no more than that before it.
pub const READ_PAGE: usize = 256;

/// How many due records are read from the store at once. Defaults to 256, some 25 KB, so that a
/// caller's statement waits behind no larger read.
pub const DUE_PAGE: usize = 256;

/// How often a supervisor asks the store for each provider's due records. Defaults to 30 s: if
/// another process ends, this one checks its due records no later than that.
pub const DUE_POLL: Duration = Duration::from_secs(30);

/// The schedule keeps in memory the sessions that are due within this time, and leaves the others
/// to the store. Defaults to 2 min, four times [`DUE_POLL`], so that the store may fail for more
/// than a minute.
pub const DUE_WITHIN: Duration = Duration::from_secs(120);

/// How many records are sealed again at once after the key of the ring was changed. Defaults to
/// 128, which is one transaction of a few milliseconds: no refresh waits longer for it.
pub const RESEAL_PAGE: usize = 128;

/// The pause before each of these pages. Defaults to 250 ms, four writes to the disk in a second: a
/// million records take half an hour, and no caller waits for them.
pub const RESEAL_PAUSE: Duration = Duration::from_millis(250);

/// While some records are still sealed with other keys, a supervisor goes through all records again
/// after this. Defaults to 1 h because by then the claims that were in the way have ended, and all
/// processes have the new key.
pub const RESEAL_AGAIN: Duration = Duration::from_secs(3600);

/// How often a supervisor reads from a file or from PostgreSQL what the backend has paused. A store in
/// memory is read every 30 s. Defaults to 1 s, as for clients that are held back: the read is of one
/// small table.
pub const PAUSES_POLL: Duration = Duration::from_secs(1);

/// How many scopes may be paused at the same time. Defaults to 1,024, some 100 KB at each read. Whoever
/// has more tenants pauses their providers.
pub const PAUSED_SCOPES: usize = 1024;

/// After a resume, the sessions that became due during the pause are refreshed over this time. Defaults
/// to 1 min, so that a server which has just come back gets them one after the other.
pub const RESUME_SPREAD: Duration = Duration::from_secs(60);

/// How often a supervisor removes the records of sessions that ended longer ago than
/// [`keep_ended`](super::Policy::keep_ended). Defaults to 1 h, which does not matter beside 90 days.
pub const ENDED_EVERY: Duration = Duration::from_secs(3600);

/// How many of these records a supervisor removes at once. Defaults to 128, which takes some
/// milliseconds.
pub const ENDED_PAGE: usize = 128;

/// The pause before each of these pages. Defaults to 250 ms: a million records take half an hour, and
/// a caller waits for one page at most.
pub const ENDED_PAUSE: Duration = Duration::from_millis(250);

/// The shortest [`keep_ended`](super::Policy::keep_ended). Defaults to 1 h: an exchange that began
/// before the end of the session has ended by then, and callers have learned that the session ended.
pub const ENDED_KEPT_AT_LEAST: Duration = Duration::from_secs(3600);

/// How many records [`copy_store`](crate::store::copy_store()) reads at once. Defaults to 256, some
/// 250 KB with their tokens.
pub const COPY_PAGE: usize = 256;

/// How many records of a page [`copy_store`](crate::store::copy_store()) writes at the same time.
/// Defaults to 32: a store on a disk confirms them with one write, and a database server gets no
/// more statements at once.
pub const COPIED_AT_ONCE: usize = 32;

/// How many records that were not copied a [`CopyReport`](crate::store::CopyReport) names. It counts
/// the others. Defaults to 1,000, some 250 KB, and more than anybody reads.
pub const COPY_PROBLEMS: usize = 1000;

/// How much a time of a copied record may differ from that of its original. Defaults to 10 min: a
/// page is copied in seconds and clocks are set by less, while a store that confuses units or drops
/// times is off by more.
pub const COPY_TOLERANCE: Duration = Duration::from_secs(600);

/// How many steps SQLite may do for one statement. A statement that needs more fails as
/// [`TooLong`](crate::store::sqlite::SqliteFault::TooLong). Defaults to 500 million, some 5 s: to
/// go through 4 million sessions takes fewer than 100 million, and only a file that an attacker
/// made for this purpose takes more.
#[cfg(feature = "sqlite")]
pub const SQLITE_STEPS: u64 = 500_000_000;

/// A record with more bytes of sealed credentials counts as damaged when it is read, and is not
/// written. Defaults to 16 MiB because a server's response has at most 256 KiB, and the tokens of
/// an import came from such responses.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub const SEALED_BYTES: usize = 16 * 1024 * 1024;

/// How many lock files of other processes a process checks beside a database file. If there are
/// more, it assumes that other processes use the file. Defaults to 1,024 because a machine runs a
/// handful of processes, and the lock file of a killed process is removed.
#[cfg(feature = "sqlite")]
pub const OWNER_LOCKS: usize = 1024;

/// How often a process tries to create its lock file beside a database file. Defaults to 16 because
/// a try fails only if another process removes old lock files at the same instant.
#[cfg(feature = "sqlite")]
pub const OWNER_LOCK_TRIES: usize = 16;

/// The pause before a process tries again to empty the log of a file after a deletion, while
/// another process reads it. Defaults to 250 ms because a read takes milliseconds.
#[cfg(feature = "sqlite")]
pub const FORGET_AGAIN: Duration = Duration::from_millis(250);
