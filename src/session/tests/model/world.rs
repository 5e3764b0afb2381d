//! The state of the model: the store, the server, the processes, and the requests on their way.

use super::act::Part;
use crate::session::machine::{Failure, Settled, State};
use crate::store::{Attempt, Change, ClaimId, Commit, Floor, Intent, Record, SettleTo, Stored};

/// A refresh token with its access token: sixteen for each grant, in the order of their issue.
pub(super) type Tok = u8;

pub(super) const fn tok(grant: usize, number: u8) -> Tok {
    grant as u8 * 16 + number
}

/// Seconds since the model's beginning.
pub(super) type Time = u64;

/// One state of the model.
#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Time,
    pub(super) record: Option<Record<Tok>>,
    pub(super) floor: Floor,
    pub(super) server: Server,
    pub(super) processes: Vec<Process>,
    pub(super) requests: Vec<Request>,
    pub(super) sends: Vec<Sent>,
    /// Tokens of which the store knows the final answer. They must never be sent again.
    pub(super) spent: Vec<Tok>,
    /// The newest credentials that the store ever had.
    pub(super) newest: (u64, Tok),
    pub(super) left: Left,
    /// The process that has just decided what to write.
    pub(super) next: Option<(usize, Part)>,
    /// The next claim's id and the next owner.
    pub(super) ids: u64,
    /// The broken rule, if one is.
    pub(super) broken: Option<String>,
}

/// How often each event may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) establish: u8,
    pub(super) forget: u8,
    pub(super) revoke: u8,
    /// An API rejects a token.
    pub(super) reject: u8,
    /// The user ends the grant at the server, and an API reports that to one process.
    pub(super) dead: u8,
    pub(super) faults: u8,
}

/// A server that rotates strictly: of each grant that lives, the number of its newest token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Server(pub(super) Vec<Option<u8>>);

impl Server {
    pub(super) fn grant(&mut self) -> Tok {
        self.0.push(Some(1));
        tok(self.0.len() - 1, 1)
    }

    /// A spent token kills its grant.
    pub(super) fn refresh(&mut self, sent: Tok) -> Reply {
        let (grant, number) = (usize::from(sent / 16), sent % 16);
        match self.0[grant] {
            Some(newest) if newest == number => {
                self.0[grant] = Some(number + 1);
                Reply::Tokens(tok(grant, number + 1))
            }
            Some(_) | None => {
                self.0[grant] = None;
                Reply::Rejected
            }
        }
    }

    /// Whether this token was spent, and its grant lives.
    pub(super) fn knows_newer(&self, sent: Tok) -> bool {
        self.0[usize::from(sent / 16)].is_some_and(|newest| newest > sent % 16)
    }

    pub(super) fn revoke(&mut self, of: Tok) {
        self.0[usize::from(of / 16)] = None;
    }
}

/// The server's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reply {
    Tokens(Tok),
    Rejected,
}

/// A request on its way, or its answer.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The process that sent it; `None` if no process awaits the answer.
    pub(super) owner: Option<u64>,
    pub(super) claim: ClaimId,
    /// The refresh token; none for a grant.
    pub(super) sent: Option<Tok>,
    pub(super) at: Time,
    pub(super) reply: Option<Reply>,
}

/// A refresh token that was sent, or a revocation.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) claim: ClaimId,
    pub(super) tok: Tok,
    pub(super) revokes: bool,
    /// Until when its sender may still be at work.
    pub(super) until: Time,
    /// When its sender noticed that the answer was lost.
    pub(super) lost: Option<Time>,
}

/// One process.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) owner: u64,
    pub(super) state: State,
    /// How far its wall clock was set ahead.
    pub(super) offset: Time,
    pub(super) paused: bool,
    pub(super) work: Work,
    pub(super) unsaved: Option<Commit<Tok>>,
    /// As the slot's `Claims`.
    pub(super) asked: Option<(ClaimId, Time)>,
    pub(super) written: Option<ClaimId>,
    pub(super) load: PendingLoad,
    /// The changes that it has not noted yet.
    pub(super) feed: Vec<Change>,
    /// As the slot's.
    pub(super) rejected_through: u64,
    pub(super) published: u64,
    pub(super) shown: Option<u64>,
    /// A loss that an API reported and the store does not know yet.
    pub(super) dead: Option<(u64, u64)>,
    /// The process knows that tokens up to this generation are dead.
    pub(super) dead_up_to: u64,
    /// How many refreshes by hand are left.
    pub(super) refreshes: u8,
}

