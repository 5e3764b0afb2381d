//! Shutdown of a supervisor, and of its runtime.

use std::pin::pin;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use session_warden::error::ExchangeOutcome;
use session_warden::policy::{Backoff, Policy, ProviderLimits, RefreshPolicy, Restarts};
use session_warden::provider::Registration;
use session_warden::session::{Adopt, Revocation};
use session_warden::store::MemoryStore;
use session_warden::testing::{
    Chaos, Faults, FaultyStore, ManualClock, Reply, Script, ScriptedProvider, StoreCall,
};
use session_warden::token::Tokens;
use session_warden::{Error, ErrorKind, Session, SessionKey, Supervisor};
use tokio::runtime::{Builder, Runtime};

use crate::fixtures::ScriptedFixture;
use crate::support::{LIFE, SECOND, key, session, until};

/// Far below [`Policy::call_timeout`], and far above the time of an immediate result.
const AT_ONCE: Duration = Duration::from_secs(5);

type Outcome = Result<(), (ErrorKind, Option<ExchangeOutcome>)>;

fn outcome_of<T>(outcome: Result<T, Error>) -> Outcome {
    outcome.map(drop).map_err(|error| (error.kind(), error.outcome()))
}

fn tokens() -> Tokens<()> {
    Tokens::new(()).with_access_token("adopted", None).with_refresh_token("adopted", None)
}

/// A refresh is out, and others queue behind it.
async fn busy() -> ScriptedFixture {
    let fixture = ScriptedFixture::expired().await;
    fixture.script.refresh(Reply::Hold);
    drop(fixture.callers(1).await);
    fixture.script.held(1).await;
    fixture
}

#[tokio::test]
async fn what_makes_a_session_and_is_queued_is_refused_at_once_by_a_shutdown_as_not_sent() {
    let fixture = busy().await;
    let (granting, adopting) = (fixture.session.clone(), fixture.session.clone());
    let granting = tokio::spawn(async move { outcome_of(granting.establish(()).await) });
    let adopting =
        tokio::spawn(async move { outcome_of(adopting.adopt(tokens(), Adopt::Replace).await) });
    fixture.clock.advance(SECOND).await;
    let supervisor = fixture.supervisor.clone();
    let stopping = tokio::spawn(async move { supervisor.shutdown(20 * SECOND).await });
    fixture.clock.advance(Duration::ZERO).await;
    assert!(granting.is_finished() && adopting.is_finished(), "no time passes");
    let unsent = Err((ErrorKind::ShuttingDown, Some(ExchangeOutcome::NotSent)));
    assert_eq!((granting.await.unwrap(), adopting.await.unwrap()), (unsent, unsent));
    assert_eq!(fixture.script.establishes(), 1, "of the fixture itself");
    assert!(!stopping.is_finished(), "the refresh runs on");
    fixture.script.release();
    assert!(until(&fixture.clock, stopping).await.unwrap().is_clean());
    assert_eq!(outcome_of(fixture.session.establish(()).await), unsent, "after it, too");
}

#[tokio::test]
async fn what_ends_a_session_and_is_queued_is_carried_out_while_a_shutdown_waits() {
    let fixture = busy().await;
    let (revoking, forgetting) = (fixture.session.clone(), fixture.session.clone());
    let revoking = tokio::spawn(async move { revoking.revoke().await });
    fixture.clock.advance(Duration::ZERO).await;
    let forgetting = tokio::spawn(async move { outcome_of(forgetting.forget().await) });
    fixture.clock.advance(Duration::ZERO).await;
    let supervisor = fixture.supervisor.clone();
    let stopping = tokio::spawn(async move { supervisor.shutdown(20 * SECOND).await });
    fixture.clock.advance(SECOND).await;
    assert!(!revoking.is_finished() && !forgetting.is_finished());
    fixture.script.release();
    assert!(until(&fixture.clock, stopping).await.unwrap().is_clean());
    assert_eq!(revoking.await.unwrap().unwrap(), Revocation::AtServer);
    assert_eq!(forgetting.await.unwrap(), Ok(()));
    assert_eq!((fixture.script.revocations(), fixture.faults.count(StoreCall::Delete)), (1, 1));
}

