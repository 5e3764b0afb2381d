//! Providers and tenants that the backend has paused.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use session_warden::error::ExchangeOutcome;
use session_warden::key::{PauseScope, ProviderName, Tenant};
use session_warden::policy::{
    DUE_POLL, PAUSED_SCOPES, PAUSES_POLL, Policy, ProviderLimits, RESUME_SPREAD, RefreshPolicy,
    When,
};
use session_warden::provider::{FailureClass, Registration, SourceError};
use session_warden::session::{Revocation, State};
use session_warden::store::MemoryStore;
use session_warden::testing::{Faults, ManualClock, Reply, Script, ScriptedProvider, StoreCall};
use session_warden::{Error, ErrorKind, Session, SessionKey, Supervisor};
use tokio::sync::Semaphore;

use crate::fixtures::{Fixture, ScriptedFixture};
use crate::support::{LIFE, SECOND, until};

fn provider() -> PauseScope {
    PauseScope::Provider(ProviderName::new("p").unwrap())
}

/// A process whose sessions are refreshed although nobody calls them.
async fn proactive(
    store: &MemoryStore,
    clock: &ManualClock,
) -> (Fixture<ScriptedProvider>, Script) {
    let scripted = ScriptedProvider::new().lifetime(LIFE);
    let script = scripted.script();
    let refresh = RefreshPolicy { when: When::Proactive, ..RefreshPolicy::default() };
    let registration = Registration::new(scripted).refresh(refresh);
    (Fixture::start_at("p", registration, store, clock).await, script)
}

#[track_caller]
fn assert_paused<T: std::fmt::Debug>(refused: Result<T, Error>) {
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert_eq!(error.outcome(), Some(ExchangeOutcome::NotSent), "{error}");
    assert!(error.to_string().contains("has paused the session"), "{error}");
}

/// How many requests the provider has had.
fn sent(script: &Script) -> u64 {
    script.refreshes() + script.establishes() + script.revocations()
}

#[tokio::test]
async fn while_a_provider_is_paused_live_tokens_are_served_and_nothing_is_sent() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let (fixture, script) = proactive(&store, &clock).await;
    let _ = fixture.until(fixture.session.establish(())).await.unwrap();
    assert!(fixture.supervisor.pause(&provider()).await.unwrap());
    assert!(!fixture.supervisor.pause(&provider()).await.unwrap(), "it is paused already");
    assert_eq!(fixture.supervisor.paused().await.unwrap(), [provider()]);
    let before = sent(&script);
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
    assert_paused(fixture.until(fixture.session.refresh()).await);
    assert_paused(fixture.until(fixture.session.establish(())).await.map(drop));
    // It is due, and then it expires.
    clock.advance(LIFE * 9 / 10).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
    clock.advance(LIFE).await;
    assert_paused(fixture.token().await);
    clock.advance(4 * LIFE).await;
    assert_eq!(sent(&script), before, "nothing was sent");
    assert_eq!(fixture.state().await, State::Active);
    assert!(fixture.record().await.lease.is_none(), "no process waits for anything");

    assert!(fixture.supervisor.resume(&provider()).await.unwrap());
    assert!(!fixture.supervisor.resume(&provider()).await.unwrap());
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-2");
}

