//! A store that fails on demand.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::key::{PauseScope, ProviderName, SessionId};
use crate::seal::KeyRing;
use crate::store::{
    Changes, ClientChange, ClientKey, ClientOutcome, ClientPage, Cursor, Due, DuePage, Ended,
    ListPage, LoginClaim, LoginOutcome, Outcome, Owner, Pauses, Presence, RecordFilter,
    RemovedEnded, Resealed, Statement, Store, StoreContext, StoreError, StoreErrorKind,
    StoreResult, Stored,
};

/// A wrapper around another store. Its [`Faults`] make calls fail, hang or panic. Without faults,
/// it passes every call to the other store.
///
/// ```
/// use session_warden::store::MemoryStore;
/// use session_warden::testing::{Faults, FaultyStore, ScriptedProvider, StoreCall};
/// use session_warden::{SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let store = FaultyStore::new(MemoryStore::new());
/// let faults: Faults = store.faults();
/// let provider: ScriptedProvider = ScriptedProvider::new();
/// let supervisor =
///     Supervisor::builder().store(store).provider("scripted", provider).start().await?;
/// let session = supervisor
///     .sessions::<ScriptedProvider>("scripted")?
///     .session(SessionKey::new("tenant", "device")?);
///
/// // If new tokens cannot be saved, callers get them all the same, and the crate saves them later.
/// faults.fail_next(StoreCall::Commit, 1);
/// let _ = session.establish(()).await?;
/// assert!(!session.status().await?.saved);
/// assert_eq!(session.permission_token().await?.expose_secret(), "access-1");
/// assert_eq!(faults.count(StoreCall::Commit), 1);
/// # Ok(())
/// # }
/// ```
pub struct FaultyStore<S> {
    inner: S,
    faults: Faults,
}

impl<S: Store> FaultyStore<S> {
    /// Wraps `inner`, without faults.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, faults: Faults::new() }
    }

    /// The faults, which a test sets and reads while the store is in use.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

impl<S> FaultyStore<S> {
    async fn done<T>(
        &self,
        statement: StoreCall,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.faults.before(statement).await?;
        let answer = answer.await?;
        self.faults.after(statement)?;
        Ok(answer)
    }
}

impl<S> fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("faults", &self.faults).finish_non_exhaustive()
    }
}

/// The calls of a [`Store`] that a test can make fail. See the example of [`FaultyStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "one for each function and statement of `Store`")]
pub enum StoreCall {
    /// [`Store::load`], and each record of [`Store::load_many`].
    Load,
    /// [`Store::apply`] with a claim.
    Claim,
    /// [`Store::apply`] with the renewal of a claim.
    Renew,
    /// [`Store::apply`] with new credentials.
    Commit,
    /// [`Store::apply`] with the end of a claim that brought no new credentials.
    Settle,
    /// [`Store::apply`] with a takeover: it ends the claim of a holder that does not renew it.
    TakeOver,
    /// [`Store::apply`] with a close.
    Close,
    /// [`Store::apply`] with the loss of a session.
    Lose,
    /// [`Store::apply`] with the report that an API rejected a token.
    Suspect,
    /// [`Store::apply`] with another due time.
    Reschedule,
    /// [`Store::apply`] with a record that the store had and lost.
    Restore,
    /// [`Store::apply`] with a record of another store.
    Import,
    /// [`Store::apply`] with a delete.
    Delete,
    /// [`Store::apply`] with the removal of an ended session.
    RemoveEnded,
    /// [`Store::due`].
    Due,
    /// [`Store::list`].
    List,
    /// [`Store::reseal`].
    Reseal,
    /// [`Store::remove_ended`].
    EndedPage,
    /// [`Store::changes`].
    Changes,
    /// [`Store::presence`].
    Presence,
    /// [`Store::client`].
    Client,
    /// [`Store::clients`].
    Clients,
    /// [`Store::set_paused`].
    SetPaused,
    /// [`Store::pauses`].
    Pauses,
    /// [`Store::claim_login`].
    ClaimLogin,
    /// [`Store::prepare`], which cannot be held.
    Prepare,
    /// [`Store::key_ring`], which cannot be held. If it fails, it returns no key ring.
    KeyRing,
}