#[tokio::test]
async fn what_a_shutdown_did_not_get_to_is_refused_at_its_end() {
    let fixture = busy().await;
    let revoking = fixture.session.clone();
    let revoking = tokio::spawn(async move { outcome_of(revoking.revoke().await) });
    fixture.clock.advance(Duration::ZERO).await;
    let report = until(&fixture.clock, fixture.supervisor.shutdown(2 * SECOND)).await;
    assert_eq!(report.exchanges_cut, 1);
    fixture.clock.advance(Duration::ZERO).await;
    assert!(revoking.is_finished(), "it does not wait for its deadline");
    let unsent = (ErrorKind::ShuttingDown, Some(ExchangeOutcome::NotSent));
    assert_eq!(revoking.await.unwrap(), Err(unsent));
    fixture.script.release();
    fixture.clock.advance(60 * SECOND).await;
    assert_eq!((fixture.script.revocations(), fixture.faults.count(StoreCall::Close)), (0, 0));
}

#[tokio::test]
async fn a_shutdown_in_a_restart_of_the_supervisor_ends_the_restart_and_lets_all_callers_go() {
    let clock = ManualClock::new();
    let slow = Backoff { base: 20 * SECOND, cap: 20 * SECOND };
    let restarts = Restarts { supervisor_backoff: slow, ..Restarts::default() };
    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let script = provider.script();
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .policy(Policy { restarts, ..Policy::default() })
        .provider("p", provider)
        .start()
        .await
        .unwrap();
    let session = session(&supervisor, "device");
    let _ = session.establish(()).await.unwrap();
    clock.advance(LIFE + SECOND).await;
    assert!(Chaos::of(&supervisor).kill_supervisor());
    clock.advance(Duration::ZERO).await;
    let calls = session.clone();
    let asking = tokio::spawn(async move { outcome_of(calls.permission_token().await) });
    let calls = session.clone();
    let granting = tokio::spawn(async move { outcome_of(calls.establish(()).await) });
    let calls = session.clone();
    let revoking = tokio::spawn(async move { outcome_of(calls.revoke().await) });
    clock.advance(Duration::from_millis(100)).await;
    let stopping = supervisor.clone();
    let stopping = tokio::spawn(async move { stopping.shutdown(SECOND).await });
    clock.advance(Duration::ZERO).await;
    for caller in [asking, granting, revoking] {
        assert!(caller.is_finished(), "told at once");
        assert_eq!(caller.await.unwrap().unwrap_err().0, ErrorKind::ShuttingDown);
    }
    assert!(until(&clock, stopping).await.unwrap().is_clean());
    clock.advance(60 * SECOND).await;
    assert_eq!(supervisor.snapshot().supervisor_restarts, 0);
    assert!(!Chaos::of(&supervisor).kill_supervisor(), "none lives");
    assert_eq!((script.establishes(), script.revocations()), (1, 0));
}

/// The exchange or call that runs when the runtime shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    NothingYet,
    Nothing,
    Refresh,
    Grant,
    Revocation,
    Close,
    Forget,
    Adoption,
}

/// A supervisor on a runtime that will go.
struct RuntimeFixture {
    runtime: Runtime,
    supervisor: Supervisor,
    session: Session<ScriptedProvider>,
    script: Script,
    faults: Faults,
}

fn runtime(threads: usize) -> Runtime {
    let mut builder = match threads {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.max(1)).enable_all().build().unwrap()
}

impl RuntimeFixture {
    fn new(threads: usize, established: bool) -> Self {
        let runtime = runtime(threads);
        let provider: ScriptedProvider = ScriptedProvider::new();
        let faulty = FaultyStore::new(MemoryStore::new());
        let (script, faults) = (provider.script(), faulty.faults());
        let builder = Supervisor::builder().store(faulty).provider("p", provider);
        let (supervisor, session) = runtime.block_on(async {
            let supervisor = builder.start().await.unwrap();
            let session = session(&supervisor, "device");
            if established {
                let _ = session.establish(()).await.unwrap();
                // A caller that asks for a token needs a refresh.
                session.invalidate(&session.permission_token().await.unwrap());
            }
            (supervisor, session)
        });
        Self { runtime, supervisor, session, script, faults }
    }

