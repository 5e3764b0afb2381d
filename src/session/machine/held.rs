//! What a session has while no exchange runs.

use std::sync::Arc;
use std::time::Duration;

use super::Moment;
use crate::clock::BootTime;
use crate::error::{Error, LostReason};
use crate::policy::{DAMPING, DAMPING_CAP};
use crate::token::{Credentials, PermissionToken};

/// Where a session rests.
#[derive(Clone, Debug)]
pub(crate) enum Rest {
    /// Never established, or not in this store. Left by establish, or by a renewal.
    Vacant { trouble: Option<Trouble> },
    /// It has credentials. Left by due, refresh, a 401 on this generation, establish, close.
    Active(Held),
    /// The refresh token may be spent. Left by the one retry.
    InDoubt(Held, Doubt),
    /// Only a new grant helps. Left by establish, or by a renewal.
    Lost(Lost),
    /// Revoked by us. Left by establish.
    Closed(Closed),
}

/// Credentials with their times.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) token: Option<PermissionToken>,
    /// When the access token should be renewed; never, if its end is not known.
    pub(crate) due: Option<BootTime>,
    pub(crate) expires: Option<BootTime>,
    pub(crate) refresh_expires: Option<BootTime>,
    /// When the refresh token's end is to be told ahead; none once told.
    pub(crate) expiring: Option<BootTime>,
    pub(crate) saved: Saved,
    /// Perhaps dead: refresh before use.
    pub(crate) suspect: bool,
    /// An API rejected this access token.
    pub(crate) rejected: bool,
    /// Issued by another authority or to another client than the configuration names.
    pub(crate) foreign: bool,
    pub(crate) trouble: Option<Trouble>,
    /// The refreshes since the last success that got answers which are not understood.
    /// In boxes, this and the next: most sessions have neither.
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
    /// They lost the session, provisionally.
    pub(crate) lost: bool,
    /// When a session that is lost in this way is tried again.
    pub(crate) retry_at: BootTime,
}

/// How long rejections of an access token start no refresh, because a rejection brought it.
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
    Owed { attempts: u32 },
}

/// A failure that everybody gets until it is time to try again.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) tries: u32,
    pub(crate) retry_at: BootTime,
    pub(crate) error: Error,
}

/// A refresh's answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) tries: u32,
    /// When it is tried out.
    pub(crate) retry_at: BootTime,
    /// The earliest time for that, if the access token dies before `retry_at`.
    pub(crate) floor: BootTime,
    /// The schedule tries it out, because the server's grace passes.
    pub(crate) hurry: bool,
}

/// A session that is lost.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    pub(crate) reason: LostReason,
    /// What it had; a renewal reads its attributes.
    pub(crate) held: Option<Held>,
    pub(crate) trouble: Option<Trouble>,
    /// What led to the loss, if this process saw it.
    pub(crate) cause: Option<Error>,
}

/// A session that was revoked by us.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    /// What the server must still be told.
    pub(crate) outbox: Option<Arc<Credentials>>,
    /// Why it could not be told.
    pub(crate) trouble: Option<Trouble>,
    /// Why a caller's grant did not begin the session again.
    pub(crate) unrenewed: Option<Trouble>,
}

impl Rest {
    /// The counters: how many grants, how many stored credentials.
    pub(crate) fn counters(&self) -> (u64, u64) {
        match self {
            Self::Vacant { .. } => (0, 0),
            Self::Active(held) | Self::InDoubt(held, _) => (held.epoch, held.generation),
            Self::Lost(lost) => (lost.epoch, lost.generation),
            Self::Closed(closed) => (closed.epoch, closed.generation),
        }
    }

