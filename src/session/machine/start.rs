//! Starts work: for a caller's need of a token, and for jobs from the queue.

use super::{
    BackoffState, Effects, Lost, Renewable, Run, Settled, Start, State, StepContext, age,
    lose_unrecorded,
};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind, LostReason};

/// What an idle session does for a caller that wants a token other than the one served.
pub(super) enum Next {
    Refresh,
    Renew,
    /// Mark the session as lost.
    Lose(LostReason),
    /// Nothing: this error prevents it.
    Fail(Error),
}

pub(super) fn need(
    state: &mut State,
    newer_than: u64,
    renewable: Renewable,
    at: &StepContext,
    effects: &mut Effects,
) {
    let now = at.now.boot;
    if state.is_busy() || state.wants_load() {
        return;
    }
    let Some(settled) = &mut state.settled else { return };
    // A refresh token that is known to have ended is not sent.
    age(settled, at);
    // A session in doubt retries when it is time, even if its token is still fresh.
    let in_doubt = matches!(settled, Settled::InDoubt(..));
    if !in_doubt && settled.serving().is_some_and(|held| !held.is_wanted(newer_than, now)) {
        return;
    }
    let challenged = state.running.is_some();
    // A renewal does not replace a challenge, so the caller could only wait for the user.
    let renewable = if challenged { Renewable::No } else { renewable };
    match settled.next(newer_than, renewable, now) {
        Next::Refresh => {
            start(state, Run::Refresh { answer: None }, Start::Refresh, effects);
        }
        Next::Renew => {
            start(state, Run::Establish { renewal: true, answer: None }, Start::Renew, effects);
        }
        Next::Lose(reason) if !challenged => lose_unrecorded(settled, reason),
        Next::Lose(_) | Next::Fail(_) => {}
    }
}

/// Begins a grant, an adoption, a close or a forget, unless an exchange runs: then the job stays
/// queued, because each grant gets an exchange of its own. Only a forget may begin before the
/// record is loaded: otherwise a damaged record would stay for ever.
pub(super) fn begin(state: &mut State, what: Start, now: BootTime, effects: &mut Effects) {
    let run = match what {
        Start::Establish | Start::Adopt => Run::Establish { renewal: false, answer: None },
        Start::Close => Run::Close,
        Start::Forget => Run::Forget,
        Start::Revoke if state.may_revoke(now) => Run::Revoke,
        Start::Load(_) | Start::Restore | Start::Refresh | Start::Renew | Start::Revoke => return,
    };
    let must_load = state.is_unloaded() && what != Start::Forget;
    if !state.is_busy() && !must_load {
        start(state, run, what, effects);
    }
}

impl State {
    /// Whether to revoke the closed session at the server now.
    fn may_revoke(&self, now: BootTime) -> bool {
        let closed = self.settled.as_ref().and_then(Settled::closed);
        self.running.is_none() && closed.is_some_and(|closed| closed.is_revocation_due(now))
    }
}

/// Takes back an exchange that a need started and that never began. Nothing was sent.
pub(super) fn not_begun(state: &mut State) {
    state.running.take_if(|run| {
        use Run::{Establish, Refresh};
        matches!(run, Refresh { answer: None } | Establish { renewal: true, answer: None })
    });
}

fn start(state: &mut State, run: Run, what: Start, effects: &mut Effects) {
    state.running = Some(run);
    effects.start = Some(what);
    // A running load may show less than the work that begins now will write.
    state.stop_load();
}

impl Settled {
    /// The next action for a caller that wants a token above `newer_than`, if the held token is
    /// not new enough.
    pub(super) fn next(&self, newer_than: u64, renewable: Renewable, now: BootTime) -> Next {
        match self {
            Self::Vacant { backoff } if renewable > Renewable::No => {
                unless_cooling(backoff, now, Next::Renew)
            }
            Self::Closed(closed) if renewable == Renewable::Vouched => {
                unless_cooling(&closed.unrenewed, now, Next::Renew)
            }
            Self::Vacant { .. } | Self::Closed(_) => {
                Next::Fail(Error::new(ErrorKind::NotEstablished))
            }
            Self::Lost(lost) => lost.next(renewable, now),
            Self::InDoubt(held, _) | Self::Active(held) if held.issuer_mismatch => {
                Next::Fail(issuer_mismatch())
            }
            Self::InDoubt(held, in_doubt) if now < in_doubt.retry_at => Next::Fail(
                Error::new(ErrorKind::RetryLater)
                    .about(
                        "the outcome of the last refresh is not known, and it is not yet time to \
                         repeat it",
                    )
                    .caused_by(held.backoff.as_ref().map(|backoff| &backoff.error))
                    .with_retry_after(in_doubt.retry_at.since(now)),
            ),
            Self::InDoubt(..) => Next::Refresh,
            // No exchange begins before the last refresh is saved: otherwise a crash would lose two
            // refreshes, not one.
            Self::Active(held) if held.is_unsaved() => Next::Fail(
                Error::new(ErrorKind::RetryLater)
                    .about("the store has not yet saved the last refresh")
                    .caused_by(held.refusal()),
            ),
            Self::Active(held) => {
                let next = if held.can_refresh(now) {
                    Next::Refresh
                } else if renewable > Renewable::No {
                    Next::Renew
                } else if held.rejected {
                    Next::Lose(LostReason::Rejected)
                } else if held.is_expired(now) || (held.token.is_none() && newer_than == 0) {
                    Next::Lose(LostReason::RefreshExpired)
                } else {
                    Next::Fail(
                        Error::new(ErrorKind::SignInAgain(LostReason::RefreshExpired))
                            .about("the session has no refresh token"),
                    )
                };
                unless_cooling(&held.backoff, now, next)
            }
        }
    }
}

impl Lost {
    fn next(&self, renewable: Renewable, now: BootTime) -> Next {
        let may_retry = self.to_be_tried(now).is_some();
        let cooling = BackoffState::cooling(self.backoff.as_ref(), now);
        match renewable.brings_back(self.reason) {
            true if !cooling => Next::Renew,
            // Also while a renewal is in backoff: otherwise the schedule would check the
            // session in vain.
            _ if may_retry => Next::Refresh,
            true => unless_cooling(&self.backoff, now, Next::Renew),
            false => {
                let error = Error::new(ErrorKind::SignInAgain(self.reason));
                Next::Fail(error.caused_by(self.cause.as_ref()))
            }
        }
    }
}

/// `next`, or the last failure for every caller until its backoff ends.
fn unless_cooling(backoff: &Option<BackoffState>, now: BootTime, next: Next) -> Next {
    match backoff.as_ref().filter(|backoff| now < backoff.retry_at) {
        Some(backoff) => Next::Fail(backoff.error_now(now)),
        None => next,
    }
}

/// Credentials are sent only to the server that issued them, and by the client that got them.
pub(crate) fn issuer_mismatch() -> Error {
    Error::new(ErrorKind::Misconfigured).about(
        "the session's tokens were issued by another server or to another client than the provider \
         now has; restore the former URL and client id, or establish the session again",
    )
}
