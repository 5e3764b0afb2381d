//! A store in memory. When the process ends, its sessions are lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::decide::{Decision, Found, Write, decide};
use super::login_claim::{LoginClaim, LoginId, LoginOutcome, LoginRow, decide_login};
use super::pages::{
    Change, Changes, Cursor, Due, DuePage, Ended, Listed, News, Pauses, RecordFilter, RemovedEnded,
};
use super::record::{Floor, Holder, Owner, Record, Stored};
use super::shared_client::{
    ClientChange, ClientDecision, ClientKey, ClientOutcome, ClientPage, ListedClient, SharedClient,
    decide_client,
};
use super::statement::{Outcome, Statement};
use super::{ListPage, Presence, Store, StoreContext, StoreError, StoreResult};
use crate::clock::{Clock, Now, SystemClock};
use crate::key::{PauseScope, ProviderName, SessionId};
use crate::policy::{DUE_POLL, MEMORY_NEWS, PRESENCE_RENEWAL};

/// Keeps sessions in memory: for development, for tests, and for backends whose users may sign in
/// again after a restart. Clones share their records, so a second supervisor can use the records of
/// a first supervisor, after the first has ended or at the same time.
///
/// This store implements all of [`Store`] except encryption. It keeps changes only while two
/// supervisors or more use it. It shares the bytes of tokens with the sessions in memory. It uses
/// the clock of the first supervisor that prepares it, or the system's clock if it is used before
/// that.
///
/// ```
/// use std::time::Duration;
/// use session_warden::store::MemoryStore;
/// use session_warden::testing::ScriptedProvider;
/// use session_warden::{Error, SessionKey, Sessions, Supervisor};
///
/// async fn start(store: &MemoryStore) -> Result<(Supervisor, Sessions<ScriptedProvider>), Error> {
///     let provider = ScriptedProvider::new();
///     let builder = Supervisor::builder().store(store.clone()).provider("fake", provider);
///     let supervisor = builder.start().await?;
///     let sessions = supervisor.sessions("fake")?;
///     Ok((supervisor, sessions))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let store = MemoryStore::new();
/// let key = SessionKey::single("device-17")?;
/// let (first, sessions) = start(&store).await?;
/// let _ = sessions.session(key.clone()).establish(()).await?;
/// assert!(first.shutdown(Duration::from_secs(1)).await.is_clean());
///
/// // In a test, a second supervisor stands for the next process.
/// let (_second, sessions) = start(&store).await?;
/// let token = sessions.session(key).permission_token().await?;
/// assert_eq!(token.expose_secret(), "access-1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    clock: Arc<OnceLock<Arc<dyn Clock>>>,
    changed: Arc<Notify>,
}

/// The records, each provider's index by due time, the index of ended sessions, and the clients. All
/// change under one lock, one statement at a time.
#[derive(Default)]
struct Tables {
    records: BTreeMap<SessionId, Record>,
    due: BTreeMap<ProviderName, BTreeSet<Due>>,
    ended: BTreeSet<Ended>,
    floor: Floor,
    holders: BTreeSet<Owner>,
    clients: BTreeMap<ClientKey, SharedClient>,
    paused: BTreeSet<PauseScope>,
    logins: BTreeMap<LoginId, LoginRow>,
    /// The newest changes. The last one has the number `newest`.
    news: VecDeque<News>,
    newest: u64,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.lock().records.len()
    }

    /// Whether the store has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> Now {
        self.clock.get_or_init(|| Arc::new(SystemClock::new())).now()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("records", &self.len()).finish()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        self.clock.get_or_init(|| Arc::clone(&context.clock));
        Ok(())
    }

    async fn presence(&self, owner: Owner, presence: Presence) -> Result<(), StoreError> {
        self.tables.lock().presence(owner, presence);
        Ok(())
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        let now = self.now();
        let record = self.tables.lock().records.get(id).cloned();
        Ok(record.map(|record| Stored { record, now }))
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        let now = self.now();
        let (outcome, news) = self.tables.lock().apply(id, &statement, now);
        // After the write and after the lock is released: a reader that wakes must find the change.
        if news.is_some() {
            self.changed.notify_waiters();
        }
        Ok(outcome)
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        let now = self.now();
        let tables = self.tables.lock();
        let last = now.wall.checked_add(within).unwrap_or(now.wall);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let theirs = tables.due.get(provider).into_iter();
        let theirs = theirs.flat_map(|due| due.range((from, Bound::Unbounded)));
        let due = theirs.take_while(|due| due.at <= last);
        let due = due.filter(|due| !tables.is_leased(&due.id, now)).take(limit).cloned().collect();
        Ok(DuePage { due, now, holders: tables.holders.iter().copied().collect() })
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> ListPage {
        let now = self.now();
        Ok(self.tables.lock().list(filter, after, limit, now))
    }

    async fn remove_ended(
        &self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
    ) -> StoreResult<Option<RemovedEnded>> {
        let now = self.now();
        let (removed, next) = self.tables.lock().remove_ended(keep, after, limit, now);
        if !removed.is_empty() {
            self.changed.notify_waiters();
        }
        Ok(Some(RemovedEnded { removed, next }))
    }

    /// With a cursor, it answers only when there is something to tell.
    async fn changes(&self, since: Option<&Cursor>, limit: usize) -> StoreResult<Option<Changes>> {
        loop {
            // Registered before the log is read. A change that comes between the read and the wait
            // would otherwise wake nobody, and this process would serve a revoked token until the
            // next change.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let changes = self.tables.lock().changes(since, limit);
            let nothing = changes.news.as_ref().is_some_and(Vec::is_empty);
            if since.is_none() || !nothing {
                return Ok(Some(changes));
            }
            changed.await;
        }
    }

    async fn set_paused(&self, scope: &PauseScope, paused: bool) -> StoreResult<Option<bool>> {
        Ok(Some(self.tables.lock().set_paused(scope, paused)))
    }

    async fn pauses(&self) -> StoreResult<Option<Pauses>> {
        let scopes = self.tables.lock().paused.iter().cloned().collect();
        Ok(Some(Pauses { scopes, next_in: DUE_POLL }))
    }

    async fn client(
        &self,
        client: &ClientKey,
        change: ClientChange,
    ) -> StoreResult<Option<ClientOutcome>> {
        let now = self.now();
        Ok(Some(self.tables.lock().client(client, &change, now)))
    }

    async fn clients(
        &self,
        after: Option<&ClientKey>,
        limit: usize,
    ) -> StoreResult<Option<ClientPage>> {
        let now = self.now();
        Ok(Some(self.tables.lock().clients_after(after, limit, now)))
    }

    async fn claim_login(&self, claim: &LoginClaim) -> StoreResult<Option<LoginOutcome>> {
        let now = self.now().wall;
        let logins = &mut self.tables.lock().logins;
        let (outcome, row) = decide_login(logins.get(&claim.login).copied(), claim, now);
        if let Some(row) = row {
            logins.retain(|_, row| !row.is_over(now));
            logins.insert(claim.login, row);
        }
        Ok(Some(outcome))
    }
}

