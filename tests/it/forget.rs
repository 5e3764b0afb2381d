//! A forgotten session is deleted, and no late response restores it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use session_warden::event::EventKind;
use session_warden::key::{ProviderName, SessionId, Tenant};
use session_warden::provider::FailureClass;
use session_warden::session::State;
use session_warden::store::{
    Due, DuePage, Intent, Listed, MemoryStore, Outcome, RecordFilter, Statement, Store, StoreError,
    Stored,
};
use session_warden::supervisor::TenantKeys;
use session_warden::testing::{Chaos, ManualClock, Reply, ScriptedProvider, StoreCall};
use session_warden::{
    Error, ErrorKind, PermissionToken, Session, SessionKey, Sessions, Supervisor,
};
use tokio::task::JoinHandle;

use crate::fixtures::{ScriptedFixture, kind};
use crate::fixtures::{established, fixture};
use crate::store_statements::exchange;
use crate::support::{LIFE, SECOND, session, until};

async fn assert_gone(fixture: &ScriptedFixture) {
    assert!(fixture.store.load(fixture.session.id()).await.unwrap().is_none(), "it is back");
    assert_eq!(kind(fixture.token().await), ErrorKind::NotEstablished);
    assert_eq!(fixture.supervisor.snapshot().unsaved, 0);
}

fn forgetting(session: &Session<ScriptedProvider>) -> JoinHandle<Result<(), Error>> {
    let session = session.clone();
    tokio::spawn(async move { session.forget().await })
}

fn generation(token: &Result<PermissionToken, Error>) -> u64 {
    token.as_ref().unwrap().generation()
}

#[tokio::test]
async fn a_forgotten_session_is_gone_here_and_nobody_is_told_at_the_server() {
    let ScriptedFixture { mut fixture, script } = established().await;
    fixture.session.forget().await.unwrap();
    assert!(fixture.session.try_permission_token().is_none());
    assert_eq!(kind(fixture.session.permission_token().await), ErrorKind::NotEstablished);
    assert_eq!(fixture.session.status().await.unwrap().state, State::Vacant);
    assert!(fixture.store.is_empty());
    assert_eq!(script.revocations(), 0);
    assert_eq!(fixture.happened().await, [EventKind::Established, EventKind::Forgotten]);
    fixture.session.forget().await.unwrap();
    let id = fixture.session.id().clone();
    drop(fixture.session);
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.supervisor.snapshot().sessions, 0, "{id} is resident");
}

#[tokio::test]
async fn a_session_that_is_established_after_a_forget_counts_on_above_what_was_forgotten() {
    let fixture = established().await;
    for _ in 0..4 {
        fixture.session.refresh().await.unwrap();
    }
    let former = fixture.session.permission_token().await.unwrap();
    fixture.session.invalidate(&former);
    fixture.session.erase().forget().await.unwrap();
    let _ = fixture.session.establish(()).await.unwrap();
    let token = fixture.session.try_permission_token().unwrap();
    assert_eq!(token.expose_secret(), "access-6");
    assert!(token.epoch() > former.epoch() && token.generation() > former.generation());
    assert_eq!(fixture.script.refreshes(), 4, "the former's rejection is not the successor's");
    fixture.session.invalidate(&former);
    assert_eq!(generation(&fixture.session.permission_token().await), token.generation());
}

/// 1. A refresh is out. 2. The session is to be forgotten. 3. The answer comes. It is saved, its
/// waiters get it, and then it is forgotten with the rest.
#[tokio::test]
async fn a_forget_during_a_refresh_whose_answer_comes_later_forgets_the_answer_too() {
    let fixture = ScriptedFixture::established().await;
    fixture.script.refresh(Reply::Hold);
    let session = fixture.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    fixture.script.held(1).await;
    let forgetting = forgetting(&fixture.session);
    fixture.clock.advance(SECOND).await;
    assert!(!forgetting.is_finished());
    fixture.script.release();
    assert_eq!(generation(&refreshing.await.unwrap()), 2);
    forgetting.await.unwrap().unwrap();
    assert_gone(&fixture).await;
}

#[tokio::test]
async fn what_is_owed_is_dropped_with_the_session() {
    let fixture = ScriptedFixture::unsaved().await;
    assert_eq!(fixture.supervisor.snapshot().unsaved, 1);
    until(&fixture.clock, fixture.session.forget()).await.unwrap();
    fixture.faults.fail_always(StoreCall::Commit, false);
    fixture.clock.advance(300 * SECOND).await;
    assert_gone(&fixture).await;
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
}

