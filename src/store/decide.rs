//! Decides what a statement does to a record. Every store uses this one function.
//!
//! A store reads the record, runs [`decide`], and writes what the [`Decision`] says. No other
//! statement on the same session may come between.

#![expect(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "stores of other crates make and read all of it"
)]

mod import;
mod without_claim;

use std::time::{Duration, SystemTime};

use self::import::import_record;
use self::without_claim::{
    delete, lose_session, remove_ended, reschedule, restore_record, suspect_rejected,
};
use super::pages::Change;
use super::record::{Attempt, Failures, Floor, Holder, Intent, Lease, Phase, Record, Stored};
use super::statement::{
    Claim, Close, Commit, Done, Ends, Outcome, Renew, Settle, SettleTo, Statement, TakeOver,
};
use crate::clock::Now;

/// What a store found for a session id. See the example of [`Store`](super::Store).
#[derive(Clone, Debug)]
pub struct Found<C> {
    /// The record, if there is one.
    pub record: Option<Record<C>>,
    /// What the store remembers of deleted records. Read it after you have locked the session, so
    /// that no deletion comes in between. If there is a record, [`decide()`] does not use the
    /// floor.
    pub floor: Floor,
}

/// What a store must do with a statement. See the example of [`Store`](super::Store).
#[derive(Clone, Debug)]
pub struct Decision<C> {
    /// The result that the store returns.
    pub outcome: Outcome<C>,
    /// What the store must write before it returns the result.
    pub write: Write<C>,
    /// The change that [`changes`](super::Store::changes) must return later. The store writes it in
    /// the same step. `None` if there is no change to return.
    pub news: Option<Change>,
}

/// What a store must write. See the example of [`Store`](super::Store).
#[derive(Clone, Debug)]
pub enum Write<C> {
    /// Nothing.
    Nothing,
    /// This record, as a whole.
    Put(Record<C>),
    /// This record, in which only version, fence, lease and tries have changed. The statement was a
    /// claim, or the renewal of a claim.
    PutLease(Record<C>),
    /// Delete the record, and raise the store's floor to at least this one ([`Floor::max`]).
    Remove(Floor),
}

/// Decides what this statement does to the record that the store found. `now` is the store's time.
/// See the example of [`Store`](super::Store).
#[must_use]
pub fn decide<C: Clone>(found: Found<C>, statement: &Statement<C>, now: Now) -> Decision<C> {
    let Found { record, floor } = found;
    match (statement, record) {
        (Statement::Claim(claim), record) => claim_record(record, floor, claim, now),
        (Statement::Commit(commit), record) => commit_credentials(record, floor, commit, now),
        (Statement::Restore(restore), record) => restore_record(record, floor, restore, now),
        (Statement::Import(import), record) => import_record(record, floor, import, now),
        (_, None) => conflict(None, now),
        (Statement::Renew(renew), Some(record)) => renew_lease(record, renew, now),
        (Statement::Settle(settle), Some(record)) => settle_claim(record, settle, now),
        (Statement::TakeOver(silent), Some(record)) => end_silent_claim(record, silent, now),
        (Statement::Close(close), Some(record)) => close_session(record, close, now),
        (Statement::Lose(lose), Some(record)) => lose_session(record, lose, now),
        (Statement::Suspect(suspect), Some(record)) => suspect_rejected(record, suspect, now),
        (Statement::Reschedule(change), Some(record)) => reschedule(record, change, now),
        (Statement::RemoveEnded { keep }, Some(record)) => remove_ended(record, *keep, now),
        (Statement::Delete, Some(record)) => delete(record),
    }
}

