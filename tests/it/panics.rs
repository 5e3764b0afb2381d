//! If a method of a provider, a store or a source panics, no caller waits past its deadline, and no
//! session stops working.

mod panicking;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use session_warden::clock::Clock;
use session_warden::error::ExchangeOutcome;
use session_warden::key::Tenant;
use session_warden::policy::Policy;
use session_warden::provider::{Provider, Registration, UnattendedGrant};
use session_warden::session::{Adopt, Filter, Revocation, Verdict};
use session_warden::store::MemoryStore;
use session_warden::testing::{
    CrashPoint, CrashPoints, Fate, FaultyStore, ManualClock, Reply, Script, ScriptedProvider,
    StoreCall,
};
use session_warden::token::Tokens;
use session_warden::{ErrorKind, Session, Sessions, Supervisor};

use self::panicking::{Method, Often, Panicky, Place, Plan};
use crate::fixtures::ScriptedFixture;
use crate::support::{LIFE, SECOND, key, session, until};

const HOUR: Duration = Duration::from_secs(3600);

/// A supervisor whose provider, store or source panics.
struct PanicFixture<P: Provider> {
    clock: ManualClock,
    supervisor: Supervisor,
    sessions: Sessions<P>,
    session: Session<P>,
}

impl<P> PanicFixture<P>
where
    P: Provider<Grant = (), Attributes = ()>,
    (): UnattendedGrant<P>,
{
    fn new(clock: &ManualClock, supervisor: Supervisor) -> Self {
        let sessions = supervisor.sessions::<P>("p").unwrap();
        let session = sessions.session(key("device"));
        Self { clock: clock.clone(), supervisor, sessions, session }
    }

    /// Every result comes before the caller's deadline.
    async fn bounded<T>(&self, call: &str, asked: impl Future<Output = T>) -> T {
        let begun = self.clock.now().boot;
        let got = until(&self.clock, asked).await;
        let took = self.clock.now().boot.since(begun);
        assert!(took <= Policy::default().call_timeout + SECOND, "{call} took {took:?}");
        got
    }

    /// Everything that can be asked of a session, while something panics.
    async fn lives(&self) {
        let session = &self.session;
        for _ in 0..2 {
            drop(self.bounded("establish", session.establish(())).await);
            let token = self.bounded("a token", session.permission_token()).await;
            drop(self.bounded("refresh", session.refresh()).await);
            drop(self.bounded("ensure", session.ensure(())).await);
            let (mut request, ()) = http::Request::new(()).into_parts();
            drop(self.bounded("authorize", session.authorize(&mut request)).await);
            if let Ok(token) = token {
                let (mut answer, ()) = http::Response::new(()).into_parts();
                answer.status = http::StatusCode::UNAUTHORIZED;
                let verdict = session.rejected(&token, &answer, b"");
                assert!(matches!(verdict, Verdict::Retry | Verdict::Forward));
            }
            self.clock.advance(LIFE + SECOND).await;
            drop(self.bounded("an expired token", session.permission_token()).await);
            let tokens = Tokens::new(()).with_access_token("a", None).with_refresh_token("r", None);
            drop(self.bounded("adopt", session.adopt(tokens, Adopt::Replace)).await);
            drop(self.bounded("status", session.status()).await);
            let listed = self.supervisor.list(Filter::default()).take(4).collect::<Vec<_>>();
            drop(self.bounded("list", listed).await);
            drop(self.bounded("revoke", session.revoke()).await);
            drop(self.bounded("forget", session.forget()).await);
            let row = Tokens::new(()).with_refresh_token("r", None);
            let rows = futures_util::stream::iter([(key("row"), row)]);
            drop(self.bounded("import", self.sessions.import(rows)).await);
        }
    }

    /// Nothing panics any more, and all that failed has had its time.
    async fn is_well(&self, what: &str) {
        for _ in 0..4 {
            self.clock.advance(HOUR).await;
        }
        let session = &self.session;
        let established = self.bounded("establish", session.establish(())).await;
        assert!(established.is_ok(), "{what}: {established:?}");
        let token = self.bounded("a token", session.permission_token()).await.unwrap();
        let newer = self.bounded("refresh", session.refresh()).await.unwrap();
        assert!(newer.generation() > token.generation(), "{what}");
        self.clock.advance(LIFE + SECOND).await;
        let served = self.bounded("an expired token", session.permission_token()).await.unwrap();
        assert!(served.generation() > newer.generation(), "{what}");
        let revoked = self.bounded("revoke", session.revoke()).await.unwrap();
        assert_eq!(revoked, Revocation::AtServer, "{what}");
        self.bounded("forget", session.forget()).await.unwrap();
        let snapshot = self.supervisor.snapshot();
        let counts = (snapshot.actor_restarts, snapshot.supervisor_restarts, snapshot.exchanging);
        assert_eq!(counts, (0, 0, 0), "{what}: no actor died, and nothing runs");
        let report = self.bounded("shutdown", self.supervisor.shutdown(20 * SECOND)).await;
        assert!(report.is_clean(), "{what}: {report:?}");
    }
}