/// 1. A first grant's save takes too long and is owed; its statement goes on. 2. The session is
/// forgotten. 3. The statement arrives.
#[tokio::test]
async fn a_save_of_a_first_grant_that_arrives_after_the_forget_brings_nothing_back() {
    let fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    fixture.faults.hold(StoreCall::Commit);
    let _ = until(&fixture.clock, fixture.session.establish(())).await.unwrap();
    assert!(!fixture.is_saved().await);
    until(&fixture.clock, fixture.session.forget()).await.unwrap();
    fixture.faults.release(StoreCall::Commit);
    fixture.clock.advance(60 * SECOND).await;
    assert_gone(&fixture).await;
    // Nor does it stand in the way of the next one.
    let _ = until(&fixture.clock, fixture.session.establish(())).await.unwrap();
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(fixture.stored().await, (2, "refresh-2".to_owned()));
}

/// Another process's refresh is out while this one forgets.
#[tokio::test]
async fn an_answer_to_another_process_does_not_bring_a_forgotten_session_back() {
    let other = ScriptedFixture::expired().await;
    other.script.refresh(Reply::Hold);
    drop(other.callers(1).await);
    other.script.held(1).await;
    let fixture = ScriptedFixture::start(&other.store, &other.clock).await;
    fixture.session.forget().await.unwrap();
    other.script.release();
    other.clock.advance(SECOND).await;
    assert_gone(&fixture).await;
    assert_eq!(kind(other.token().await), ErrorKind::NotEstablished);
}

#[tokio::test]
async fn a_forget_that_the_store_refuses_leaves_the_session_as_it_was() {
    let fixture = ScriptedFixture::unsaved().await;
    fixture.faults.fail_next(StoreCall::Delete, 1);
    let failed = until(&fixture.clock, fixture.session.forget()).await.unwrap_err();
    assert_eq!((failed.kind(), failed.session()), (ErrorKind::Store, Some(fixture.session.id())));
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(fixture.supervisor.snapshot().unsaved, 1, "what is owed is still owed");
    fixture.faults.fail_always(StoreCall::Commit, false);
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.stored().await, (2, "refresh-2".to_owned()));
}

