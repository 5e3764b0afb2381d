//! The session's state machine: a pure function, and the only code that decides.
//!
//! [`step`] takes a state and an input, and returns the next state and the work to start. It does
//! no I/O, reads no clock and draws no random numbers. [`token_decision`] says what a caller gets
//! in a state.

mod decision;
mod exchange_result;
mod external_change;
mod settled;
mod start;
#[cfg(test)]
mod tests;
mod token_generation;
mod wake;

use std::time::Duration;

pub(crate) use self::decision::{TokenDecision, due_at, serving, token_decision};
pub(crate) use self::exchange_result::with_former_token;
pub(crate) use self::external_change::{ExternalChange, abandon_load, begin_load, is_damped};
pub(crate) use self::settled::{
    BackoffState, Closed, CredentialState, InDoubt, Lost, Saved, Settled, Unclassified,
};
pub(crate) use self::start::issuer_mismatch;
pub(crate) use self::wake::{Due, due_now, is_in_record, next_wake, record_wake};
use crate::clock::{BootTime, Now};
use crate::error::{Error, LostReason};
use crate::policy::{Backoff, UnclassifiedAnswers};
use crate::secret::Secret;

/// What a session has, and the work that runs on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The content of the record, with what this process learned since; `None` before the first
    /// load.
    pub(crate) settled: Option<Settled>,
    /// The version of the record, as far as it is known.
    pub(crate) version: u64,
    pub(crate) running: Option<Run>,
    /// The changes of other processes that are not loaded yet. They are loaded when nothing runs.
    pub(crate) external_change: Option<ExternalChange>,
    pub(crate) load: LoadState,
    /// Why the last load failed. Kept, so that a session that cannot be loaded is never taken for
    /// one that does not exist.
    pub(crate) load_backoff: Option<BackoffState>,
}

/// The work that runs on a session. The settled token is served meanwhile.
#[derive(Clone, Debug)]
pub(crate) enum Run {
    /// The server wants a second factor, and nothing else runs. Ended by the user's answer (an
    /// establish), by expiry, by a refresh of the settled session, by a close or by a forget.
    Challenge { until: BootTime },
    /// A grant is exchanged, or tokens are adopted.
    Establish { renewal: bool, answer: Option<CredentialState> },
    /// A refresh token is exchanged.
    Refresh { answer: Option<CredentialState> },
    /// A close is being written.
    Close,
    /// A forget is being written.
    Forget,
    /// A closed session is being revoked at the server.
    Revoke,
}

/// The load of the record. Tokens are served meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadState {
    /// How many loads have begun. Only the answer of the newest counts. It does not count either if
    /// an exchange began after it, because it may show less than that exchange wrote.
    pub(crate) number: u32,
    /// `Some` while a load runs, with the external change that it was begun for, if any.
    pub(crate) running: Option<Option<ExternalChange>>,
    /// The store was asked to restore what it lost. The next answer then counts in any case.
    pub(crate) restored: bool,
}