async fn panicky(plan: &Plan) -> PanicFixture<Panicky> {
    let clock = ManualClock::new();
    let builder = Supervisor::builder().clock(clock.clone());
    let supervisor = builder.provider("p", Panicky::new(plan)).start().await.unwrap();
    PanicFixture::new(&clock, supervisor)
}

#[tokio::test]
async fn a_provider_that_panics_in_any_of_its_methods_wedges_no_session() {
    for method in Method::OF_SESSIONS {
        for (often, place) in [
            (Often::Once, Place::Call),
            (Often::Once, Place::Future),
            (Often::Always, Place::Call),
            (Often::Always, Place::Future),
        ] {
            let what = format!("{method:?} panics {often:?} in its {place:?}");
            let gives_future = matches!(
                method,
                Method::Prepare | Method::Establish | Method::Refresh | Method::Revoke
            );
            if place == Place::Future && !gives_future {
                continue;
            }
            let plan = Plan::default();
            let fixture = panicky(&plan).await;
            if method == Method::Refresh {
                let _ = fixture.session.establish(()).await.unwrap();
            }
            plan.panics(method, often, place);
            fixture.lives().await;
            let panicked = plan.panicked();
            assert!(if often == Often::Once { panicked == 1 } else { panicked > 1 }, "{what}");
            plan.stop();
            fixture.is_well(&what).await;
        }
    }
}

/// The methods that describe a provider are called once.
#[tokio::test]
async fn a_provider_that_panics_when_it_is_registered_is_refused_and_later_it_is_not_asked() {
    for method in Method::OF_REGISTRATION {
        let plan = Plan::default();
        plan.panics(method, Often::Once, Place::Call);
        let refused = Supervisor::builder().provider("p", Panicky::new(&plan)).start().await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misconfigured, "{method:?}");
        let fixture = panicky(&plan).await;
        let asked = plan.calls(method);
        plan.panics(method, Often::Always, Place::Call);
        let replaced = fixture.sessions.replace(Panicky::new(&plan)).await;
        assert_eq!(replaced.unwrap_err().kind(), ErrorKind::Misconfigured, "{method:?}");
        fixture.lives().await;
        fixture.is_well(&format!("{method:?} would panic")).await;
        assert_eq!(plan.calls(method), asked + 1, "{method:?} is asked at registration alone");
    }
}

#[tokio::test]
async fn what_a_provider_panics_at_in_a_callers_task_is_an_error() {
    let plan = Plan::default();
    let fixture = panicky(&plan).await;
    let _ = fixture.session.establish(()).await.unwrap();
    let token = fixture.session.permission_token().await.unwrap();
    for method in [Method::Authorize, Method::Rejection] {
        plan.panics(method, Often::Once, Place::Call);
    }
    let (mut request, ()) = http::Request::new(()).into_parts();
    let unsigned = fixture.session.authorize(&mut request).await.unwrap_err();
    assert_eq!(unsigned.kind(), ErrorKind::Misconfigured);
    let (mut answer, ()) = http::Response::new(()).into_parts();
    answer.status = http::StatusCode::UNAUTHORIZED;
    assert_eq!(fixture.session.rejected(&token, &answer, b""), Verdict::Forward);
    assert_eq!(fixture.session.rejected(&token, &answer, b""), Verdict::Retry);
    fixture.session.authorize(&mut request).await.unwrap();
}

/// A store with a session that another process has claimed and never ends.
async fn claimed(clock: &ManualClock) -> MemoryStore {
    let store = MemoryStore::new();
    let other = ScriptedFixture::start(&store, clock).await;
    let _ = other.session.establish(()).await.unwrap();
    for statement in [StoreCall::Settle, StoreCall::Commit] {
        other.faults.fail_always(statement, true);
    }
    other.script.refresh(Reply::Hang);
    let refreshing = other.session.clone();
    tokio::spawn(async move { refreshing.refresh().await });
    other.script.held(1).await;
    store
}

