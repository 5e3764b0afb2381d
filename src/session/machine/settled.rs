//! The settled state of a session: what it has, whether an exchange runs or not.

use std::sync::Arc;
use std::time::Duration;

use super::StepContext;
use crate::clock::BootTime;
use crate::error::{Error, LostReason};
use crate::policy::{DAMPING, DAMPING_CAP};
use crate::token::{Credentials, PermissionToken};

/// The settled state of a session.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    /// Never established, forgotten, or not in this store. Ended by an establish or a renewal.
    Vacant { backoff: Option<BackoffState> },
    /// It has credentials. Ended by a refresh whose answer is lost, a loss, a close or a forget.
    Active(CredentialState),
    /// The refresh token may be spent. Ended by a retry that succeeds, a grant, a loss, a close or
    /// a forget.
    InDoubt(CredentialState, InDoubt),
    /// Only a new grant helps; if the loss is provisional, also a refresh that succeeds. Ended by
    /// an establish, a renewal, such a refresh, a close or a forget.
    Lost(Lost),
    /// Closed by a supervisor. Ended by an establish, a renewal with a caller's grant, or a forget.
    Closed(Closed),
}

/// Credentials with their times.
#[derive(Clone, Debug)]
pub(crate) struct CredentialState {
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    pub(crate) credentials: Arc<Credentials>,
    /// The generation that brought the access token. Below `generation` if responses since then
    /// brought only a refresh token.
    pub(crate) token_generation: u64,
    pub(crate) token: Option<PermissionToken>,
    /// When the access token should be refreshed; `None` if its end is not known.
    pub(crate) due: Option<BootTime>,
    pub(crate) expires: Option<BootTime>,
    pub(crate) refresh_expires: Option<BootTime>,
    /// When to announce that the refresh token's end is near; `None` once that is done.
    pub(crate) expiring: Option<BootTime>,
    pub(crate) saved: Saved,
    /// The credentials may be dead: refresh before use.
    pub(crate) suspect: bool,
    /// An API rejected this access token.
    pub(crate) rejected: bool,
    /// Issued by another authority or to another client than the configuration names.
    pub(crate) issuer_mismatch: bool,
    /// Wall minus boot time when the times were derived from a record. `None` if this process got
    /// the credentials itself: then setting the wall clock does not move the times.
    pub(crate) derived_at: Option<Duration>,
    pub(crate) backoff: Option<BackoffState>,
    /// The answers since the last success that are not understood. Boxed, as the next field is,
    /// because most sessions have neither.
    pub(crate) unclassified: Option<Box<Unclassified>>,
    /// A rejection of the former access token brought this one.
    pub(crate) damping: Option<Box<Damping>>,
}

/// Answers in a row that are not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unclassified {
    pub(crate) answers: u32,
    /// When the first of them came.
    pub(crate) since: BootTime,
    /// They made the session provisionally lost.
    pub(crate) lost: bool,
    /// When a session that is lost in this way retries.
    pub(crate) retry_at: BootTime,
}

/// How long rejections of an access token start no refresh, because a rejection brought that token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damping {
    pub(crate) since: BootTime,
    pub(crate) span: Duration,
    /// An API has accepted the token meanwhile.
    pub(crate) accepted: bool,
}

/// Whether credentials are in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    Yes,
    Unsaved { attempts: u32 },
}

/// A failure that every caller gets until it is time to try again.
#[derive(Clone, Debug)]
pub(crate) struct BackoffState {
    pub(crate) tries: u32,
    pub(crate) retry_at: BootTime,
    pub(crate) error: Error,
}

/// A refresh's answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InDoubt {
    pub(crate) tries: u32,
    /// When the session retries.
    pub(crate) retry_at: BootTime,
    /// The earliest time of the retry, if the access token ends before `retry_at`.
    pub(crate) floor: BootTime,
    /// The schedule retries, because the server's grace passes.
    pub(crate) retry_early: bool,
}

/// A session that is lost.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    pub(crate) reason: LostReason,
    /// The credentials that it had. A renewal reads their attributes.
    pub(crate) held: Option<CredentialState>,
    pub(crate) backoff: Option<BackoffState>,
    /// The error that led to the loss, if this process saw it.
    pub(crate) cause: Option<Error>,
    /// The loss is in the record, or is being written.
    pub(crate) recorded: bool,
}

/// A session that a supervisor closed.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    /// The credentials that must still be revoked at the server.
    pub(crate) outbox: Option<Arc<Credentials>>,
    /// Why the last revocation at the server failed.
    pub(crate) backoff: Option<BackoffState>,
    /// Why the last grant of a caller did not begin the session again.
    pub(crate) unrenewed: Option<BackoffState>,
}