/// Refuses the claim if the record is not as the claimant knows it, has another claim, is in doubt
/// or is in back-off. Doubt and back-off do not hold a grant back, because it sends no refresh
/// token.
fn claim_record<C>(found: Option<Record<C>>, floor: Floor, claim: &Claim, now: Now) -> Decision<C> {
    let mut record = match (found, claim.epoch) {
        (Some(record), _) => record,
        (None, None) if claim.intent == Intent::Establish => Record::vacant(floor),
        (None, _) => return conflict(None, now),
    };
    let known = match claim.epoch {
        Some(epoch) => epoch == record.epoch,
        None => !record.was_established(),
    };
    let newest = claim.intent == Intent::Establish || claim.generation == record.generation;
    let same = |lease: &Lease| lease.claim == claim.id;
    let fits = known && newest;
    if fits && record.lease.is_some_and(|lease| same(&lease) && lease.intent == claim.intent) {
        return done(&record);
    }
    if !fits || !is_open_to(&record, claim.intent) {
        return conflict(Some(record), now);
    }
    // The same id may come back with another intent. It is then written anew, so that others know
    // what kind of request may be on its way.
    let own = |lease: &Lease| {
        same(lease) || (lease.owner == claim.owner && claim.replaces == Some(lease.claim))
    };
    if record.lease.is_some_and(|lease| !own(&lease)) {
        return answer(Outcome::Leased(Stored { record, now }));
    }
    // A refresh by hand tries a provisional loss before its back-off is over.
    let waits = record.phase != Phase::Lost && claim.intent != Intent::Establish;
    let found = Stored { record, now };
    if let (true, Some(left)) = (waits, found.retry_in()) {
        return answer(Outcome::Wait { left, found });
    }
    record = found.record;
    record.version += 1;
    record.fence = record.version;
    record.tries = record.tries.saturating_add(1);
    record.lease = Some(Lease {
        claim: claim.id,
        owner: claim.owner,
        intent: claim.intent,
        from: now.boot,
        until: now.boot.after(claim.lease),
        holder: Holder::Alive,
        journal: claim.journal,
    });
    put_lease(record)
}

/// Whether the session's phase allows a claim for this.
fn is_open_to<C>(record: &Record<C>, intent: Intent) -> bool {
    match intent {
        Intent::Establish => true,
        Intent::Refresh => {
            let live = matches!(record.phase, Phase::Active | Phase::InDoubt);
            live || (record.phase == Phase::Lost && record.is_lost_provisionally())
        }
        Intent::Revoke => record.phase == Phase::Closed && record.outbox.is_some(),
    }
}

fn renew_lease<C>(mut record: Record<C>, renew: &Renew, now: Now) -> Decision<C> {
    let Some(lease) = record.lease.as_mut().filter(|lease| lease.claim == renew.claim) else {
        return conflict(Some(record), now);
    };
    let until = now.boot.after(renew.lease);
    if until <= lease.until {
        return done(&record);
    }
    lease.until = until;
    record.version += 1;
    put_lease(record)
}

fn commit_credentials<C: Clone>(
    found: Option<Record<C>>,
    floor: Floor,
    commit: &Commit<C>,
    now: Now,
) -> Decision<C> {
    let there = found.is_some();
    let mut record = found.unwrap_or_else(|| Record::vacant(floor));
    if record.made_by == Some(commit.attempt) && record.phase != Phase::Closed {
        // This very commit was done, and its answer was lost.
        return done(&record);
    }
    let Commit { intent, epoch, attempt, credentials, ends } = commit;
    // This also refuses a commit from before a delete: the floor's epoch is above it.
    if record.epoch != *epoch || *intent == Intent::Revoke {
        return conflict(there.then_some(record), now);
    }
    match intent {
        // A grant that succeeded stands even if the session was closed meanwhile: a close raises
        // the generation, not the epoch.
        Intent::Establish => record.epoch += 1,
        Intent::Refresh | Intent::Revoke => {
            // Two attempts sent the same refresh token: the later claim wins.
            let newer = record.made_by.is_none_or(|made| made.fence < attempt.fence);
            let sibling = record.made_by.is_some_and(|made| made.base == attempt.base);
            let fits = newer && (record.generation == attempt.base || sibling);
            if !there || record.phase == Phase::Closed || !fits {
                return conflict(there.then_some(record), now);
            }
            if record.generation != attempt.base && record.lease.is_some() {
                return answer(Outcome::Leased(Stored { record, now }));
            }
        }
    }
    // The session was found dead while this refresh was out, so the new tokens may be dead too. A
    // provisional loss says nothing of the kind.
    record.suspect = *intent == Intent::Refresh && record.is_lost_for_good();
    record.generation += 1;
    store_credentials(&mut record, (*attempt, credentials.clone()), *ends, now);
    put(record, now)
}

/// Stores these credentials in the record and ends its claim.
fn store_credentials<C>(
    record: &mut Record<C>,
    (attempt, credentials): (Attempt, C),
    ends: Ends,
    now: Now,
) {
    end_claim(record);
    // A store that was restored from a backup may be behind the claim's fence. Later claims must
    // get a higher one, or their credentials would count as older.
    record.version = record.version.max(attempt.fence) + 1;
    record.fence = record.fence.max(attempt.fence);
    record.phase = Phase::Active;
    record.credentials = Some(credentials);
    record.made_by = Some(attempt);
    record.access_expires_at = ends.access_in.map(|left| time_in(now, left));
    record.refresh_expires_at = ends.refresh_in.map(|left| time_in(now, left));
    record.due_at = ends.due_in.map(|left| time_in(now, left));
    record.announce_at = ends.announce_in.map(|left| time_in(now, left));
    record.lost = None;
    record.outbox = None;
    record.retry_at = ends.retry_in.map(|left| time_in(now, left));
    if record.retry_at.is_none() {
        record.tries = 0;
    }
    record.failures = None;
}