#[tokio::test]
async fn a_forget_that_was_done_and_not_acknowledged_shows_at_the_next_exchange() {
    let fixture = ScriptedFixture::established().await;
    fixture.faults.fail_after_writing(StoreCall::Delete, 1);
    fixture.session.forget().await.unwrap_err();
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
    fixture.clock.advance(LIFE + SECOND).await;
    let _ = fixture.token().await;
    assert_gone(&fixture).await;
    assert_eq!(fixture.script.refreshes(), 0);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_can_be_forgotten() {
    let former = ScriptedFixture::established().await;
    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    fixture.faults.fail_always(StoreCall::Load, true);
    assert_eq!(kind(fixture.token().await), ErrorKind::Store);
    fixture.faults.fail_next(StoreCall::Delete, 1);
    fixture.session.forget().await.unwrap_err();
    assert_eq!(kind(fixture.token().await), ErrorKind::Store, "it is not taken for vacant");
    fixture.session.forget().await.unwrap();
    fixture.faults.fail_always(StoreCall::Load, false);
    assert_gone(&fixture).await;
}

#[tokio::test]
async fn what_the_server_was_not_told_is_dropped_with_the_session() {
    let fixture = established().await;
    fixture.script.revoke(Reply::Fail(FailureClass::NotSent));
    fixture.until(fixture.session.revoke()).await.unwrap();
    fixture.session.forget().await.unwrap();
    fixture.clock.advance(3600 * SECOND).await;
    assert_eq!(fixture.script.revocations(), 1);
    assert!(fixture.store.is_empty());
}

/// 1. The delete is out. 2. The caller goes and the actor is killed. 3. The delete is done.
#[tokio::test]
async fn a_forget_ends_without_its_caller_and_its_actor() {
    let fixture = ScriptedFixture::established().await;
    fixture.faults.hold(StoreCall::Delete);
    let forgetting = forgetting(&fixture.session);
    fixture.faults.held(StoreCall::Delete, 1).await;
    forgetting.abort();
    assert!(Chaos::of(&fixture.supervisor).kill_session(fixture.session.id()));
    fixture.clock.advance(SECOND).await;
    fixture.faults.release(StoreCall::Delete);
    fixture.clock.advance(SECOND).await;
    assert_gone(&fixture).await;
}

/// 1. The delete is out. 2. Somebody wants a newer token than the forgotten one. 3. A grant is
/// queued behind the forget. Whoever waited does not make the successor count that far.
#[tokio::test]
async fn who_waits_for_a_newer_token_hears_that_the_session_is_forgotten() {
    let fixture = ScriptedFixture::established().await;
    for _ in 0..4 {
        fixture.session.refresh().await.unwrap();
    }
    let former = generation(&fixture.token().await);
    fixture.faults.hold(StoreCall::Delete);
    let forgetting = forgetting(&fixture.session);
    fixture.faults.held(StoreCall::Delete, 1).await;
    let session = fixture.session.clone();
    let waiting = tokio::spawn(async move { session.refresh().await });
    let session = fixture.session.clone();
    let granting = tokio::spawn(async move { session.establish(()).await.map(drop) });
    fixture.clock.advance(Duration::ZERO).await;
    fixture.faults.release(StoreCall::Delete);
    assert_eq!(kind(waiting.await.unwrap()), ErrorKind::NotEstablished);
    forgetting.await.unwrap().unwrap();
    granting.await.unwrap().unwrap();
    assert!(generation(&fixture.token().await) > former);
    assert_eq!(fixture.script.refreshes(), 4);
}

#[tokio::test]
async fn a_tenants_sessions_are_forgotten_and_nobody_elses() {
    let fixture = fixture().await;
    let sessions: Sessions<ScriptedProvider> = fixture.supervisor.sessions("p").unwrap();
    let of = |tenant: &str, name: &str| sessions.session(SessionKey::new(tenant, name).unwrap());
    for number in 0..600 {
        let _ = of("gone", &format!("device-{number}")).establish(()).await.unwrap();
    }
    let stays = of("stays", "device-1");
    let _ = stays.establish(()).await.unwrap();
    // Two that are not in memory: another supervisor forgets them.
    let later = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    let sessions: Sessions<ScriptedProvider> = later.supervisor.sessions("p").unwrap();
    let resident = session(&later.supervisor, "device");
    assert_eq!(kind(resident.permission_token().await), ErrorKind::NotEstablished);
    let gone = Tenant::new("gone").unwrap();
    let forgotten = sessions.forget_tenant(&gone).await.unwrap();
    assert_eq!((forgotten.sessions, forgotten.left), (600, 0));
    assert_eq!(sessions.forget_tenant(&gone).await.unwrap().sessions, 0);
    assert_eq!(fixture.store.len(), 1);
    drop(resident);
    later.clock.advance(SECOND).await;
    assert_eq!(later.supervisor.snapshot().sessions, 0);
    assert_eq!(stays.permission_token().await.unwrap().generation(), 1);
}

#[tokio::test]
async fn a_store_that_fails_while_a_tenant_is_forgotten_is_told_and_the_rest_can_be_forgotten() {
    let fixture = ScriptedFixture::established().await;
    let sessions: Sessions<ScriptedProvider> = fixture.supervisor.sessions("p").unwrap();
    let tenant = fixture.session.id().key().tenant().clone();
    for failing in [StoreCall::List, StoreCall::Delete] {
        fixture.faults.fail_next(failing, 1);
        let failed = sessions.forget_tenant(&tenant).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Store, "{failing:?}");
    }
    assert_eq!(sessions.forget_tenant(&tenant).await.unwrap().sessions, 1);
    assert_gone(&fixture).await;
}

