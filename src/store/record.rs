//! The record of a session.

#![expect(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "stores of other crates make and read all of it"
)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::{BootTime, Now};
use crate::error::LostReason;
use crate::token::Credentials;

/// What a store keeps of one session. All times are those of the store's clock.
///
/// `C` stands for the credentials. While a store works on a record, these may be encrypted bytes: a
/// claim, for example, does not decrypt them. In a list, `C` is `()`, because a list has no
/// credentials.
///
/// ```
/// use session_warden::provider::FailureClass;
/// use session_warden::store::{Attempt, ClaimId, Failures, MemoryStore, Phase, Store, Stored};
/// use session_warden::testing::{Reply, ScriptedProvider};
/// # use session_warden::{SessionKey, Supervisor};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (store, provider) = (MemoryStore::new(), ScriptedProvider::new());
/// # let script = provider.script();
/// # let builder = Supervisor::builder().store(store.clone());
/// # let supervisor = builder.provider("fake", provider).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let session = sessions.session(SessionKey::single("device-17")?);
/// # let _ = session.establish(()).await?;
///
/// let Stored { record, .. } = store.load(session.id()).await?.expect("was established");
/// assert_eq!((record.phase, record.epoch, record.generation), (Phase::Active, 1, 1));
/// let Some(Attempt { base, claim: ClaimId(claim), .. }) = record.made_by else { panic!() };
/// println!("claim {claim:x} replaced generation {base}");
///
/// // The server answers a refresh in a way that the crate does not know.
/// script.refresh(Reply::Fail(FailureClass::Unclassified));
/// assert!(session.refresh().await.is_err());
/// let Stored { record, now } = store.load(session.id()).await?.expect("was established");
/// let failures: Failures = *record.failures.expect("the refresh failed");
/// assert_eq!((record.phase, failures.unclassified), (Phase::Active, 1));
/// assert!(record.retry_at > Some(now.wall));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Record<C = Arc<Credentials>> {
    /// Counts writes. Each write raises it, a [restore](super::Statement::Restore) perhaps by more
    /// than 1. It never becomes smaller, even if the record is deleted and made again.
    pub version: u64,
    /// Counts the grants that established this session. After a deletion, the next session begins
    /// above all epochs that were deleted (see [`Floor`]).
    pub epoch: u64,
    /// Counts how many times credentials were stored or closed. After a deletion, the next session
    /// begins above all generations that were deleted.
    pub generation: u64,
    /// The version that the newest claim wrote. The later of two claims has the higher fence.
    pub fence: u64,
    /// The phase of the session. A claim does not change it.
    pub phase: Phase,
    /// The claim on the session, if there is one.
    pub lease: Option<Lease>,
    /// The newest credentials. `None` in [`Phase::Vacant`] and [`Phase::Closed`].
    pub credentials: Option<C>,
    /// The attempt that produced the credentials, or those in the outbox.
    pub made_by: Option<Attempt>,
    /// When the access token expires. `None` if this is not known.
    pub access_expires_at: Option<SystemTime>,
    /// When the refresh token expires. `None` if this is not known.
    pub refresh_expires_at: Option<SystemTime>,
    /// Whether the access token may be invalid, so that a refresh must come before its use.
    pub suspect: bool,
    /// Why the session is lost. `Some` in [`Phase::Lost`], and `None` in every other phase.
    pub lost: Option<LostReason>,
    /// The credentials of a closed session that must still be revoked at the server. `None` if the
    /// revocation was done or given up, or if a grant replaced the session.
    pub outbox: Option<C>,
    /// Before this time, no process can claim the session for a refresh or for a revocation that
    /// must still be done. A process can claim it for a grant, or for the refresh of a session that
    /// is lost provisionally.
    pub retry_at: Option<SystemTime>,
    /// How many claims were written since credentials were last stored, including the present
    /// claim.
    pub tries: u32,
    /// When a supervisor should check the record. `None` if it need not.
    pub due_at: Option<SystemTime>,
    /// When the session ended: it was lost, or it was closed and nothing is left to revoke. `None`
    /// for every other session. [`Policy::keep_ended`](crate::policy::Policy::keep_ended) after this
    /// time, a supervisor removes the record.
    pub ended_at: Option<SystemTime>,
    /// When an event should announce that the refresh token expires. `None` if this was done, or if
    /// no event is needed.
    pub announce_at: Option<SystemTime>,
    /// What is known of the failed attempts since the last success. `None` if there were none.
    pub failures: Option<Box<Failures>>,
}

