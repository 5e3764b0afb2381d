//! States and inputs with names, all as seen at [`NOW`] seconds of boot time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::settled::Damping;
use super::super::*;
use crate::error::ErrorKind;
use crate::token::{Access, Credentials, PermissionToken, Tokens};

pub(super) const NOW: u64 = 100_000;
/// The generation of every sample that has one.
pub(super) const G: u64 = 7;
/// The version of the record of every sample that has read it.
pub(super) const V: u64 = 20;
/// How long a session's refresh token lives from [`NOW`].
pub(super) const REFRESH_LIFE: u64 = 86_400;

pub(super) fn boot(seconds: u64) -> BootTime {
    BootTime::new(Duration::from_secs(seconds))
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The given number of seconds after [`NOW`], with the jitter that makes every wait the longest.
pub(super) fn after(seconds: u64) -> StepContext {
    at(Duration::from_secs(NOW + seconds))
}

pub(super) fn at(boot: Duration) -> StepContext {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + boot;
    let policy = MachinePolicy {
        backoff: Backoff { base: seconds(1), cap: seconds(300) },
        challenge: seconds(600),
        budget: seconds(10),
        ahead: false,
        unclassified: UnclassifiedAnswers::default(),
    };
    StepContext { now: Now::new(wall, BootTime::new(boot), boot), jitter: 1.0, policy }
}

pub(super) fn ahead(step_context: StepContext) -> StepContext {
    StepContext { policy: MachinePolicy { ahead: true, ..step_context.policy }, ..step_context }
}

pub(super) fn credentials(refresh: bool) -> Arc<Credentials> {
    let access = |text: &str| Access { secret: text.to_owned().into(), expires_at: None };
    let tokens = Tokens {
        access: Some(access("access")),
        refresh: refresh.then(|| access("refresh")),
        token_secret: None,
        attributes: "null".into(),
    };
    Arc::new(Credentials { tokens, authority: "https://a".into(), client: "c".into() })
}

/// Issued at `from`: due after 720 s, expired after 900 s. The refresh token lives for a day, and
/// its end is announced an hour before.
pub(super) fn held(from: u64, counters: (u64, u64)) -> CredentialState {
    let credentials = credentials(true);
    let access = credentials.tokens.access.as_ref().unwrap();
    CredentialState {
        epoch: counters.0,
        generation: counters.1,
        token_generation: counters.1,
        token: Some(PermissionToken::new(access, None, counters)),
        due: Some(boot(from + 720)),
        expires: Some(boot(from + 900)),
        refresh_expires: Some(boot(from + REFRESH_LIFE)),
        expiring: Some(boot(from + REFRESH_LIFE - 3600)),
        saved: Saved::Yes,
        suspect: false,
        rejected: false,
        issuer_mismatch: false,
        derived_at: None,
        backoff: None,
        unclassified: None,
        damping: None,
        credentials,
    }
}

pub(super) fn fresh() -> CredentialState {
    held(NOW, (2, G))
}

pub(super) fn due() -> CredentialState {
    CredentialState { due: Some(boot(NOW)), ..fresh() }
}

pub(super) fn expired() -> CredentialState {
    CredentialState { expires: Some(boot(NOW)), ..due() }
}

/// With an access token only.
pub(super) fn single(held: CredentialState) -> CredentialState {
    CredentialState {
        credentials: credentials(false),
        refresh_expires: None,
        expiring: None,
        ..held
    }
}

pub(super) fn backoff(retry_at: u64) -> BackoffState {
    let error = Error::new(ErrorKind::RetryLater).about("of a sample");
    BackoffState { tries: 1, retry_at: boot(retry_at), error }
}

pub(super) fn cooling() -> Option<BackoffState> {
    Some(backoff(NOW + 5))
}

fn refused() -> BackoffState {
    BackoffState { error: Error::new(ErrorKind::Misconfigured), ..backoff(NOW + 60) }
}

pub(super) fn retry_from(retry_at: u64) -> InDoubt {
    InDoubt { tries: 1, retry_at: boot(retry_at), floor: boot(NOW), retry_early: false }
}

/// A state in which nothing runs.
pub(super) fn rest(settled: Settled) -> State {
    State { settled: Some(settled), version: V, ..State::default() }
}

pub(super) fn running(settled: Settled, run: Run) -> State {
    State { running: Some(run), ..rest(settled) }
}

/// Not loaded yet: the first load runs, or its failure is in backoff.
pub(super) fn load_backoff(backoff: Option<BackoffState>) -> State {
    let running = backoff.is_none().then_some(None);
    let load = LoadState { number: 1, running, restored: false };
    State { load, load_backoff: backoff, ..State::default() }
}

/// With load number 1 running for this change.
pub(super) fn loading(state: State, external_change: ExternalChange) -> State {
    State {
        load: LoadState { number: 1, running: Some(Some(external_change)), restored: false },
        ..state
    }
}

/// A change that other processes wrote as the next version.
pub(super) fn external_change(ends: bool) -> ExternalChange {
    ExternalChange { version: Some(V + 1), ends }
}

pub(super) fn active(held: CredentialState) -> State {
    rest(Settled::Active(held))
}

pub(super) fn in_doubt(held: CredentialState, in_doubt: InDoubt) -> State {
    rest(Settled::InDoubt(held, in_doubt))
}

pub(super) fn lost(held: CredentialState, reason: LostReason) -> Lost {
    let (held, backoff, cause) = (Some(held), None, None);
    Lost { epoch: 2, generation: G, reason, held, backoff, cause, recorded: true }
}

fn damping() -> Damping {
    Damping { since: boot(NOW - 1), span: seconds(10), accepted: false }
}

/// After this many answers that are not understood, of which the first came `ago` seconds ago.
pub(super) fn unclassified(held: CredentialState, answers: u32, ago: u64) -> CredentialState {
    let since = boot(NOW - ago);
    let counted = Unclassified { answers, since, lost: false, retry_at: since };
    CredentialState { unclassified: Some(Box::new(counted)), ..held }
}

/// Provisionally lost, with a retry at this time.
pub(super) fn provisional(retry_at: u64) -> Lost {
    let mut held = unclassified(expired(), 3, 600);
    if let Some(unclassified) = &mut held.unclassified {
        (unclassified.lost, unclassified.retry_at) = (true, boot(retry_at));
    }
    lost(held, LostReason::Unclassified)
}

pub(super) fn closed(outbox: bool) -> Closed {
    let outbox = outbox.then(|| credentials(true));
    Closed { epoch: 2, generation: G, outbox, backoff: None, unrenewed: None }
}

pub(super) fn vacant() -> Settled {
    Settled::Vacant { backoff: None }
}

pub(super) fn establishing(former: Settled) -> State {
    running(former, Run::Establish { renewal: false, answer: None })
}

pub(super) fn refreshing(held: CredentialState, in_doubt: Option<InDoubt>) -> State {
    let former = match in_doubt {
        Some(in_doubt) => Settled::InDoubt(held, in_doubt),
        None => Settled::Active(held),
    };
    running(former, Run::Refresh { answer: None })
}

pub(super) fn failure(class: Class) -> Failure {
    let kind = match class {
        Class::Misconfigured | Class::Unclassified { .. } => ErrorKind::Misconfigured,
        Class::Harmless
        | Class::HeldBack
        | Class::Ambiguous(_)
        | Class::Rejected
        | Class::Refused => ErrorKind::RetryLater,
    };
    Failure { class, error: Error::new(kind), wait: Duration::ZERO }
}

/// An answer that is not understood, while another session succeeds.
pub(super) fn others_succeed() -> Class {
    Class::Unclassified { other_success_at: Some(boot(NOW - 1)) }
}

pub(super) fn states() -> Vec<(&'static str, State)> {
    let mut states = vacant_or_active();
    states.extend(in_doubt_or_ended());
    states.extend(challenged());
    states.extend(busy());
    states.extend(with_changes());
    states
}

fn expired_refresh(held: CredentialState) -> CredentialState {
    CredentialState { refresh_expires: Some(boot(NOW)), expiring: None, ..held }
}

fn vacant_or_active() -> Vec<(&'static str, State)> {
    vec![
        ("unloaded", load_backoff(None)),
        ("unloaded, cooling", load_backoff(cooling())),
        ("vacant", rest(vacant())),
        ("vacant, cooling", rest(Settled::Vacant { backoff: cooling() })),
        ("active, fresh", active(fresh())),
        ("active, due", active(due())),
        ("active, expired", active(expired())),
        ("active, suspect", active(CredentialState { suspect: true, ..fresh() })),
        ("active, rejected", active(CredentialState { rejected: true, ..fresh() })),
        ("active, issuer mismatch", active(CredentialState { issuer_mismatch: true, ..due() })),
        (
            "active, unsaved",
            active(CredentialState { saved: Saved::Unsaved { attempts: 1 }, ..due() }),
        ),
        ("active, cooling", active(CredentialState { backoff: cooling(), ..due() })),
        ("active, ended, not understood", active(unclassified(expired(), 2, 600))),
        ("active, misconfigured", active(CredentialState { backoff: Some(refused()), ..due() })),
        (
            "active, damped",
            active(CredentialState { damping: Some(Box::new(damping())), ..fresh() }),
        ),
        ("active, no refresh token", active(single(fresh()))),
        (
            "active, no refresh token, rejected",
            active(CredentialState { rejected: true, ..single(fresh()) }),
        ),
        ("active, no refresh token, ended", active(single(expired()))),
        ("active, refresh token ended", active(expired_refresh(fresh()))),
    ]
}

fn in_doubt_or_ended() -> Vec<(&'static str, State)> {
    let early = || retry_from(NOW + 60);
    let ripe = || retry_from(NOW);
    let serving = || Settled::Lost(lost(expired_refresh(fresh()), LostReason::RefreshExpired));
    let dead = || lost(fresh(), LostReason::Rejected);
    let untold = || Closed { backoff: cooling(), ..closed(true) };
    vec![
        ("in doubt, early", in_doubt(fresh(), early())),
        (
            "in doubt, misconfigured",
            in_doubt(CredentialState { backoff: Some(refused()), ..fresh() }, early()),
        ),
        ("in doubt, ripe", in_doubt(fresh(), ripe())),
        ("in doubt, retry early", in_doubt(fresh(), InDoubt { retry_early: true, ..ripe() })),
        (
            "in doubt, issuer mismatch",
            in_doubt(CredentialState { issuer_mismatch: true, ..fresh() }, ripe()),
        ),
        ("in doubt, refresh token ended", in_doubt(expired_refresh(fresh()), ripe())),
        ("lost, serving", rest(serving())),
        ("lost", rest(Settled::Lost(dead()))),
        ("lost, not recorded", rest(Settled::Lost(Lost { recorded: false, ..dead() }))),
        ("lost, cooling", rest(Settled::Lost(Lost { backoff: cooling(), ..dead() }))),
        ("lost provisionally", rest(Settled::Lost(provisional(NOW + 3600)))),
        ("lost provisionally, retry due", rest(Settled::Lost(provisional(NOW)))),
        ("closed", rest(Settled::Closed(closed(false)))),
        (
            "lost by an operation",
            rest(Settled::Lost(Lost { reason: LostReason::TokensDeleted, ..dead() })),
        ),
        (
            "closed, not begun again",
            rest(Settled::Closed(Closed { unrenewed: cooling(), ..closed(false) })),
        ),
        ("closed, to be revoked", rest(Settled::Closed(closed(true)))),
        ("closed, cooling", rest(Settled::Closed(untold()))),
    ]
}

fn challenged() -> Vec<(&'static str, State)> {
    let until = boot(NOW + 60);
    let challenged = |former| running(former, Run::Challenge { until });
    vec![
        ("challenged over vacant", challenged(vacant())),
        ("challenged over fresh", challenged(Settled::Active(fresh()))),
        ("challenged over due", challenged(Settled::Active(due()))),
        ("challenged over closed", challenged(Settled::Closed(closed(true)))),
        (
            "challenged over fresh, ended",
            running(Settled::Active(fresh()), Run::Challenge { until: boot(NOW) }),
        ),
    ]
}

fn busy() -> Vec<(&'static str, State)> {
    let over = |former, renewal, answered: bool| {
        let answer = answered.then(|| held(NOW, (3, G + 1)));
        running(former, Run::Establish { renewal, answer })
    };
    let fresh = || Settled::Active(fresh());
    let answered = Run::Refresh { answer: Some(held(NOW, (2, G + 1))) };
    let tried = running(Settled::Lost(provisional(NOW)), Run::Refresh { answer: None });
    vec![
        ("grant over vacant", over(vacant(), false, false)),
        ("grant over vacant, answered", over(vacant(), false, true)),
        ("grant over fresh", over(fresh(), false, false)),
        ("grant over fresh, answered", over(fresh(), false, true)),
        ("renewal over vacant", over(vacant(), true, false)),
        ("renewal over fresh", over(fresh(), true, false)),
        ("renewal over fresh, answered", over(fresh(), true, true)),
        ("refreshing", refreshing(due(), None)),
        ("refreshing in doubt", refreshing(due(), Some(retry_from(NOW)))),
        ("refreshing, not understood", refreshing(unclassified(expired(), 2, 600), None)),
        ("refreshing, lost", tried),
        ("refreshing, answered", running(Settled::Active(due()), answered)),
        ("closing vacant", running(vacant(), Run::Close)),
        ("closing fresh", running(fresh(), Run::Close)),
        ("forgetting unloaded", State { running: Some(Run::Forget), ..load_backoff(cooling()) }),
        ("forgetting fresh", running(fresh(), Run::Forget)),
        ("revoking", running(Settled::Closed(closed(true)), Run::Revoke)),
    ]
}

/// With a change that is not loaded.
fn with_changes() -> Vec<(&'static str, State)> {
    let unsaved = CredentialState { saved: Saved::Unsaved { attempts: 1 }, ..due() };
    let noted = |state| State { external_change: Some(external_change(false)), ..state };
    vec![
        ("due, loading", loading(active(due()), external_change(false))),
        ("due, ended elsewhere", loading(active(due()), external_change(true))),
        ("expired, loading", loading(active(expired()), external_change(false))),
        (
            "in doubt, ripe, loading",
            loading(in_doubt(fresh(), retry_from(NOW)), external_change(false)),
        ),
        (
            "lost provisionally, loading",
            loading(rest(Settled::Lost(provisional(NOW))), external_change(false)),
        ),
        ("vacant, loading", loading(rest(vacant()), external_change(false))),
        ("due, load failed", State { load_backoff: cooling(), ..noted(active(due())) }),
        ("unsaved, load failed", State { load_backoff: cooling(), ..noted(active(unsaved)) }),
        ("refreshing, with a change", noted(refreshing(due(), None))),
    ]
}

pub(super) fn inputs() -> Vec<(&'static str, Input)> {
    let need = |newer_than, renewable| Input::Need { newer_than, renewable };
    let failed = |class| Input::Failed(failure(class));
    let version = V + 1;
    let saved = |suspect| Input::Saved { version, epoch: 2, generation: G + 1, suspect };
    let loaded = |version, settled| Input::Loaded { read: 1, version, settled };
    let mut inputs = vec![
        ("loaded", loaded(version, Settled::Active(held(NOW, (4, 9))))),
        ("loaded older", loaded(V - 1, Settled::Active(held(NOW, (2, G - 1))))),
        ("load failed", Input::LoadFailed { read: 1, error: Error::new(ErrorKind::Store) }),
        ("need", need(0, Renewable::No)),
        ("need renewable", need(0, Renewable::Itself)),
        ("need newer", need(G, Renewable::No)),
        ("need newer renewable", need(G, Renewable::Itself)),
        ("need vouched", need(0, Renewable::Vouched)),
        ("establish", Input::Begin(Start::Establish)),
        ("adopt", Input::Begin(Start::Adopt)),
        ("close", Input::Begin(Start::Close)),
        ("forget", Input::Begin(Start::Forget)),
        ("not begun", Input::NotBegun),
        ("issued", Input::Issued(held(NOW, (2, G + 1)))),
        ("challenged", Input::Challenged),
        ("harmless", failed(Class::Harmless)),
        ("held back", failed(Class::HeldBack)),
        ("unclassified", failed(Class::Unclassified { other_success_at: None })),
        ("unclassified, others succeed", failed(others_succeed())),
        ("misconfigured", failed(Class::Misconfigured)),
        ("ambiguous now", failed(Class::Ambiguous(Retry::AtOnce))),
        ("ambiguous late", failed(Class::Ambiguous(Retry::Late))),
        ("rejected", failed(Class::Rejected)),
        ("refused", failed(Class::Refused)),
        ("saved", saved(false)),
        ("saved suspect", saved(true)),
        ("unsaved", Input::Unsaved),
    ];
    inputs.extend(from_others());
    inputs.extend(from_closes_and_callers());
    inputs
}

fn from_others() -> Vec<(&'static str, Input)> {
    let version = V + 1;
    let changed = |version, ends| Input::ExternalChange(ExternalChange { version, ends });
    vec![
        ("conflict", Input::Conflict { found: None }),
        ("tokens superseded", Input::TokensSuperseded { found: None }),
        ("older change", changed(Some(V), false)),
        ("newer change", changed(Some(version), false)),
        ("change that ends", changed(Some(version), true)),
        ("unknown change", changed(None, false)),
        ("wrote", Input::Wrote { version }),
        ("left", Input::Left),
    ]
}

fn from_closes_and_callers() -> Vec<(&'static str, Input)> {
    let version = V + 1;
    let written = |outbox| Closed { generation: G + 1, ..closed(outbox) };
    let dead = |generation| Input::Dead { generation, reason: LostReason::Revoked };
    vec![
        ("closed", Input::ClosedDurably { version, closed: written(false) }),
        ("closed with outbox", Input::ClosedDurably { version, closed: written(true) }),
        ("close failed", Input::CloseFailed),
        ("forgotten", Input::Forgotten),
        ("forget failed", Input::ForgetFailed),
        ("revoked", Input::Revoked),
        ("revocation failed", Input::RevocationFailed { backoff: backoff(NOW + 9) }),
        ("401 old", Input::Rejected { generation: G - 1 }),
        ("401", Input::Rejected { generation: G }),
        ("accepted", Input::Accepted { generation: G }),
        ("refresh by hand", Input::RefreshByHand),
        ("dead old", dead(G - 1)),
        ("dead", dead(G)),
        ("reconfigured", Input::Reconfigured { issuer_mismatch: false }),
        ("reconfigured to another", Input::Reconfigured { issuer_mismatch: true }),
        ("tick", Input::Tick),
        ("announced", Input::Announced { version, left: seconds(3600) }),
        ("loss recorded", Input::LossRecorded { version, reason: LostReason::RefreshExpired }),
        ("rejection recorded", Input::Suspected { version }),
    ]
}
