//! What is read back, and whose it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fixture::{
    ALICE, BOB, ENDS, Fixture, GrantedClaim, HOUR, access, claim, conflict, done, gist, id,
    is_about, is_stored, wall,
};
use crate::error::LostReason;
use crate::store::{
    Attempt, ClaimId, Commit, Ends, Intent, Lose, Phase, RecordFilter, Renew, SettleTo, Statement,
};
use crate::token::{Credentials, Tokens};

pub(super) async fn an_unknown_session_is_not_there(unknown: Fixture) {
    unknown.named("other").established().await;
    let attempt = Attempt { base: 1, fence: 1, claim: ClaimId(7) };
    let never = GrantedClaim { intent: Intent::Refresh, epoch: 1, attempt };
    assert!(unknown.load().await.is_none());
    for (intent, known) in [
        (Intent::Refresh, None),
        (Intent::Refresh, Some((1, 1))),
        (Intent::Revoke, None),
        (Intent::Establish, Some((1, 1))),
    ] {
        let found = conflict(unknown.claim(claim(ALICE, intent, known)).await);
        assert!(found.is_none(), "{intent:?} {known:?}: {found:?}");
    }
    let lose = Lose { epoch: 1, generation: 1, reason: LostReason::Rejected };
    for outcome in [
        unknown.apply(Statement::Renew(Renew { claim: ClaimId(7), lease: HOUR })).await,
        unknown.commit(never, "late").await,
        unknown.settle(never, SettleTo::InDoubt).await,
        unknown.take_over(ClaimId(7)).await,
        unknown.close(1).await,
        unknown.apply(Statement::Lose(lose)).await,
        unknown.delete().await,
    ] {
        assert!(conflict(outcome).is_none());
    }
    assert!(unknown.load().await.is_none(), "only a claim for a grant makes a record");
}

pub(super) async fn credentials_come_back_as_they_were_given(fixture: Fixture) {
    let attributes = "{\"user\":\"J\u{f6}rg \u{1f511}\",\"quote\":\"'\\\"\",\"n\":[1,null]}";
    let full = Tokens::new(Arc::from(attributes))
        .with_access_token("access ' \" \\ \u{e9}", Some(wall(900)))
        .with_refresh_token("refresh-1".repeat(1000), Some(wall(90_000)))
        .with_token_secret("secret-1");
    let least = Tokens::new(Arc::from("null"));
    for (name, tokens) in [("full", full), ("least", least)] {
        let fixture = fixture.named(name);
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        let given = Arc::new(Credentials::new(tokens, "https://login.example.com:8443", "c\u{e9}"));
        let commit = Commit {
            intent: grant.intent,
            epoch: grant.epoch,
            attempt: grant.attempt,
            credentials: Arc::clone(&given),
            ends: Ends::default(),
        };
        is_stored(fixture.apply(Statement::Commit(commit)).await, 1, 1);
        let record = fixture.record().await;
        assert_eq!(record.credentials.as_deref().map(plain), Some(plain(&given)));
        assert_eq!((record.made_by, record.due_at), (Some(grant.attempt), None));
    }
}

pub(super) async fn two_providers_and_two_tenants_with_equal_token_ids_never_meet(
    fixture: Fixture,
) {
    let homes = [("p1", "t1"), ("p1", "t2"), ("p2", "t1"), ("p2", "t2")];
    for (provider, tenant) in homes {
        let fixture = fixture.of(id(provider, tenant, "same"));
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        is_stored(fixture.commit(grant, &format!("{provider}-{tenant}")).await, 1, 1);
    }
    // All that can happen to a record happens to the first.
    let first = fixture.of(id("p1", "t1", "same"));
    let refresh = first.granted(BOB, Intent::Refresh).await;
    done(first.settle(refresh, SettleTo::InDoubt).await);
    done(first.lose(LostReason::SessionDeleted).await);
    let closed = first.closed().await;
    done(first.settle(closed, SettleTo::Revoked).await);
    done(first.delete().await);
    for (provider, tenant) in &homes[1..] {
        let fixture = fixture.of(id(provider, tenant, "same"));
        let expected = gist(1, 1, Phase::Active, &format!("{provider}-{tenant}"));
        assert_eq!(fixture.gist().await, expected);
        assert!(fixture.is_due().await);
    }
}