    /// The credentials whose access token is served while it lives. Of a lost session only one
    /// whose refresh token merely ended, or was deleted by us: any other may be dead at the server.
    pub(crate) fn serving(&self) -> Option<&Held> {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => Some(held),
            Self::Lost(lost) => match lost.reason {
                LostReason::RefreshExpired | LostReason::TokensDeleted => lost.held.as_ref(),
                LostReason::Rejected
                | LostReason::Unclassified
                | LostReason::Revoked
                | LostReason::SessionDeleted
                | LostReason::LostInDoubt
                | LostReason::KeyMissing => None,
            },
            Self::Vacant { .. } | Self::Closed(_) => None,
        }
    }

    /// The credentials that a renewal reads.
    pub(crate) fn credentials(&self) -> Option<&Arc<Credentials>> {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => Some(&held.credentials),
            Self::Lost(lost) => lost.held.as_ref().map(|held| &held.credentials),
            Self::Vacant { .. } | Self::Closed(_) => None,
        }
    }

    pub(crate) fn lost(&self) -> Option<LostReason> {
        match self {
            Self::Lost(lost) => Some(lost.reason),
            Self::Vacant { .. } | Self::Active(_) | Self::InDoubt(..) | Self::Closed(_) => None,
        }
    }

    /// When the last failure lets it be tried again.
    pub(crate) fn retry_at(&self) -> Option<BootTime> {
        let trouble = match self {
            Self::InDoubt(_, doubt) => return Some(doubt.retry_at),
            Self::Lost(lost) if lost.tried_at().is_some() => return lost.tried_at(),
            Self::Vacant { trouble } => trouble,
            Self::Active(held) => &held.trouble,
            Self::Lost(lost) => &lost.trouble,
            Self::Closed(closed) => &closed.trouble,
        };
        trouble.as_ref().map(|trouble| trouble.retry_at)
    }

    /// Whether it serves, or a refresh may make it serve: at once, or when its back-off is over.
    pub(super) fn may_go_on(&self, now: BootTime) -> bool {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => {
                held.is_usable(now) || held.is_owed() || held.foreign || held.can_refresh(now)
            }
            // It says itself that it is lost.
            Self::Lost(_) => true,
            Self::Vacant { .. } | Self::Closed(_) => false,
        }
    }

    pub(crate) fn closed(&self) -> Option<&Closed> {
        match self {
            Self::Closed(closed) => Some(closed),
            Self::Vacant { .. } | Self::Active(_) | Self::InDoubt(..) | Self::Lost(_) => None,
        }
    }

    /// Whether the last renewal failed.
    pub(super) fn is_in_trouble(&self) -> bool {
        match self {
            Self::Vacant { trouble } => trouble.is_some(),
            Self::Active(held) | Self::InDoubt(held, _) => held.trouble.is_some(),
            Self::Lost(lost) => lost.trouble.is_some(),
            Self::Closed(closed) => closed.unrenewed.is_some(),
        }
    }

    pub(super) fn refreshable_mut(&mut self) -> Option<&mut Held> {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => Some(held),
            Self::Vacant { .. } | Self::Lost(_) | Self::Closed(_) => None,
        }
    }

    /// Also of a lost session: what it owes is still to be saved.
    pub(super) fn held_mut(&mut self) -> Option<&mut Held> {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => Some(held),
            Self::Lost(lost) => lost.held.as_mut(),
            Self::Vacant { .. } | Self::Closed(_) => None,
        }
    }

    /// Whether the store does not have its credentials yet.
    pub(super) fn is_owed(&self) -> bool {
        match self {
            Self::Active(held) | Self::InDoubt(held, _) => held.is_owed(),
            Self::Lost(lost) => lost.held.as_ref().is_some_and(Held::is_owed),
            Self::Vacant { .. } | Self::Closed(_) => false,
        }
    }

    pub(super) fn reject(&mut self, generation: u64) {
        match self {
            Self::Active(held) => held.reject(generation),
            Self::InDoubt(held, doubt) => {
                held.reject(generation);
                if held.generation == generation {
                    // Nothing is left to serve, so there is nothing left to wait for.
                    doubt.retry_at = doubt.retry_at.min(doubt.floor);
                }
            }
            Self::Lost(Lost { held: Some(held), .. }) => held.reject(generation),
            Self::Vacant { .. } | Self::Lost(_) | Self::Closed(_) => {}
        }
    }

    /// Marks what is held as perhaps dead: a grant whose answer was lost may have ended it.
    pub(super) fn suspect(&mut self) {
        match self {
            Self::Active(held) => held.suspect = true,
            // A doubt is tried out anyway.
            Self::InDoubt(..) | Self::Vacant { .. } | Self::Lost(_) | Self::Closed(_) => {}
        }
    }

    /// Remembers a failure of a renewal.
    pub(super) fn trouble_mut(&mut self) -> Option<&mut Option<Trouble>> {
        match self {
            Self::Vacant { trouble } => Some(trouble),
            Self::Active(held) | Self::InDoubt(held, _) => Some(&mut held.trouble),
            Self::Lost(lost) => Some(&mut lost.trouble),
            Self::Closed(closed) => Some(&mut closed.unrenewed),
        }
    }
}

impl Held {
    /// Whether callers may have the access token.
    pub(crate) fn is_usable(&self, now: BootTime) -> bool {
        let suspect = self.suspect && self.can_refresh(now);
        self.token.is_some() && !suspect && !self.rejected && !self.foreign && !self.is_expired(now)
    }