/// What is known of the failed attempts since the last success, for the process that reads the
/// record next. See the example of [`Record`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// How many responses since the last success were not understood.
    pub unclassified: u32,
    /// When the first of these responses came.
    pub since: Option<SystemTime>,
    /// The HTTP status of the last failure.
    pub status: Option<u16>,
    /// The error code of the last failure: that of RFC 6749 section 5.2, or the vendor's own.
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
            ended_at: None,
            announce_at: None,
            failures: None,
        }
    }

    /// Replaces the credentials and the outbox, for example with encrypted bytes.
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
            ended_at: self.ended_at,
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

    /// Whether the session is over: a new grant is needed, and nothing is left to revoke.
    pub(super) fn has_ended(&self) -> bool {
        match self.phase {
            Phase::Lost => true,
            Phase::Closed => self.outbox.is_none(),
            Phase::Vacant | Phase::Active | Phase::InDoubt => false,
        }
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

/// The phase of a stored session. See the example of [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The session was claimed for a first grant, which has brought no credentials yet.
    Vacant,
    /// The session has credentials.
    Active,
    /// The response to a refresh was lost.
    InDoubt,
    /// The session needs a new grant. If the loss is provisional, a refresh that succeeds is
    /// enough.
    Lost,
    /// A supervisor closed the session. The server may not have revoked its tokens yet.
    Closed,
}

/// A process's claim on a session.
///
/// ```
/// use session_warden::store::{Holder, Intent, Lease, MemoryStore, Owner, Store};
/// use session_warden::testing::{Reply, ScriptedProvider};
/// # use session_warden::{SessionKey, Supervisor};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (store, provider) = (MemoryStore::new(), ScriptedProvider::new());
/// # let script = provider.script();
/// # let builder = Supervisor::builder().store(store.clone());
/// # let supervisor = builder.provider("fake", provider).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let session = sessions.session(SessionKey::single("device-17")?);
/// # let _ = session.establish(()).await?;
///
/// script.refresh(Reply::Hold);
/// let refresh = async { session.refresh().await };
/// let look = async {
///     script.held(1).await; // the server has the request and does not answer yet
///     let record = store.load(session.id()).await?.expect("was established").record;
///     let lease: Lease = record.lease.expect("a refresh runs");
///     assert_eq!((lease.intent, lease.holder), (Intent::Refresh, Holder::Alive));
///     let Owner(supervisor) = lease.owner;
///     println!("supervisor {supervisor:x} refreshes this session");
///     script.release();
///     Ok::<_, session_warden::store::StoreError>(())
/// };
/// let (refreshed, looked) = tokio::join!(refresh, look);
/// assert_eq!(refreshed?.expose_secret(), "access-2");
/// # looked?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The id of the claim.
    pub claim: ClaimId,
    /// The supervisor that claimed the session.
    pub owner: Owner,
    /// The kind of request that the claim is for.
    pub intent: Intent,
    /// When the claim was written.
    pub from: BootTime,
    /// Until when other processes assume that the owner is at work. A renewal changes it.
    pub until: BootTime,
    /// Whether the owner has ended, as far as the store knows.
    pub holder: Holder,
    /// Whether the answer may be in the owner's [journal](crate::journal). No longer set when the
    /// owner has retired, or when another supervisor has replayed its journal.
    pub journal: bool,
}

/// Whether the owner of a claim has ended. See the examples of [`Lease`] and
/// [`Store`](super::Store).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The store does not know that the owner has ended. The owner may be at work, may hang, or may
    /// have ended without a notice to the store.
    Alive,
    /// The owner has retired, its process has ended, or its journal was replayed.
    Dead,
}