pub(super) async fn names_that_differ_by_little_stay_apart(fixture: Fixture) {
    let names = [
        ("ab", "c", "d"),
        ("a", "bc", "d"),
        ("a", "b", "cd"),
        ("a/b", "c", "d"),
        ("a", "b/c", "d"),
        ("A", "b", "cd"),
        ("a", "b", "cd "),
        ("a", "b", "c%"),
        ("a", "b", "c_"),
        ("a", "b", "'"),
        ("a", "b", ".."),
        ("a", "b", "\u{e9}"),
        ("a", "b", "e\u{301}"),
    ];
    for (number, (provider, tenant, name)) in names.into_iter().enumerate() {
        let fixture = fixture.of(id(provider, tenant, name));
        assert!(fixture.load().await.is_none(), "{} is another's", fixture.id);
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        is_stored(fixture.commit(grant, &number.to_string()).await, 1, 1);
    }
    for (number, (provider, tenant, name)) in names.into_iter().enumerate() {
        let record = fixture.of(id(provider, tenant, name)).record().await;
        assert_eq!(access(record.credentials.as_deref()), format!("access-{number}"));
    }
    let listed = fixture.store.list(&RecordFilter::default(), None, 1000).await.unwrap();
    assert_eq!(listed.len(), names.len());
}

pub(super) async fn many_records_are_read_in_the_order_asked_as_each_is_alone(fixture: Fixture) {
    let names = ["a", "unknown", "c", "a", "unknown-too", "b"];
    fixture.named("a").established().await;
    fixture.named("b").refreshing().await;
    fixture.named("c").uninformed().await;
    let ids = names.map(|name| fixture.named(name).id);
    let read = fixture.store.load_many(&ids).await;
    assert_eq!(read.len(), ids.len(), "one answer for each, also for those that are not there");
    for (id, read) in ids.iter().zip(read) {
        let alone = fixture.of(id.clone()).load().await.map(|stored| stored.record);
        let read = read.unwrap().map(|stored| stored.record);
        assert_eq!(read.as_ref().map(|read| read.version), alone.as_ref().map(|one| one.version));
        assert_eq!(read.map(|read| read.counters()), alone.map(|alone| alone.counters()), "{id}");
    }
    let fourth = fixture.store.load_many(&ids).await.swap_remove(3).unwrap().unwrap().record;
    assert_eq!(access(fourth.credentials.as_deref()), "access-first");
    assert!(fixture.store.load_many(&[]).await.is_empty());
}

pub(super) async fn the_ends_come_back_as_the_time_that_is_left(fixture: Fixture) {
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    let (access_in, refresh_in, due_in) = (Some(HOUR), Some(24 * HOUR), Some(HOUR / 2));
    done(fixture.commit_with(grant, "a", Ends { access_in, refresh_in, due_in, ..ENDS }).await);
    let stored = fixture.stored().await;
    is_about(stored.access_left(), HOUR);
    is_about(stored.refresh_left(), 24 * HOUR);
    is_about(stored.due_in(), HOUR / 2);
    // What is not known is not known then either, and what is over is over.
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    let ends = Ends { access_in: Some(Duration::ZERO), ..Ends::default() };
    done(fixture.commit_with(refresh, "b", ends).await);
    let stored = fixture.stored().await;
    assert_eq!(stored.access_left(), Some(Duration::ZERO));
    assert_eq!((stored.refresh_left(), stored.due_in()), (None, None));
    let closed = fixture.closed().await;
    done(fixture.settle(closed, SettleTo::Revoked).await);
    let stored = fixture.stored().await;
    assert_eq!((stored.access_left(), stored.refresh_left(), stored.due_in()), (None, None, None));
}

pub(super) async fn the_version_rises_with_every_write_and_with_nothing_else(fixture: Fixture) {
    let mut last = 0;
    let mut rises = async |fixture: &Fixture, version: u64| {
        assert!(version > last, "{version} after {last}");
        if let Some(stored) = fixture.load().await {
            assert_eq!(stored.record.version, version, "the answer is what is stored");
        }
        last = version;
    };
    for round in 0..2 {
        let claim = fixture.next_claim(ALICE, Intent::Establish).await;
        let granted = done(fixture.claim(claim).await);
        rises(&fixture, granted.version).await;
        assert_eq!(granted.fence, granted.version, "the fence is the version of the claim");
        let renew = Renew { claim: claim.id, lease: 2 * HOUR };
        rises(&fixture, done(fixture.apply(Statement::Renew(renew)).await).version).await;
        let attempt = Attempt { base: granted.generation, fence: granted.fence, claim: claim.id };
        let grant = GrantedClaim { intent: Intent::Establish, epoch: granted.epoch, attempt };
        rises(&fixture, done(fixture.commit(grant, "a").await).version).await;
        let refresh = fixture.silent(BOB, Intent::Refresh).await;
        rises(&fixture, refresh.attempt.fence).await;
        rises(&fixture, done(fixture.take_over(refresh.id()).await).version).await;
        let refresh = fixture.granted(BOB, Intent::Refresh).await;
        rises(&fixture, refresh.attempt.fence).await;
        rises(&fixture, done(fixture.settle(refresh, SettleTo::Before).await).version).await;
        rises(&fixture, done(fixture.lose(LostReason::Revoked).await).version).await;
        rises(&fixture, fixture.closed().await.attempt.fence).await;
        let version = fixture.record().await.version;
        conflict(fixture.settle(refresh, SettleTo::InDoubt).await);
        conflict(fixture.commit(refresh, "late").await);
        conflict(fixture.close(0).await);
        assert_eq!(fixture.record().await.version, version, "nothing was written");
        rises(&fixture, done(fixture.delete().await).version).await;
        assert!(fixture.load().await.is_none(), "round {round}");
    }
}