impl State {
    /// Whether an exchange runs, or a close.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.running, None | Some(Run::Challenge { .. }))
    }

    pub(crate) fn is_unloaded(&self) -> bool {
        self.settled.is_none()
    }

    /// The epoch and generation of the settled session.
    pub(crate) fn counters(&self) -> (u64, u64) {
        self.settled.as_ref().map(Settled::counters).unwrap_or_default()
    }

    /// The token secret that belongs to the access token of this generation.
    pub(crate) fn token_secret(&self, generation: u64) -> Option<Secret> {
        let serving = self.settled.as_ref()?.serving();
        let held = serving.filter(|held| held.is_of(generation))?;
        held.credentials.tokens().token_secret().cloned()
    }

    /// Whether the running exchange is a retry: a refresh after an answer that is not understood,
    /// or a renewal after a failure.
    pub(crate) fn is_tried_again(&self) -> bool {
        let Some(settled) = &self.settled else { return false };
        let refreshes = matches!(self.running, Some(Run::Refresh { .. }));
        let renews = matches!(self.running, Some(Run::Establish { renewal: true, .. }));
        (refreshes && settled.is_unclassified()) || (renews && settled.is_backing_off())
    }

    /// Whether the running refresh retries in the state `InDoubt`.
    pub(crate) fn is_tried_in_doubt(&self) -> bool {
        matches!(self.running, Some(Run::Refresh { .. }))
            && matches!(self.settled, Some(Settled::InDoubt(..)))
    }

    /// Whether a close would change nothing.
    pub(crate) fn has_nothing_to_close(&self) -> bool {
        let nothing = matches!(self.settled, Some(Settled::Vacant { .. } | Settled::Closed(_)));
        nothing && self.running.is_none() && !self.wants_load()
    }

    /// The error that led to this state: of the last failed refresh, or of the session's loss.
    pub(crate) fn cause(&self) -> Option<Error> {
        match self.settled.as_ref()? {
            Settled::Active(held) | Settled::InDoubt(held, _) => {
                held.backoff.as_ref().map(|backoff| backoff.error.clone())
            }
            Settled::Lost(lost) => lost.cause.clone(),
            Settled::Vacant { .. } | Settled::Closed(_) => None,
        }
    }

    /// Whether there is or was a session, as far as is known.
    pub(crate) fn was_established(&self) -> bool {
        !matches!(self.settled, None | Some(Settled::Vacant { .. }))
    }

    /// Whether the record says everything about the session, credentials included.
    pub(crate) fn is_in_store(&self) -> bool {
        self.is_disposable() || (is_in_record(self) && self.load.running.is_none())
    }

    /// Whether the store knows all that this state knows, and there are no credentials.
    pub(crate) fn is_disposable(&self) -> bool {
        let known = match &self.settled {
            None => true,
            Some(Settled::Vacant { backoff }) => backoff.is_none(),
            Some(Settled::Closed(closed)) => closed.outbox.is_none() && closed.unrenewed.is_none(),
            Some(Settled::Active(_) | Settled::InDoubt(..) | Settled::Lost(_)) => false,
        };
        known && self.running.is_none() && self.load_backoff.is_none()
    }
}

/// The inputs of the machine.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The store's record, as the load of this number found it.
    Loaded { read: u32, version: u64, settled: Settled },
    /// The load of this number failed.
    LoadFailed { read: u32, error: Error },
    /// A caller wants a token above this generation, or the schedule wants a fresh one.
    Need { newer_than: u64, renewable: Renewable },
    /// This job is first in the queue, or this revocation is due.
    Begin(Start),
    /// The work that a step started never began, because its message was lost.
    NotBegun,
    /// The exchange brought credentials. They are not saved yet.
    Issued(CredentialState),
    /// The exchange brought a challenge.
    Challenged,
    /// The exchange failed.
    Failed(Failure),
    /// The newest credentials are saved.
    Saved { version: u64, epoch: u64, generation: u64, suspect: bool },
    /// The newest credentials could not be saved, or not in time.
    Unsaved,
    /// The running work found a different record in the store from the one expected. `found` is that record,
    /// if the store's answer had it.
    Conflict { found: Option<(u64, Settled)> },
    /// The unsaved credentials do not belong to the session any more, because another process
    /// closed or established it.
    TokensSuperseded { found: Option<(u64, Settled)> },
    /// Other processes changed the record, or may have changed it.
    ExternalChange(ExternalChange),
    /// This process wrote this version of the record.
    Wrote { version: u64 },
    /// The state leaves memory. The record is loaded again when a caller asks.
    Left,
    /// The close is written.
    ClosedDurably { version: u64, closed: Closed },
    /// The close could not be written.
    CloseFailed,
    /// The record is deleted.
    Forgotten,
    /// The record could not be deleted.
    ForgetFailed,
    /// The revocation at the server has succeeded, or is given up.
    Revoked,
    /// The revocation at the server failed; `backoff` says when to try again.
    RevocationFailed { backoff: BackoffState },
    /// An API rejected the token of this generation.
    Rejected { generation: u64 },
    /// An API accepted the token of this generation.
    Accepted { generation: u64 },
    /// A caller asked for a refresh by hand, which a provisional loss does not prevent.
    RefreshByHand,
    /// An API reported that the session of this generation is dead.
    Dead { generation: u64, reason: LostReason },
    /// The provider's settings were replaced. `issuer_mismatch`: they do not fit the session's
    /// credentials.
    Reconfigured { issuer_mismatch: bool },
    /// Time has passed.
    Tick,
    /// The record now says that the end of the refresh token was announced.
    Announced { version: u64, left: Duration },
    /// The record now says that the access token was rejected.
    Suspected { version: u64 },
    /// The record now says that the session is lost, as this process found.
    LossRecorded { version: u64, reason: LostReason },
}

