#![cfg(feature = "testing")]

mod requests;

use tokio::sync::oneshot;
use tracing::Span;

use super::super::machine::CredentialState;
use super::*;
use crate::key::{ProviderName, SessionKey};
use crate::policy::{Policy, RefreshPolicy, UnclassifiedAnswers};
use crate::provider::Registration;
use crate::provider::resources::Resources;
use crate::session::Revocation;
use crate::session::from_record;
use crate::session::machine::{ExternalChange, InDoubt, Settled, Start};
use crate::session::single_flight;
use crate::task::TaskGuard;
use crate::testing::{ManualClock, ScriptedProvider};
use crate::token::{Access, Credentials, Tokens};

const SECOND: Duration = Duration::from_secs(1);

/// A slot whose tokens live for 900 s and are due after 720.
struct Bench {
    clock: ManualClock,
    slot: Arc<Slot>,
}

impl Bench {
    fn new() -> Self {
        let provider: ScriptedProvider = ScriptedProvider::new();
        let refresh = RefreshPolicy { jitter: 0.0, ..RefreshPolicy::default() };
        let registration = Registration::new(provider).refresh(refresh);
        let resources = Arc::new(Resources::of_a_test(Arc::new(ManualClock::new())));
        let name = ProviderName::new("p").unwrap();
        let id = SessionId::new(name.clone(), SessionKey::new("t", "d").unwrap());
        let tenant_client = Arc::new(TenantClient::of_all(name, registration.settings, resources));
        Self { clock: ManualClock::new(), slot: Arc::new(Slot::new(id, tenant_client)) }
    }

    fn with_token(generation: u64) -> Self {
        let bench = Self::new();
        bench.load(bench.held(generation));
        bench
    }

    fn step_context(&self) -> StepContext {
        let policy = Policy::default();
        let (backoff, challenge, budget) =
            (policy.backoff, policy.challenge_ttl, policy.attempt_budget);
        let policy = MachinePolicy {
            backoff,
            challenge,
            budget,
            ahead: false,
            unclassified: UnclassifiedAnswers::default(),
        };
        StepContext { now: self.clock.now(), jitter: 1.0, policy }
    }

    fn held(&self, generation: u64) -> CredentialState {
        let now = self.clock.now();
        let access = |text: &str, life| Access {
            secret: text.to_owned().into(),
            expires_at: Some(now.wall + life),
        };
        let tokens = Tokens {
            access: Some(access("access", 900 * SECOND)),
            refresh: Some(access("refresh", 86_400 * SECOND)),
            token_secret: None,
            attributes: "null".into(),
        };
        let authority = "https://scripted.invalid".into();
        let credentials = Credentials { tokens, authority, client: "scripted".into() };
        from_record::held(
            &self.slot.tenant_client.client().unwrap(),
            Arc::new(credentials),
            (1, generation),
            now,
        )
    }

    fn apply(&self, input: Input) -> Option<Start> {
        self.slot.apply(input, &self.step_context()).start
    }

    fn need(&self, newer_than: u64) -> Option<Start> {
        self.apply(Input::Need { newer_than, renewable: Renewable::No })
    }

    /// Reads the record anew: another process wrote its next version.
    fn load(&self, held: CredentialState) {
        self.read(Settled::Active(held));
    }

    fn read(&self, settled: Settled) {
        let version = self.slot.with_state(|state| state.version) + 1;
        self.answer_load(self.begin_load(), version, settled);
    }

    fn begin_load(&self) -> u32 {
        machine::begin_load(&mut self.slot.inner.lock().state)
    }

    fn answer_load(&self, read: u32, version: u64, settled: Settled) {
        self.apply(Input::Loaded { read, version, settled });
    }

    /// As a record has it: its times are derived from the wall clock.
    fn recorded(&self, generation: u64) -> CredentialState {
        let derived_at = Some(offset(self.clock.now()));
        CredentialState { derived_at, ..self.held(generation) }
    }

    fn request(&self, need: TokenRequest) -> SlotReply {
        self.slot.request(need, Ok(()), &self.step_context()).0
    }

    fn ask(&self, newer_than: u64) -> SlotReply {
        self.request(TokenRequest { newer_than, renewable: Renewable::No, fresh: false })
    }

    fn read_snapshot(&self) -> (SnapshotRead, Option<u64>) {
        self.slot.read_snapshot(&self.clock, PermissionToken::generation)
    }

