//! The record of a session, and the statements on it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::{BootTime, Now};
use crate::error::LostReason;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::token::Credentials;

/// What a store keeps of one session.
///
/// `C` is what a store has in place of credentials while it works on the record: sealed bytes,
/// say, which a claim need not open.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates make it")]
pub struct Record<C = Arc<Credentials>> {
    /// How many grants made this session.
    pub epoch: u64,
    /// How many times credentials were stored or closed. Never goes down.
    pub generation: u64,
    /// The number of the newest claim. It is never given again to a claim on this session, not
    /// even after the record was removed, because late statements name their claim by it.
    pub fence: u64,
    /// What is known of the session.
    pub phase: Phase,
    /// Who has claimed it; some exactly in [`Phase::Claimed`].
    pub lease: Option<Lease>,
    /// The newest credentials; none in [`Phase::Vacant`] and [`Phase::Closed`].
    pub credentials: Option<C>,
    /// Which attempt produced them.
    pub made_by: Option<Attempt>,
    /// They may be dead: refresh before use.
    pub suspect: bool,
    /// Why the session is lost; some exactly in [`Phase::Lost`], and while a grant is claimed on
    /// it, or a refresh on what is lost as [`LostReason::Unclassified`].
    pub lost: Option<LostReason>,
    /// What the server must still be told of a closed session; none once a grant replaced it.
    pub outbox: Option<C>,
    /// Not to be tried again before.
    pub retry_at: Option<SystemTime>,
    /// How many attempts failed since the last success.
    pub tries: u32,
    /// When somebody should look at it.
    pub due_at: Option<SystemTime>,
}

impl Record {
    /// Whether there is or was a session: not only a claim for a first grant.
    pub(crate) fn was_established(&self) -> bool {
        let phase = self.lease.map_or(self.phase, |lease| lease.before);
        self.epoch > 0
            || match phase {
                Phase::Vacant | Phase::Claimed => false,
                Phase::Active | Phase::InDoubt | Phase::Lost | Phase::Closed => true,
            }
    }
}

/// What is known of a stored session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates write all of it")]
pub enum Phase {
    /// A first grant was claimed and gave nothing yet.
    Vacant,
    /// It has credentials.
    Active,
    /// An exchange may be out.
    Claimed,
    /// A refresh's answer was lost.
    InDoubt,
    /// Only a new grant helps.
    Lost,
    /// Revoked by us.
    Closed,
}

/// A process's claim on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates make it")]
pub struct Lease {
    /// Whose.
    pub owner: Owner,
    /// For what.
    pub intent: Intent,
    /// Until when the owner may be believed to be at work. If it is dead: when it claimed.
    pub until: BootTime,
    /// What the store knows of the owner.
    pub holder: Holder,
    /// The phase before the claim.
    pub before: Phase,
}

/// What a store knows of whoever has claimed a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates write all of it")]
pub enum Holder {
    /// Not that it is dead: it may work, hang, or be gone without a trace.
    Alive,
    /// Its process has ended.
    Dead,
}

/// One supervisor, told apart from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain number")]
pub struct Owner(pub u64);

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates write all of it")]
pub enum Intent {
    /// A grant is about to be sent.
    Establish,
    /// A refresh token is about to be sent.
    Refresh,
}

/// The attempt that produced credentials: which generation it started from, under which fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates make it")]
pub struct Attempt {
    /// The generation whose refresh token was sent.
    pub base: u64,
    /// The claim's fence.
    pub fence: u64,
}

/// A claim to be written.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the store suite makes it")]
pub struct Claim {
    /// Who claims.
    pub owner: Owner,
    /// For what.
    pub intent: Intent,
    /// The epoch that the claimant knows; 0 if it knows none.
    pub epoch: u64,
    /// The generation that it knows; a refresh must start from the newest. Ignored for an
    /// establish, which replaces whatever is there.
    pub generation: u64,
    /// The time.
    pub at: Now,
    /// How long the claim holds.
    pub lease: Duration,
}

/// What became of a claim.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates answer all of it")]
pub enum Claimed {
    /// It is written, under this fence.
    Granted {
        /// To be named in what follows.
        fence: u64,
    },
    /// The record is not as the claimant knew it: here it is.
    Moved(Option<Record>),
    /// Another owner has it; here is the record with its lease.
    Leased(Record),
}