/// Whether new tokens can be obtained without the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Renewable {
    No,
    /// With a grant of the provider, or of the application's `renew_with`. It does not bring back a
    /// session that this side ended.
    Itself,
    /// With a grant that the caller brings now. It may even begin a closed session again.
    Vouched,
}

impl Renewable {
    /// Whether a session that was lost for this reason is renewed.
    fn brings_back(self, lost: LostReason) -> bool {
        match self {
            Self::No => false,
            // This side ended it, so only a caller's own grant begins it again.
            Self::Itself => !lost.is_ours(),
            Self::Vouched => true,
        }
    }
}

/// A failed exchange, as the machine sees it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    /// The error that waiting callers get.
    pub(crate) error: Error,
    /// How long the server wants no requests.
    pub(crate) wait: Duration,
}

/// The meaning of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The request was not sent or not processed.
    Harmless,
    /// Not sent, because the client's admission paces retries. The session keeps its former
    /// failure.
    HeldBack,
    /// The server's answer is not understood. `other_success_at` is when another session of the
    /// client last succeeded before this request was sent.
    Unclassified { other_success_at: Option<BootTime> },
    /// The server rejects the client.
    Misconfigured,
    /// The answer was lost.
    Ambiguous(Retry),
    /// The refresh token was rejected.
    Rejected,
    /// The grant was refused.
    Refused,
}

/// When a session in doubt may retry, by the server's kind of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// At once, because the server accepts the old refresh token for a while.
    AtOnce,
    /// As late as possible, because a retry may kill a session that lives.
    Late,
}

/// The time, the policies and the random number that a step uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepContext {
    pub(crate) now: Now,
    pub(crate) jitter: f64,
    pub(crate) policy: MachinePolicy,
}

/// The policies that the machine follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachinePolicy {
    pub(crate) backoff: Backoff,
    pub(crate) challenge: Duration,
    /// The budget of an exchange: a retry begins this long before the access token ends.
    pub(crate) budget: Duration,
    /// Whether the schedule refreshes due tokens.
    pub(crate) ahead: bool,
    /// When answers that are not understood make a session lost.
    pub(crate) unclassified: UnclassifiedAnswers,
}

/// The work that a step starts, and the notifications that it publishes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Effects {
    pub(crate) start: Option<Start>,
    pub(crate) notifications: Vec<Notification>,
}

/// The work to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Load the record, with this number.
    Load(u32),
    /// The store has an older record than this process: write the credentials again.
    Restore,
    Refresh,
    Renew,
    Establish,
    Adopt,
    Close,
    Forget,
    Revoke,
}

impl Start {
    /// Whether this only asks the store, so that `running` stays empty.
    pub(crate) fn is_load(&self) -> bool {
        matches!(self, Self::Load(_) | Self::Restore)
    }
}

/// The notifications of a step, which become events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notification {
    Established,
    Refreshed,
    Expiring { left: Duration },
    Lost(LostReason),
    InDoubt,
    BackingOff { wait: Duration },
    Unsaved,
    Saved,
    Revoked,
    Forgotten,
}