#[tokio::test]
async fn a_pause_of_a_tenant_holds_for_its_sessions_and_for_no_others() {
    let fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    let name = fixture.session.id().provider().clone();
    let sessions = fixture.supervisor.sessions::<ScriptedProvider>(name.as_str()).unwrap();
    let session = |tenant: &str| sessions.session(SessionKey::new(tenant, "device").unwrap());
    let (north, south) = (session("north"), session("south"));
    for session in [&north, &south] {
        let _ = fixture.until(session.establish(())).await.unwrap();
    }
    let tenant = Tenant::new("north").unwrap();
    let elsewhere = PauseScope::TenantAt(ProviderName::new("other").unwrap(), tenant.clone());
    let _ = fixture.supervisor.pause(&elsewhere).await.unwrap();
    let _ = fixture.until(north.refresh()).await.unwrap();
    for scope in [PauseScope::Tenant(tenant.clone()), PauseScope::TenantAt(name, tenant)] {
        let _ = fixture.supervisor.pause(&scope).await.unwrap();
        assert_paused(fixture.until(north.refresh()).await);
        let _ = fixture.until(south.refresh()).await.unwrap();
        let _ = fixture.supervisor.resume(&scope).await.unwrap();
        let _ = fixture.until(north.refresh()).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_is_under_way_ends_and_is_saved() {
    let fixture = ScriptedFixture::established().await;
    fixture.script.refresh(Reply::Hold);
    let session: Session<ScriptedProvider> = fixture.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    fixture.script.held(1).await;
    let scope = PauseScope::Provider(fixture.session.id().provider().clone());
    let _ = fixture.supervisor.pause(&scope).await.unwrap();
    fixture.script.release();
    let token = until(&fixture.clock, refreshing).await.unwrap().unwrap();
    assert_eq!(token.generation(), 2);
    assert_eq!(fixture.record().await.generation, 2);
    assert_paused(fixture.until(fixture.session.refresh()).await);
}

#[tokio::test]
async fn an_exchange_that_claims_while_the_pause_is_set_sends_nothing() {
    let fixture = ScriptedFixture::established().await;
    fixture.faults.hold(StoreCall::Claim);
    let session: Session<ScriptedProvider> = fixture.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    fixture.faults.held(StoreCall::Claim, 1).await;
    let scope = PauseScope::Provider(fixture.session.id().provider().clone());
    let _ = fixture.supervisor.pause(&scope).await.unwrap();
    fixture.faults.release(StoreCall::Claim);
    assert_paused(until(&fixture.clock, refreshing).await.unwrap());
    assert_eq!(fixture.script.refreshes(), 0);
    assert!(fixture.record().await.lease.is_none(), "no process waits for the claim");
    let _ = fixture.supervisor.resume(&scope).await.unwrap();
    // This process backs off from its own attempt.
    fixture.clock.advance(Policy::default().backoff.cap).await;
    assert_eq!(fixture.until(fixture.session.refresh()).await.unwrap().generation(), 2);
}

#[tokio::test]
async fn a_revocation_that_waits_for_its_turn_while_the_pause_is_set_is_not_sent() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let scripted: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let script = scripted.script();
    let narrow = ProviderLimits { exchanges: 1, ..ProviderLimits::default() };
    let registration = Registration::new(scripted).limits(narrow);
    let fixture = Fixture::start_at("p", registration, &store, &clock).await;
    let other = fixture.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let other = other.session(SessionKey::new("tenant", "other").unwrap());
    for session in [&fixture.session, &other] {
        let _ = fixture.until(session.establish(())).await.unwrap();
    }
    script.refresh(Reply::Hold);
    let refreshing = tokio::spawn(async move { other.refresh().await });
    script.held(1).await;
    let session: Session<ScriptedProvider> = fixture.session.clone();
    let revoking = tokio::spawn(async move { session.revoke().await });
    clock.advance(Duration::ZERO).await;
    let _ = fixture.supervisor.pause(&provider()).await.unwrap();
    script.release();
    let _ = until(&clock, refreshing).await.unwrap().unwrap();
    assert_eq!(until(&clock, revoking).await.unwrap().unwrap(), Revocation::Queued);
    assert_eq!(script.revocations(), 0);
}

#[tokio::test]
async fn a_second_attempt_with_another_client_is_not_sent_during_a_pause() {
    let (asked, answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
    let scripted = || -> ScriptedProvider { ScriptedProvider::new().lifetime(LIFE) };
    let (one, other) = (scripted(), scripted());
    let scripts = [one.script(), other.script()];
    let clients = Arc::new(Mutex::new(vec![other, one]));
    let (note, wait) = (Arc::clone(&asked), Arc::clone(&answer));
    let source = move |_: Tenant| {
        let (clients, note, wait) = (Arc::clone(&clients), Arc::clone(&note), Arc::clone(&wait));
        async move {
            note.add_permits(1);
            wait.acquire().await.unwrap().forget();
            Ok::<_, SourceError>(Registration::new(clients.lock().pop().unwrap()))
        }
    };
    let clock = ManualClock::new();
    let builder = Supervisor::builder().clock(clock.clone()).provider_per_tenant("p", source);
    let supervisor = builder.start().await.unwrap();
    let session = supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let session = session.session(SessionKey::new("t", "device").unwrap());
    let _ = until(&clock, session.establish(())).await.unwrap();
    scripts[0].refresh(Reply::Fail(FailureClass::InvalidClient));
    let refreshing = tokio::spawn(async move { session.refresh().await });
    asked.acquire_many(2).await.unwrap().forget();
    let _ = supervisor.pause(&provider()).await.unwrap();
    answer.add_permits(1);
    let error = until(&clock, refreshing).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert_eq!(scripts.map(|script| script.refreshes()), [1, 0]);
}

#[tokio::test]
async fn a_session_that_is_revoked_during_a_pause_is_closed_and_its_server_learns_of_it_later() {
    let fixture = ScriptedFixture::established().await;
    let scope = PauseScope::Provider(fixture.session.id().provider().clone());
    let _ = fixture.supervisor.pause(&scope).await.unwrap();
    let revoked = fixture.until(fixture.session.revoke()).await.unwrap();
    assert_eq!((revoked, fixture.state().await), (Revocation::Queued, State::Closed));
    fixture.clock.advance(3600 * SECOND).await;
    assert_eq!(fixture.script.revocations(), 0);
    assert!(fixture.record().await.outbox.is_some());
    let _ = fixture.supervisor.resume(&scope).await.unwrap();
    fixture.clock.advance(Policy::default().backoff.cap + DUE_POLL + RESUME_SPREAD).await;
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.script.revocations(), 1);
    assert!(fixture.record().await.outbox.is_none());
}

#[tokio::test]
async fn a_pause_holds_for_all_processes_on_the_store_and_survives_a_restart() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let ((one, _), (other, _)) = (proactive(&store, &clock).await, proactive(&store, &clock).await);
    let _ = one.until(one.session.establish(())).await.unwrap();
    let _ = one.supervisor.pause(&provider()).await.unwrap();
    // A store in memory is read this often.
    clock.advance(DUE_POLL).await;
    assert_paused(other.until(other.session.refresh()).await);
    let (third, script) = proactive(&store, &clock).await;
    assert_paused(third.until(third.session.refresh()).await);
    let _ = third.supervisor.resume(&provider()).await.unwrap();
    assert_eq!(script.refreshes(), 0);
    clock.advance(DUE_POLL).await;
    let _ = one.until(one.session.refresh()).await.unwrap();
}

