//! The feed of changes. A store may tell nothing while one process uses it, so each case first
//! registers two owners. A store that answers `None` has no feed, and passes these cases.

use std::time::Duration;

use super::fixture::{ALICE, BOB, Fixture, HOUR, LEASE, claim, conflict, done, is_stored, leased};
use crate::error::LostReason;
use crate::store::{
    Attempt, Change, Changes, ClaimId, Close, Cursor, Done, Intent, News, Phase, Presence, Renew,
    Restore, SettleTo, Statement,
};

/// The changes from a cursor on.
struct Feed {
    fixture: Fixture,
    cursor: Cursor,
}

impl Feed {
    /// None from a store that has no feed.
    async fn of(fixture: &Fixture) -> Option<Self> {
        for owner in [ALICE, BOB] {
            fixture.store.presence(owner, Presence::Register).await.unwrap();
        }
        let changes = changes(fixture, None, 100).await?;
        Some(Self { fixture: fixture.clone(), cursor: changes.cursor })
    }

    /// All that came since, read in pages of this size. A feed may wait until there is something to
    /// tell, so the last that it tells is a mark, which is left out.
    async fn read(&mut self, limit: usize) -> Vec<News> {
        let mark = self.fixture.named("mark");
        let grant = mark.granted(BOB, Intent::Establish).await;
        let version = done(mark.commit(grant, "mark").await).version;
        let mut all = Vec::new();
        loop {
            let page = changes(&self.fixture, Some(&self.cursor), limit).await.unwrap();
            self.cursor = page.cursor;
            let news = page.news.unwrap();
            assert!(news.len() <= limit, "{} at once", news.len());
            assert!(!news.is_empty(), "the mark is there to be told");
            let ended = news.iter().any(|one| one.id == mark.id && one.of.version == version);
            assert_eq!(page.more, !ended, "there is nothing after the mark");
            all.extend(news.into_iter().filter(|one| one.id != mark.id));
            if ended {
                return all;
            }
        }
    }

    /// The one change that came since.
    async fn one(&mut self) -> Change {
        let mut news = self.read(100).await;
        assert_eq!(news.len(), 1, "{news:?}");
        let News { id, of } = news.remove(0);
        assert_eq!(id, self.fixture.id);
        of
    }

    /// Reads the change that a statement made, and no other.
    async fn tells(&mut self, done: Done) {
        let Done { version, epoch, generation, phase, .. } = done;
        let expected = Change { version, epoch, generation, phase: Some(phase) };
        assert_eq!(self.one().await, expected);
    }

    async fn is_silent(&mut self, why: &str) {
        let news = self.read(100).await;
        assert!(news.is_empty(), "{why}: {news:?}");
    }
}

async fn changes(fixture: &Fixture, since: Option<&Cursor>, limit: usize) -> Option<Changes> {
    fixture.store.changes(since, limit).await.unwrap()
}

pub(super) async fn without_a_cursor_there_is_nothing_but_a_cursor(fixture: Fixture) {
    if Feed::of(&fixture).await.is_none() {
        return;
    }
    fixture.established().await;
    let first = changes(&fixture, None, 100).await.unwrap();
    assert_eq!((first.news, first.more), (Some(Vec::new()), false));
    let mut feed = Feed { fixture, cursor: first.cursor };
    feed.is_silent("that was before").await;
}

pub(super) async fn the_write_of_a_statement_is_reported(fixture: Fixture) {
    let Some(mut feed) = Feed::of(&fixture).await else { return };
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    feed.tells(done(fixture.commit(grant, "first").await)).await;
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    feed.tells(done(fixture.commit(refresh, "second").await)).await;
    for to in [SettleTo::Before, SettleTo::BeforeSuspect, SettleTo::InDoubt] {
        let refresh = fixture.granted(ALICE, Intent::Refresh).await;
        feed.tells(done(fixture.settle(refresh, to).await)).await;
    }
    let refresh = fixture.silent(ALICE, Intent::Refresh).await;
    feed.tells(done(fixture.take_over(refresh.id()).await)).await;
    feed.tells(done(fixture.lose(LostReason::Revoked).await)).await;
    let generation = fixture.record().await.generation;
    let close = Close { generation, claim: ClaimId(77), owner: ALICE, lease: LEASE };
    feed.tells(done(fixture.apply(Statement::Close(close)).await)).await;
    let closed = fixture.closed_as(close).await;
    feed.is_silent("it was closed before").await;
    feed.tells(done(fixture.settle(closed, SettleTo::Revoked).await)).await;
    let deleted = done(fixture.delete().await);
    let change = feed.one().await;
    assert_eq!((change.version, change.phase), (deleted.version, None));
    assert_eq!((change.epoch, change.generation), (deleted.epoch, deleted.generation));
}

pub(super) async fn a_restore_is_reported(fixture: Fixture) {
    let Some(mut feed) = Feed::of(&fixture).await else { return };
    let attempt = Attempt { base: 4, fence: 49, claim: ClaimId(77) };
    let (credentials, ends) = (super::fixture::credentials("restored"), super::fixture::ENDS);
    let restore = Restore { version: 50, epoch: 2, generation: 5, attempt, credentials, ends };
    feed.tells(done(fixture.apply(Statement::Restore(restore)).await)).await;
}

