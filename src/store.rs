//! The stores that keep sessions, and the trait for stores of your own.
//!
//! Most programs use [`MemoryStore`] or [`sqlite::SqliteStore`] and nothing else of this module.
//! The rest is for programs that implement [`Store`], or read a store without a supervisor.
//!
//! A store keeps one [`Record`] for each session. In it, `version` counts writes, `epoch` counts
//! grants, and `generation` counts the times that credentials were stored or closed. A supervisor
//! changes records by [`Statement`]s. A refresh has three parts. First a
//! [claim](Statement::Claim) writes down the intent to send a request. Then the supervisor sends
//! the request. At last a [commit](Statement::Commit) writes the new credentials, or a
//! [settle](Statement::Settle) ends the claim because there are none. A
//! [take-over](Statement::TakeOver) ends the claim of a process that no longer responds.
//!
//! The pure function [`decide()`] says what a statement does to a record. Every store runs it.

mod context;
mod copy_store;
mod decide;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod encoding;
mod login_claim;
mod measured;
mod memory;
mod pages;
mod panic_safe;
#[cfg(feature = "postgres")]
pub mod postgres;
mod record;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod record_cipher;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod resealing;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod row_fault;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod session_row;
mod shared;
mod shared_client;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod statement;
mod store_error;

use std::time::Duration;

use async_trait::async_trait;

pub use self::context::{Presence, StoreContext};
pub use self::copy_store::{
    CopyError, CopyOptions, CopyProblem, CopyReport, CopySide, NotCopied, copy_store,
};
pub use self::decide::{Decision, Found, Write, decide};
pub use self::login_claim::{LoginClaim, LoginId, LoginOutcome};
pub(crate) use self::measured::MeasuredStore;
pub use self::memory::MemoryStore;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::pages::StaleKey;
pub use self::pages::{
    Change, Changes, Cursor, Due, DuePage, Ended, Failover, Listed, News, Pauses, RecordFilter,
    RemovedEnded, Resealed,
};
pub(crate) use self::panic_safe::PanicSafeStore;
pub use self::record::{
    Attempt, ClaimId, Failures, Floor, Holder, Intent, Lease, Owner, Phase, Record, Stored,
};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::record_cipher::SealFault;
pub use self::shared_client::{
    ClientChange, ClientDecision, ClientKey, ClientOutcome, ClientPage, ListedClient, Probe,
    SharedClient, SharedStop, decide_client,
};
#[doc(hidden)]
pub use self::statement::{
    Claim, Close, Commit, Ends, Import, Lose, Renew, Reschedule, Restore, Settle, SettleTo,
    Suspect, TakeOver,
};
pub use self::statement::{Done, Outcome, Statement};
pub use self::store_error::{StoreError, StoreErrorKind};
use crate::key::{PauseScope, ProviderName, SessionId};
use crate::seal::KeyRing;