/// The load that a process does beside its work.
#[derive(Clone, Debug)]
pub(super) enum PendingLoad {
    None,
    Wanted(u32),
    Found(u32, Option<Box<Stored<Tok>>>),
    Restore,
}

/// The work of a process.
#[derive(Clone)]
pub(super) enum Work {
    Idle,
    Exchange(Box<Exchange>),
    Close {
        generation: u64,
        claim: ClaimId,
        outbox: Option<Tok>,
        tries: u8,
    },
    /// The revocation must be claimed.
    Revoke(Claiming),
    /// The server must be asked to revoke, under a lease that ends then.
    SendRevocation(Attempt, Time),
    /// The result must be written: whether the server revoked the token.
    Revoked(Attempt, bool),
    Forget,
}

/// How far the claim of a revocation is: asked for, taken over from this claim, asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claiming {
    First,
    TakeOver(ClaimId),
    Again,
}

#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) intent: Intent,
    pub(super) known: Option<u64>,
    pub(super) epoch: u64,
    pub(super) base: u64,
    pub(super) held: Option<Tok>,
    /// Until when the exchange waits for another process.
    pub(super) last: Time,
    pub(super) phase: Phase,
}

#[derive(Clone)]
pub(super) enum Phase {
    Claim,
    /// Waits until this claim has ended.
    Outlast(ClaimId),
    /// The claim was asked for then.
    Send(Attempt, Time),
    Open(Attempt),
    Commit,
    Settle(Box<Ending>),
}

/// The result of an exchange that brought no tokens, which must be written.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) attempt: Attempt,
    pub(super) to: SettleTo,
    pub(super) retry_in: Option<Time>,
    pub(super) failure: Failure,
    pub(super) at: Time,
}

impl Process {
    pub(super) fn new(owner: u64, refreshes: u8) -> Self {
        Self {
            owner,
            state: State::default(),
            offset: 0,
            paused: false,
            work: Work::Idle,
            unsaved: None,
            asked: None,
            written: None,
            load: PendingLoad::None,
            feed: Vec::new(),
            rejected_through: 0,
            published: 0,
            shown: None,
            dead: None,
            dead_up_to: 0,
            refreshes,
        }
    }

    /// The settled state of the session.
    pub(super) fn settled(&self) -> Option<&Settled> {
        self.state.settled.as_ref()
    }

    /// Whether its next action is a statement that it has just decided on.
    pub(super) fn is_about_to_write(&self) -> bool {
        match &self.work {
            Work::Exchange(exchange) => {
                matches!(exchange.phase, Phase::Claim | Phase::Commit | Phase::Settle(_))
            }
            Work::Close { .. } | Work::Revoke(_) | Work::Forget => true,
            Work::Idle | Work::SendRevocation(..) | Work::Revoked(..) => false,
        }
    }

    /// Whether it makes a difference to stop it now rather than later.
    pub(super) fn has_something_to_do(&self) -> bool {
        let reads = !matches!(self.load, PendingLoad::None);
        !self.is_idle()
            || reads
            || !self.feed.is_empty()
            || self.unsaved.is_some()
            || self.dead.is_some()
    }

    /// Whether it knows no more than a process that has just loaded the record, and no work of it
    /// runs.
    pub(super) fn is_as_good_as_new(&self) -> bool {
        let plain = match self.settled() {
            None | Some(Settled::Vacant { backoff: None }) => true,
            Some(Settled::Active(held)) => held.backoff.is_none() && !held.rejected,
            Some(Settled::Closed(closed)) => closed.outbox.is_none(),
            Some(_) => false,
        };
        let claims = self.asked.is_some() || self.written.is_some();
        plain
            && !claims
            && !self.paused
            && (self.feed.is_empty() || self.state.is_unloaded())
            && self.is_idle()
            && self.unsaved.is_none()
            && self.dead.is_none()
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.work, Work::Idle)
    }
}