    /// Whether a need of a token above `above` asks for another one.
    pub(super) fn is_wanted(&self, above: u64, now: BootTime) -> bool {
        self.generation <= above || !self.is_usable(now) || self.is_due(now)
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

    pub(crate) fn is_owed(&self) -> bool {
        match self.saved {
            Saved::Yes => false,
            Saved::Owed { .. } => true,
        }
    }

    /// As late as a retry may begin that may kill the access token, and not before `floor`.
    pub(crate) fn late(&self, floor: BootTime, budget: Duration, now: BootTime) -> BootTime {
        match self.expires {
            Some(end) if self.is_usable(now) => floor.max(end.before(budget)),
            Some(_) | None => floor,
        }
    }

    /// Whether there is no usable access token: none, rejected by an API, or expired.
    pub(super) fn is_spent(&self, now: BootTime) -> bool {
        self.token.is_none() || self.rejected || self.is_expired(now)
    }

    /// Whether answers that are not understood lost the session.
    pub(super) fn is_lost_provisionally(&self) -> bool {
        self.unclassified.as_ref().is_some_and(|unclassified| unclassified.lost)
    }

    pub(super) fn is_damped(&self, now: BootTime) -> bool {
        self.damping.as_ref().is_some_and(|damping| now < damping.since.after(damping.span))
    }

    /// Rejections start a refresh again after the shortest span.
    pub(super) fn accept(&mut self, generation: u64) {
        if let Some(damping) = self.damping.as_mut().filter(|_| self.generation == generation) {
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

    /// As the store counts it. The token too, because a 401 names the token's generation.
    pub(super) fn counted(mut self, (epoch, generation): (u64, u64), suspect: bool) -> Self {
        self.token = self.token.map(|token| token.counted((epoch, generation)));
        self.suspect |= suspect;
        Self { epoch, generation, saved: Saved::Yes, ..self }
    }

    pub(super) fn reject(&mut self, generation: u64) {
        self.rejected |= self.generation == generation;
    }
}

impl Lost {
    pub(super) fn new(rest: Rest, reason: LostReason) -> Self {
        let (epoch, generation) = rest.counters();
        let held = match rest {
            Rest::Active(held) | Rest::InDoubt(held, _) => Some(held),
            Rest::Lost(lost) => lost.held,
            Rest::Vacant { .. } | Rest::Closed(_) => None,
        };
        Self { epoch, generation, reason, held, trouble: None, cause: None }
    }

    /// When a session is tried again that is lost provisionally.
    pub(super) fn tried_at(&self) -> Option<BootTime> {
        let held = self.held.as_ref().filter(|held| !held.foreign && !held.is_owed())?;
        if !self.reason.is_provisional() {
            return None;
        }
        let retry_at =
            held.unclassified.as_ref().filter(|unclassified| unclassified.lost)?.retry_at;
        let free_at = held.trouble.as_ref().map_or(retry_at, |t| t.retry_at.max(retry_at));
        held.can_refresh(free_at).then_some(free_at)
    }

    /// Nothing is tried with a refresh token that is known to have ended.
    pub(super) fn give_up_if_ended(&mut self, now: BootTime) {
        if let Some(held) = self.held.as_mut().filter(|held| !held.can_refresh(now)) {
            held.unclassified = None;
        }
    }

    /// What a session that is lost provisionally is tried with, if it is time.
    pub(super) fn to_be_tried(&self, now: BootTime) -> Option<&Held> {
        let due = self.tried_at().is_some_and(|at| now >= at);
        self.held.as_ref().filter(|held| due && held.can_refresh(now))
    }
}

impl Closed {
    pub(super) fn is_to_be_told(&self, now: BootTime) -> bool {
        self.outbox.is_some() && !Trouble::cooling(self.trouble.as_ref(), now)
    }
}

impl Trouble {
    /// One failure more, by the back-off.
    pub(crate) fn after(former: Option<&Self>, error: Error, at: &Moment) -> Self {
        let tries = former.map_or(0, |former| former.tries).saturating_add(1);
        let wait = at.rules.backoff.wait(tries, at.dice);
        let wait = wait.max(error.retry_after().unwrap_or_default());
        Self { tries, retry_at: at.now.boot.after(wait), error }
    }

    pub(crate) fn cooling(trouble: Option<&Self>, now: BootTime) -> bool {
        trouble.is_some_and(|trouble| now < trouble.retry_at)
    }

    /// What everybody gets meanwhile.
    pub(crate) fn told(&self, now: BootTime) -> Error {
        self.error.clone().with_retry_after(self.retry_at.since(now))
    }

    /// Nobody asked for so long after it could be tried again that it is not remembered.
    pub(super) fn is_forgotten(&self, at: &Moment) -> bool {
        at.now.boot >= self.forgotten_at(at.rules.backoff.cap)
    }

    pub(super) fn forgotten_at(&self, cap: Duration) -> BootTime {
        self.retry_at.after(cap)
    }
}