/// A store of sessions.
///
/// # Contract
///
/// - [`apply`](Self::apply) reads the record, runs [`decide()`] on it, and writes what the
///   [`Decision`] says, with its news. It does this in one step: the store runs no other statement
///   on the same session in between. The write is durable before `apply` returns `Ok`.
/// - If `apply` returns `Err`, the statement may be done or not. The supervisor sends it again or
///   reads the record, so the store may get every statement twice.
/// - The supervisor may drop the future of a statement. The store then does the statement as a
///   whole or not at all.
/// - Only the store's clock decides whether a lease or a wait is over. Statements have durations,
///   not times. When the store returns a record, it adds its own time ([`Stored`]).
/// - A store that writes credentials to a disk encrypts them first.
///
/// Every implementation must pass `testing::store_suite`.
///
/// # Example
///
/// A whole store, which keeps its records in a map. A store in a database has the same parts: each
/// lock stands for a transaction, and each map for a table.
///
/// ```
/// use std::collections::{BTreeMap, BTreeSet};
/// use std::time::Duration;
///
/// use async_trait::async_trait;
/// use session_warden::clock::{Clock, SystemClock};
/// use session_warden::key::{ProviderName, SessionId};
/// use session_warden::store::{
///     Decision, Due, DuePage, Floor, Found, Holder, Listed, Outcome, Owner, Presence, Record,
///     RecordFilter, Statement, Store, StoreError, Stored, Write, decide,
/// };
/// use session_warden::testing::store_suite;
/// use tokio::sync::Mutex;
///
/// #[derive(Default)]
/// struct MapStore {
///     tables: Mutex<Tables>,
///     clock: SystemClock,
/// }
///
/// #[derive(Default)]
/// struct Tables {
///     records: BTreeMap<SessionId, Record>,
///     floor: Floor,
///     holders: BTreeSet<Owner>,
/// }
///
/// #[async_trait]
/// impl Store for MapStore {
///     async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
///         let tables = self.tables.lock().await;
///         let now = self.clock.now();
///         Ok(tables.records.get(id).map(|record| Stored { record: record.clone(), now }))
///     }
///
///     async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
///         let Tables { records, floor, .. } = &mut *self.tables.lock().await;
///         let found = Found { record: records.get(id).cloned(), floor: *floor };
///         let Decision { outcome, write, .. } = decide(found, &statement, self.clock.now());
///         match write {
///             Write::Nothing => {}
///             Write::Put(record) | Write::PutLease(record) => {
///                 records.insert(id.clone(), record);
///             }
///             Write::Remove(above) => {
///                 records.remove(id);
///                 *floor = floor.max(above);
///             }
///         }
///         Ok(outcome)
///     }
///
///     async fn due(
///         &self,
///         provider: &ProviderName,
///         within: Duration,
///         after: Option<&Due>,
///         limit: usize,
///     ) -> Result<DuePage, StoreError> {
///         let Tables { records, holders, .. } = &*self.tables.lock().await;
///         let now = self.clock.now();
///         let is_free = |record: &Record| {
///             record.lease.is_none_or(|it| it.holder == Holder::Dead || it.until <= now.boot)
///         };
///         let free = records.iter().filter(|(id, it)| id.provider() == provider && is_free(it));
///         let due = free.filter_map(|(id, it)| Some(Due { at: it.due_at?, id: id.clone() }));
///         let due = due.filter(|due| due.at <= now.wall + within);
///         let due = due.filter(|due| after.is_none_or(|after| due > after));
///         let mut due: Vec<_> = due.collect();
///         due.sort();
///         due.truncate(limit);
///         Ok(DuePage { due, now, holders: holders.iter().copied().collect() })
///     }
///
///     async fn list(
///         &self,
///         filter: &RecordFilter,
///         after: Option<&SessionId>,
///         limit: usize,
///     ) -> Result<Vec<Listed>, StoreError> {
///         let tables = self.tables.lock().await;
///         let now = self.clock.now();
///         let records = tables.records.iter().filter(|(id, _)| Some(*id) > after);
///         let passing = records.filter(|(id, record)| filter.passes(id, record)).take(limit);
///         let listed = passing.map(|(id, record)| {
///             let record = record.clone().with(None, None);
///             Listed { id: id.clone(), stored: Stored { record, now } }
///         });
///         Ok(listed.collect())
///     }
///
///     async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
///         let Tables { records, holders, .. } = &mut *self.tables.lock().await;
///         match presence {
///             Presence::Register | Presence::Renew => drop(holders.insert(owner)),
///             Presence::LeaveJournal => drop(holders.remove(&owner)),
///             Presence::Retire | Presence::Replayed => {
///                 holders.remove(&owner);
///                 let leases = records.values_mut().filter_map(|record| record.lease.as_mut());
///                 for lease in leases.filter(|lease| lease.owner == owner) {
///                     (lease.holder, lease.journal) = (Holder::Dead, false);
///                 }
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// store_suite::run(|| async { MapStore::default() }).await;
/// # }
/// ```
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Gives the store the parts of its supervisor that it may need. The supervisor calls this
    /// before any other method. A wrapper must pass the call on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store must encrypt records and cannot do so with these keys. The
    /// supervisor then does not start.
    fn prepare(&self, _context: &StoreContext) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns the key ring with which the store encrypts records, or `None` if it encrypts
    /// nothing. The supervisor asks once, after [`prepare`](Self::prepare). When the ring's keys
    /// change, it calls [`reseal`](Self::reseal) until that has reached the end. A wrapper must
    /// pass the call on.
    fn key_ring(&self) -> Option<KeyRing> {
        None
    }

    /// Notes that a supervisor starts, is still running, or shuts down. In the claims of a
    /// supervisor that has ended, the store can then show [`Holder::Dead`], so that other processes
    /// do not wait for it. A wrapper must pass the call on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not write it.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and sent again.
    async fn presence(&self, _owner: Owner, _presence: Presence) -> Result<(), StoreError> {
        Ok(())
    }

    /// Reads at most `limit` records that are encrypted with older keys of the ring, and encrypts
    /// them with the sealing key. Each call continues where the last call ended. After a change of
    /// the ring, the next call begins at the start. This skips records that are claimed, that hold
    /// credentials which must still be revoked, or that cannot be decrypted. A wrapper must pass
    /// the call on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not read or write records. The next call tries them again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped. Records that are encrypted again by then stay so.
    async fn reseal(&self, _limit: usize) -> Result<Resealed, StoreError> {
        Ok(Resealed { done: 0, passed_over: 0, ended: true })
    }

    /// Reads a record. `None` if there is no record.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the record could not be read. A store never returns `None` in that case.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError>;

    /// Reads several records, each as [`load`](Self::load) does. The result has one element for
    /// each id, in the order of `ids`. A wrapper must pass the call on.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    async fn load_many(&self, ids: &[SessionId]) -> Vec<Result<Option<Stored>, StoreError>> {
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            records.push(self.load(id).await);
        }
        records
    }

    /// Runs a statement on a record.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the statement failed, or may have failed. After a claim that failed, the
    /// supervisor sends nothing to the server; after a commit that failed, it keeps the credentials
    /// and sends the commit again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and sent again.
    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError>;

    /// Reads at most `limit` of this provider's records whose [`due_at`](Record::due_at) has passed
    /// or will pass within the time `within`, in the order of [`Due`], beginning after `after`.
    /// This leaves out records whose claim has a lease that still holds, because its holder is at
    /// work. A page with fewer than `limit` records is the last page.
    ///
    /// A supervisor asks for each of its providers every 30 s: page by page to the end, and then
    /// from the beginning again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the records could not be read.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError>;

    /// Reads at most `limit` records that pass `filter`, in the order of their ids, beginning after
    /// `after`. This decrypts no credentials.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the records could not be read.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError>;

    /// Reads at most `limit` records of sessions that [ended](Record::ended_at) at least `keep` ago, in
    /// the order of [`Ended`], beginning after `after`, and does
    /// [`Statement::RemoveEnded`] on each of them. Skips records that cannot be read. Several
    /// supervisors may do this at the same time. Returns `None` if the store does not remove ended
    /// sessions. A wrapper must pass the call on.
    ///
    /// A store must not make a caller's statement wait behind a whole page for longer than some
    /// milliseconds. A supervisor asks once an hour: page by page, with pauses, to the end.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if records could not be read or removed; some of them may be removed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped. Records that are removed by then stay so.
    async fn remove_ended(
        &self,
        _keep: Duration,
        _after: Option<&Ended>,
        _limit: usize,
    ) -> StoreResult<Option<RemovedEnded>> {
        Ok(None)
    }

    /// Reads at most `limit` changes that were made after `since`, for example by other processes
    /// on the same file. `since` is the cursor of the last result. With `None`, the result has a
    /// cursor and no changes. The supervisor asks several times a second. The store may delay its
    /// result until there is a change. The result may include changes that this process made
    /// itself. If no other process can change the store, it returns `None`, and the supervisor does
    /// not ask again. See the example of [`Changes`].
    ///
    /// A refresh does not need the changes, because its claim finds the newer record. The
    /// supervisor needs them for the tokens in memory: without the changes, it would go on handing
    /// out a token that another process has replaced or revoked.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the changes could not be read; the supervisor asks again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    async fn changes(
        &self,
        _since: Option<&Cursor>,
        _limit: usize,
    ) -> StoreResult<Option<Changes>> {
        Ok(None)
    }

    /// Writes that a scope is paused, or that it is not. Returns whether that changed anything. The
    /// write is durable before this returns `Ok`. Returns `None` if the store keeps no pauses. A
    /// wrapper must pass the call on. See the example of [`Pauses`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the write failed, or may have failed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and sent again.
    async fn set_paused(&self, _scope: &PauseScope, _paused: bool) -> StoreResult<Option<bool>> {
        Ok(None)
    }

    /// Reads what is paused. Returns `None` if the store keeps no pauses. A wrapper must pass the
    /// call on.
    ///
    /// A supervisor asks when it starts, and then after [`Pauses::next_in`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the pauses could not be read.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    async fn pauses(&self) -> StoreResult<Option<Pauses>> {
        Ok(None)
    }

    /// Changes what the supervisors on this store share about a client, in one step: reads the row
    /// of the client, runs [`decide_client()`] on it, and writes what that says. Returns `None` if
    /// the store shares nothing about clients: each supervisor then keeps to its own limits, as if
    /// it were alone. A wrapper must pass the call on. See the example of [`decide_client()`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the change failed, or may have failed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and sent again.
    async fn client(
        &self,
        _client: &ClientKey,
        _change: ClientChange,
    ) -> StoreResult<Option<ClientOutcome>> {
        Ok(None)
    }

    /// Reads at most `limit` clients that are [held back](SharedClient::is_held_back), in the order
    /// of their keys, beginning after `after`, and the number of the supervisors that run. Returns
    /// `None` if the store shares nothing about clients. A wrapper must pass the call on.
    ///
    /// A supervisor asks when it starts, then after [`ClientPage::next_in`], and every second while a client is
    /// held back.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the clients could not be read.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    async fn clients(
        &self,
        _after: Option<&ClientKey>,
        _limit: usize,
    ) -> StoreResult<Option<ClientPage>> {
        Ok(None)
    }

    /// Claims a login for which a process polls the server (RFC 8628), renews that claim or ends it.
    /// Returns `None` if the store keeps no such claims: then several processes with one ticket may
    /// poll at the same time. A wrapper must pass the call on. See the example of [`LoginClaim`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the claim was not written, or may have been written.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and sent again.
    async fn claim_login(&self, _claim: &LoginClaim) -> StoreResult<Option<LoginOutcome>> {
        Ok(None)
    }
}

/// What a store gave, or why it gave nothing.
pub(crate) type StoreResult<T> = Result<T, StoreError>;
/// A page of records, in the order of their ids.
pub(crate) type ListPage = StoreResult<Vec<Listed>>;