/// The next state. Outside of it, only [`begin_load`] and [`abandon_load`] change a state.
pub(crate) fn step(mut state: State, input: Input, at: &StepContext) -> (State, Effects) {
    let mut effects = Effects::default();
    let (to, e) = (&mut state, &mut effects);
    match input {
        Input::Loaded { read, version, settled } => {
            external_change::loaded(to, read, version, settled, e)
        }
        Input::LoadFailed { read, error } => external_change::load_failed(to, read, error, at),
        Input::Need { newer_than, renewable } => start::need(to, newer_than, renewable, at, e),
        Input::Begin(start) => start::begin(to, start, at.now.boot, e),
        Input::NotBegun => start::not_begun(to),
        Input::Issued(held) => exchange_result::issued(to, held, at),
        Input::Challenged => exchange_result::challenged(to, at),
        Input::Failed(failure) => exchange_result::failed(to, failure, at, e),
        Input::Saved { version, epoch, generation, suspect } => {
            exchange_result::saved(to, version, ((epoch, generation), suspect), at, e);
        }
        Input::Unsaved => exchange_result::unsaved(to, at, e),
        Input::Conflict { found } => external_change::conflict(to, found),
        Input::TokensSuperseded { found } => external_change::tokens_superseded(to, found),
        Input::ExternalChange(external_change) => external_change::note(to, external_change),
        Input::Wrote { version } => external_change::wrote(to, version),
        Input::Left => *to = State { load: to.load, version: to.version, ..State::default() },
        Input::ClosedDurably { version, closed } => exchange_result::closed(to, version, closed, e),
        Input::CloseFailed => exchange_result::end_failed(to),
        Input::Forgotten => exchange_result::forgotten(to, e),
        Input::ForgetFailed => exchange_result::end_failed(to),
        Input::Revoked => exchange_result::revocation_ended(to, None),
        Input::RevocationFailed { backoff } => exchange_result::revocation_ended(to, Some(backoff)),
        Input::Rejected { generation } => external_change::rejected(to, generation),
        Input::Accepted { generation } => external_change::accepted(to, generation),
        Input::RefreshByHand => external_change::refresh_by_hand(to, at.now.boot),
        Input::Dead { generation, reason } => external_change::dead(to, generation, reason, e),
        Input::Reconfigured { issuer_mismatch } => {
            external_change::reconfigured(to, issuer_mismatch, at.now.boot)
        }
        Input::Tick => tick(to, at),
        Input::Announced { version, left } => external_change::announced(to, version, left, e),
        Input::Suspected { version } => external_change::suspected(to, version),
        Input::LossRecorded { version, reason } => {
            external_change::loss_recorded(to, version, reason, e)
        }
    }
    external_change::load_change(to, at, e);
    (state, effects)
}

fn tick(state: &mut State, at: &StepContext) {
    let now = at.now.boot;
    let must_load = state.has_unloaded_change();
    state.load_backoff.take_if(|backoff| backoff.is_forgotten(at) && !must_load);
    state.running.take_if(|run| matches!(run, Run::Challenge { until } if now >= *until));
    if state.is_busy() {
        // Checked again when the exchange has ended.
        return;
    }
    if let Some(settled) = &mut state.settled {
        age(settled, at);
    }
}

/// Applies the passage of time: a session is lost when its refresh token ends.
fn age(settled: &mut Settled, at: &StepContext) {
    let now = at.now.boot;
    match settled {
        Settled::Vacant { backoff } | Settled::Closed(Closed { unrenewed: backoff, .. }) => {
            backoff.take_if(|backoff| backoff.is_forgotten(at));
        }
        Settled::Lost(lost) => lost.give_up_if_ended(now),
        Settled::Active(held) | Settled::InDoubt(held, _) => {
            if held.refresh_expires.is_some_and(|end| now >= end) {
                lose_unrecorded(settled, LostReason::RefreshExpired);
            }
        }
    }
}

/// Loses a session for a reason that only this process knows: its time is over, or it has no
/// refresh token. The schedule then records and publishes the loss, so that only one of several
/// processes does.
fn lose_unrecorded(settled: &mut Settled, reason: LostReason) {
    settled.lose(reason, None);
    if let Settled::Lost(lost) = settled {
        lost.recorded = false;
    }
}

fn lose(settled: &mut Settled, reason: LostReason, cause: Option<Error>, effects: &mut Effects) {
    effects.notifications.push(Notification::Lost(reason));
    settled.lose(reason, cause);
}
