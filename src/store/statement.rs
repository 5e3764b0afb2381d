//! The statements that change records, and their outcomes. All durations begin at the store's time
//! when it runs the statement.

#![expect(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "stores of other crates read and answer all of it"
)]

use std::sync::Arc;
use std::time::Duration;

use super::record::{Attempt, ClaimId, Failures, Intent, Owner, Phase, Record, Stored};
use crate::error::LostReason;
use crate::token::Credentials;

/// A change of one record. A store does it as a whole or not at all.
///
/// Supervisors make the statements, and stores run them. `C` stands for the credentials, as in
/// [`Record`]. See the examples of [`Store`](super::Store) and [`Outcome`].
#[derive(Clone, Debug)]
pub enum Statement<C = Arc<Credentials>> {
    /// Writes down that an exchange is about to be sent.
    Claim(Claim),
    /// Lengthens the lease of a claim whose exchange is open.
    Renew(Renew),
    /// Writes the credentials that an exchange brought. It needs no lease: a process whose claim
    /// was taken over still commits, so that no rotated refresh token is lost.
    Commit(Commit<C>),
    /// Ends a claim whose exchange brought no credentials.
    Settle(Settle),
    /// Ends the claim of a process that no longer responds. If the claim was for a refresh, the
    /// session is in doubt. If it was for an establish, the session is as before, and its
    /// credentials are suspect. If it was for a revocation, the revocation must still be done.
    TakeOver(TakeOver),
    /// Closes the session before its tokens are revoked at the server. The credentials that must be
    /// revoked move to the outbox, and the statement claims the session for the revocation.
    Close(Close),
    /// Marks a session as lost, because an API or an operation reported that it has ended.
    Lose(Lose),
    /// Marks the credentials as suspect: an API rejected the access token, and the process that
    /// knows this is about to remove the session from its memory.
    Suspect(Suspect),
    /// Changes the time at which a supervisor should check the record, and notes that an event has
    /// announced the expiry of its refresh token.
    Reschedule(Reschedule),
    /// Writes credentials again that the store lost, when it was restored from a backup or failed
    /// over.
    Restore(Restore<C>),
    /// Writes a record as another store has it. It never changes a record that is there.
    Import(Box<Import<C>>),
    /// Deletes the record if the session [ended](Record::ended_at) so long ago, and if no process may
    /// still hold a claim on it. It has the same effects as [`Delete`](Self::Delete).
    RemoveEnded {
        /// How long the record is kept after the end of the session.
        keep: Duration,
    },
    /// Deletes the record. A commit for a claim from before the deletion does not bring it back.
    Delete,
}

impl<C> Statement<C> {
    /// Replaces the credentials of the statement, for example with encrypted bytes. For each
    /// credentials that the statement has, this calls `change` with the attempt that produced
    /// them, the epoch that they will have, and the credentials. An import of a closed session has
    /// its credentials in the outbox.
    ///
    /// # Errors
    ///
    /// The error that `change` returned.
    pub fn try_map<D, E>(
        self,
        mut change: impl FnMut(Attempt, u64, C) -> Result<D, E>,
    ) -> Result<Statement<D>, E> {
        Ok(match self {
            Self::Claim(claim) => Statement::Claim(claim),
            Self::Renew(renew) => Statement::Renew(renew),
            Self::Commit(commit) => {
                let Commit { intent, epoch, attempt, credentials, ends } = commit;
                let credentials = change(attempt, commit.intent.epoch_of(epoch), credentials)?;
                Statement::Commit(Commit { intent, epoch, attempt, credentials, ends })
            }
            Self::Settle(settle) => Statement::Settle(settle),
            Self::TakeOver(take_over) => Statement::TakeOver(take_over),
            Self::Close(close) => Statement::Close(close),
            Self::Lose(lose) => Statement::Lose(lose),
            Self::Suspect(suspect) => Statement::Suspect(suspect),
            Self::Reschedule(reschedule) => Statement::Reschedule(reschedule),
            Self::Restore(restore) => {
                let Restore { version, epoch, generation, attempt, credentials, ends } = restore;
                let credentials = change(attempt, epoch, credentials)?;
                let restore = Restore { version, epoch, generation, attempt, credentials, ends };
                Statement::Restore(restore)
            }
            Self::Import(import) => Statement::Import(Box::new(import.try_map(change)?)),
            Self::RemoveEnded { keep } => Statement::RemoveEnded { keep },
            Self::Delete => Statement::Delete,
        })
    }
}