impl StoreCall {
    /// All calls.
    pub const ALL: [Self; 27] = [
        Self::Load,
        Self::Claim,
        Self::Renew,
        Self::Commit,
        Self::Settle,
        Self::TakeOver,
        Self::Close,
        Self::Lose,
        Self::Suspect,
        Self::Reschedule,
        Self::Restore,
        Self::Import,
        Self::Delete,
        Self::RemoveEnded,
        Self::Due,
        Self::List,
        Self::Reseal,
        Self::EndedPage,
        Self::Changes,
        Self::Presence,
        Self::Client,
        Self::Clients,
        Self::SetPaused,
        Self::Pauses,
        Self::ClaimLogin,
        Self::Prepare,
        Self::KeyRing,
    ];
}

impl From<&Statement> for StoreCall {
    fn from(statement: &Statement) -> Self {
        match statement {
            Statement::Claim(_) => Self::Claim,
            Statement::Renew(_) => Self::Renew,
            Statement::Commit(_) => Self::Commit,
            Statement::Settle(_) => Self::Settle,
            Statement::TakeOver(_) => Self::TakeOver,
            Statement::Close(_) => Self::Close,
            Statement::Lose(_) => Self::Lose,
            Statement::Suspect(_) => Self::Suspect,
            Statement::Reschedule(_) => Self::Reschedule,
            Statement::Restore(_) => Self::Restore,
            Statement::Import(_) => Self::Import,
            Statement::RemoveEnded { .. } => Self::RemoveEnded,
            Statement::Delete => Self::Delete,
        }
    }
}

/// The faults of a [`FaultyStore`], and the counts of its calls. All clones share the same faults,
/// so a test can control a store that it has given to a supervisor. See the example of
/// [`FaultyStore`].
///
/// The faults of a call apply in this order: the store counts the call, holds it, panics, fails it,
/// and only then passes it to the other store.
#[derive(Clone)]
pub struct Faults(Arc<FaultState>);

#[derive(Default)]
struct FaultState {
    plans: Mutex<[Plan; StoreCall::ALL.len()]>,
    counts: watch::Sender<[CallCounts; StoreCall::ALL.len()]>,
    /// How often each was released.
    released: watch::Sender<[u64; StoreCall::ALL.len()]>,
}

#[derive(Clone, Copy, Default)]
struct Plan {
    fail_next: u32,
    fail_always: bool,
    fail_after_writing: u32,
    panic_next: u32,
    panic_always: bool,
    hold: bool,
}

#[derive(Clone, Copy, Default)]
struct CallCounts {
    asked: u64,
    held: u64,
}

impl Faults {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Fails the next `times` calls, without an effect. Replaces the previous setting.
    pub fn fail_next(&self, statement: StoreCall, times: u32) {
        self.plan(statement, |plan| plan.fail_next = times);
    }

    /// Fails every call, without an effect, until you call this method again with `false`.
    pub fn fail_always(&self, statement: StoreCall, always: bool) {
        self.plan(statement, |plan| plan.fail_always = always);
    }

    /// Passes the next `times` calls to the other store, and fails them all the same, as if the
    /// store's acknowledgement were lost. Replaces the previous setting.
    pub fn fail_after_writing(&self, statement: StoreCall, times: u32) {
        self.plan(statement, |plan| plan.fail_after_writing = times);
    }

    /// Panics in the next `times` calls, without an effect. Replaces the previous setting.
    pub fn panic_next(&self, statement: StoreCall, times: u32) {
        self.plan(statement, |plan| plan.panic_next = times);
    }

    /// Panics in every call, without an effect, until you call this method again with `false`.
    pub fn panic_always(&self, statement: StoreCall, always: bool) {
        self.plan(statement, |plan| plan.panic_always = always);
    }

    /// Holds every call, without an effect, until [`release`](Self::release).
    pub fn hold(&self, statement: StoreCall) {
        self.plan(statement, |plan| plan.hold = true);
    }

    /// Continues all held calls, and holds no more calls.
    pub fn release(&self, statement: StoreCall) {
        self.plan(statement, |plan| plan.hold = false);
        self.0.released.send_modify(|released| released[statement as usize] += 1);
    }