pub(super) async fn a_deleted_session_is_gone_and_the_others_stay(fixture: Fixture) {
    let other = fixture.named("other");
    fixture.established().await;
    other.established().await;
    done(fixture.delete().await);
    assert!(fixture.load().await.is_none());
    assert!(!fixture.is_due().await);
    assert!(conflict(fixture.delete().await).is_none());
    let listed = fixture.store.list(&RecordFilter::default(), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|listed| &listed.id).collect::<Vec<_>>(), [&other.id]);
    assert!(other.is_due().await);
    assert_eq!(other.gist().await, gist(1, 1, Phase::Active, "first"));
    fixture.established().await;
}

pub(super) async fn a_session_after_a_delete_begins_above_what_was_deleted(fixture: Fixture) {
    let refresh = fixture.refreshing().await;
    is_stored(fixture.commit(refresh, "second").await, 1, 2);
    let deleted = fixture.record().await;
    done(fixture.delete().await);
    for name in ["device", "never-there-before"] {
        let fixture = fixture.named(name);
        let grant = fixture.granted(BOB, Intent::Establish).await;
        assert!(grant.attempt.fence > deleted.version, "{grant:?} {deleted:?}");
        assert!(grant.epoch > deleted.epoch && grant.attempt.base > deleted.generation);
        is_stored(fixture.commit(grant, "next").await, grant.epoch + 1, grant.attempt.base + 1);
    }
}

pub(super) async fn an_attempt_from_before_a_delete_does_not_touch_the_successor(fixture: Fixture) {
    let former = fixture.refreshing().await;
    done(fixture.delete().await);
    fixture.established().await;
    let expected = fixture.gist().await;
    conflict(fixture.commit(former, "former").await);
    conflict(fixture.settle(former, SettleTo::InDoubt).await);
    assert_eq!(fixture.gist().await, expected);
    let successor = fixture.granted(BOB, Intent::Refresh).await;
    assert!(successor.attempt.fence > former.attempt.fence, "{successor:?} {former:?}");
    conflict(fixture.settle(former, SettleTo::InDoubt).await);
    conflict(fixture.take_over(former.id()).await);
    conflict(fixture.close(former.attempt.base).await);
    assert_eq!(fixture.gist().await, expected);
    assert_eq!(fixture.claimed_by().await, Some(successor.id()));
}

pub(super) async fn a_first_grant_from_before_a_delete_brings_nothing_back(fixture: Fixture) {
    for stored_before in [false, true] {
        let former = fixture.granted(ALICE, Intent::Establish).await;
        if stored_before {
            // Its acknowledgement is lost, so that it is sent again after the delete.
            done(fixture.commit(former, "former").await);
        }
        done(fixture.delete().await);
        conflict(fixture.commit(former, "former").await);
        assert!(fixture.load().await.is_none(), "what was deleted is back");
        // Nor while its successor's first grant is claimed, which then stands.
        let successor = fixture.granted(BOB, Intent::Establish).await;
        conflict(fixture.commit(former, "former").await);
        done(fixture.commit(successor, "successor").await);
        let (epoch, generation) = (successor.epoch + 1, successor.attempt.base + 1);
        let expected = gist(epoch, generation, Phase::Active, "successor");
        assert_eq!(fixture.gist().await, expected);
        done(fixture.delete().await);
    }
}

pub(super) async fn a_delete_does_not_hurt_the_first_grant_of_another_session(fixture: Fixture) {
    let other = fixture.named("other");
    fixture.established().await;
    let grant = other.granted(ALICE, Intent::Establish).await;
    for name in ["second", "third", "fourth"] {
        let refresh = fixture.granted(BOB, Intent::Refresh).await;
        done(fixture.commit_with(refresh, name, ENDS).await);
    }
    done(fixture.delete().await);
    is_stored(other.commit(grant, "other").await, 1, 1);
    is_stored(other.commit(grant, "other").await, 1, 1);
    assert_eq!(other.gist().await, gist(1, 1, Phase::Active, "other"));
}

type Times = (Option<SystemTime>, Option<SystemTime>);

/// All that credentials hold.
fn plain(credentials: &Credentials) -> ([Option<String>; 3], Times, [String; 3]) {
    let tokens = credentials.tokens();
    let secrets = [tokens.access_token(), tokens.refresh_token(), tokens.token_secret()];
    let ends = (tokens.access_expires_at(), tokens.refresh_expires_at());
    let texts = [tokens.attributes(), credentials.authority(), credentials.client()];
    let secrets = secrets.map(|secret| secret.map(|secret| secret.expose_secret().to_owned()));
    (secrets, ends, texts.map(str::to_owned))
}
