//! The session's state machine: pure, and the only thing that decides.
//!
//! [`step`] takes a state and an input and gives the next state and what is to be started. It
//! does no I/O, reads no clock and throws no dice. [`answer()`] says what a caller gets in a state.

mod answer;
mod exchange;
mod forget;
mod held;
mod need;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

pub(crate) use self::answer::{Answer, answer, due_at, next_wake, serving};
pub(crate) use self::held::{Closed, Doubt, Held, Lost, Rest, Saved, Trouble, Unclassified};
pub(crate) use self::told::is_damped;
use crate::clock::{BootTime, Now};
use crate::error::{Error, LostReason};
use crate::policy::{Backoff, UnclassifiedAnswers};
use crate::secret::Secret;

/// Where a session stands. The comments say how each is left.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Not read from the store yet. A load leads to rest; a failed one stays here, in trouble:
    /// an unreadable session is never taken for one that does not exist.
    Unloaded { trouble: Option<Trouble> },
    /// No exchange runs. Left for an exchange, by need, by grant or by close.
    Rest(Rest),
    /// The server wants a second factor; a former session serves. Left by the answer (an
    /// establish), by expiry, or by a need of the former session.
    Challenged { former: Rest, until: BootTime },
    /// An establish runs; a former session serves. Issued and saved: active. Challenge:
    /// challenged. Otherwise: the former, suspect if the answer was lost.
    Establishing { former: Rest, renewal: bool, answer: Option<Held>, overdue: bool },
    /// A refresh runs; a still valid access token is served. Issued and saved: active. Not sent
    /// or not processed: as before. Answer lost: in doubt. Rejected: lost.
    Refreshing { held: Held, doubt: Option<Doubt>, answer: Option<Held>, overdue: bool },
    /// A close or a forget is being written. Closed: revoking. Forgotten: vacant. Not written: the
    /// former.
    Closing { former: Rest },
    /// Closed; the server is being told. Told or not, it rests closed.
    Revoking { closed: Closed },
}

