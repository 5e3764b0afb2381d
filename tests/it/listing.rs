//! Lists come from the store in pages, with the current state of sessions in memory.

use futures_util::StreamExt;
use futures_util::stream;
use session_warden::clock::Clock;
use session_warden::error::LostReason;
use session_warden::key::{ProviderName, SessionId, Tenant};
use session_warden::policy::{LIST_FAILURES, LIST_PAGE};
use session_warden::provider::FailureClass;
use session_warden::session::{Adopt, Filter, State};
use session_warden::store::{MemoryStore, Store};
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{Faults, ManualClock, Reply, ScriptedProvider, StoreCall};
use session_warden::token::Tokens;
use session_warden::{Error, ErrorKind, SessionKey, Sessions, Supervisor};

use crate::fixtures::{Fixture, ScriptedFixture, established, fixture};
use crate::sqlite::store_folder::{Folder, ring};
use crate::support::{LIFE, SECOND, session, until};

/// A supervisor with two providers.
async fn supervisor(store: &MemoryStore, clock: &ManualClock) -> Supervisor {
    let builder = Supervisor::builder().clock(clock.clone()).store(store.clone());
    let (one, other) = (ScriptedProvider::new(), ScriptedProvider::new());
    builder.provider("p", one).provider("q", other).start().await.unwrap()
}

async fn establish(supervisor: &Supervisor, provider: &str, tenant: &str, name: &str) {
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions(provider).unwrap();
    let session = sessions.session(SessionKey::new(tenant, name).unwrap());
    let _ = session.establish(()).await.unwrap();
}

async fn import(supervisor: &Supervisor, provider: &str, tenant: &str, many: usize) {
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions(provider).unwrap();
    let row = |number| {
        let key = SessionKey::new(tenant, format!("device-{number:05}")).unwrap();
        (key, Tokens::new(()).with_refresh_token("refresh", None))
    };
    let rows: Vec<_> = (0..many).map(row).collect();
    assert_eq!(sessions.import(stream::iter(rows)).await.unwrap().adopted, many as u64);
}

async fn ids(supervisor: &Supervisor, filter: Filter) -> Vec<String> {
    let listed = supervisor.list(filter).map(|status| status.unwrap().id.to_string());
    listed.collect().await
}

async fn states(supervisor: &Supervisor) -> Vec<(String, State)> {
    let listed = supervisor.list(Filter::default()).map(|status| {
        let status = status.unwrap();
        (status.id.key().token_id().to_owned(), status.state)
    });
    listed.collect().await
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

#[tokio::test]
async fn a_list_has_all_that_pass_in_the_order_of_ids_also_what_is_not_in_memory() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let former = supervisor(&store, &clock).await;
    for (provider, tenant, name) in
        [("q", "b", "1"), ("p", "b", "2"), ("p", "a", "3"), ("p", "b", "1"), ("q", "a", "1")]
    {
        establish(&former, provider, tenant, name).await;
    }
    let later = supervisor(&store, &clock).await;
    let q = || ProviderName::new("q").unwrap();
    for supervisor in [&former, &later] {
        let all = ids(supervisor, Filter::default()).await;
        assert_eq!(all, ["p/a/3", "p/b/1", "p/b/2", "q/a/1", "q/b/1"]);
        let b = ids(supervisor, Filter::tenant(tenant("b"))).await;
        assert_eq!(b, ["p/b/1", "p/b/2", "q/b/1"]);
        let theirs = ids(supervisor, Filter::default().provider(q())).await;
        assert_eq!(theirs, ["q/a/1", "q/b/1"]);
        let one = ids(supervisor, Filter::tenant(tenant("b")).provider(q())).await;
        assert_eq!(one, ["q/b/1"]);
        assert!(ids(supervisor, Filter::tenant(tenant("c"))).await.is_empty());
        let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").unwrap();
        assert_eq!(sessions.list(Filter::default()).count().await, 3);
        assert_eq!(sessions.list(Filter::tenant(tenant("b"))).count().await, 2);
        assert_eq!(sessions.list(Filter::default().provider(q())).count().await, 0);
    }
    assert_eq!(later.snapshot().sessions, 0, "a list brings nothing into memory");
}

#[tokio::test]
async fn sessions_of_a_provider_that_is_not_registered_are_listed() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    establish(&supervisor(&store, &clock).await, "q", "a", "1").await;
    let later = ScriptedFixture::start(&store, &clock).await;
    assert_eq!(ids(&later.supervisor, Filter::default()).await, ["q/a/1"]);
}