impl Settled {
    /// The epoch and the generation: how many grants, and how many stored credentials.
    pub(crate) fn counters(&self) -> (u64, u64) {
        match self {
            Self::Vacant { .. } => (0, 0),
            Self::Active(held) | Self::InDoubt(held, _) => (held.epoch, held.generation),
            Self::Lost(lost) => (lost.epoch, lost.generation),
            Self::Closed(closed) => (closed.epoch, closed.generation),
        }
    }

    /// The credentials whose access token is served until its end. A lost session serves a token
    /// only if its refresh token merely ended, or this side deleted the tokens: any other token may
    /// be dead at the server.
    pub(crate) fn serving(&self) -> Option<&CredentialState> {
        use LostReason::{RefreshExpired, TokensDeleted};
        let lives = self.lost().is_none_or(|lost| matches!(lost, RefreshExpired | TokensDeleted));
        self.held().filter(|_| lives)
    }

    /// The held credentials, whether their token is served or not.
    pub(crate) fn held(&self) -> Option<&CredentialState> {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => Some(held),
            Self::Lost(lost) => lost.held.as_ref(),
            Self::Vacant { .. } | Self::Closed(_) => None,
        }
    }

    /// The credentials that a renewal reads.
    pub(crate) fn credentials(&self) -> Option<&Arc<Credentials>> {
        self.held().map(|held| &held.credentials)
    }

    pub(crate) fn lost(&self) -> Option<LostReason> {
        if let Self::Lost(lost) = self { Some(lost.reason) } else { None }
    }

    /// When the session may be tried again after its last failure.
    pub(crate) fn retry_at(&self) -> Option<BootTime> {
        let backoff = match self {
            Self::InDoubt(_, in_doubt) => return Some(in_doubt.retry_at),
            Self::Lost(lost) if lost.retry_at().is_some() => return lost.retry_at(),
            Self::Vacant { backoff } => backoff,
            Self::Active(held) => &held.backoff,
            Self::Lost(lost) => &lost.backoff,
            Self::Closed(closed) => &closed.backoff,
        };
        backoff.as_ref().map(|backoff| backoff.retry_at)
    }

    /// The earliest time at which a claim may be granted. In doubt that is not the late time of the
    /// retry, but the time before which the server must not see the token again.
    pub(crate) fn earliest_retry(&self) -> Option<BootTime> {
        if let Self::InDoubt(_, in_doubt) = self { Some(in_doubt.floor) } else { self.retry_at() }
    }

    /// Whether it serves a token now, or may serve one after a refresh.
    pub(super) fn may_go_on(&self, now: BootTime) -> bool {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => {
                held.is_usable(now)
                    || held.is_unsaved()
                    || held.issuer_mismatch
                    || held.can_refresh(now)
            }
            // The caller gets the loss.
            Self::Lost(_) => true,
            Self::Vacant { .. } | Self::Closed(_) => false,
        }
    }

    pub(crate) fn closed(&self) -> Option<&Closed> {
        if let Self::Closed(closed) = self { Some(closed) } else { None }
    }

    /// Whether the last renewal failed.
    pub(super) fn is_backing_off(&self) -> bool {
        match self {
            Self::Vacant { backoff } => backoff.is_some(),
            Self::Active(held) | Self::InDoubt(held, _) => held.backoff.is_some(),
            Self::Lost(lost) => lost.backoff.is_some(),
            Self::Closed(closed) => closed.unrenewed.is_some(),
        }
    }

    /// Also of a lost session, because its unsaved credentials must still be saved.
    pub(super) fn held_mut(&mut self) -> Option<&mut CredentialState> {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => Some(held),
            Self::Lost(lost) => lost.held.as_mut(),
            Self::Vacant { .. } | Self::Closed(_) => None,
        }
    }

    /// Whether the store does not have its credentials yet.
    pub(super) fn is_unsaved(&self) -> bool {
        self.held().is_some_and(CredentialState::is_unsaved)
    }

    pub(super) fn reject(&mut self, generation: u64) {
        if let Some(held) = self.held_mut() {
            held.rejected |= held.is_of(generation);
        }
        if let Self::InDoubt(held, in_doubt) = self
            && held.is_of(generation)
        {
            // No token is left to serve, so the retry need not wait for its end.
            in_doubt.retry_at = in_doubt.retry_at.min(in_doubt.floor);
        }
    }

    /// Whether its last refresh got an answer that is not understood.
    pub(super) fn is_unclassified(&self) -> bool {
        self.held().is_some_and(|held| held.unclassified.is_some())
    }

    /// Whether its credentials are newer than the other's, and would be lost if the other replaced
    /// it.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        let live = matches!(self, Self::Active(_) | Self::InDoubt(..));
        let closed = matches!(other, Self::Closed(_));
        live && !closed && self.counters() > other.counters()
    }

    /// The record's state, with what this process knows in addition about the same credentials.
    pub(super) fn remembering(mut self, mut former: Self) -> Self {
        if self.counters() != former.counters() {
            if let (Some(read), Some(held)) = (self.held_mut(), former.held())
                && read.backoff.is_some()
            {
                // The other process got no access token that it can use, only a refresh token.
                read.remember_token(held);
            }
            return self;
        }
        if std::mem::discriminant(&self) == std::mem::discriminant(&former)
            && let (Some(read @ None), Some(known)) = (self.backoff_mut(), former.backoff_mut())
        {
            // Otherwise a failed renewal would be tried again at once after each load.
            *read = known.take();
        }
        let (cause, held) = match former {
            Self::Active(held) | Self::InDoubt(held, _) => (None, Some(held)),
            Self::Lost(lost) => (lost.cause, lost.held),
            Self::Vacant { .. } | Self::Closed(_) => (None, None),
        };
        if let Self::Lost(lost) = &mut self {
            lost.cause = lost.cause.take().or(cause);
        }
        if let (Some(read), Some(held)) = (self.held_mut(), held) {
            read.remember(held);
        }
        self
    }

    /// Makes it lost, for this reason.
    pub(super) fn lose(&mut self, reason: LostReason, cause: Option<Error>) {
        let (epoch, generation) = self.counters();
        let held = match std::mem::replace(self, Self::Vacant { backoff: None }) {
            Self::Active(held) | Self::InDoubt(held, _) => Some(held),
            Self::Lost(lost) => lost.held,
            Self::Vacant { .. } | Self::Closed(_) => None,
        };
        let (backoff, recorded) = (None, true);
        *self = Self::Lost(Lost { epoch, generation, reason, held, backoff, cause, recorded });
    }

    /// Marks the held credentials as perhaps dead: a grant whose answer was lost may have ended
    /// them, or an API rejected the token. A session in doubt retries in any case.
    pub(super) fn suspect(&mut self) {
        if let Some(held) = self.held_mut() {
            held.suspect = true;
        }
    }

    /// The backoff of the renewal, or of the refresh if the session has credentials.
    pub(super) fn backoff_mut(&mut self) -> Option<&mut Option<BackoffState>> {
        match self {
            Self::Vacant { backoff } => Some(backoff),
            Self::Active(held) | Self::InDoubt(held, _) => Some(&mut held.backoff),
            Self::Lost(lost) => Some(&mut lost.backoff),
            Self::Closed(closed) => Some(&mut closed.unrenewed),
        }
    }
}