impl State {
    /// Whether an exchange runs, or a close.
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Unloaded { .. } | Self::Rest(_) | Self::Challenged { .. } => false,
            Self::Establishing { .. }
            | Self::Refreshing { .. }
            | Self::Closing { .. }
            | Self::Revoking { .. } => true,
        }
    }

    pub(crate) fn is_unloaded(&self) -> bool {
        matches!(self, Self::Unloaded { .. })
    }

    /// The token secret that belongs to the access token of this generation.
    pub(crate) fn token_secret(&self, generation: u64) -> Option<Secret> {
        let rest = self.rest()?;
        let held = rest.serving().filter(|held| held.generation == generation)?;
        held.credentials.tokens().secret_of_token().cloned()
    }

    /// Whether there may be a refresh token to go on with: also where the record is to be read
    /// again. Another process may have changed it between two questions of one call, and the caller
    /// must not be told that a live session is lost.
    pub(crate) fn may_refresh(&self) -> bool {
        if self.is_unloaded() {
            return true;
        }
        let rest = self.rest();
        let credentials = rest.as_ref().and_then(|rest| rest.credentials());
        credentials.is_some_and(|credentials| credentials.tokens.refresh.is_some())
    }

    /// Whether the exchange that runs is one more try after an answer that is not understood.
    pub(crate) fn is_tried_again(&self) -> bool {
        match self {
            Self::Refreshing { held, .. } => held.unclassified.is_some(),
            Self::Establishing { former, renewal: true, .. } => former.is_in_trouble(),
            Self::Unloaded { .. }
            | Self::Rest(_)
            | Self::Challenged { .. }
            | Self::Establishing { .. }
            | Self::Closing { .. }
            | Self::Revoking { .. } => false,
        }
    }

    /// Whether a close would change nothing.
    pub(crate) fn has_nothing_to_close(&self) -> bool {
        matches!(self, Self::Rest(Rest::Vacant { .. } | Rest::Closed(_)))
    }

    /// What led to where it stands: the last failure of a refresh, or the session's loss.
    pub(crate) fn cause(&self) -> Option<Error> {
        let rest = self.rest()?;
        match &*rest {
            Rest::Active(held) | Rest::InDoubt(held, _) => {
                held.trouble.as_ref().map(|trouble| trouble.error.clone())
            }
            Rest::Lost(lost) => lost.cause.clone(),
            Rest::Vacant { .. } | Rest::Closed(_) => None,
        }
    }

    /// Whether there is or was a session, as far as is known.
    pub(crate) fn was_established(&self) -> bool {
        self.rest().is_some_and(|rest| match *rest {
            Rest::Vacant { .. } => false,
            Rest::Active(_) | Rest::InDoubt(..) | Rest::Lost(_) | Rest::Closed(_) => true,
        })
    }

    /// Whether the store knows all that this state knows.
    pub(crate) fn is_disposable(&self) -> bool {
        match self {
            Self::Unloaded { trouble } | Self::Rest(Rest::Vacant { trouble }) => trouble.is_none(),
            Self::Rest(Rest::Closed(closed)) => {
                closed.outbox.is_none() && closed.unrenewed.is_none()
            }
            Self::Rest(Rest::Active(_) | Rest::InDoubt(..) | Rest::Lost(_))
            | Self::Challenged { .. }
            | Self::Establishing { .. }
            | Self::Refreshing { .. }
            | Self::Closing { .. }
            | Self::Revoking { .. } => false,
        }
    }

    /// What the session has beside a running exchange; none before it is loaded.
    pub(crate) fn rest(&self) -> Option<std::borrow::Cow<'_, Rest>> {
        use std::borrow::Cow;
        match self {
            Self::Rest(rest)
            | Self::Challenged { former: rest, .. }
            | Self::Establishing { former: rest, .. }
            | Self::Closing { former: rest } => Some(Cow::Borrowed(rest)),
            Self::Refreshing { held, doubt: None, .. } => {
                Some(Cow::Owned(Rest::Active(held.clone())))
            }
            Self::Refreshing { held, doubt: Some(doubt), .. } => {
                Some(Cow::Owned(Rest::InDoubt(held.clone(), *doubt)))
            }
            Self::Revoking { closed } => Some(Cow::Owned(Rest::Closed(closed.clone()))),
            Self::Unloaded { .. } => None,
        }
    }
}

/// What can happen to a session.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The store's record.
    Loaded(Rest),
    /// The store could not be read.
    LoadFailed(Error),
    /// Somebody wants a token above this generation, or the schedule wants a fresh one.
    Need { above: u64, renewable: Renewable },
    /// A grant is first in the queue.
    Establish,
    /// Tokens that exist already are first in the queue.
    Adopt,
    /// A close is first in the queue.
    Close,
    /// The exchange gave credentials. They are not saved yet.
    Issued(Held),
    /// The exchange gave a challenge.
    Challenged,
    /// The exchange gave nothing.
    Failed(Failure),
    /// The exchange runs longer than it may.
    Overdue,
    /// The newest credentials are saved.
    Saved { epoch: u64, generation: u64, suspect: bool },
    /// The newest credentials could not be saved, or not in time.
    Owed,
    /// The running exchange found that the store has something else than was thought.
    Superseded,
    /// Somebody beside the exchange found it.
    Outdated,
    /// Another process stored these counters, or nobody knows what.
    Elsewhere { counters: Option<(u64, u64)> },
    /// The close is written.
    ClosedDurably { closed: Closed },
    /// The close could not be written.
    CloseFailed,
    /// A forget is first in the queue.
    Forget,
    /// The record is deleted.
    Forgotten,
    /// The record could not be deleted.
    ForgetFailed,
    /// The server was told, or cannot be.
    Told,
    /// The server could not be told; when to try again.
    Untold { trouble: Trouble },
    /// An API rejected the token of this generation.
    Rejected { generation: u64 },
    /// An API accepted the token of this generation.
    Accepted { generation: u64 },
    /// Somebody asked for a refresh by hand: a provisional loss does not stand in its way.
    RefreshByHand,
    /// An API said that the session of this generation is dead.
    Dead { generation: u64, reason: LostReason },
    /// The provider's settings were replaced; whether they fit the credentials in hand.
    Reconfigured { foreign: bool },
    /// Time has passed.
    Tick,
}

