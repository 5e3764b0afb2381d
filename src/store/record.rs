//! The record of a session, and what stores answer about records.

#![expect(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "stores of other crates make and read all of it"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::{BootTime, Now};
use crate::error::LostReason;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::token::Credentials;

/// What a store keeps of one session. All times are the store's own.
///
/// `C` stands for the credentials while a store works on the record: sealed bytes, for example,
/// which a claim need not open. In a list it is `()`, because a list opens none.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<C = Arc<Credentials>> {
    /// Each write raises it. It never goes down, even if the record is deleted and made again. A
    /// [`Restore`](super::Restore) may raise it by more than 1.
    pub version: u64,
    /// How many grants made this session. After a delete, the next session begins above all epochs
    /// that were deleted (see [`Floor`]).
    pub epoch: u64,
    /// How many times credentials were stored or closed. After a delete it begins above, as `epoch`
    /// does.
    pub generation: u64,
    /// The version that the newest claim wrote. Of two claims, the later one has the higher fence.
    pub fence: u64,
    /// What is known of the session. A claim does not change it.
    pub phase: Phase,
    /// The claim on the session, if there is one.
    pub lease: Option<Lease>,
    /// The newest credentials; none in [`Phase::Vacant`] and [`Phase::Closed`].
    pub credentials: Option<C>,
    /// The attempt that produced the credentials, or those in the outbox.
    pub made_by: Option<Attempt>,
    /// When the access token ends, if that is known.
    pub access_expires_at: Option<SystemTime>,
    /// When the refresh token ends, if that is known.
    pub refresh_expires_at: Option<SystemTime>,
    /// The credentials may be dead: refresh before use.
    pub suspect: bool,
    /// Why the session is lost; `Some` exactly in [`Phase::Lost`].
    pub lost: Option<LostReason>,
    /// The credentials of a closed session that must still be revoked at the server; `None` when
    /// that is done or given up, or when a grant replaced the session.
    pub outbox: Option<C>,
    /// Before this time no refresh and no owed revocation can be claimed. A grant can be, and so
    /// can the refresh of a session that is lost provisionally.
    pub retry_at: Option<SystemTime>,
    /// How many claims were written since credentials were last stored, the present one included.
    pub tries: u32,
    /// When a supervisor should look at the record, if ever.
    pub due_at: Option<SystemTime>,
    /// When the end of the refresh token is to be announced; `None` once that was done, and where
    /// nothing is to be announced.
    pub announce_at: Option<SystemTime>,
    /// What the attempts since the last success left; `None` if there is nothing to say of them.
    pub failures: Option<Box<Failures>>,
}

/// What failed attempts left, for the process that reads the record next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// How many answers since the last success were not understood.
    pub unclassified: u32,
    /// When the first of them came.
    pub since: Option<SystemTime>,
    /// The HTTP status of the last failure.
    pub status: Option<u16>,
    /// The error code of the last failure (RFC 6749 section 5.2), or the vendor's.
    pub code: Option<String>,
}

impl<C> Record<C> {
    /// The record that a claim for a first grant makes, above what was deleted.
    pub(super) fn vacant(floor: Floor) -> Self {
        Self {
            version: floor.version,
            epoch: floor.epoch,
            generation: floor.generation,
            fence: 0,
            phase: Phase::Vacant,
            lease: None,
            credentials: None,
            made_by: None,
            access_expires_at: None,
            refresh_expires_at: None,
            suspect: false,
            lost: None,
            outbox: None,
            retry_at: None,
            tries: 0,
            due_at: None,
            announce_at: None,
            failures: None,
        }
    }

    /// The same with other credentials.
    pub fn with<D>(self, credentials: Option<D>, outbox: Option<D>) -> Record<D> {
        Record {
            version: self.version,
            epoch: self.epoch,
            generation: self.generation,
            fence: self.fence,
            phase: self.phase,
            lease: self.lease,
            credentials,
            made_by: self.made_by,
            access_expires_at: self.access_expires_at,
            refresh_expires_at: self.refresh_expires_at,
            suspect: self.suspect,
            lost: self.lost,
            outbox,
            retry_at: self.retry_at,
            tries: self.tries,
            due_at: self.due_at,
            announce_at: self.announce_at,
            failures: self.failures,
        }
    }

    /// Its counters: epoch and generation.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (self.epoch, self.generation)
    }

    /// Whether there is or was a session, and not merely a claim for a first grant.
    pub(crate) fn was_established(&self) -> bool {
        self.phase != Phase::Vacant
    }

    /// Whether the session is lost for a reason that a refresh may refute.
    pub(super) fn is_lost_provisionally(&self) -> bool {
        self.lost.is_some_and(LostReason::is_provisional)
    }

    /// Whether the session is lost for a reason that no refresh refutes.
    pub(super) fn is_lost_for_good(&self) -> bool {
        self.lost.is_some_and(|lost| !lost.is_provisional())
    }
}

/// What is known of a stored session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A first grant was claimed and has brought no credentials yet.
    Vacant,
    /// It has credentials.
    Active,
    /// A refresh's answer was lost.
    InDoubt,
    /// Only a new grant helps; or, where the loss is provisional, a refresh that succeeds.
    Lost,
    /// Closed by a supervisor. The server may not have revoked its tokens yet.
    Closed,
}

/// A process's claim on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The claim's id.
    pub claim: ClaimId,
    /// The supervisor that claimed.
    pub owner: Owner,
    /// What it claimed for.
    pub intent: Intent,
    /// When it was claimed.
    pub from: BootTime,
    /// Until when other processes take the owner to be at work. A renewal moves it.
    pub until: BootTime,
    /// Whether the store knows that the owner has ended.
    pub holder: Holder,
}