    #[track_caller]
    fn is_fresh(&self, generation: u64) {
        let (read_snapshot, read) = self.read_snapshot();
        assert!(matches!(read_snapshot, SnapshotRead::Fresh), "{read_snapshot:?}");
        assert_eq!(read, Some(generation));
    }

    #[track_caller]
    fn is_stale(&self) {
        let (read_snapshot, read) = self.read_snapshot();
        assert!(matches!(read_snapshot, SnapshotRead::Stale), "{read_snapshot:?}");
        assert_eq!(read, None);
    }
}

#[tokio::test]
async fn a_token_is_fresh_then_due_once_and_stale_at_its_end() {
    let bench = Bench::new();
    bench.is_stale();
    bench.load(bench.held(1));
    bench.is_fresh(1);
    bench.clock.advance(719 * SECOND).await;
    bench.is_fresh(1);
    bench.clock.advance(SECOND).await;
    let (read_snapshot, read) = bench.read_snapshot();
    assert!(matches!((read_snapshot, read), (SnapshotRead::Due, Some(1))));
    bench.is_fresh(1);
    bench.clock.advance(179 * SECOND).await;
    bench.is_fresh(1);
    bench.clock.advance(SECOND).await;
    bench.is_stale();
}

#[tokio::test]
async fn after_a_failed_refresh_a_reader_reports_the_token_as_due_when_the_backoff_is_over() {
    let bench = Bench::with_token(1);
    bench.clock.advance(720 * SECOND).await;
    assert!(matches!(bench.read_snapshot().0, SnapshotRead::Due));
    assert_eq!(bench.need(0), Some(Start::Refresh));
    bench.is_fresh(1);
    let error = Error::new(ErrorKind::RetryLater);
    let class = machine::Class::Harmless;
    bench.apply(Input::Failed(machine::Failure { class, error, wait: 5 * SECOND }));
    bench.is_fresh(1);
    bench.clock.advance(5 * SECOND).await;
    assert!(matches!(bench.read_snapshot().0, SnapshotRead::Due));
}

#[test]
fn a_suspend_of_the_machine_ages_tokens() {
    let bench = Bench::with_token(1);
    bench.clock.suspend(600 * SECOND);
    bench.is_stale();
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)), "it lives for 300 s more");
    bench.is_fresh(1);
    bench.clock.suspend(300 * SECOND);
    bench.is_stale();
    assert!(matches!(bench.ask(0), SlotReply::Start(..)));
    bench.is_stale();
}

#[tokio::test]
async fn after_a_suspend_the_rest_of_a_tokens_life_passes_as_usual() {
    let bench = Bench::with_token(1);
    bench.clock.suspend(600 * SECOND);
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)));
    bench.clock.advance(299 * SECOND).await;
    assert!(bench.read_snapshot().1.is_some());
    bench.clock.advance(SECOND).await;
    bench.is_stale();
}

#[tokio::test]
async fn a_step_of_the_wall_clock_neither_ends_nor_prolongs_a_token() {
    for step in [3600, -3600] {
        let bench = Bench::with_token(1);
        bench.clock.step_wall(step);
        bench.is_stale();
        assert!(matches!(bench.ask(0), SlotReply::Ready(_)), "the slow path knows better");
        bench.is_fresh(1);
        bench.clock.advance(899 * SECOND).await;
        assert!(bench.read_snapshot().1.is_some(), "not ended by {step}");
        bench.clock.advance(SECOND).await;
        bench.is_stale();
        assert!(matches!(bench.ask(0), SlotReply::Start(..)), "not prolonged by {step}");
    }
}

#[test]
fn clock_discipline_disturbs_no_reader() {
    let bench = Bench::with_token(1);
    bench.clock.step_wall(1);
    bench.is_fresh(1);
}

#[test]
fn a_rejected_token_is_not_read_again_although_it_is_published_again() {
    let bench = Bench::with_token(3);
    bench.slot.reject(3, &bench.step_context());
    bench.is_stale();
    bench.load(bench.held(3));
    bench.is_stale();
    assert!(matches!(bench.ask(0), SlotReply::Start(..)));
    bench.load(bench.held(4));
    bench.is_fresh(4);
}

#[test]
fn a_request_after_a_rejection_that_is_not_in_the_record_starts_a_refresh() {
    let bench = Bench::with_token(3);
    bench.apply(Input::Left);
    bench.slot.reject(3, &bench.step_context());
    bench.load(bench.held(3));
    assert!(matches!(bench.ask(0), SlotReply::Start(Start::Refresh, ..)));
}