/// Credentials to be written.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the store suite makes it")]
pub struct Commit {
    /// What the claim was for.
    pub intent: Intent,
    /// The epoch that was claimed.
    pub epoch: u64,
    /// The attempt that produced the credentials.
    pub attempt: Attempt,
    /// The credentials.
    pub credentials: Arc<Credentials>,
    /// When somebody should look at the record.
    pub due_at: Option<SystemTime>,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates answer all of it")]
pub enum Committed {
    /// It is written.
    Stored {
        /// The session's epoch now.
        epoch: u64,
        /// The generation that the credentials got.
        generation: u64,
        /// The session was declared lost meanwhile, so the credentials may be dead.
        suspect: bool,
    },
    /// A newer claim on the same credentials is running: ask again when it has ended.
    Busy,
    /// Another grant, another's newer credentials or a close came first. The credentials are
    /// not the session's.
    Superseded,
}

/// A claim to be ended without credentials.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the store suite makes it")]
pub struct Settle {
    /// The epoch that was claimed.
    pub epoch: u64,
    /// The attempt that failed.
    pub attempt: Attempt,
    /// What is known now.
    pub to: SettleTo,
    /// Not to be tried again before.
    pub retry_at: Option<SystemTime>,
}

/// What a failed attempt leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates write all of it")]
pub enum SettleTo {
    /// What was before the claim.
    Before,
    /// What was before the claim, perhaps dead: a grant's answer was lost.
    BeforeSuspect,
    /// A refresh token that may be spent.
    InDoubt,
    /// A session that only a new grant helps.
    Lost(LostReason),
}

/// What became of a settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates answer all of it")]
pub enum Settled {
    /// It is written.
    Done,
    /// The claim was no longer there. Where the attempt may have hurt what is there now, that is
    /// marked suspect.
    Moved,
}

/// A silent holder's claim to be ended.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the store suite makes it")]
pub struct TakeOver {
    /// The claim's fence.
    pub fence: u64,
    /// The time.
    pub at: Now,
    /// Not to be tried again before.
    pub retry_at: Option<SystemTime>,
}

/// A session to be closed.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the store suite makes it")]
pub struct Close {
    /// The generation that the caller knows: of the credentials or of their tombstone, so that a
    /// close can be sent twice.
    pub generation: u64,
    /// The time.
    pub at: Now,
}

/// What became of a close.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates answer all of it")]
pub enum Closed {
    /// It is closed, as this generation.
    Done {
        /// The tombstone's generation.
        generation: u64,
    },
    /// The record is not as the caller knew it: here it is.
    Moved(Option<Record>),
}

/// A record by the time when somebody should look at it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates make it")]
pub struct Due {
    /// When.
    pub at: SystemTime,
    /// Which.
    pub id: SessionId,
}

/// What others changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates make it")]
pub struct Changes {
    /// To be named when asked the next time.
    pub mark: u64,
    /// Whose, in the order in which it came. `None` if that is not known any more: anything may have
    /// changed.
    pub of: Option<Vec<Changed>>,
}

/// A record that somebody else changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates make it")]
pub struct Changed {
    /// Whose.
    pub id: SessionId,
    /// What became of it.
    pub to: ChangedTo,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores of other crates write all of it")]
pub enum ChangedTo {
    /// Credentials were stored or closed.
    Stored {
        /// The epoch since then.
        epoch: u64,
        /// The generation since then.
        generation: u64,
    },
    /// It was deleted.
    Deleted,
}

/// Which records to list. The default is all.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates read all of it")]
pub struct Filter {
    /// Only this provider's.
    pub provider: Option<ProviderName>,
    /// Only this tenant's.
    pub tenant: Option<Tenant>,
    /// Only those in this phase.
    pub phase: Option<Phase>,
}

impl Filter {
    /// Whether a record passes.
    #[must_use]
    pub fn passes(&self, id: &SessionId, record: &Record) -> bool {
        self.provider.as_ref().is_none_or(|provider| provider == id.provider())
            && self.tenant.as_ref().is_none_or(|tenant| tenant == id.key().tenant())
            && self.phase.is_none_or(|phase| phase == record.phase)
    }
}

/// What was sealed anew at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates make it")]
pub struct Resealed {
    /// How many records the key that seals now has taken over.
    pub done: usize,
    /// How many were passed over and stay as they are: claimed, closed, or not to be opened.
    pub passed_over: usize,
    /// The end was reached: the next call begins at the start.
    pub ended: bool,
}

/// A listed record.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "stores of other crates make it")]
pub struct Listed {
    /// Which.
    pub id: SessionId,
    /// The record.
    pub record: Record,
}
