//! The statements that need no claim. They take effect even while another owner holds one.

use std::time::Duration;

use super::{Decision, conflict, done, put, remove, store_credentials, time_in};
use crate::clock::Now;
use crate::error::LostReason;
use crate::store::pages::Change;
use crate::store::record::{Floor, Phase, Record};
use crate::store::statement::{Lose, Reschedule, Restore, Suspect};

/// Does not end a claim. The commit of a refresh that is out makes the session active and suspect;
/// its settle leaves the session lost.
pub(super) fn lose_session<C>(mut record: Record<C>, lose: &Lose, now: Now) -> Decision<C> {
    let there = (record.epoch, record.generation) == (lose.epoch, lose.generation);
    let can_be = matches!(record.phase, Phase::Active | Phase::InDoubt | Phase::Lost);
    if !there || !can_be {
        return conflict(Some(record), now);
    }
    // A loss keeps its first reason, unless that is provisional, or the whole session is deleted
    // after its tokens were: the access token that was still served is then dead too.
    let stays = record.lost.is_some_and(|lost| {
        let both = lost == LostReason::TokensDeleted && lose.reason == LostReason::SessionDeleted;
        lost == lose.reason || (!both && !lost.is_provisional())
    });
    if stays {
        // Not "done": of several processes that find the same loss, one publishes it.
        return conflict(Some(record), now);
    }
    record.version += 1;
    record.phase = Phase::Lost;
    record.lost = Some(lose.reason);
    record.retry_at = None;
    record.due_at = None;
    record.announce_at = None;
    put(record, now)
}

/// The next process that reads the record refreshes before it serves the access token.
pub(super) fn suspect_rejected<C>(
    mut record: Record<C>,
    suspect: &Suspect,
    now: Now,
) -> Decision<C> {
    let there = record.counters() == (suspect.epoch, suspect.generation);
    if !there || record.credentials.is_none() {
        return conflict(Some(record), now);
    }
    if record.suspect {
        return done(&record);
    }
    record.version += 1;
    record.suspect = true;
    put(record, now)
}

pub(super) fn reschedule<C>(mut record: Record<C>, change: &Reschedule, now: Now) -> Decision<C> {
    if record.version != change.version {
        return conflict(Some(record), now);
    }
    record.version += 1;
    record.due_at = change.due_in.map(|left| time_in(now, left));
    record.announce_at = record.announce_at.filter(|_| !change.announced);
    put(record, now)
}

/// Writes only over a record whose version and generation are both older: credentials that others
/// stored since the store went back stay.
pub(super) fn restore_record<C: Clone>(
    found: Option<Record<C>>,
    floor: Floor,
    restore: &Restore<C>,
    now: Now,
) -> Decision<C> {
    let there = found.is_some();
    let mut record = found.unwrap_or_else(|| Record::vacant(floor));
    let counters = (restore.epoch, restore.generation);
    if record.made_by == Some(restore.attempt)
        && record.phase != Phase::Closed
        && record.counters() == counters
    {
        return done(&record);
    }
    let older = record.version < restore.version && record.generation < restore.generation;
    // If the session was deleted, the floor's epoch is above the restored one.
    if !older || record.epoch > restore.epoch || record.phase == Phase::Closed {
        return conflict(there.then_some(record), now);
    }
    record.version = restore.version;
    record.epoch = restore.epoch;
    record.generation = restore.generation;
    record.suspect = false;
    store_credentials(
        &mut record,
        (restore.attempt, restore.credentials.clone()),
        restore.ends,
        now,
    );
    put(record, now)
}

/// A lease may belong to a process that sends a grant at this moment, and that has hung for longer than
/// the record is kept after its end. So a record with a lease goes only when the lease ended as long
/// ago as the session.
pub(super) fn remove_ended<C>(record: Record<C>, keep: Duration, now: Now) -> Decision<C> {
    let is_old =
        record.ended_at.and_then(|at| at.checked_add(keep)).is_some_and(|at| at <= now.wall);
    let is_free = record.lease.is_none_or(|lease| lease.until.after(keep) <= now.boot);
    if is_old && is_free && record.has_ended() {
        return delete(record);
    }
    conflict(Some(record), now)
}

/// Raises the floor above the record, so that no claim or commit from before the delete fits the
/// next session.
pub(super) fn delete<C>(record: Record<C>) -> Decision<C> {
    let (epoch, generation) = record.counters();
    let version = record.version + 1;
    let news = Some(Change { version, epoch, generation, phase: None });
    let floor = Floor { version, epoch: epoch + 1, generation: generation + 1 };
    Decision { news, ..remove(record, floor) }
}