impl CredentialState {
    /// Whether callers may have the access token.
    pub(crate) fn is_usable(&self, now: BootTime) -> bool {
        let suspect = self.suspect && self.can_refresh(now);
        self.token.is_some()
            && !suspect
            && !self.rejected
            && !self.issuer_mismatch
            && !self.is_expired(now)
    }

    /// Whether a caller that wants a token above `newer_than` needs another one.
    pub(super) fn is_wanted(&self, newer_than: u64, now: BootTime) -> bool {
        self.token_generation <= newer_than || !self.is_usable(now) || self.is_due(now)
    }

    pub(crate) fn is_due(&self, now: BootTime) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    pub(crate) fn is_expired(&self, now: BootTime) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }

    pub(crate) fn can_refresh(&self, now: BootTime) -> bool {
        let alive = self.refresh_expires.is_none_or(|end| now < end);
        alive && self.credentials.tokens.refresh.is_some()
    }

    pub(crate) fn is_unsaved(&self) -> bool {
        matches!(self.saved, Saved::Unsaved { .. })
    }

    /// The latest useful time for a retry that may kill the access token: one `budget` before that
    /// ends, but not before `floor`.
    pub(crate) fn late(&self, floor: BootTime, budget: Duration, now: BootTime) -> BootTime {
        match self.expires {
            Some(end) if self.is_usable(now) => floor.max(end.before(budget)),
            Some(_) | None => floor,
        }
    }

    /// Whether the access token is missing, rejected by an API, or expired.
    pub(super) fn is_spent(&self, now: BootTime) -> bool {
        self.token.is_none() || self.rejected || self.is_expired(now)
    }

    /// Whether answers that are not understood made the session lost.
    pub(super) fn is_lost_provisionally(&self) -> bool {
        self.unclassified.as_ref().is_some_and(|unclassified| unclassified.lost)
    }

    pub(super) fn is_damped(&self, now: BootTime) -> bool {
        self.damping.as_ref().is_some_and(|damping| now < damping.since.after(damping.span))
    }

    /// Notes an accepted token: rejections start a refresh again after the shortest span.
    pub(super) fn accept(&mut self, generation: u64) {
        let is_of = self.is_of(generation);
        if let Some(damping) = self.damping.as_mut().filter(|_| is_of) {
            **damping = Damping { span: DAMPING, accepted: true, ..**damping };
        }
    }

    /// The damping of the token that replaces this one now: `None` if no API rejected this one.
    pub(super) fn damping_of_next(&self, now: BootTime) -> Option<Box<Damping>> {
        let doubled = |damping: &Damping| damping.span.saturating_mul(2).min(DAMPING_CAP);
        let span =
            self.damping.as_deref().filter(|former| !former.accepted).map_or(DAMPING, doubled);
        self.rejected.then(|| Box::new(Damping { since: now, span, accepted: false }))
    }

    /// Takes over what only this process knows of the same credentials. If this process got them
    /// itself, its times are more exact than the record's, and stay.
    fn remember(&mut self, former: Self) {
        self.rejected |= former.rejected;
        self.remember_token(&former);
        self.damping = former.damping;
        self.unclassified = self.unclassified.take().or(former.unclassified);
        self.backoff = match (self.backoff.take(), former.backoff) {
            (Some(read), Some(former)) => {
                Some(BackoffState { retry_at: read.retry_at.max(former.retry_at), ..former })
            }
            (read, former) => read.or(former),
        };
        self.expiring = self.expiring.filter(|_| former.expiring.is_some());
        if former.derived_at.is_none() {
            (self.token, self.due) = (former.token, former.due);
            (self.expires, self.refresh_expires) = (former.expires, former.refresh_expires);
            (self.expiring, self.derived_at) = (former.expiring, None);
        }
    }

    /// Sets the store's epoch and generation, in a new token too, because a 401 names the token's
    /// generation.
    pub(super) fn counted(mut self, (epoch, generation): (u64, u64), suspect: bool) -> Self {
        let former = self.token_generation;
        let token_generation = if self.has_former_token() { former } else { generation };
        self.suspect |= suspect;
        (self.epoch, self.generation, self.saved) = (epoch, generation, Saved::Yes);
        self.count_token(token_generation);
        self
    }
}