#[tokio::test]
async fn a_store_that_panics_in_any_statement_wedges_no_session() {
    // The first three are asked at the start, and the others in cases of their own.
    let others = [
        StoreCall::Prepare,
        StoreCall::KeyRing,
        StoreCall::Reseal,
        StoreCall::Renew,
        StoreCall::Lose,
        StoreCall::Suspect,
        StoreCall::Reschedule,
        StoreCall::Restore,
        StoreCall::Import,
        // A supervisor asks for pages of these.
        StoreCall::RemoveEnded,
        StoreCall::SetPaused,
        StoreCall::ClaimLogin,
    ];
    for statement in StoreCall::ALL.into_iter().filter(|asked| !others.contains(asked)) {
        for often in Often::BOTH {
            let what = format!("{statement:?} panics {often:?}");
            let clock = ManualClock::new();
            let faulty = FaultyStore::new(claimed(&clock).await);
            let faults = faulty.faults();
            match often {
                Often::Once => faults.panic_next(statement, 1),
                Often::Always => faults.panic_always(statement, true),
            }
            let builder = Supervisor::builder().clock(clock.clone()).store(faulty);
            let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
            let script = provider.script();
            let supervisor = builder.provider("p", provider).start().await.unwrap();
            let fixture = PanicFixture::<ScriptedProvider>::new(&clock, supervisor);
            // A failure at the server is settled.
            script.refresh(Reply::Fail(session_warden::provider::FailureClass::Throttled));
            fixture.lives().await;
            let asked = faults.count(statement);
            assert!(asked >= 1, "{what}: it was never asked");
            faults.panic_always(statement, false);
            script.clear();
            fixture.is_well(&what).await;
            if statement == StoreCall::Changes {
                assert!(faults.count(statement) > 1, "{what}: it is asked again");
            }
        }
    }
}

/// The statements on a store while a request is open, and when an API reports a dead session.
#[tokio::test]
async fn a_store_that_panics_when_a_claim_is_renewed_or_a_session_lost_costs_no_answer() {
    let (clock, faulty) = (ManualClock::new(), FaultyStore::new(MemoryStore::new()));
    let faults = faulty.faults();
    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let script = provider.script();
    let builder = Supervisor::builder().clock(clock.clone()).store(faulty);
    let supervisor = builder.provider("p", provider).start().await.unwrap();
    let fixture = PanicFixture::<ScriptedProvider>::new(&clock, supervisor);
    let _ = fixture.session.establish(()).await.unwrap();
    faults.panic_always(StoreCall::Renew, true);
    faults.panic_always(StoreCall::Lose, true);
    script.refresh(Reply::Hold);
    let session = fixture.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    script.held(1).await;
    clock.advance(12 * SECOND).await;
    assert!(faults.count(StoreCall::Renew) >= 2);
    script.release();
    let token = refreshing.await.unwrap().unwrap();
    let (mut gone, ()) = http::Response::new(()).into_parts();
    gone.status = http::StatusCode::GONE;
    assert_eq!(fixture.session.rejected(&token, &gone, b""), Verdict::Forward);
    clock.advance(SECOND).await;
    assert_eq!(faults.count(StoreCall::Lose), 1);
    fixture.session.permission_token().await.unwrap_err();
    faults.panic_always(StoreCall::Renew, false);
    fixture.is_well("after both").await;
}

#[tokio::test]
async fn a_store_that_panics_at_the_start_is_refused() {
    for statement in [StoreCall::Prepare, StoreCall::KeyRing] {
        let faulty = FaultyStore::new(MemoryStore::new());
        let faults = faulty.faults();
        faults.panic_next(statement, 1);
        let provider: ScriptedProvider = ScriptedProvider::new();
        let start = Supervisor::builder().store(faulty).provider("p", provider).start().await;
        assert_eq!(start.unwrap_err().kind(), ErrorKind::Store, "{statement:?}");
        assert_eq!(faults.count(statement), 1);
    }
}

#[tokio::test]
async fn a_store_that_panics_in_a_background_look_is_looked_at_again() {
    for statement in [StoreCall::Due, StoreCall::Changes] {
        let fixture =
            ScriptedFixture::start_with(&MemoryStore::new(), &ManualClock::new(), |faults| {
                faults.panic_always(statement, true);
            })
            .await;
        fixture.clock.advance(60 * SECOND).await;
        let asked = fixture.faults.count(statement);
        assert!((5..60).contains(&asked), "{statement:?} was asked {asked} times in a minute");
        fixture.faults.panic_always(statement, false);
        fixture.clock.advance(10 * SECOND).await;
        assert!(fixture.faults.count(statement) > asked, "{statement:?}");
    }
}