impl Tables {
    fn remove_ended(
        &mut self,
        keep: Duration,
        after: Option<&Ended>,
        limit: usize,
        now: Now,
    ) -> (Vec<News>, Option<Ended>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let old = |ended: &&Ended| ended.at.checked_add(keep).is_some_and(|at| at <= now.wall);
        let page = self.ended.range((from, Bound::Unbounded)).take_while(old).take(limit);
        let page: Vec<_> = page.cloned().collect();
        let next = page.last().filter(|_| page.len() == limit).cloned();
        let mut removed = Vec::new();
        for Ended { id, .. } in page {
            let (_, news) = self.apply(&id, &Statement::RemoveEnded { keep }, now);
            removed.extend(news.map(|of| News { id, of }));
        }
        (removed, next)
    }

    /// The outcome, and the news for others.
    fn apply(
        &mut self,
        id: &SessionId,
        statement: &Statement,
        now: Now,
    ) -> (Outcome, Option<Change>) {
        let found = Found { record: self.records.get(id).cloned(), floor: self.floor };
        let Decision { outcome, write, news } = decide(found, statement, now);
        match write {
            Write::Nothing => {}
            Write::Put(record) | Write::PutLease(record) => self.put(id, record),
            Write::Remove(floor) => {
                self.remove(id);
                self.floor = self.floor.max(floor);
            }
        }
        if let Some(of) = news.filter(|_| self.holders.len() > 1) {
            self.news.push_back(News { id: id.clone(), of });
            self.newest += 1;
            if self.news.len() > MEMORY_NEWS {
                self.news.pop_front();
            }
        }
        (outcome, news)
    }

    /// Marks the claims of an owner that retires as a dead holder's.
    fn presence(&mut self, owner: Owner, presence: Presence) {
        match presence {
            Presence::Register => drop(self.holders.insert(owner)),
            Presence::Renew => {}
            Presence::LeaveJournal => drop(self.holders.remove(&owner)),
            Presence::Retire | Presence::Replayed => {
                self.holders.remove(&owner);
                for lease in self.records.values_mut().filter_map(|record| record.lease.as_mut()) {
                    if lease.owner == owner {
                        (lease.holder, lease.journal) = (Holder::Dead, false);
                    }
                }
            }
        }
    }

    /// Returns whether that changed anything.
    fn set_paused(&mut self, scope: &PauseScope, paused: bool) -> bool {
        if paused { self.paused.insert(scope.clone()) } else { self.paused.remove(scope) }
    }

    fn client(&mut self, key: &ClientKey, change: &ClientChange, now: Now) -> ClientOutcome {
        let found = self.clients.get(key).cloned();
        let ClientDecision { outcome, write } = decide_client(found, change, now);
        if let Some(client) = write {
            self.clients.insert(key.clone(), client);
        }
        outcome
    }

