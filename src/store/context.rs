//! What a supervisor tells its store.

use std::fmt;
use std::sync::Arc;

use crate::clock::Clock;
use crate::seal::KeyRing;

/// The parts of a supervisor that a store may need ([`Store::prepare`](super::Store::prepare)). See
/// the example of [`RecordFilter`](super::RecordFilter).
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreContext {
    /// The supervisor's keys. A store that writes nothing to a disk does not need them.
    pub keys: KeyRing,
    /// The supervisor's clock. A store with a clock of its own, such as a database server's, does
    /// not need it.
    pub clock: Arc<dyn Clock>,
}

impl StoreContext {
    /// Makes a context for a store that a program uses without a supervisor.
    pub fn new(keys: KeyRing, clock: Arc<dyn Clock>) -> Self {
        Self { keys, clock }
    }
}

impl fmt::Debug for StoreContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreContext").finish_non_exhaustive()
    }
}

/// The state that a supervisor reports to the store ([`Store::presence`](super::Store::presence)).
/// See the example of [`Store`](super::Store).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates read all of it")]
pub enum Presence {
    /// The supervisor has started.
    Register,
    /// The supervisor is still running.
    Renew,
    /// The supervisor is shutting down in good order. It leaves nothing in a journal.
    Retire,
    /// The supervisor is shutting down, and its [journal](crate::journal) holds credentials that
    /// the store lacks, or may still get some. It no longer counts as running, but the claims in its
    /// name stay as they are, because another supervisor may replay the journal.
    LeaveJournal,
    /// Another supervisor has found that this one has ended, and has saved all that its journal
    /// held. For the store, this is the same as [`Retire`](Self::Retire).
    Replayed,
}