/// A number that names one supervisor and no other. See the example of [`Lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u64);

/// A random number that names one claim: two claims with the same id are the same claim. See the
/// example of [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId(pub u64);

impl ClaimId {
    pub(crate) fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

/// The kind of request that a claim is for. See the example of [`Lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A grant is about to be sent.
    Establish,
    /// A refresh token is about to be sent.
    Refresh,
    /// A revocation of a closed session is about to be sent (RFC 7009).
    Revoke,
}

/// The attempt that produced credentials. See the example of [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The generation that the claim found. A refresh sends the refresh token of this generation.
    pub base: u64,
    /// The fence of the claim.
    pub fence: u64,
    /// The id of the claim.
    pub claim: ClaimId,
}

/// What a store remembers of deleted records. The counters of a new record begin at the floor, so
/// that no statement about a deleted session fits the next session with the same id. A store keeps
/// one floor for all of its sessions. See the example of [`Store`](super::Store).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// The version of the next new record. Its first write raises it.
    pub version: u64,
    /// The epoch of the next new record. Its first grant raises it by 1.
    pub epoch: u64,
    /// The generation of the next new record. Its first credentials raise it by 1.
    pub generation: u64,
}

impl Floor {
    /// Returns the larger value of each of the three numbers.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            version: self.version.max(other.version),
            epoch: self.epoch.max(other.epoch),
            generation: self.generation.max(other.generation),
        }
    }
}

/// A record as it was read, with the store's time at that moment. The methods return the record's
/// times as durations from that moment, because another clock may differ from the store's. See the
/// example of [`Record`].
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<C = Arc<Credentials>> {
    /// The record.
    pub record: Record<C>,
    /// The store's time when it was read.
    pub now: Now,
}

impl<C> Stored<C> {
    /// How long the lease still holds. Zero if it has ended, `None` if there is no claim.
    #[must_use]
    pub fn lease_left(&self) -> Option<Duration> {
        self.record.lease.map(|lease| lease.until.since(self.now.boot))
    }

    /// How long ago the lease ended. Zero if it still holds, `None` if there is no claim.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.record.lease.map(|lease| self.now.boot.since(lease.until))
    }

    /// How long until the session may be tried again. `None` if it may be tried now.
    #[must_use]
    pub fn retry_in(&self) -> Option<Duration> {
        self.left(self.record.retry_at).filter(|left| !left.is_zero())
    }

    /// How long until the access token expires. Zero if it has expired, `None` if this is not
    /// known.
    #[must_use]
    pub fn access_left(&self) -> Option<Duration> {
        self.left(self.record.access_expires_at)
    }

    /// How long until the refresh token expires. Zero if it has expired, `None` if this is not
    /// known.
    #[must_use]
    pub fn refresh_left(&self) -> Option<Duration> {
        self.left(self.record.refresh_expires_at)
    }

    /// How long until a supervisor should check the record. Zero if it should now, `None` if it
    /// need not.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        self.left(self.record.due_at)
    }

    /// How long until an event should announce that the refresh token expires. Zero if it should
    /// now, `None` if no event is needed.
    #[must_use]
    pub fn announce_in(&self) -> Option<Duration> {
        self.left(self.record.announce_at)
    }

    /// How long ago the first response came that was not understood. `None` if there was none.
    #[must_use]
    pub fn failing_for(&self) -> Option<Duration> {
        let since = self.record.failures.as_ref()?.since?;
        Some(self.now.wall.duration_since(since).unwrap_or_default())
    }

    /// How long ago the session ended. `None` if it has not ended.
    #[must_use]
    pub fn ended_for(&self) -> Option<Duration> {
        self.record.ended_at.map(|at| self.now.wall.duration_since(at).unwrap_or_default())
    }

    fn left(&self, at: Option<SystemTime>) -> Option<Duration> {
        at.map(|at| at.duration_since(self.now.wall).unwrap_or_default())
    }
}