/// A claim to be written.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The claim's random id. If the answer to a claim is lost, it is sent again under the same id.
    pub id: ClaimId,
    /// A claim that this one replaces if the same owner made it: its exchange has ended.
    pub replaces: Option<ClaimId>,
    /// The owner that claims.
    pub owner: Owner,
    /// What the claim is for.
    pub intent: Intent,
    /// The epoch that the claimant knows; `None` if it knows of no session.
    pub epoch: Option<u64>,
    /// The generation that the claimant knows. For a refresh and a revocation it must be the
    /// record's; for an establish it is ignored, because a grant replaces any record.
    pub generation: u64,
    /// How long the lease holds.
    pub lease: Duration,
    /// Whether the owner writes the answer into a [journal](crate::journal) before it commits.
    pub journal: bool,
}

/// A claim whose lease is to be lengthened.
#[derive(Clone, Copy, Debug)]
pub struct Renew {
    /// The claim's id.
    pub claim: ClaimId,
    /// How long the lease holds from now. A lease that holds longer stays as it is.
    pub lease: Duration,
}

/// Credentials to be written.
#[derive(Clone, Debug)]
pub struct Commit<C = Arc<Credentials>> {
    /// What the claim was for.
    pub intent: Intent,
    /// The epoch that the claim found.
    pub epoch: u64,
    /// The attempt that produced the credentials.
    pub attempt: Attempt,
    /// The credentials.
    pub credentials: C,
    /// When the credentials end.
    pub ends: Ends,
}

/// In how much time credentials end, and in how much time a supervisor should look at them; `None`
/// for what is not known or not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The end of the access token.
    pub access_in: Option<Duration>,
    /// The end of the refresh token.
    pub refresh_in: Option<Duration>,
    /// When a supervisor should look at the record.
    pub due_in: Option<Duration>,
    /// When the end of the refresh token is to be announced.
    pub announce_in: Option<Duration>,
    /// For so long the session is not refreshed, because the response that brought the refresh
    /// token had no access token that can be used.
    pub retry_in: Option<Duration>,
}

impl Ends {
    /// The same ends, `passed` later.
    pub(crate) fn after(self, passed: Duration) -> Self {
        let later = |left: Option<Duration>| left.map(|left| left.saturating_sub(passed));
        let Self { access_in, refresh_in, due_in, announce_in, retry_in } = self;
        Self {
            access_in: later(access_in),
            refresh_in: later(refresh_in),
            due_in: later(due_in),
            announce_in: later(announce_in),
            retry_in: later(retry_in),
        }
    }
}

/// A claim to be ended without credentials.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The epoch that the claim found.
    pub epoch: u64,
    /// The attempt that failed.
    pub attempt: Attempt,
    /// What the attempt leaves.
    pub to: SettleTo,
    /// For so long the session is not tried again. A back-off or doubt that a grant passed by, and
    /// that lasts longer, stays.
    pub retry_in: Option<Duration>,
    /// When a supervisor should look at the record next, if ever. It does not count if the session
    /// was closed or lost meanwhile.
    pub due_in: Option<Duration>,
    /// What is to be remembered of the failure. The store itself knows since when.
    pub failures: Option<Box<Failures>>,
}

/// What a failed attempt leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleTo {
    /// The session as it was before the claim.
    Before,
    /// The session as it was before the claim, with suspect credentials: a grant's answer was lost.
    BeforeSuspect,
    /// A session in doubt: its refresh token may be spent.
    InDoubt,
    /// A lost session.
    Lost(LostReason),
    /// A closed session with nothing left to revoke: the server has revoked its tokens, or the
    /// revocation was given up.
    Revoked,
}

/// A silent holder's claim that is to be ended.
#[derive(Clone, Copy, Debug)]
pub struct TakeOver {
    /// The claim.
    pub claim: ClaimId,
    /// How long after the end of the lease the claim stays, if its holder may live.
    pub hold: Duration,
    /// How long after the claim was written it stays, if its holder is known to be dead. Renewals
    /// do not count.
    pub hold_of_dead: Duration,
    /// How long after the end of the lease it stays, if its holder may have the answer in a
    /// [journal](crate::journal) that nobody has replayed ([`Lease::journal`](super::Lease::journal)).
    pub hold_of_journal: Duration,
    /// How long after the take-over no refresh can be claimed, if the claim was for one: its
    /// request may still be on its way. Zero if the caller has waited that long already.
    pub hold_back: Duration,
}