pub(super) async fn an_import_is_reported(fixture: Fixture) {
    let Some(mut feed) = Feed::of(&fixture).await else { return };
    let import = super::importing::import(50, 2, 5);
    feed.tells(done(fixture.apply(Statement::Import(Box::new(import.clone()))).await)).await;
    done(fixture.apply(Statement::Import(Box::new(import))).await);
    feed.is_silent("it was imported before").await;
}

pub(super) async fn the_removal_of_an_ended_session_is_reported(fixture: Fixture) {
    let Some(mut feed) = Feed::of(&fixture).await else { return };
    fixture.lost().await;
    feed.read(100).await;
    let page = fixture.store.remove_ended(Duration::ZERO, None, 100).await.unwrap();
    let Some(page) = page else { return };
    let change = feed.one().await;
    assert_eq!((change.epoch, change.generation, change.phase), (1, 1, None));
    assert_eq!(page.removed, [News { id: fixture.id, of: change }]);
}

pub(super) async fn what_a_late_failure_makes_suspect_is_reported(fixture: Fixture) {
    let Some(mut feed) = Feed::of(&fixture).await else { return };
    let old = fixture.silently_refreshing().await;
    done(fixture.take_over(old.id()).await);
    let new = fixture.granted(BOB, Intent::Refresh).await;
    is_stored(fixture.commit(new, "sibling").await, 1, 2);
    feed.read(100).await;
    let found = conflict(fixture.settle(old, SettleTo::InDoubt).await).unwrap();
    feed.tells(Done::from(&found)).await;
}

pub(super) async fn claims_and_renewals_are_no_news(fixture: Fixture) {
    let Some(mut feed) = Feed::of(&fixture).await else { return };
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    feed.is_silent("a claim").await;
    let renew = Renew { claim: grant.id(), lease: 2 * HOUR };
    done(fixture.apply(Statement::Renew(renew)).await);
    feed.is_silent("a renewal").await;
    done(fixture.settle(grant, SettleTo::Before).await);
    feed.is_silent("nothing was there before it, and nothing is there now").await;
}

pub(super) async fn what_was_refused_is_no_news(fixture: Fixture) {
    let Some(mut feed) = Feed::of(&fixture).await else { return };
    let old = fixture.silently_refreshing().await;
    feed.read(100).await;
    leased(fixture.claim(claim(BOB, Intent::Refresh, Some((1, 1)))).await);
    fixture.take_over_after(old.id(), HOUR, HOUR).await;
    conflict(fixture.close(7).await);
    conflict(fixture.named("unknown").delete().await);
    feed.is_silent("nothing was written").await;
    done(fixture.take_over(old.id()).await);
    assert_eq!(feed.one().await.phase, Some(Phase::InDoubt));
    conflict(fixture.settle(old, SettleTo::Before).await);
    feed.is_silent("the claim was ended before").await;
}

pub(super) async fn changes_come_in_their_order_none_twice_and_none_missed(fixture: Fixture) {
    let Some(start) = Feed::of(&fixture).await else { return };
    let mut expected = Vec::new();
    for round in 0..3 {
        for name in ["b", "a", "c"] {
            let fixture = fixture.named(name);
            let intent = if round == 0 { Intent::Establish } else { Intent::Refresh };
            let claim = fixture.granted(ALICE, intent).await;
            let version = done(fixture.commit(claim, name).await).version;
            expected.push((fixture.id, version));
        }
    }
    let versions = |news: Vec<News>| -> Vec<_> {
        news.into_iter().map(|news| (news.id, news.of.version)).collect()
    };
    for limit in [1, 2, 4, 9, 100] {
        let mut feed = Feed { fixture: fixture.clone(), cursor: start.cursor.clone() };
        assert_eq!(versions(feed.read(limit).await), expected, "in pages of {limit}");
        feed.is_silent("all was read").await;
    }
    let some = changes(&fixture, Some(&start.cursor), 4).await.unwrap();
    assert_eq!((some.news.map(|news| news.len()), some.more), (Some(4), true), "five are left");
    let mut rest = Feed { fixture: fixture.clone(), cursor: some.cursor };
    assert_eq!(versions(rest.read(3).await), expected[4..]);
}

pub(super) async fn a_cursor_that_is_not_known_says_that_anything_may_have_changed(
    fixture: Fixture,
) {
    if Feed::of(&fixture).await.is_none() {
        return;
    }
    // As one that is too old. Only the store knows what is in its own, but nothing is in none.
    let unknown = Cursor([0_u8; 0].as_slice().into());
    let changes = changes(&fixture, Some(&unknown), 100).await.unwrap();
    assert_eq!((changes.news, changes.more), (None, false));
    let mut feed = Feed { fixture: fixture.clone(), cursor: changes.cursor };
    feed.is_silent("the new cursor is known").await;
    let refresh = fixture.silently_refreshing().await;
    done(fixture.take_over_after(refresh.id(), Duration::ZERO, HOUR).await);
    let phases: Vec<_> = feed.read(100).await.into_iter().map(|news| news.of.phase).collect();
    assert_eq!(phases, [Some(Phase::Active), Some(Phase::InDoubt)]);
}
