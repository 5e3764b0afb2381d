//! Sessions that an API or an operation found dead.

use super::fixture::{ALICE, BOB, Fixture, HOUR, conflict, done, gist, is_stored};
use crate::error::LostReason;
use crate::store::{Intent, Lose, Phase, SettleTo, Statement, Suspect};

pub(super) async fn a_session_that_was_found_dead_is_lost(fixture: Fixture) {
    let (active, doubtful) = (fixture.named("active"), fixture.named("doubtful"));
    active.established().await;
    let refresh = doubtful.refreshing().await;
    done(doubtful.settle_for(refresh, SettleTo::InDoubt, Some(HOUR)).await);
    for fixture in [active, doubtful] {
        let before = fixture.record().await;
        let lost = done(fixture.lose(LostReason::Revoked).await);
        assert!(lost.version > before.version);
        assert_eq!((lost.phase, lost.epoch, lost.generation), (Phase::Lost, 1, 1));
        assert_eq!(fixture.gist().await, gist(1, 1, Phase::Lost, "first"));
        let record = fixture.record().await;
        assert_eq!((record.lost, record.retry_at), (Some(LostReason::Revoked), None));
        assert!(!fixture.is_due().await);
        let found = conflict(fixture.lose(LostReason::Revoked).await).unwrap();
        assert_eq!(found.version, lost.version, "of two that find it, one does it");
    }
}

pub(super) async fn a_loss_of_what_was_replaced_gets_the_record(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    for (epoch, generation) in [(1, 1), (0, 2), (2, 2), (1, 3)] {
        let lose = Lose { epoch, generation, reason: LostReason::Revoked };
        let found = conflict(fixture.apply(Statement::Lose(lose)).await).unwrap();
        assert_eq!((found.epoch, found.generation, found.lost), (1, 2, None));
    }
    assert_eq!(fixture.gist().await, gist(1, 2, Phase::Active, "second"));
    assert!(fixture.is_due().await);
}

pub(super) async fn only_a_session_can_be_lost(fixture: Fixture) {
    let (vacant, closed) = (fixture.named("vacant"), fixture.named("closed"));
    vacant.granted(ALICE, Intent::Establish).await;
    closed.uninformed().await;
    for (fixture, phase) in [(vacant, Phase::Vacant), (closed, Phase::Closed)] {
        let before = fixture.record().await.version;
        conflict(fixture.lose(LostReason::SessionDeleted).await);
        let record = fixture.record().await;
        assert_eq!((record.phase, record.version, record.lost), (phase, before, None));
    }
}

pub(super) async fn a_loss_leaves_a_running_claim_whose_commit_is_suspect(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    let lost = done(fixture.lose(LostReason::SessionDeleted).await);
    assert_eq!(lost.fence, refresh.attempt.fence, "a loss is no claim");
    assert_eq!(fixture.claimed_by().await, Some(refresh.id()));
    let late = done(fixture.commit(refresh, "late").await);
    assert_eq!((late.generation, late.phase, late.suspect), (2, Phase::Active, true));
    // A grant's is not, because nothing of what was lost is in it.
    let fixture = fixture.named("granted");
    fixture.established().await;
    let grant = fixture.granted(BOB, Intent::Establish).await;
    done(fixture.lose(LostReason::SessionDeleted).await);
    is_stored(fixture.commit(grant, "second").await, 2, 2);
}

pub(super) async fn what_was_lost_stays_so_however_a_running_claim_ends(fixture: Fixture) {
    let reason = LostReason::SessionDeleted;
    for (name, to) in [
        ("before", Some(SettleTo::Before)),
        ("suspect", Some(SettleTo::BeforeSuspect)),
        ("in-doubt", Some(SettleTo::InDoubt)),
        ("rejected", Some(SettleTo::Lost(LostReason::Rejected))),
        ("unclassified", Some(SettleTo::Lost(LostReason::Unclassified))),
        ("silent", None),
    ] {
        let fixture = fixture.named(name);
        let refresh = fixture.silently_refreshing().await;
        done(fixture.lose(reason).await);
        match to {
            Some(to) => done(fixture.settle_for(refresh, to, Some(HOUR)).await),
            None => done(fixture.take_over(refresh.id()).await),
        };
        let record = fixture.record().await;
        assert_eq!((record.phase, record.lost), (Phase::Lost, Some(reason)), "{name}");
        assert_eq!((record.lease, record.due_at), (None, None), "{name}");
    }
}

pub(super) async fn what_was_lost_stays_lost_for_its_reason(fixture: Fixture) {
    fixture.lost().await;
    let before = fixture.record().await;
    conflict(fixture.lose(LostReason::SessionDeleted).await);
    let record = fixture.record().await;
    assert_eq!((record.lost, record.version), (Some(LostReason::LostInDoubt), before.version));
    // With its refresh token gone, the access token was served on, which may be dead now too.
    let fixture = fixture.named("tokens-deleted");
    fixture.established().await;
    for reason in [LostReason::TokensDeleted, LostReason::SessionDeleted] {
        done(fixture.lose(reason).await);
        assert_eq!(fixture.record().await.lost, Some(reason));
    }
    conflict(fixture.lose(LostReason::TokensDeleted).await);
    assert_eq!(fixture.record().await.lost, Some(LostReason::SessionDeleted));
    // What was lost provisionally is lost for good now.
    let fixture = fixture.named("provisionally");
    let refresh = fixture.refreshing().await;
    let provisionally = SettleTo::Lost(LostReason::Unclassified);
    done(fixture.settle_for(refresh, provisionally, Some(HOUR)).await);
    assert!(fixture.is_due().await);
    done(fixture.lose(LostReason::Revoked).await);
    assert_eq!(fixture.record().await.lost, Some(LostReason::Revoked));
    assert!(!fixture.is_due().await);
}

pub(super) async fn what_an_api_rejected_is_suspect_for_whoever_reads_it_next(fixture: Fixture) {
    fixture.established().await;
    let suspect = |generation| Statement::Suspect(Suspect { epoch: 1, generation });
    conflict(fixture.apply(suspect(2)).await);
    assert!(!fixture.is_suspect().await);
    let marked = done(fixture.apply(suspect(1)).await);
    assert!(marked.suspect);
    assert_eq!(done(fixture.apply(suspect(1)).await), marked, "once");
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    conflict(fixture.apply(suspect(1)).await);
    assert!(!fixture.is_suspect().await);
    fixture.closed().await;
    conflict(fixture.apply(suspect(3)).await);
}