/// A session to be closed.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    /// The generation that the caller knows. On a closed record both the generation before the
    /// close and the one after it fit, so that a close can be sent twice.
    pub generation: u64,
    /// The claim for the revocation at the server, if there is anything to revoke.
    pub claim: ClaimId,
    /// The owner of that claim.
    pub owner: Owner,
    /// How long its lease holds.
    pub lease: Duration,
}

/// A session that was found dead.
#[derive(Clone, Copy, Debug)]
pub struct Lose {
    /// The epoch that was found dead.
    pub epoch: u64,
    /// The generation that was found dead.
    pub generation: u64,
    /// Why.
    pub reason: LostReason,
}

/// Credentials whose access token an API rejected.
#[derive(Clone, Copy, Debug)]
pub struct Suspect {
    /// Their epoch.
    pub epoch: u64,
    /// Their generation.
    pub generation: u64,
}

/// A record that is to be looked at another time.
#[derive(Clone, Copy, Debug)]
pub struct Reschedule {
    /// The version that the caller knows. A record of another version is left alone, so that of
    /// several processes only one announces an end.
    pub version: u64,
    /// The end of the refresh token is announced with this.
    pub announced: bool,
    /// When a supervisor should look at the record next, if ever.
    pub due_in: Option<Duration>,
}

/// Credentials that the store had and lost.
#[derive(Clone, Debug)]
pub struct Restore<C = Arc<Credentials>> {
    /// The version of the record that held them.
    pub version: u64,
    /// Their epoch.
    pub epoch: u64,
    /// Their generation.
    pub generation: u64,
    /// The attempt that is taken to have produced them.
    pub attempt: Attempt,
    /// The credentials.
    pub credentials: C,
    /// When the credentials end.
    pub ends: Ends,
}

/// A record of another store. Its times are durations, as in every statement, because the clocks of
/// the two stores may differ. It has no claim: [`copy_store`](super::copy_store()) does not copy
/// claimed records.
#[derive(Clone, Debug)]
pub struct Import<C = Arc<Credentials>> {
    /// The version in the other store. The record gets this one, or a higher one if the store has
    /// given this one to a record that is deleted.
    pub version: u64,
    /// The epoch.
    pub epoch: u64,
    /// The generation.
    pub generation: u64,
    /// The fence of the newest claim.
    pub fence: u64,
    /// The phase, which is not [`Phase::Vacant`].
    pub phase: Phase,
    /// The credentials.
    pub credentials: Option<C>,
    /// The credentials of a closed session that must still be revoked.
    pub outbox: Option<C>,
    /// The attempt that produced the credentials, or those in the outbox.
    pub made_by: Option<Attempt>,
    /// When the credentials end.
    pub ends: Ends,
    /// Whether the access token may be invalid.
    pub suspect: bool,
    /// Why the session is lost.
    pub lost: Option<LostReason>,
    /// How many claims were written since credentials were last stored.
    pub tries: u32,
    /// The failed attempts since the last success. [`Failures::since`] does not count.
    pub failures: Option<Box<Failures>>,
    /// How long ago the first response came that was not understood.
    pub failing_for: Option<Duration>,
    /// How long ago the session ended. `None` if it has not ended.
    pub ended_for: Option<Duration>,
}

impl<C> Import<C> {
    fn try_map<D, E>(
        self,
        mut change: impl FnMut(Attempt, u64, C) -> Result<D, E>,
    ) -> Result<Import<D>, E> {
        // `decide` refuses credentials that no attempt produced, so no store writes this attempt.
        let none = Attempt { base: 0, fence: 0, claim: ClaimId(0) };
        let (made, epoch) = (self.made_by.unwrap_or(none), self.epoch);
        let mut change = |credentials: Option<C>| {
            credentials.map(|credentials| change(made, epoch, credentials)).transpose()
        };
        Ok(Import {
            version: self.version,
            epoch,
            generation: self.generation,
            fence: self.fence,
            phase: self.phase,
            credentials: change(self.credentials)?,
            outbox: change(self.outbox)?,
            made_by: self.made_by,
            ends: self.ends,
            suspect: self.suspect,
            lost: self.lost,
            tries: self.tries,
            failures: self.failures,
            failing_for: self.failing_for,
            ended_for: self.ended_for,
        })
    }
}