    /// Starts it, and returns the result of its caller, which is on another runtime.
    fn begin(&self, runs: Runs) -> mpsc::Receiver<Outcome> {
        let (session, script) = (self.session.clone(), self.script.clone());
        match runs {
            Runs::NothingYet | Runs::Nothing => return mpsc::channel().1,
            Runs::Refresh => script.refresh(Reply::Hang),
            Runs::Grant => script.establish(Reply::Hang),
            Runs::Revocation => script.revoke(Reply::Hang),
            Runs::Close => self.faults.hold(StoreCall::Close),
            Runs::Forget => self.faults.hold(StoreCall::Delete),
            Runs::Adoption => self.faults.hold(StoreCall::Claim),
        }
        let outcome = elsewhere(move || async move {
            match runs {
                Runs::NothingYet | Runs::Nothing | Runs::Refresh => {
                    outcome_of(session.permission_token().await)
                }
                Runs::Grant => outcome_of(session.establish(()).await),
                Runs::Revocation | Runs::Close => outcome_of(session.revoke().await),
                Runs::Forget => outcome_of(session.forget().await),
                Runs::Adoption => outcome_of(session.adopt(tokens(), Adopt::Replace).await),
            }
        });
        self.runtime.block_on(async {
            match runs {
                Runs::Close => self.faults.held(StoreCall::Close, 1).await,
                Runs::Forget => self.faults.held(StoreCall::Delete, 1).await,
                Runs::Adoption => self.faults.held(StoreCall::Claim, 1).await,
                Runs::NothingYet
                | Runs::Nothing
                | Runs::Refresh
                | Runs::Grant
                | Runs::Revocation => self.script.held(1).await,
            }
        });
        outcome
    }
}