fn settle_claim<C: Clone>(mut record: Record<C>, settle: &Settle, now: Now) -> Decision<C> {
    let Some(lease) = record.lease.filter(|lease| lease.claim == settle.attempt.claim) else {
        return suspect_sibling(record, settle, now);
    };
    if record.phase == Phase::Vacant {
        // A first grant that gave nothing leaves no record.
        return remove_vacant(record);
    }
    let former = retry_at_after_grant(&record, lease.intent);
    end_claim(&mut record);
    record.version += 1;
    record.retry_at = former.max(settle.retry_in.map(|left| time_in(now, left)));
    // Of a session that was closed or lost meanwhile, the claimant did not know when it is due.
    let closed = record.phase == Phase::Closed;
    if !record.is_lost_for_good() && closed == (lease.intent == Intent::Revoke) {
        let due_at = settle.due_in.map(|left| time_in(now, left));
        record.due_at = due_at.or(record.due_at.filter(|_| closed));
        record.failures = failed(record.failures, settle.failures.clone(), now);
    }
    match effect_on(&record, settle.to) {
        SettleTo::Before => {}
        SettleTo::BeforeSuspect => record.suspect = record.credentials.is_some(),
        SettleTo::InDoubt => {
            record.phase = Phase::InDoubt;
            record.lost = None;
        }
        SettleTo::Lost(reason) => {
            record.phase = Phase::Lost;
            record.lost = Some(reason);
            record.due_at = record.due_at.filter(|_| reason.is_provisional());
            record.announce_at = None;
        }
        SettleTo::Revoked => {
            record.outbox = None;
            record.made_by = None;
            record.retry_at = None;
            record.due_at = None;
        }
    }
    put(record, now)
}

/// The failures to remember, with the time since which the answers are not understood.
fn failed(
    former: Option<Box<Failures>>,
    failures: Option<Box<Failures>>,
    now: Now,
) -> Option<Box<Failures>> {
    let mut failures = failures?;
    let since = former.and_then(|former| former.since).unwrap_or(now.wall);
    failures.since = (failures.unclassified > 0).then_some(since);
    Some(failures)
}

/// The effect of the settle on this record. In every case a closed session stays closed, and a
/// session that is lost for good stays lost.
fn effect_on<C>(record: &Record<C>, to: SettleTo) -> SettleTo {
    let closed = record.phase == Phase::Closed;
    match to {
        SettleTo::Before => to,
        SettleTo::BeforeSuspect if !closed => to,
        SettleTo::InDoubt | SettleTo::Lost(_) if !closed && !record.is_lost_for_good() => to,
        SettleTo::Revoked if closed => to,
        SettleTo::BeforeSuspect | SettleTo::InDoubt | SettleTo::Lost(_) | SettleTo::Revoked => {
            SettleTo::Before
        }
    }
}

/// The claim is over, and another attempt that sent the same refresh token has succeeded. This one
/// may have triggered the server's reuse detection, so the credentials that are there now become
/// suspect: they are refreshed before use.
fn suspect_sibling<C: Clone>(mut record: Record<C>, settle: &Settle, now: Now) -> Decision<C> {
    let sibling = record.made_by.is_some_and(|made| made.base == settle.attempt.base);
    let may_be_revoked = !matches!(settle.to, SettleTo::Before | SettleTo::Revoked)
        && record.epoch == settle.epoch
        && sibling
        && record.credentials.is_some()
        && !record.suspect;
    if !may_be_revoked {
        return conflict(Some(record), now);
    }
    record.version += 1;
    record.suspect = true;
    let Decision { write, news, .. } = put(record.clone(), now);
    Decision { outcome: Outcome::Conflict(Some(Stored { record, now })), write, news }
}