#[tokio::test]
async fn what_became_due_during_a_pause_is_refreshed_one_after_the_other() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let (fixture, script) = proactive(&store, &clock).await;
    let sessions = fixture.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let many = 40;
    for number in 0..many {
        let session = sessions.session(SessionKey::single(format!("{number}")).unwrap());
        let _ = fixture.until(session.establish(())).await.unwrap();
    }
    let _ = fixture.supervisor.pause(&provider()).await.unwrap();
    // A process that has nothing in memory.
    let _ = fixture.supervisor.shutdown(SECOND).await;
    clock.advance(2 * LIFE).await;
    let (fixture, script_of_next) = proactive(&store, &clock).await;
    clock.advance(LIFE).await;
    assert_eq!((script.refreshes(), script_of_next.refreshes()), (0, 0));
    // Neither when the poller wakes, nor in the middle between two sweeps.
    clock.advance(DUE_POLL / 3).await;
    let _ = fixture.supervisor.resume(&provider()).await.unwrap();
    let mut most = 0;
    for _ in 0..(RESUME_SPREAD + DUE_POLL).as_secs() {
        let before = script_of_next.refreshes();
        clock.advance(SECOND).await;
        most = most.max(script_of_next.refreshes() - before);
    }
    assert!(script_of_next.refreshes() >= many, "{}", script_of_next.refreshes());
    assert!(most < many / 5, "{most} of {many} in one second");
}

#[tokio::test]
async fn while_the_store_fails_what_is_paused_stays_so() {
    let fixture = ScriptedFixture::established().await;
    let scope = PauseScope::Provider(fixture.session.id().provider().clone());
    let _ = fixture.supervisor.pause(&scope).await.unwrap();
    fixture.faults.fail_always(StoreCall::Pauses, true);
    fixture.clock.advance(3 * DUE_POLL).await;
    assert_paused(fixture.until(fixture.session.refresh()).await);
    let failed = fixture.supervisor.resume(&scope).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
    fixture.faults.fail_always(StoreCall::Pauses, false);
    fixture.clock.advance(DUE_POLL + Duration::from_secs(5)).await;
    let _ = fixture.until(fixture.session.refresh()).await.unwrap();
}

#[tokio::test]
async fn a_process_that_starts_while_the_store_fails_sends_nothing_until_it_has_read_the_pauses() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let fail = |faults: &Faults| faults.fail_always(StoreCall::Pauses, true);
    let fixture = ScriptedFixture::start_with(&store, &clock, fail).await;
    let error = fixture.until(fixture.session.establish(())).await.map(drop).unwrap_err();
    let seen = (error.kind(), error.outcome());
    assert_eq!(seen, (ErrorKind::RetryLater, Some(ExchangeOutcome::NotSent)), "{error}");
    assert_eq!(sent(&fixture.script), 0);
    fixture.faults.fail_always(StoreCall::Pauses, false);
    clock.advance(PAUSES_POLL).await;
    let _ = fixture.until(fixture.session.establish(())).await.unwrap();
}

#[tokio::test]
async fn the_number_of_paused_scopes_is_bounded() {
    let fixture = ScriptedFixture::established().await;
    let scope = |number: usize| PauseScope::Tenant(Tenant::new(format!("t-{number}")).unwrap());
    for number in 0..PAUSED_SCOPES {
        assert!(fixture.supervisor.pause(&scope(number)).await.unwrap());
    }
    let full = fixture.supervisor.pause(&scope(PAUSED_SCOPES)).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Capacity);
    assert!(!fixture.supervisor.pause(&scope(7)).await.unwrap(), "it is there already");
    assert!(fixture.supervisor.resume(&scope(7)).await.unwrap());
    assert!(fixture.supervisor.pause(&scope(PAUSED_SCOPES)).await.unwrap());
}

#[tokio::test]
async fn a_pause_that_the_store_does_not_confirm_is_an_error_and_can_be_repeated() {
    let fixture = ScriptedFixture::established().await;
    let scope = PauseScope::Provider(fixture.session.id().provider().clone());
    fixture.faults.panic_next(StoreCall::SetPaused, 1);
    assert_eq!(fixture.supervisor.pause(&scope).await.unwrap_err().kind(), ErrorKind::Store);
    fixture.faults.fail_after_writing(StoreCall::SetPaused, 1);
    assert_eq!(fixture.supervisor.pause(&scope).await.unwrap_err().kind(), ErrorKind::Store);
    assert!(!fixture.supervisor.pause(&scope).await.unwrap(), "it was written");
    assert_paused(fixture.until(fixture.session.refresh()).await);
}
