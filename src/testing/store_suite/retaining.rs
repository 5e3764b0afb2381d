//! The records of sessions that have ended, and their removal. A store whose `Store::remove_ended`
//! returns `None` keeps them, and passes the cases of the removal.

use std::time::Duration;

use super::fixture::{
    ALICE, BOB, Fixture, HOUR, at_once, conflict, done, gist, is_about, is_stored,
};
use crate::error::LostReason;
use crate::key::SessionId;
use crate::store::{Ended, Intent, Phase, RemovedEnded, SettleTo, Statement};

/// None from a store that keeps ended sessions.
async fn page(
    fixture: &Fixture,
    keep: Duration,
    after: Option<&Ended>,
    limit: usize,
) -> Option<RemovedEnded> {
    fixture.store.remove_ended(keep, after, limit).await.unwrap()
}

/// Removes all sessions that ended at least `keep` ago.
async fn removed(fixture: &Fixture, keep: Duration) -> Option<Vec<SessionId>> {
    let page = page(fixture, keep, None, 1000).await?;
    assert_eq!(page.next, None);
    Some(page.removed.into_iter().map(|news| news.id).collect())
}

pub(super) async fn a_record_says_since_when_its_session_has_ended(fixture: Fixture) {
    fixture.established().await;
    assert_eq!(fixture.stored().await.ended_for(), None);
    done(fixture.lose(LostReason::TokensDeleted).await);
    is_about(fixture.stored().await.ended_for(), Duration::ZERO);
    let ended_at = fixture.record().await.ended_at;
    // For another reason, and under a claim, it is the same end.
    done(fixture.lose(LostReason::SessionDeleted).await);
    let grant = fixture.granted(BOB, Intent::Establish).await;
    assert_eq!(fixture.record().await.ended_at, ended_at);
    is_stored(fixture.commit(grant, "second").await, 2, 2);
    assert_eq!(fixture.stored().await.ended_for(), None);

    let closed = fixture.closed().await;
    assert_eq!(fixture.stored().await.ended_for(), None, "its tokens must be revoked");
    done(fixture.settle(closed, SettleTo::Revoked).await);
    is_about(fixture.stored().await.ended_for(), Duration::ZERO);
}

pub(super) async fn an_ended_session_is_removed_when_it_was_kept_for_long_enough(fixture: Fixture) {
    let lost = fixture.lost().await;
    let closed = fixture.named("closed");
    closed.established().await;
    let revocation = closed.closed().await;
    done(closed.settle(revocation, SettleTo::Revoked).await);
    let active = fixture.named("active");
    active.established().await;
    let Some(none) = removed(&fixture, HOUR).await else { return };
    assert!(none.is_empty(), "{none:?}");
    conflict(fixture.apply(Statement::RemoveEnded { keep: HOUR }).await);
    assert_eq!(fixture.gist().await, gist(1, 1, Phase::Lost, "first"));

    let mut gone = removed(&fixture, Duration::ZERO).await.unwrap();
    gone.sort();
    assert_eq!(gone, [closed.id.clone(), fixture.id.clone()]);
    assert!(fixture.load().await.is_none() && closed.load().await.is_none());
    assert_eq!(active.gist().await, gist(1, 1, Phase::Active, "first"));
    // What others know of the removed session fits nothing that comes later.
    assert!(conflict(fixture.commit(lost, "late").await).is_none());
    let grant = fixture.granted(BOB, Intent::Establish).await;
    let stored = done(fixture.commit(grant, "second").await);
    assert!(stored.epoch > 1 && stored.generation > 1, "{stored:?}");
    conflict(fixture.commit(lost, "late").await);
}

pub(super) async fn what_must_be_revoked_or_is_claimed_is_not_removed(fixture: Fixture) {
    fixture.uninformed().await;
    let claimed = fixture.named("claimed");
    claimed.lost().await;
    let grant = claimed.granted(ALICE, Intent::Establish).await;
    let Some(none) = removed(&fixture, Duration::ZERO).await else { return };
    assert!(none.is_empty(), "{none:?}");
    for of in [&fixture, &claimed] {
        assert!(
            conflict(of.apply(Statement::RemoveEnded { keep: Duration::ZERO }).await).is_some()
        );
    }
    done(claimed.settle(grant, SettleTo::Before).await);
    assert_eq!(removed(&fixture, Duration::ZERO).await, Some(vec![claimed.id]));
}

pub(super) async fn ended_sessions_are_removed_page_by_page_in_the_order_of_their_ends(
    fixture: Fixture,
) {
    let names = ["e", "a", "d", "b", "c"];
    for name in names {
        fixture.named(name).lost().await;
    }
    // One that stays is passed over, and does not hide those behind it.
    let claimed = fixture.named("a");
    claimed.granted(ALICE, Intent::Establish).await;
    let (mut gone, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let Some(page) = page(&fixture, Duration::ZERO, after.as_ref(), 2).await else { return };
        (pages, after) = (pages + 1, page.next);
        gone.extend(page.removed.into_iter().map(|news| news.id));
        if after.is_none() {
            break;
        }
    }
    let expected = ["e", "d", "b", "c"].map(|name| fixture.named(name).id);
    assert_eq!((gone, pages), (expected.to_vec(), 3));
    assert!(claimed.load().await.is_some());
}

pub(super) async fn of_several_that_remove_at_once_one_removes_each_session(fixture: Fixture) {
    for number in 0..24 {
        fixture.named(&number.to_string()).lost().await;
    }
    let removals = (0..4).map(|_| {
        let fixture = fixture.clone();
        async move { removed(&fixture, Duration::ZERO).await }
    });
    let removals = at_once(removals).await;
    if removals.iter().any(Option::is_none) {
        return;
    }
    let mut gone: Vec<_> = removals.into_iter().flatten().flatten().collect();
    assert_eq!(gone.len(), 24);
    gone.sort();
    gone.dedup();
    assert_eq!(gone.len(), 24);
}