/// Whether there is a grant that needs no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Renewable {
    No,
    /// The provider, or whoever was registered for it, has one for sessions that still are ours.
    Itself,
    /// The caller has one, and vouches for it now.
    Vouched,
}

impl Renewable {
    /// Whether a session that is lost for this reason is renewed.
    fn brings_back(self, lost: LostReason) -> bool {
        match self {
            Self::No => false,
            // We ended it ourselves: only somebody who says so begins it again.
            Self::Itself => !lost.is_ours(),
            Self::Vouched => true,
        }
    }
}

/// A failed exchange, as the machine sees it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    /// What waiters get.
    pub(crate) error: Error,
    /// How long the server wants to be left alone.
    pub(crate) wait: Duration,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Not sent or not processed.
    Harmless,
    /// Not sent, because the provider's gate paces retries. The session's own failure stands.
    HeldBack,
    /// The server's answer is not understood. `healthy_at` is when another session of the client
    /// last succeeded before this request was sent.
    Unclassified { healthy_at: Option<BootTime> },
    /// The client is rejected.
    Misconfigured,
    /// The answer was lost.
    Ambiguous(Retry),
    /// The refresh token was rejected.
    Rejected,
    /// The grant was refused.
    Refused,
}

/// When a doubt may be tried out, by the server's kind of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The server takes the old refresh token for a while.
    AtOnce,
    /// A retry may kill what lives: as late as possible.
    Late,
}

/// What the machine needs to know of policies, and the moment's dice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Now,
    pub(crate) dice: f64,
    pub(crate) rules: Rules,
}

/// The policies that the machine follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) backoff: Backoff,
    pub(crate) challenge: Duration,
    /// An exchange's budget: a retry begins that much before its token ends.
    pub(crate) budget: Duration,
    /// The schedule refreshes what is due.
    pub(crate) ahead: bool,
    /// When answers that are not understood lose a session.
    pub(crate) unclassified: UnclassifiedAnswers,
}

/// What a step starts and tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Effects {
    pub(crate) start: Option<Start>,
    pub(crate) notices: Vec<Notice>,
}

/// What is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Load,
    Refresh,
    Renew,
    Establish,
    Adopt,
    Close,
    Forget,
    Revoke,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Established,
    Refreshed,
    Expiring { left: Duration },
    Lost(LostReason),
    InDoubt,
    BackingOff { wait: Duration },
    SaveOwed,
    Saved,
    Revoked,
    Forgotten,
}

/// The next state. Nothing else assigns one.
pub(crate) fn step(state: State, input: Input, at: &Moment) -> (State, Effects) {
    let mut effects = Effects::default();
    let next = match input {
        Input::Loaded(rest) => loaded(state, rest),
        Input::LoadFailed(error) => load_failed(state, error, at),
        Input::Need { above, renewable } => need::need(state, above, renewable, at, &mut effects),
        Input::Establish => begin(state, Start::Establish, &mut effects),
        Input::Adopt => begin(state, Start::Adopt, &mut effects),
        Input::Close => begin(state, Start::Close, &mut effects),
        Input::Issued(held) => exchange::issued(state, held, at.now.boot),
        Input::Challenged => exchange::challenged(state, at),
        Input::Failed(failure) => exchange::failed(state, failure, at, &mut effects),
        Input::Overdue => exchange::overdue(state),
        Input::Saved { epoch, generation, suspect } => {
            exchange::saved(state, (epoch, generation), suspect, &mut effects)
        }
        Input::Owed => exchange::owed(state, &mut effects),
        Input::Superseded => State::Unloaded { trouble: None },
        // Nothing may begin beside a running exchange, whose own claim finds out.
        Input::Outdated if state.is_busy() => state,
        Input::Outdated => State::Unloaded { trouble: None },
        Input::Elsewhere { counters } => told::elsewhere(state, counters, &mut effects),
        Input::ClosedDurably { closed } => exchange::closed(state, closed, &mut effects),
        Input::CloseFailed => exchange::close_failed(state),
        Input::Forget => forget::forget(state, &mut effects),
        Input::Forgotten => forget::forgotten(state, &mut effects),
        Input::ForgetFailed => forget::forget_failed(state),
        Input::Told => exchange::told(state, None),
        Input::Untold { trouble } => exchange::told(state, Some(trouble)),
        Input::Rejected { generation } => told::rejected(state, generation),
        Input::Accepted { generation } => told::accepted(state, generation),
        Input::RefreshByHand => told::refresh_by_hand(state, at.now.boot),
        Input::Dead { generation, reason } => told::dead(state, generation, reason, &mut effects),
        Input::Reconfigured { foreign } => told::reconfigured(state, foreign, at.now.boot),
        Input::Tick => tick(state, at, &mut effects),
    };
    (next, effects)
}