#[test]
fn a_rejection_of_an_older_token_or_of_another_session_changes_nothing() {
    let bench = Bench::with_token(3);
    for generation in [0, 2, 4, 1000] {
        bench.slot.reject(generation, &bench.step_context());
        bench.is_fresh(3);
        assert_eq!(bench.need(0), None);
    }
}

#[test]
fn no_reader_sees_a_token_after_its_rejection_has_returned() {
    // 1. A reader loads the snapshot. 2. The token is rejected, `reject` returns. 3. An older
    // state is published. 4. A reader that begins now must not be served.
    let bench = Bench::with_token(1);
    let rejected = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let floor = rejected.load(Ordering::Acquire);
                    let (_, read) = bench.read_snapshot();
                    assert!(read.is_none_or(|read| read > floor), "{read:?} after {floor}");
                }
            });
        }
        for generation in 1..500 {
            bench.load(bench.held(generation));
            bench.slot.reject(generation, &bench.step_context());
            rejected.store(generation, Ordering::Release);
            bench.load(bench.held(generation));
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn the_published_generation_never_goes_back() {
    let bench = Bench::with_token(5);
    bench.load(bench.held(4));
    assert_ne!(bench.read_snapshot().1, Some(4));
    bench.load(bench.held(6));
    bench.is_fresh(6);
}

#[test]
fn a_slot_is_disposable_only_if_its_removal_loses_nothing() {
    let bench = Bench::new();
    let slot = &bench.slot;
    assert!(slot.is_disposable(), "not loaded");
    let sender = slot.inner.lock().begin_flight();
    assert!(!slot.is_disposable(), "a flight");
    slot.complete(&sender, FlightOutcome::AskAgain);
    assert!(slot.is_disposable());
    let (reply, caller) = oneshot::channel();
    slot.enqueue(close(reply), 1).unwrap();
    assert!(!slot.is_disposable(), "a job");
    drop((slot.next_job(), caller));
    assert!(slot.is_disposable());
    slot.quarantine(Some(bench.clock.now().boot.after(SECOND)));
    assert!(!slot.is_disposable(), "a mark");
    slot.quarantine(None);
    bench.read(Settled::Vacant { backoff: None });
    assert!(slot.is_disposable(), "vacant");
    bench.load(bench.held(1));
    assert!(!slot.is_disposable(), "credentials");
}

#[test]
fn a_completed_flight_takes_only_its_own_flight_out_of_the_slot() {
    let bench = Bench::with_token(1);
    let (former, _) = single_flight::channel();
    let SlotReply::Start(Start::Refresh, sender, flight) = bench.ask(1) else { panic!() };
    bench.slot.complete(&former, FlightOutcome::AskAgain);
    assert!(bench.slot.has_flight(&flight));
    assert!(matches!(bench.ask(1), SlotReply::Join(joined) if joined.is(&flight)));
    bench.slot.complete(&sender, FlightOutcome::AskAgain);
    assert!(!bench.slot.has_flight(&flight));
    assert!(!matches!(bench.ask(1), SlotReply::Join(_)));
}

#[test]
fn the_queue_has_a_bound_and_dropped_callers_make_room() {
    let bench = Bench::new();
    let grant = || {
        let (reply, caller) = oneshot::channel();
        (
            Job::Establish {
                grant: Box::new(()),
                last_epoch: None,
                reply,
                caller_span: Span::none(),
            },
            caller,
        )
    };
    let (first, first_caller) = grant();
    let (second, second_caller) = grant();
    let (third, _caller) = grant();
    bench.slot.enqueue(first, 2).unwrap();
    bench.slot.enqueue(second, 2).unwrap();
    assert_eq!(bench.slot.enqueue(third, 2).unwrap_err().kind(), ErrorKind::Capacity);
    drop(first_caller);
    let (fourth, fourth_caller) = grant();
    bench.slot.enqueue(fourth, 2).unwrap();
    drop(second_caller);
    assert!(bench.slot.has_work());
    drop(fourth_caller);
    assert!(!bench.slot.has_work() && bench.slot.next_job().is_none());
}

#[test]
fn a_close_is_carried_out_although_its_caller_was_dropped() {
    let bench = Bench::new();
    let (reply, caller) = oneshot::channel();
    bench.slot.enqueue(close(reply), 1).unwrap();
    drop(caller);
    assert!(matches!(bench.slot.next_job(), Some(Job::Close { .. })));
}

#[test]
fn waiters_have_a_bound_and_return_their_permits() {
    let bench = Bench::new();
    let place = |most| bench.slot.waiter_permit(most);
    let (first, second) = (place(2).unwrap(), place(2).unwrap());
    for _ in 0..3 {
        let full = place(2).map(drop).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Capacity, "a refusal takes no permit either");
    }
    drop(first);
    let third = place(2).unwrap();
    assert!(place(2).is_err());
    drop((second, third));
    assert_eq!(bench.slot.waiters.load(Ordering::Acquire), 0);
}