#[tokio::test]
async fn a_tenant_is_forgotten_at_all_providers_and_what_is_left_is_counted() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .store(store.clone())
        .provider("provider", ScriptedProvider::new())
        .provider("another", ScriptedProvider::new())
        .start()
        .await
        .unwrap();
    let (gone, stays) = (Tenant::new("gone").unwrap(), Tenant::new("stays").unwrap());
    for provider in ["provider", "another"] {
        let sessions = supervisor.sessions::<ScriptedProvider>(provider).unwrap();
        for tenant in [&gone, &stays] {
            let key = SessionKey::new(tenant.as_str(), "device").unwrap();
            let _ = until(&clock, sessions.session(key).establish(())).await.unwrap();
        }
    }
    // One of a provider that is not registered any more.
    let key = SessionKey::new("gone", "device").unwrap();
    let unknown = SessionId::new(ProviderName::new("removed").unwrap(), key);
    exchange(&store, &unknown, Intent::Establish, "x").await.unwrap();
    assert_eq!(store.len(), 5);
    let forgotten = until(&clock, supervisor.forget_tenant(&gone)).await.unwrap();
    assert_eq!((forgotten.sessions, forgotten.left), (3, 0));
    assert_eq!(forgotten.keys, TenantKeys::None, "a store in memory encrypts nothing");
    assert_eq!(store.len(), 2);
    let none = until(&clock, supervisor.forget_tenant(&gone)).await.unwrap();
    assert_eq!((none.sessions, none.left), (0, 0));
}

/// Notes each list of a tenant without a provider, for which PostgreSQL has no index.
#[derive(Clone, Default)]
struct NotesLists(MemoryStore, Arc<AtomicU64>);

#[async_trait]
impl Store for NotesLists {
    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        self.0.load(id).await
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        self.0.apply(id, statement).await
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.0.due(provider, within, after, limit).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        if filter.tenant.is_some() && filter.provider.is_none() {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
        self.0.list(filter, after, limit).await
    }
}

#[tokio::test]
async fn a_tenant_is_forgotten_with_lists_of_one_provider_each() {
    let (store, clock) = (NotesLists::default(), ManualClock::new());
    let key = SessionKey::new("gone", "device").unwrap();
    for provider in ["one", "other"] {
        let id = SessionId::new(ProviderName::new(provider).unwrap(), key.clone());
        exchange(&store.0, &id, Intent::Establish, "x").await.unwrap();
    }
    let builder = Supervisor::builder().clock(clock.clone()).store(store.clone());
    let supervisor = builder.provider("p", ScriptedProvider::<()>::new()).start().await.unwrap();
    let gone = Tenant::new("gone").unwrap();
    let forgotten = until(&clock, supervisor.forget_tenant(&gone)).await.unwrap();
    assert_eq!((forgotten.sessions, forgotten.left, store.0.len()), (2, 0, 0));
    assert_eq!(store.1.load(Ordering::Relaxed), 0);
}

/// 1. The tenant is being forgotten. 2. A session of it is established, before those that are still
/// to be read. 3. The report says that it is left.
#[tokio::test]
async fn a_session_that_is_established_while_its_tenant_is_forgotten_is_counted_as_left() {
    let fixture = ScriptedFixture::established().await;
    let tenant = fixture.session.id().key().tenant().clone();
    fixture.faults.hold(StoreCall::Delete);
    let (supervisor, of) = (fixture.supervisor.clone(), tenant.clone());
    let forgetting = tokio::spawn(async move { supervisor.forget_tenant(&of).await });
    fixture.faults.held(StoreCall::Delete, 1).await;
    let key = SessionKey::new(tenant.as_str(), "a").unwrap();
    let late = SessionId::new(fixture.session.id().provider().clone(), key);
    exchange(&fixture.store, &late, Intent::Establish, "x").await.unwrap();
    fixture.faults.release(StoreCall::Delete);
    let forgotten = until(&fixture.clock, forgetting).await.unwrap().unwrap();
    assert_eq!((forgotten.sessions, forgotten.left), (1, 1));
    let again = until(&fixture.clock, fixture.supervisor.forget_tenant(&tenant)).await.unwrap();
    assert_eq!((again.sessions, again.left), (1, 0));
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn the_keys_of_a_tenant_in_a_file_are_derived_from_those_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        session_warden::store::sqlite::SqliteStore::open(folder.path().join("a.db")).unwrap();
    let builder = Supervisor::builder().key_ring(crate::store_statements::ring(1)).store(store);
    let supervisor = builder.provider("p", ScriptedProvider::new()).start().await.unwrap();
    let sessions = supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let session = sessions.session(SessionKey::new("gone", "device").unwrap());
    let _ = session.establish(()).await.unwrap();
    let forgotten = supervisor.forget_tenant(&Tenant::new("gone").unwrap()).await.unwrap();
    assert_eq!((forgotten.sessions, forgotten.left), (1, 0));
    assert_eq!(forgotten.keys, TenantKeys::Derived);
}