    /// Waits until `count` calls have been held, including those that were released since.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn held(&self, statement: StoreCall, count: u64) {
        let mut counts = self.0.counts.subscribe();
        // The sender is in here, so this cannot fail.
        drop(counts.wait_for(|counts| counts[statement as usize].held >= count).await);
    }

    /// The number of calls so far, including failed and held calls.
    #[must_use]
    pub fn count(&self, statement: StoreCall) -> u64 {
        self.0.counts.borrow()[statement as usize].asked
    }

    async fn before(&self, statement: StoreCall) -> Result<(), StoreError> {
        self.asked(statement);
        let mut released = self.0.released.subscribe();
        let turn = released.borrow_and_update()[statement as usize];
        if self.plan(statement, |plan| plan.hold) {
            self.0.counts.send_modify(|counts| counts[statement as usize].held += 1);
            drop(released.wait_for(|now| now[statement as usize] > turn).await);
        }
        self.at_once(statement)
    }

    fn asked(&self, statement: StoreCall) {
        self.0.counts.send_modify(|counts| counts[statement as usize].asked += 1);
    }

    /// What is done to a statement that is not held.
    #[expect(clippy::panic, reason = "the faults say so")]
    fn at_once(&self, statement: StoreCall) -> Result<(), StoreError> {
        if self.plan(statement, |plan| plan.panic_always || once(&mut plan.panic_next)) {
            panic!("the faults say so");
        }
        self.fail_if(self.plan(statement, |plan| plan.fail_always || once(&mut plan.fail_next)))
    }

    fn after(&self, statement: StoreCall) -> Result<(), StoreError> {
        self.fail_if(self.plan(statement, |plan| once(&mut plan.fail_after_writing)))
    }

    fn fail_if(&self, failed: bool) -> Result<(), StoreError> {
        let error = || StoreError::new(StoreErrorKind::Unavailable).with_source("a scripted fault");
        if failed { Err(error()) } else { Ok(()) }
    }

    fn plan<T>(&self, statement: StoreCall, plan: impl FnOnce(&mut Plan) -> T) -> T {
        plan(&mut self.0.plans.lock()[statement as usize])
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = StoreCall::ALL.map(|statement| (statement, self.count(statement)));
        f.debug_map().entries(asked).finish()
    }
}

/// One time less; whether there was one.
fn once(times: &mut u32) -> bool {
    let any = *times > 0;
    *times = times.saturating_sub(1);
    any
}

#[async_trait]
impl<S: Store> Store for FaultyStore<S> {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        self.faults.asked(StoreCall::Prepare);
        self.faults.at_once(StoreCall::Prepare)?;
        self.inner.prepare(context)?;
        self.faults.after(StoreCall::Prepare)
    }

    fn key_ring(&self) -> Option<KeyRing> {
        self.faults.asked(StoreCall::KeyRing);
        self.faults.at_once(StoreCall::KeyRing).ok()?;
        let ring = self.inner.key_ring();
        self.faults.after(StoreCall::KeyRing).ok()?;
        ring
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        self.done(StoreCall::Presence, self.inner.presence(owner, presence)).await
    }

    async fn reseal(&self, limit: usize) -> Result<Resealed, StoreError> {
        self.done(StoreCall::Reseal, self.inner.reseal(limit)).await
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        self.done(StoreCall::Load, self.inner.load(id)).await
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        self.done(StoreCall::from(&statement), self.inner.apply(id, statement)).await
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.done(StoreCall::Due, self.inner.due(provider, within, after, limit)).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> ListPage {
        self.done(StoreCall::List, self.inner.list(filter, after, limit)).await
    }

    async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> StoreResult<Option<RemovedEnded>> {
        let removed = self.inner.remove_ended(keep, after, limit);
        self.done(StoreCall::EndedPage, removed).await
    }

    async fn changes(&self, since: Option<&Cursor>, limit: usize) -> StoreResult<Option<Changes>> {
        self.done(StoreCall::Changes, self.inner.changes(since, limit)).await
    }

    async fn set_paused(&self, scope: &PauseScope, paused: bool) -> StoreResult<Option<bool>> {
        self.done(StoreCall::SetPaused, self.inner.set_paused(scope, paused)).await
    }

    async fn pauses(&self) -> StoreResult<Option<Pauses>> {
        self.done(StoreCall::Pauses, self.inner.pauses()).await
    }

    async fn claim_login(&self, claim: &LoginClaim) -> StoreResult<Option<LoginOutcome>> {
        self.done(StoreCall::ClaimLogin, self.inner.claim_login(claim)).await
    }

    async fn client(
        &self,
        client: &ClientKey,
        change: ClientChange,
    ) -> StoreResult<Option<ClientOutcome>> {
        self.done(StoreCall::Client, self.inner.client(client, change)).await
    }

    async fn clients(
        &self,
        after: Option<&ClientKey>,
        limit: usize,
    ) -> StoreResult<Option<ClientPage>> {
        self.done(StoreCall::Clients, self.inner.clients(after, limit)).await
    }
}