#[tokio::test]
async fn a_source_that_panics_wedges_no_session() {
    for often in Often::BOTH {
        for place in [Place::Call, Place::Future] {
            let what = format!("the source panics {often:?} in its {place:?}");
            let left = Arc::new(AtomicU64::new(if often == Often::Once { 1 } else { u64::MAX }));
            let panics = Arc::clone(&left);
            let source = move |_: Tenant| {
                let fails = panics.load(Ordering::SeqCst) > 0;
                let panics = Arc::clone(&panics);
                let fail = move || {
                    panics.fetch_sub(1, Ordering::SeqCst);
                    panic!("the source panics");
                };
                if fails && place == Place::Call {
                    fail();
                }
                async move {
                    if fails && place == Place::Future {
                        fail();
                    }
                    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
                    Ok(Registration::new(provider))
                }
            };
            let clock = ManualClock::new();
            let builder = Supervisor::builder().clock(clock.clone());
            let builder = builder.provider_per_tenant::<ScriptedProvider>("p", source);
            let fixture =
                PanicFixture::<ScriptedProvider>::new(&clock, builder.start().await.unwrap());
            fixture.lives().await;
            assert_ne!(
                left.load(Ordering::SeqCst),
                if often == Often::Once { 1 } else { u64::MAX }
            );
            left.store(0, Ordering::SeqCst);
            fixture.is_well(&what).await;
        }
    }
}

/// A supervisor whose exchanges can be made to panic.
async fn scripted() -> (ManualClock, CrashPoints, Script, Supervisor) {
    let clock = ManualClock::new();
    let armed = CrashPoints::new();
    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let script = provider.script();
    let builder = Supervisor::builder().clock(clock.clone()).crash_points(&armed);
    let supervisor = builder.provider("p", provider).start().await.unwrap();
    (clock, armed, script, supervisor)
}

/// The exchange's own task panics at each of its steps.
#[tokio::test]
async fn a_task_that_panics_at_any_of_its_steps_ends_its_session_in_a_known_state() {
    let points = [
        CrashPoint::BeforeClaim,
        CrashPoint::Claimed,
        CrashPoint::Received,
        CrashPoint::Committed,
        CrashPoint::Replied,
    ];
    for point in points {
        for refreshes in [false, true] {
            let (clock, armed, script, supervisor) = scripted().await;
            let fixture = PanicFixture::<ScriptedProvider>::new(&clock, supervisor);
            if refreshes {
                let _ = fixture.session.establish(()).await.unwrap();
            }
            armed.arm(point, Fate::Panic);
            let begun = clock.now().boot;
            let outcome = if refreshes {
                until(&clock, fixture.session.refresh()).await.map(drop)
            } else {
                until(&clock, fixture.session.establish(())).await.map(drop)
            };
            let took = clock.now().boot.since(begun);
            assert!(took < SECOND, "{point:?}: told after {took:?}");
            assert_eq!(format!("{armed:?}"), "CrashPoints([])", "{point:?} was passed");
            let sent = script.establishes() + script.refreshes() > u64::from(refreshes);
            assert_eq!(sent, !matches!(point, CrashPoint::BeforeClaim | CrashPoint::Claimed));
            if let Err(failed) = outcome {
                assert_eq!(failed.kind(), ErrorKind::RetryLater, "{point:?}");
                // After a lost response the event is `InDoubt`.
                let told = failed.outcome().is_some_and(|told| told != ExchangeOutcome::NotSent);
                assert!(refreshes || told == sent, "{point:?}: {failed:?}");
            }
            fixture.is_well(&format!("{point:?}, refresh: {refreshes}")).await;
        }
    }
}

#[tokio::test]
async fn a_job_behind_a_task_that_panics_has_its_turn_at_once() {
    let (clock, armed, script, supervisor) = scripted().await;
    let session = session(&supervisor, "device");
    script.establish(Reply::Hold);
    armed.arm(CrashPoint::Received, Fate::Panic);
    let first = session.clone();
    let first = tokio::spawn(async move { first.establish(()).await.map(drop) });
    script.held(1).await;
    let second = session.clone();
    let second = tokio::spawn(async move { second.establish(()).await.map(drop) });
    clock.advance(SECOND).await;
    script.release();
    clock.advance(SECOND).await;
    assert!(first.is_finished() && second.is_finished(), "no reminder is waited for");
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::RetryLater);
    second.await.unwrap().unwrap();
}