#[tokio::test]
async fn a_list_over_many_pages_is_not_disturbed_by_changes_meanwhile() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let supervisor = supervisor(&store, &clock).await;
    let many = 3 * LIST_PAGE + 1;
    import(&supervisor, "p", "t", many).await;
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").unwrap();
    let of = |number: usize| {
        sessions.session(SessionKey::new("t", format!("device-{number:05}")).unwrap())
    };
    let mut seen: Vec<SessionId> = Vec::new();
    let mut listed = std::pin::pin!(supervisor.list(Filter::default()));
    while let Some(status) = listed.next().await {
        seen.push(status.unwrap().id);
        if seen.len().is_multiple_of(100) {
            let at = seen.len();
            // Behind it, at it and before it. Those with a number ending in 7 come and go.
            of(at - 50 + 7).forget().await.unwrap();
            of(at).refresh().await.unwrap();
            of((at + LIST_PAGE / 10 * 10 + 7).min(many / 10 * 10 + 7)).forget().await.unwrap();
            establish(&supervisor, "p", "a-new-tenant", &at.to_string()).await;
        }
    }
    assert!(seen.is_sorted_by(|one, other| one < other), "in order, and none twice");
    let kept = (0..many).filter(|number| number % 10 != 7).map(|number| of(number).id().clone());
    assert!(kept.into_iter().all(|id| seen.contains(&id)), "none that was there is missed");
}

#[tokio::test]
async fn sessions_in_memory_are_listed_as_they_are_and_the_others_as_recorded() {
    let fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    let names = ["active", "closed", "doubt", "establishing", "lost", "refreshing"];
    for name in names {
        let session = session(&fixture.supervisor, name);
        let _ = session.establish(()).await.unwrap();
        match name {
            "closed" => drop(session.revoke().await.unwrap()),
            "doubt" => {
                fixture.script.refresh(Reply::Fail(FailureClass::Ambiguous));
                session.refresh().await.unwrap_err();
            }
            "lost" => {
                fixture.script.refresh(Reply::Fail(FailureClass::Rejected));
                session.refresh().await.unwrap_err();
            }
            _ => {}
        }
    }
    fixture.script.refresh(Reply::Hold);
    let refreshing = session(&fixture.supervisor, "refreshing");
    let refreshing = tokio::spawn(async move { refreshing.refresh().await.map(drop) });
    fixture.script.held(1).await;
    fixture.script.establish(Reply::Hold);
    let establishing = session(&fixture.supervisor, "establishing");
    let establishing = tokio::spawn(async move { establishing.establish(()).await.map(drop) });
    fixture.script.held(2).await;
    let later = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    let expected = [
        ("active", State::Active),
        ("closed", State::Closed),
        ("doubt", State::InDoubt),
        ("establishing", State::Establishing),
        ("lost", State::Lost),
        ("refreshing", State::Refreshing),
    ];
    let expected = expected.map(|(name, state)| (name.to_owned(), state));
    assert_eq!(states(&fixture.supervisor).await, expected);
    assert_eq!(states(&later.supervisor).await, expected, "from the records alone");
    for (name, state) in &expected {
        let mut listed = std::pin::pin!(later.supervisor.list(Filter::default().state(*state)));
        let status = listed.next().await.unwrap().unwrap();
        assert_eq!(status.id.key().token_id(), name);
        assert_eq!(status.lost, (*state == State::Lost).then_some(LostReason::Rejected));
        assert!(listed.next().await.is_none());
    }
    assert_eq!(later.supervisor.snapshot().sessions, 0);
    // Their holder falls silent: it does not reach the store.
    fixture.faults.fail_always(StoreCall::Renew, true);
    later.clock.advance(21 * SECOND).await;
    let silent = states(&later.supervisor).await;
    assert_eq!((silent[3].1, silent[5].1), (State::Active, State::InDoubt));
    refreshing.abort();
    establishing.abort();
}

#[tokio::test]
async fn what_is_owed_is_listed_as_it_is_in_memory() {
    let fixture = ScriptedFixture::unsaved().await;
    let listed: Vec<_> = fixture.supervisor.list(Filter::default()).collect().await;
    let [Ok(status)] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((status.generation, status.saved), (2, false));
    assert_eq!(fixture.stored().await.0, 1);
}

#[tokio::test]
async fn a_record_whose_refresh_token_has_ended_is_listed_as_lost() {
    let fixture = fixture().await;
    let tokens =
        Tokens::new(()).with_refresh_token("refresh", Some(fixture.clock.now().wall + LIFE));
    fixture.session.adopt(tokens, Adopt::IfVacant).await.unwrap();
    let later = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    assert!(later.supervisor.shutdown(SECOND).await.is_clean());
    let other = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    fixture.clock.advance(LIFE + SECOND).await;
    for supervisor in [&fixture.supervisor, &other.supervisor] {
        let listed: Vec<_> = supervisor.list(Filter::default()).collect().await;
        let [Ok(status)] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!(status.state, State::Lost);
        assert_eq!(status.lost, Some(LostReason::RefreshExpired));
    }
}