impl<C: Clone> From<&Stored<C>> for Import<C> {
    /// The record without its claim.
    fn from(stored: &Stored<C>) -> Self {
        let record = &stored.record;
        Self {
            version: record.version,
            epoch: record.epoch,
            generation: record.generation,
            fence: record.fence,
            phase: record.phase,
            credentials: record.credentials.clone(),
            outbox: record.outbox.clone(),
            made_by: record.made_by,
            ends: Ends {
                access_in: stored.access_left(),
                refresh_in: stored.refresh_left(),
                due_in: stored.due_in(),
                announce_in: stored.announce_in(),
                retry_in: stored.retry_in(),
            },
            suspect: record.suspect,
            lost: record.lost,
            tries: record.tries,
            failures: record.failures.clone(),
            failing_for: stored.failing_for(),
            ended_for: stored.ended_for(),
        }
    }
}

/// The result of a statement.
///
/// ```
/// use session_warden::store::{Done, MemoryStore, Outcome, Statement, Store};
/// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = MemoryStore::new();
/// # let builder = Supervisor::builder().store(store.clone());
/// # let supervisor = builder.provider("fake", ScriptedProvider::new()).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let session = sessions.session(SessionKey::single("device-17")?);
/// # let _ = session.establish(()).await?;
/// # let id = session.id();
///
/// // A tool that deletes the record of a session for which there is no provider any more.
/// match store.apply(id, Statement::Delete).await? {
///     Outcome::Done(Done { generation, .. }) => assert_eq!(generation, 1),
///     Outcome::Conflict(_) => println!("there is no such record"),
///     Outcome::Leased(_) | Outcome::Wait { .. } => println!("try again later"),
/// }
/// assert!(store.is_empty());
/// assert!(matches!(store.apply(id, Statement::Delete).await?, Outcome::Conflict(None)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub enum Outcome<C = Arc<Credentials>> {
    /// The store has done the statement, now or when it got the same statement before.
    Done(Done),
    /// The record is not what the statement expected. This holds the record, or `None` if there is
    /// no record. A settle, a take-over or a delete that is sent twice gets this outcome the second
    /// time, because the record does not show which statement ended the claim or deleted the
    /// record. Even with this outcome, a settle may mark the record's credentials as suspect,
    /// because its failed attempt may have made them invalid.
    Conflict(Option<Stored<C>>),
    /// This record has another claim.
    Leased(Stored<C>),
    /// It is too early for this statement: the session is in doubt or in back-off, or the holder of
    /// its claim may still respond.
    Wait {
        /// How long to wait.
        left: Duration,
        /// The record.
        found: Stored<C>,
    },
}

impl<C> Outcome<C> {
    /// Whether the record has this claim.
    pub(crate) fn has_claim(&self, claim: ClaimId) -> bool {
        match self {
            Self::Done(_) => true,
            Self::Conflict(None) => false,
            Self::Conflict(Some(found)) | Self::Leased(found) | Self::Wait { found, .. } => {
                found.record.lease.is_some_and(|lease| lease.claim == claim)
            }
        }
    }
}

/// The record after the statement. See the example of [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The version of the record.
    pub version: u64,
    /// The epoch of the record.
    pub epoch: u64,
    /// The generation of the record.
    pub generation: u64,
    /// The fence of the record's newest claim.
    pub fence: u64,
    /// What is known of the session. A claim does not change it.
    pub phase: Phase,
    /// The record's credentials may be invalid.
    pub suspect: bool,
}

impl<C> From<&Record<C>> for Done {
    fn from(record: &Record<C>) -> Self {
        Self {
            version: record.version,
            epoch: record.epoch,
            generation: record.generation,
            fence: record.fence,
            phase: record.phase,
            suspect: record.suspect,
        }
    }
}

impl Intent {
    /// Returns the epoch of the credentials that an exchange for this intent brings, if the claim
    /// found the epoch `claimed`.
    #[must_use]
    pub fn epoch_of(self, claimed: u64) -> u64 {
        match self {
            Self::Establish => claimed.saturating_add(1),
            Self::Refresh | Self::Revoke => claimed,
        }
    }
}