/// A record counts only where nothing is known: what is in memory is never older.
fn loaded(state: State, rest: Rest) -> State {
    match state {
        State::Unloaded { .. } => State::Rest(rest),
        State::Rest(_)
        | State::Challenged { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => state,
    }
}

fn load_failed(state: State, error: Error, at: &Moment) -> State {
    match state {
        State::Unloaded { trouble } => {
            State::Unloaded { trouble: Some(Trouble::after(trouble.as_ref(), error, at)) }
        }
        State::Rest(_)
        | State::Challenged { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => state,
    }
}

/// A grant, tokens to adopt and a close are taken in every state in which no exchange runs. While
/// one runs they stay queued: a grant is never coalesced with another's.
fn begin(state: State, start: Start, effects: &mut Effects) -> State {
    let former = match state {
        State::Unloaded { trouble } => {
            effects.start = Some(Start::Load);
            return State::Unloaded { trouble };
        }
        State::Rest(rest) | State::Challenged { former: rest, .. } => rest,
        State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => return state,
    };
    effects.start = Some(start);
    if start == Start::Close {
        State::Closing { former }
    } else {
        State::Establishing { former, renewal: false, answer: None, overdue: false }
    }
}

fn tick(state: State, at: &Moment, effects: &mut Effects) -> State {
    let now = at.now.boot;
    match state {
        State::Unloaded { trouble } => {
            State::Unloaded { trouble: trouble.filter(|t| !t.is_forgotten(at)) }
        }
        State::Challenged { former, until } if now >= until => {
            tick(State::Rest(former), at, effects)
        }
        State::Challenged { former, until } => {
            State::Challenged { former: age(former, at, effects), until }
        }
        State::Rest(Rest::Closed(closed)) if closed.is_to_be_told(now) => {
            effects.start = Some(Start::Revoke);
            State::Revoking { closed }
        }
        State::Rest(rest) => State::Rest(age(rest, at, effects)),
        // What is due is looked at when the exchange has ended.
        State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => state,
    }
}

/// What the mere passing of time does: a refresh token's end is told ahead and when it comes.
fn age(mut rest: Rest, at: &Moment, effects: &mut Effects) -> Rest {
    let now = at.now.boot;
    if let Rest::Vacant { trouble } | Rest::Closed(Closed { unrenewed: trouble, .. }) = &mut rest {
        trouble.take_if(|trouble| trouble.is_forgotten(at));
    }
    if let Rest::Lost(lost) = &mut rest {
        lost.give_up_if_ended(now);
    }
    let Some(held) = rest.refreshable_mut() else { return rest };
    let Some(end) = held.refresh_expires else { return rest };
    if now >= end {
        return lose(rest, LostReason::RefreshExpired, None, effects);
    }
    if held.expiring.is_some_and(|expiring| now >= expiring) {
        held.expiring = None;
        effects.notices.push(Notice::Expiring { left: end.since(now) });
    }
    rest
}

fn lose(rest: Rest, reason: LostReason, cause: Option<Error>, effects: &mut Effects) -> Rest {
    effects.notices.push(Notice::Lost(reason));
    Rest::Lost(Lost { cause, ..Lost::new(rest, reason) })
}