/// The result of a caller on a runtime of its own.
fn elsewhere<F>(call: impl FnOnce() -> F + Send + 'static) -> mpsc::Receiver<Outcome>
where
    F: Future<Output = Outcome>,
{
    let (done, answer) = mpsc::channel();
    // The test may have ended before this.
    thread::spawn(move || done.send(runtime(0).block_on(call())).unwrap_or_default());
    answer
}

#[test]
fn a_runtime_that_is_gone_is_told_at_once_whatever_ran_on_it() {
    for threads in [0, 2] {
        for runs in [
            Runs::NothingYet,
            Runs::Nothing,
            Runs::Refresh,
            Runs::Grant,
            Runs::Revocation,
            Runs::Close,
            Runs::Forget,
            Runs::Adoption,
        ] {
            let what = format!("{runs:?} on {threads} threads");
            let fixture = RuntimeFixture::new(threads, runs != Runs::NothingYet);
            let running = fixture.begin(runs);
            let RuntimeFixture { runtime, supervisor, session, script, .. } = fixture;
            let (establishes, refreshes) = (script.establishes(), script.refreshes());
            drop(runtime);
            let gone = |outcome| Err((ErrorKind::ShuttingDown, outcome));
            if !matches!(runs, Runs::NothingYet | Runs::Nothing) {
                let heard = running.recv_timeout(AT_ONCE).expect(&what);
                match runs {
                    Runs::Grant => assert_eq!(heard, gone(Some(ExchangeOutcome::Ambiguous))),
                    // It is closed durably.
                    Runs::Revocation => assert_eq!(heard, Ok(())),
                    Runs::Close | Runs::Forget | Runs::Adoption => {
                        assert_eq!(heard, gone(Some(ExchangeOutcome::NotSent)), "{what}");
                    }
                    Runs::NothingYet | Runs::Nothing | Runs::Refresh => {
                        assert_eq!(heard.unwrap_err().0, ErrorKind::ShuttingDown, "{what}");
                    }
                }
            }
            let later = session.clone();
            let late = elsewhere(move || async move {
                for _ in 0..2 {
                    let token = outcome_of(later.permission_token().await).unwrap_err();
                    assert_eq!(token.0, ErrorKind::ShuttingDown);
                    assert_eq!(outcome_of(later.refresh().await).unwrap_err().0, token.0);
                    assert_eq!(outcome_of(later.revoke().await).unwrap_err().0, token.0);
                }
                outcome_of(later.establish(()).await)
            });
            let late = late.recv_timeout(AT_ONCE).expect(&what);
            assert_eq!(late, gone(Some(ExchangeOutcome::NotSent)), "{what}");
            assert_eq!((script.establishes(), script.refreshes()), (establishes, refreshes));
            let report = elsewhere(move || async move {
                let report = supervisor.shutdown(Duration::from_secs(60)).await;
                assert_eq!(report.exchanges_cut, 0, "all were ended");
                Ok(())
            });
            report.recv_timeout(AT_ONCE).expect(&what).unwrap();
        }
    }
}

#[test]
fn a_grant_that_is_queued_when_the_runtime_is_dropped_was_not_sent() {
    let fixture = RuntimeFixture::new(2, true);
    let refreshing = fixture.begin(Runs::Refresh);
    let (queued, is_queued) = mpsc::channel();
    let session = fixture.session.clone();
    let granting = elsewhere(move || async move {
        let mut establishing = pin!(session.establish(()));
        // The first poll puts the grant into the session's queue, behind the refresh.
        assert!(establishing.as_mut().now_or_never().is_none());
        queued.send(()).unwrap();
        outcome_of(establishing.await)
    });
    is_queued.recv_timeout(AT_ONCE).unwrap();
    while fixture.supervisor.snapshot().exchanging == 0 || granting.try_recv().is_ok() {
        thread::yield_now();
    }
    drop(fixture.runtime);
    let unsent = Err((ErrorKind::ShuttingDown, Some(ExchangeOutcome::NotSent)));
    assert_eq!(granting.recv_timeout(AT_ONCE).unwrap(), unsent);
    assert_eq!(refreshing.recv_timeout(AT_ONCE).unwrap().unwrap_err().0, ErrorKind::ShuttingDown);
    assert_eq!(fixture.script.establishes(), 1, "of the fixture itself");
}

#[tokio::test]
async fn settings_that_contradict_themselves_are_refused_at_the_start() {
    let provider = || Registration::<ScriptedProvider>::new(ScriptedProvider::new());
    for number in [f64::NAN, f64::INFINITY, -1.0, 1.5] {
        for refresh in [
            RefreshPolicy { fraction: number, ..RefreshPolicy::default() },
            RefreshPolicy { jitter: number, ..RefreshPolicy::default() },
        ] {
            let start = Supervisor::builder().provider("p", provider().refresh(refresh)).start();
            let refused = start.await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{number}");
        }
    }
    let none = ProviderLimits { exchanges: 0, ..ProviderLimits::default() };
    let start = Supervisor::builder().provider("p", provider().limits(none)).start();
    let refused = start.await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    assert!(refused.to_string().contains("exchanges"), "{refused}");
    let crossed = Backoff { base: 2 * SECOND, cap: SECOND };
    let policy = Policy { backoff: crossed, ..Policy::default() };
    let start = Supervisor::builder().policy(policy).provider("p", provider()).start();
    assert_eq!(start.await.unwrap_err().kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn settings_of_one_tenant_that_contradict_themselves_are_refused_for_that_tenant_alone() {
    let source = |tenant: session_warden::key::Tenant| async move {
        let fraction = if tenant.as_str() == "bad" { f64::NAN } else { 0.8 };
        let provider: ScriptedProvider = ScriptedProvider::new();
        let refresh = RefreshPolicy { fraction, ..RefreshPolicy::default() };
        Ok(Registration::new(provider).refresh(refresh))
    };
    let supervisor = Supervisor::builder()
        .provider_per_tenant::<ScriptedProvider>("p", source)
        .start()
        .await
        .unwrap();
    let sessions = supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let bad = sessions.session(SessionKey::new("bad", "device").unwrap());
    let refused = bad.establish(()).await.unwrap_err();
    let unsent = Some(ExchangeOutcome::NotSent);
    assert_eq!((refused.kind(), refused.outcome()), (ErrorKind::Misconfigured, unsent));
    let _ = sessions.session(key("device")).establish(()).await.unwrap();
}