/// What a store knows of the owner of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The store does not know that it has ended: it may work, hang, or be gone without a trace.
    Alive,
    /// It has retired, or its process has ended.
    Dead,
}

/// A number that names one supervisor and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u64);

/// A random number that names one claim: the same id is the same claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId(pub u64);

impl ClaimId {
    pub(crate) fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A grant is about to be sent.
    Establish,
    /// A refresh token is about to be sent.
    Refresh,
    /// A revocation of a closed session is about to be sent (RFC 7009).
    Revoke,
}

/// The attempt that produced credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The generation that the claim found; a refresh sends its refresh token.
    pub base: u64,
    /// The claim's fence.
    pub fence: u64,
    /// The claim.
    pub claim: ClaimId,
}

/// What a store remembers of deleted records. New records begin at it, so that no statement and no
/// news about a deleted session fits its successor. A store keeps one floor for all of its
/// sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// The highest version.
    pub version: u64,
    /// The epoch of the next new record. Its first grant raises it by 1.
    pub epoch: u64,
    /// The generation of the next new record. Its first credentials raise it by 1.
    pub generation: u64,
}

impl Floor {
    /// The higher one, in each part.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            version: self.version.max(other.version),
            epoch: self.epoch.max(other.epoch),
            generation: self.generation.max(other.generation),
        }
    }
}

/// A record as it was read, with the store's time at that moment. The record's times mean nothing
/// by any other clock, so the methods give them as durations.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<C = Arc<Credentials>> {
    /// The record.
    pub record: Record<C>,
    /// The store's time when it was read.
    pub now: Now,
}

impl<C> Stored<C> {
    /// How long the lease still holds; zero if it has ended, `None` without a claim.
    #[must_use]
    pub fn lease_left(&self) -> Option<Duration> {
        self.record.lease.map(|lease| lease.until.since(self.now.boot))
    }

    /// How long ago the lease ended; zero if it still holds, `None` without a claim.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.record.lease.map(|lease| self.now.boot.since(lease.until))
    }

    /// How long the session must not be tried again; `None` if it may be tried now.
    #[must_use]
    pub fn retry_in(&self) -> Option<Duration> {
        self.left(self.record.retry_at).filter(|left| !left.is_zero())
    }

    /// How long the access token still lives, if that is known; zero if it has ended.
    #[must_use]
    pub fn access_left(&self) -> Option<Duration> {
        self.left(self.record.access_expires_at)
    }

    /// How long the refresh token still lives, if that is known; zero if it has ended.
    #[must_use]
    pub fn refresh_left(&self) -> Option<Duration> {
        self.left(self.record.refresh_expires_at)
    }

    /// How long until a supervisor should look at the record, if ever; zero if it is due.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        self.left(self.record.due_at)
    }

    /// How long until the end of the refresh token is to be announced, if it is; zero if it is
    /// time.
    #[must_use]
    pub fn announce_in(&self) -> Option<Duration> {
        self.left(self.record.announce_at)
    }

    fn left(&self, at: Option<SystemTime>) -> Option<Duration> {
        at.map(|at| at.duration_since(self.now.wall).unwrap_or_default())
    }
}

/// A record that has a due time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The record's `due_at`, by the store's clock.
    pub at: SystemTime,
    /// The session.
    pub id: SessionId,
}

/// A page of records that have a due time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuePage {
    /// The records, in the order of their times.
    pub due: Vec<Due>,
    /// The store's time when they were read.
    pub now: Now,
    /// The supervisors that the store takes to be alive. Each schedules its share of the records.
    /// Empty if the store does not know.
    pub holders: Vec<Owner>,
}

/// How far a feed of changes was read. Only the store that made it knows what the bytes mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub Arc<[u8]>);

/// A page of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// What to pass as `since` the next time.
    pub cursor: Cursor,
    /// The changes, in the order in which they were made. `None` if the store does not know them
    /// any more, or if it did not make the cursor: anything may have changed.
    pub news: Option<Vec<News>>,
    /// There are more changes, which can be read at once.
    pub more: bool,
}

/// A change of one record. There is no news of a claim, of the renewal of a lease, or of a first
/// grant that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The session.
    pub id: SessionId,
    /// What the change made of the record.
    pub of: Change,
}

/// What a change made of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The version that the change wrote.
    pub version: u64,
    /// The epoch after the change; of a deleted record, the last one.
    pub epoch: u64,
    /// The generation after the change; of a deleted record, the last one.
    pub generation: u64,
    /// The phase after the change; `None` if the record was deleted.
    pub phase: Option<Phase>,
}

/// Which records to list. The default lists all.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    /// Only this provider's.
    pub provider: Option<ProviderName>,
    /// Only this tenant's.
    pub tenant: Option<Tenant>,
    /// Only those in this phase.
    pub phase: Option<Phase>,
}

impl RecordFilter {
    /// Whether a record passes.
    #[must_use]
    pub fn passes<C>(&self, id: &SessionId, record: &Record<C>) -> bool {
        self.provider.as_ref().is_none_or(|provider| provider == id.provider())
            && self.tenant.as_ref().is_none_or(|tenant| tenant == id.key().tenant())
            && self.phase.is_none_or(|phase| phase == record.phase)
    }
}

/// What one call of [`reseal`](super::Store::reseal) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// How many records the key that seals now has taken over.
    pub done: usize,
    /// How many were passed over and stay as they are: claimed, with a revocation still owed,
    /// impossible to open, or changed meanwhile.
    pub passed_over: usize,
    /// The end was reached: the next call begins at the start.
    pub ended: bool,
}

/// A listed record, without its credentials.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The session.
    pub id: SessionId,
    /// The record, as it was read.
    pub stored: Stored<()>,
}