    fn clients_after(&self, after: Option<&ClientKey>, limit: usize, now: Now) -> ClientPage {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.clients.range((from, Bound::Unbounded));
        let held_back = rows.filter(|(_, client)| client.is_held_back(now)).take(limit);
        let listed = |(key, client): (&ClientKey, &SharedClient)| ListedClient {
            key: key.clone(),
            client: client.clone(),
        };
        let (clients, holders) = (held_back.map(listed).collect(), self.holders.len());
        ClientPage { clients, now, holders, next_in: PRESENCE_RENEWAL }
    }

    fn changes(&self, since: Option<&Cursor>, limit: usize) -> Changes {
        let cursor = |number: u64| Cursor(Arc::from(number.to_be_bytes()));
        let Some(since) = since else {
            return Changes {
                cursor: cursor(self.newest),
                news: Some(Vec::new()),
                more: false,
                failover: None,
            };
        };
        let kept = self.news.len() as u64;
        let read = since.0.as_ref().try_into().map(u64::from_be_bytes).ok();
        let missed = read.and_then(|read| self.newest.checked_sub(read));
        let (Some(since), Some(missed)) = (read, missed.filter(|missed| *missed <= kept)) else {
            return Changes {
                cursor: cursor(self.newest),
                news: None,
                more: false,
                failover: None,
            };
        };
        let skipped = usize::try_from(kept - missed).unwrap_or(usize::MAX);
        let news: Vec<_> = self.news.iter().skip(skipped).take(limit).cloned().collect();
        let read = since + news.len() as u64;
        Changes { cursor: cursor(read), news: Some(news), more: read < self.newest, failover: None }
    }

    /// Ids sort by provider first, so one tenant's records of all providers are one range for each
    /// provider.
    fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
        now: Now,
    ) -> Vec<Listed> {
        if filter.provider.is_some() || filter.tenant.is_none() {
            return self.range(filter, after, limit, now);
        }
        let (mut from, mut listed) = (after.cloned(), Vec::new());
        while listed.len() < limit {
            let after = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.records.range((after, Bound::Unbounded)).next();
            let Some(provider) = next.map(|(id, _)| id.provider().clone()) else { break };
            let end = SessionId::ceiling(&provider);
            let own = RecordFilter { provider: Some(provider), ..filter.clone() };
            listed.extend(self.range(&own, from.as_ref(), limit - listed.len(), now));
            from = Some(end);
        }
        listed
    }

    /// Lists by one range of ids. Ids sort by provider, then by tenant, so one provider's records
    /// are a range, and so are those of one of its tenants.
    fn range(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
        now: Now,
    ) -> Vec<Listed> {
        let tenant = filter.tenant.as_ref();
        let floor = filter.provider.as_ref().map(|provider| SessionId::floor(provider, tenant));
        // The later of the two; `None` comes before everything.
        let from = after.max(floor.as_ref()).map_or(Bound::Unbounded, Bound::Excluded);
        let within = |id: &SessionId| {
            filter.provider.as_ref().is_none_or(|provider| {
                id.provider() == provider && tenant.is_none_or(|tenant| tenant == id.key().tenant())
            })
        };
        let range = self.records.range((from, Bound::Unbounded));
        let range = range.take_while(|(id, _)| within(id));
        let passing = range.filter(|(id, record)| filter.passes(id, record)).take(limit);
        let listed = |(id, record): (&SessionId, &Record)| {
            let record = record.clone().with(None, None);
            Listed { id: id.clone(), stored: Stored { record, now } }
        };
        passing.map(listed).collect()
    }

    fn is_leased(&self, id: &SessionId, now: Now) -> bool {
        let lease = self.records.get(id).and_then(|record| record.lease);
        lease.is_some_and(|lease| lease.holder == Holder::Alive && now.boot < lease.until)
    }

    fn put(&mut self, id: &SessionId, record: Record) {
        let (due_at, ended_at) = (record.due_at, record.ended_at);
        let former = self.records.insert(id.clone(), record);
        self.move_ended(id, former.as_ref().and_then(|former| former.ended_at), ended_at);
        self.move_due(id, former.and_then(|former| former.due_at), due_at);
    }

    fn remove(&mut self, id: &SessionId) {
        let former = self.records.remove(id);
        self.move_ended(id, former.as_ref().and_then(|former| former.ended_at), None);
        self.move_due(id, former.and_then(|former| former.due_at), None);
    }

    fn move_ended(&mut self, id: &SessionId, former: Option<SystemTime>, next: Option<SystemTime>) {
        if former == next {
            return;
        }
        let ended = |at| Ended { at, id: id.clone() };
        former.map(|at| self.ended.remove(&ended(at)));
        self.ended.extend(next.map(ended));
    }

    fn move_due(&mut self, id: &SessionId, former: Option<SystemTime>, next: Option<SystemTime>) {
        if former == next {
            return;
        }
        let theirs = self.due.entry(id.provider().clone()).or_default();
        if let Some(at) = former {
            theirs.remove(&Due { at, id: id.clone() });
        }
        if let Some(at) = next {
            theirs.insert(Due { at, id: id.clone() });
        }
    }
}
