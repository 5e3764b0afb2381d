//! What is written again after a store went back to a backup.

use super::fixture::{
    ALICE, BOB, ENDS, Fixture, HOUR, claim, conflict, credentials, done, gist, is_about, is_stored,
};
use crate::store::{Attempt, ClaimId, Intent, Outcome, Phase, Restore, SettleTo, Statement};

fn restore(version: u64, epoch: u64, generation: u64) -> Restore {
    let attempt = Attempt { base: generation - 1, fence: version - 1, claim: ClaimId(77) };
    let credentials = credentials("restored");
    Restore { version, epoch, generation, attempt, credentials, ends: ENDS }
}

impl Fixture {
    async fn restore(&self, restore: Restore) -> Outcome {
        self.apply(Statement::Restore(restore)).await
    }
}

pub(super) async fn what_a_store_lost_is_written_again(fixture: Fixture) {
    let (gone, older, claimed) =
        (fixture.named("gone"), fixture.named("older"), fixture.named("claimed"));
    older.established().await;
    claimed.refreshing().await;
    for fixture in [gone, older, claimed] {
        let restored = done(fixture.restore(restore(50, 2, 5)).await);
        assert!(restored.version > 50, "{restored:?}");
        assert_eq!(fixture.gist().await, gist(2, 5, Phase::Active, "restored"));
        let stored = fixture.stored().await;
        is_about(stored.access_left(), HOUR);
        is_about(stored.due_in(), HOUR);
        let record = stored.record;
        assert_eq!((record.version, record.lease), (restored.version, None));
        assert_eq!(record.made_by, Some(restore(50, 2, 5).attempt));
        assert_eq!((record.suspect, record.lost, record.retry_at), (false, None, None));
        assert!(fixture.is_due().await);
        // Life goes on above it.
        let refresh = fixture.granted(BOB, Intent::Refresh).await;
        assert!(refresh.attempt.fence > restored.version);
        is_stored(fixture.commit(refresh, "next").await, 2, 6);
    }
}

pub(super) async fn a_restore_that_is_sent_twice_is_done_once(fixture: Fixture) {
    let first = done(fixture.restore(restore(50, 2, 5)).await);
    assert_eq!(done(fixture.restore(restore(50, 2, 5)).await), first);
    assert_eq!(fixture.record().await.version, first.version);
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    is_stored(fixture.commit(refresh, "next").await, 2, 6);
    conflict(fixture.restore(restore(50, 2, 5)).await);
    assert_eq!(fixture.gist().await, gist(2, 6, Phase::Active, "next"));
}

pub(super) async fn nothing_is_restored_over_what_is_newer_in_any_way(fixture: Fixture) {
    let grant = fixture.established().await;
    let second = fixture.granted(BOB, Intent::Establish).await;
    is_stored(fixture.commit(second, "second").await, 2, 2);
    let record = fixture.record().await;
    assert!(record.version > grant.attempt.fence);
    for restore in [
        restore(record.version + 50, 2, 2),
        restore(record.version, 2, 5),
        restore(record.version - 1, 2, 5),
        restore(record.version + 50, 1, 5),
    ] {
        let counters = format!("{} {} {}", restore.version, restore.epoch, restore.generation);
        let found = conflict(fixture.restore(restore).await).unwrap();
        assert_eq!(
            (found.version, found.epoch, found.generation),
            (record.version, 2, 2),
            "{counters}"
        );
        assert_eq!(fixture.gist().await, gist(2, 2, Phase::Active, "second"));
    }
}

pub(super) async fn nothing_is_restored_over_a_close(fixture: Fixture) {
    for (name, to) in [("unrevoked", SettleTo::Before), ("revoked", SettleTo::Revoked)] {
        let fixture = fixture.named(name);
        fixture.established().await;
        let closed = fixture.closed().await;
        done(fixture.settle(closed, to).await);
        let found = conflict(fixture.restore(restore(50, 5, 50)).await).unwrap();
        assert_eq!((found.phase, found.generation), (Phase::Closed, 2));
        assert_eq!(fixture.record().await.phase, Phase::Closed);
        conflict(fixture.claim(claim(ALICE, Intent::Refresh, Some((1, 2)))).await);
    }
}

pub(super) async fn nothing_is_restored_after_a_delete(fixture: Fixture) {
    fixture.established().await;
    let deleted = fixture.record().await;
    done(fixture.delete().await);
    for epoch in [deleted.epoch, deleted.epoch - 1] {
        let restore = restore(deleted.version + 50, epoch, deleted.generation + 50);
        assert!(conflict(fixture.restore(restore).await).is_none());
        assert!(fixture.load().await.is_none(), "what was deleted is back");
    }
}