#[tokio::test]
async fn a_session_that_was_never_established_is_listed_only_while_its_grant_runs() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::HoldThenFail(FailureClass::Rejected));
    let session = fixture.session.clone();
    let granting = tokio::spawn(async move { session.establish(()).await.map(drop) });
    fixture.script.held(1).await;
    assert_eq!(states(&fixture.supervisor).await, [("device".to_owned(), State::Establishing)]);
    fixture.script.release();
    granting.await.unwrap().unwrap_err();
    assert_eq!(states(&fixture.supervisor).await, []);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_told_and_read_again_and_a_dead_store_ends_the_list() {
    let fixture = ScriptedFixture::established().await;
    fixture.faults.fail_next(StoreCall::List, 1);
    let listed: Vec<_> =
        until(&fixture.clock, fixture.supervisor.list(Filter::default()).collect()).await;
    let [Err(failed), Ok(status)] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((failed.kind(), &status.id), (ErrorKind::Store, fixture.session.id()));
    fixture.faults.fail_always(StoreCall::List, true);
    let listed: Vec<_> =
        until(&fixture.clock, fixture.supervisor.list(Filter::default()).collect()).await;
    assert_eq!(listed.len(), LIST_FAILURES as usize);
    assert!(listed.iter().all(|item| item.as_ref().is_err_and(Error::is_transient)));
}

#[tokio::test]
async fn a_list_after_a_shutdown_says_so_and_one_that_runs_outlives_its_handle() {
    let fixture = established().await;
    let listed = fixture.supervisor.list(Filter::default());
    let listed = tokio::spawn(listed.count());
    assert_eq!(listed.await.unwrap(), 1);
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
    let listed: Vec<_> = fixture.supervisor.list(Filter::default()).collect().await;
    let [Err(failed)] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(failed.kind(), ErrorKind::ShuttingDown);
}

#[tokio::test]
async fn a_list_has_only_the_sessions_whose_refresh_token_ends_before_a_time() {
    let folder = Folder::new();
    lists_by_expiry(&MemoryStore::new(), &folder.clock).await;
    lists_by_expiry(&folder.store(), &folder.clock).await;
}

async fn lists_by_expiry<S: Store + Clone>(store: &S, clock: &ManualClock) {
    let ring = |builder: SupervisorBuilder, _: &Faults| builder.key_ring(ring(1));
    let provider: ScriptedProvider = ScriptedProvider::new();
    let fixture = Fixture::start_at_with("p", provider, (store, clock), ring).await;
    let now = clock.now().wall;
    for (name, life) in [("first", Some(LIFE)), ("second", Some(2 * LIFE)), ("unknown", None)] {
        let tokens = Tokens::new(()).with_refresh_token("refresh", life.map(|life| now + life));
        session(&fixture.supervisor, name).adopt(tokens, Adopt::IfVacant).await.unwrap();
    }
    let before = |time| Filter::default().refresh_expires_before(time);
    let provider: ScriptedProvider = ScriptedProvider::new();
    let later = Fixture::start_at_with("p", provider, (store, clock), ring).await;
    for supervisor in [&fixture.supervisor, &later.supervisor] {
        assert_eq!(ids(supervisor, before(now + LIFE)).await, [""; 0], "not at the time itself");
        assert_eq!(ids(supervisor, before(now + LIFE + SECOND)).await, ["p/tenant/first"]);
        let both = ["p/tenant/first", "p/tenant/second"];
        assert_eq!(ids(supervisor, before(now + 3 * LIFE)).await, both);
        let lost = before(now + 3 * LIFE).state(State::Lost);
        assert_eq!(ids(supervisor, lost).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_list_has_only_the_sessions_that_are_lost_for_a_reason() {
    let folder = Folder::new();
    lists_by_reason(&MemoryStore::new(), &folder.clock).await;
    lists_by_reason(&folder.store(), &folder.clock).await;
}

async fn lists_by_reason<S: Store + Clone>(store: &S, clock: &ManualClock) {
    let ring = |builder: SupervisorBuilder, _: &Faults| builder.key_ring(ring(1));
    let provider: ScriptedProvider = ScriptedProvider::new();
    let script = provider.script();
    let fixture = Fixture::start_at_with("p", provider, (store, clock), ring).await;
    let now = clock.now().wall;
    for name in ["active", "expired", "rejected"] {
        let tokens = Tokens::new(());
        let expires = (name == "expired").then_some(now + LIFE);
        let tokens = tokens.with_refresh_token("refresh", expires);
        session(&fixture.supervisor, name).adopt(tokens, Adopt::IfVacant).await.unwrap();
    }
    script.refresh(Reply::Fail(FailureClass::Rejected));
    session(&fixture.supervisor, "rejected").refresh().await.unwrap_err();
    let lost = |supervisor, reason| ids(supervisor, Filter::default().lost(reason));
    let rejected = lost(&fixture.supervisor, LostReason::Rejected).await;
    assert_eq!(rejected, ["p/tenant/rejected"], "as it is in memory");
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
    clock.advance(LIFE + SECOND).await;
    let provider: ScriptedProvider = ScriptedProvider::new();
    let later = Fixture::start_at_with("p", provider, (store, clock), ring).await;
    let later = &later.supervisor;
    assert_eq!(lost(later, LostReason::Rejected).await, ["p/tenant/rejected"], "as recorded");
    assert_eq!(lost(later, LostReason::RefreshExpired).await, ["p/tenant/expired"]);
    assert_eq!(lost(later, LostReason::Revoked).await, [""; 0]);
}