fn end_silent_claim<C>(mut record: Record<C>, take_over: &TakeOver, now: Now) -> Decision<C> {
    let Some(lease) = record.lease.filter(|lease| lease.claim == take_over.claim) else {
        return conflict(Some(record), now);
    };
    let free = match lease.holder {
        Holder::Alive => lease.until.after(take_over.hold),
        Holder::Dead => lease.from.after(take_over.hold_of_dead),
    };
    let replayed_by = lease.until.after(take_over.hold_of_journal);
    let free = if lease.journal { free.max(replayed_by) } else { free };
    if now.boot < free {
        let (left, found) = (free.since(now.boot), Stored { record, now });
        return answer(Outcome::Wait { left, found });
    }
    if record.phase == Phase::Vacant {
        return remove_vacant(record);
    }
    let former = retry_at_after_grant(&record, lease.intent);
    end_claim(&mut record);
    record.version += 1;
    record.retry_at = former;
    match lease.intent {
        // The session was found dead while the refresh was out; it stays lost.
        Intent::Refresh if record.is_lost_for_good() => {}
        Intent::Refresh => {
            record.phase = Phase::InDoubt;
            record.lost = None;
            let held_back = Some(take_over.hold_back).filter(|left| !left.is_zero());
            record.retry_at = held_back.map(|left| time_in(now, left));
        }
        Intent::Establish => record.suspect = record.credentials.is_some(),
        // The revocation is sent once more, which is harmless (RFC 7009 section 2.2).
        Intent::Revoke => {}
    }
    put(record, now)
}

fn close_session<C>(mut record: Record<C>, close: &Close, now: Now) -> Decision<C> {
    let again = record.phase == Phase::Closed
        && (record.generation == close.generation
            || record.generation == close.generation.saturating_add(1));
    if again {
        // Closed already, perhaps by this very close, whose answer was lost.
        return done(&record);
    }
    if record.generation != close.generation {
        return conflict(Some(record), now);
    }
    end_claim(&mut record);
    record.version += 1;
    record.generation += 1;
    record.phase = Phase::Closed;
    record.lost = None;
    record.suspect = false;
    record.access_expires_at = None;
    record.refresh_expires_at = None;
    record.announce_at = None;
    record.failures = None;
    record.outbox = record.credentials.take().or(record.outbox);
    record.due_at = record.outbox.is_some().then_some(now.wall);
    record.lease = record.outbox.is_some().then(|| Lease {
        claim: close.claim,
        owner: close.owner,
        intent: Intent::Revoke,
        from: now.boot,
        until: now.boot.after(close.lease),
        holder: Holder::Alive,
        journal: false,
    });
    if record.lease.is_some() {
        record.fence = record.version;
    }
    put(record, now)
}

fn end_claim<C>(record: &mut Record<C>) {
    record.lease = None;
    record.retry_at = None;
}

/// The end of the back-off or doubt that a grant was allowed to skip. It continues after the
/// grant's claim has ended.
fn retry_at_after_grant<C>(record: &Record<C>, intent: Intent) -> Option<SystemTime> {
    record.retry_at.filter(|_| intent == Intent::Establish)
}

fn time_in(now: Now, left: Duration) -> SystemTime {
    now.wall.checked_add(left).unwrap_or(now.wall)
}

/// The outcome of a statement that was done before.
fn done<C>(record: &Record<C>) -> Decision<C> {
    answer(Outcome::Done(Done::from(record)))
}

fn answer<C>(outcome: Outcome<C>) -> Decision<C> {
    Decision { outcome, write: Write::Nothing, news: None }
}

fn conflict<C>(found: Option<Record<C>>, now: Now) -> Decision<C> {
    answer(Outcome::Conflict(found.map(|record| Stored { record, now })))
}

/// Writes this record, and tells the change. Notes when the session ended. A session that has ended in
/// another way before keeps the first time.
pub(super) fn put<C>(mut record: Record<C>, now: Now) -> Decision<C> {
    record.ended_at = record.has_ended().then(|| record.ended_at.unwrap_or(now.wall));
    let news = Change {
        version: record.version,
        epoch: record.epoch,
        generation: record.generation,
        phase: Some(record.phase),
    };
    let outcome = Outcome::Done(Done::from(&record));
    Decision { outcome, write: Write::Put(record), news: Some(news) }
}

fn put_lease<C>(record: Record<C>) -> Decision<C> {
    let outcome = Outcome::Done(Done::from(&record));
    Decision { outcome, write: Write::PutLease(record), news: None }
}

/// Raises only the floor's version: nothing was granted, but no version and no fence is given
/// twice.
fn remove_vacant<C>(record: Record<C>) -> Decision<C> {
    let version = record.version + 1;
    remove(record, Floor { version, ..Floor::default() })
}

fn remove<C>(mut record: Record<C>, floor: Floor) -> Decision<C> {
    record.version += 1;
    let outcome = Outcome::Done(Done::from(&record));
    Decision { outcome, write: Write::Remove(floor), news: None }
}

#[cfg(test)]
mod tests;