#[test]
fn the_schedule_is_armed_once_for_each_time_that_is_soon() {
    let bench = Bench::with_token(1);
    let policy = MachinePolicy { ahead: true, ..bench.step_context().policy };
    let due = bench.clock.now().boot.after(720 * SECOND);
    let arm = |policy| bench.slot.arm(policy, bench.clock.now().boot);
    assert_eq!(arm(&policy), None, "the store knows, and it is not soon");
    bench.clock.suspend(700 * SECOND);
    assert_eq!(arm(&policy), Some((Some(due), KnownTo::All)));
    assert_eq!(arm(&policy), None);
    bench.slot.disarm();
    assert_eq!(arm(&policy), Some((Some(due), KnownTo::All)));
    assert_eq!(arm(&bench.step_context().policy), Some((None, KnownTo::All)), "not any more");
}

#[test]
fn a_quarantined_slot_serves_its_token_and_starts_and_loads_nothing() {
    let bench = Bench::with_token(1);
    let until = bench.clock.now().boot.after(60 * SECOND);
    bench.slot.quarantine(Some(until));
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)));
    bench.slot.reject(1, &bench.step_context());
    let failed = |bench: &Bench| {
        let SlotReply::Failed(error) = bench.ask(0) else { panic!("it asks") };
        (error.kind(), error.retry_after())
    };
    assert_eq!(failed(&bench), (ErrorKind::RetryLater, Some(60 * SECOND)));
    bench.apply(Input::Left);
    assert_eq!(failed(&bench), (ErrorKind::RetryLater, Some(60 * SECOND)));
    bench.clock.suspend(60 * SECOND);
    assert!(matches!(bench.ask(0), SlotReply::Load(_)));
    bench.load(bench.held(1));
    assert!(matches!(bench.ask(0), SlotReply::Start(Start::Refresh, ..)));
}

#[test]
fn only_the_credentials_that_were_saved_are_cleared() {
    let bench = Bench::new();
    let commit = || {
        let attempt = crate::store::Attempt { base: 0, fence: 1, claim: ClaimId::random() };
        let credentials = Arc::clone(&bench.held(1).credentials);
        let intent = crate::store::Intent::Establish;
        let ends = crate::store::Ends::default();
        let commit = crate::store::Commit { intent, epoch: 0, attempt, credentials, ends };
        Unsaved::new(commit, bench.clock.now(), None)
    };
    let former = Arc::new(commit());
    bench.slot.keep_unsaved(commit());
    let unsaved = bench.slot.unsaved().unwrap();
    assert!(!bench.slot.is_disposable(), "unsaved credentials");
    assert!(!bench.slot.clear_unsaved(&former) && bench.slot.unsaved().is_some());
    assert!(bench.slot.clear_unsaved(&unsaved) && bench.slot.unsaved().is_none());
}

#[test]
fn a_session_in_doubt_is_due_only_when_it_may_be_retried() {
    let bench = Bench::new();
    let retry_at = bench.clock.now().boot.after(800 * SECOND);
    let in_doubt = InDoubt { tries: 1, retry_at, floor: retry_at, retry_early: false };
    bench.read(Settled::InDoubt(bench.held(1), in_doubt));
    // 790 s after the start the token is long due, but the doubt is not.
    bench.clock.suspend(790 * SECOND);
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)));
    bench.is_fresh(1);
    bench.clock.suspend(10 * SECOND);
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)));
    assert!(matches!(bench.read_snapshot().0, SnapshotRead::Due));
}

fn close(reply: oneshot::Sender<Result<Revocation, Error>>) -> Job {
    Job::Close { reply, task_guard: TaskGuard::of_nobody(), caller_span: Span::none() }
}