impl Lost {
    /// When a provisionally lost session retries.
    pub(super) fn retry_at(&self) -> Option<BootTime> {
        let held = self.held.as_ref().filter(|held| !held.issuer_mismatch && !held.is_unsaved())?;
        if !self.reason.is_provisional() {
            return None;
        }
        let retry_at =
            held.unclassified.as_ref().filter(|unclassified| unclassified.lost)?.retry_at;
        let free_at = held.backoff.as_ref().map_or(retry_at, |t| t.retry_at.max(retry_at));
        held.can_refresh(free_at).then_some(free_at)
    }

    /// Stops retries if the refresh token is known to have ended.
    pub(super) fn give_up_if_ended(&mut self, now: BootTime) {
        if let Some(held) = self.held.as_mut().filter(|held| !held.can_refresh(now)) {
            held.unclassified = None;
        }
    }

    /// The credentials with which a provisionally lost session retries now, if it is time.
    pub(super) fn to_be_tried(&self, now: BootTime) -> Option<&CredentialState> {
        let due = self.retry_at().is_some_and(|at| now >= at);
        self.held.as_ref().filter(|held| due && held.can_refresh(now))
    }
}

impl Closed {
    pub(super) fn is_revocation_due(&self, now: BootTime) -> bool {
        self.outbox.is_some() && !BackoffState::cooling(self.backoff.as_ref(), now)
    }
}

impl BackoffState {
    /// The state after one more failure.
    pub(crate) fn after(former: Option<&Self>, error: Error, at: &StepContext) -> Self {
        let tries = former.map_or(0, |former| former.tries).saturating_add(1);
        let wait = at.policy.backoff.wait(tries, at.jitter);
        let wait = wait.max(error.retry_after().unwrap_or_default());
        Self { tries, retry_at: at.now.boot.after(wait), error }
    }

    pub(crate) fn cooling(backoff: Option<&Self>, now: BootTime) -> bool {
        backoff.is_some_and(|backoff| now < backoff.retry_at)
    }

    /// The error that every caller gets until `retry_at`.
    pub(crate) fn error_now(&self, now: BootTime) -> Error {
        self.error.clone().with_retry_after(self.retry_at.since(now))
    }

    /// Whether no caller has asked for so long after `retry_at` that the failure need not be
    /// remembered.
    pub(super) fn is_forgotten(&self, at: &StepContext) -> bool {
        at.now.boot >= self.forgotten_at(at.policy.backoff.cap)
    }

    pub(super) fn forgotten_at(&self, cap: Duration) -> BootTime {
        self.retry_at.after(cap)
    }
}
