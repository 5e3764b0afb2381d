//! What is read back, and whose it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::bed::{ALICE, BOB, Bed, Grip, access, claim, gist, id, stored, wall};
use crate::store::{
    Attempt, Claimed, Closed, Commit, Committed, Filter, Intent, Phase, SettleTo, Settled,
};
use crate::token::{Credentials, Tokens};

pub(super) async fn an_unknown_session_is_not_there(bed: Bed) {
    bed.named("other").established().await;
    let attempt = Attempt { base: 1, fence: 1 };
    let grip = Grip { intent: Intent::Refresh, epoch: 1, attempt };
    assert!(bed.load().await.is_none());
    let claimed = bed.claim(claim(ALICE, Intent::Refresh, (0, 0))).await;
    assert!(!matches!(claimed, Claimed::Granted { .. }), "there is nothing to refresh");
    let claimed = bed.claim(claim(ALICE, Intent::Refresh, (1, 1))).await;
    assert!(matches!(claimed, Claimed::Moved(None)), "{claimed:?}");
    assert_eq!(bed.commit(grip, "late").await, Committed::Superseded);
    assert_eq!(bed.settle(grip, SettleTo::InDoubt).await, Settled::Moved);
    assert!(!bed.take_over(1, Duration::from_secs(3600)).await);
    let closed = bed.close(1).await;
    assert!(matches!(closed, Closed::Moved(None)), "{closed:?}");
    bed.store.outbox(&bed.id, 1).await.unwrap();
    assert!(!bed.store.delete(&bed.id).await.unwrap());
    assert!(bed.load().await.is_none(), "no statement makes a record but a claim");
}

pub(super) async fn credentials_come_back_as_they_were_given(bed: Bed) {
    let attributes = "{\"user\":\"J\u{f6}rg \u{1f511}\",\"quote\":\"'\\\"\",\"n\":[1,null]}";
    let full = Tokens::new(Arc::from(attributes))
        .access("access ' \" \\ \u{e9}", Some(wall(900)))
        .refresh("refresh-1".repeat(1000), Some(wall(90_000)))
        .token_secret("secret-1");
    let least = Tokens::new(Arc::from("null"));
    for (name, tokens) in [("full", full), ("least", least)] {
        let bed = bed.named(name);
        let grip = bed.grip(ALICE, Intent::Establish).await;
        let given = Arc::new(Credentials::new(tokens, "https://login.example.com:8443", "c\u{e9}"));
        let commit = Commit {
            intent: grip.intent,
            epoch: grip.epoch,
            attempt: grip.attempt,
            credentials: Arc::clone(&given),
            due_at: None,
        };
        assert_eq!(bed.store.commit(&bed.id, commit).await.unwrap(), stored(1, 1));
        let record = bed.record().await;
        assert_eq!(record.credentials.as_deref().map(plain), Some(plain(&given)));
        assert_eq!((record.made_by, record.due_at), (Some(grip.attempt), None));
    }
}

pub(super) async fn two_providers_and_two_tenants_with_equal_token_ids_never_meet(bed: Bed) {
    let homes = [("p1", "t1"), ("p1", "t2"), ("p2", "t1"), ("p2", "t2")];
    for (provider, tenant) in homes {
        let bed = bed.of(id(provider, tenant, "same"));
        let grip = bed.grip(ALICE, Intent::Establish).await;
        assert_eq!(bed.commit(grip, &format!("{provider}-{tenant}")).await, stored(1, 1));
    }
    // All that can happen to a record happens to the first.
    let first = bed.of(id("p1", "t1", "same"));
    let grip = first.grip(BOB, Intent::Refresh).await;
    first.settle(grip, SettleTo::InDoubt).await;
    let generation = first.closed().await;
    first.store.outbox(&first.id, generation).await.unwrap();
    assert!(first.store.delete(&first.id).await.unwrap());
    for (provider, tenant) in &homes[1..] {
        let bed = bed.of(id(provider, tenant, "same"));
        let expected = gist(1, 1, Phase::Active, &format!("{provider}-{tenant}"));
        assert_eq!(bed.gist().await, expected);
        assert!(bed.is_due().await);
    }
}

pub(super) async fn names_that_differ_by_little_stay_apart(bed: Bed) {
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
        let bed = bed.of(id(provider, tenant, name));
        assert!(bed.load().await.is_none(), "{} is another's", bed.id);
        let grip = bed.grip(ALICE, Intent::Establish).await;
        assert_eq!(bed.commit(grip, &number.to_string()).await, stored(1, 1));
    }
    for (number, (provider, tenant, name)) in names.into_iter().enumerate() {
        let record = bed.of(id(provider, tenant, name)).record().await;
        assert_eq!(access(record.credentials.as_deref()), format!("access-{number}"));
    }
    let listed = bed.store.list(&Filter::default(), None, 1000).await.unwrap();
    assert_eq!(listed.len(), names.len());
}

pub(super) async fn a_deleted_session_is_gone_and_the_others_stay(bed: Bed) {
    let other = bed.named("other");
    bed.established().await;
    other.established().await;
    assert!(bed.store.delete(&bed.id).await.unwrap());
    assert!(bed.load().await.is_none());
    assert!(!bed.is_due().await);
    assert!(!bed.store.delete(&bed.id).await.unwrap());
    let listed = bed.store.list(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|listed| &listed.id).collect::<Vec<_>>(), [&other.id]);
    assert!(other.is_due().await);
    assert_eq!(other.gist().await, gist(1, 1, Phase::Active, "first"));
    bed.established().await;
}

pub(super) async fn an_attempt_from_before_a_delete_does_not_touch_the_successor(bed: Bed) {
    let former = bed.refreshing().await;
    assert!(bed.store.delete(&bed.id).await.unwrap());
    bed.established().await;
    // Epoch and generation are the former's, so only the fence tells them apart.
    assert_eq!(bed.commit(former, "former").await, Committed::Superseded);
    assert_eq!(bed.settle(former, SettleTo::InDoubt).await, Settled::Moved);
    assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "first"));
    let successor = bed.grip(BOB, Intent::Refresh).await;
    assert!(successor.attempt.fence > former.attempt.fence, "{successor:?} {former:?}");
    assert_eq!(bed.settle(former, SettleTo::InDoubt).await, Settled::Moved);
    assert!(!bed.take_over(former.attempt.fence, Duration::from_secs(3600)).await);
    assert_eq!(bed.record().await.phase, Phase::Claimed);
}

pub(super) async fn a_first_grant_from_before_a_delete_brings_nothing_back(bed: Bed) {
    for stored_before in [false, true] {
        let former = bed.grip(ALICE, Intent::Establish).await;
        if stored_before {
            // Its acknowledgement is lost, so that it is sent again after the delete.
            assert_eq!(bed.commit(former, "former").await, stored(1, 1));
        }
        assert!(bed.store.delete(&bed.id).await.unwrap());
        assert_eq!(bed.commit(former, "former").await, Committed::Superseded);
        assert!(bed.load().await.is_none(), "what was deleted is back");
        // Nor while its successor's first grant is claimed, which then stands.
        let successor = bed.grip(BOB, Intent::Establish).await;
        assert_eq!(bed.commit(former, "former").await, Committed::Superseded);
        assert_eq!(bed.commit(successor, "successor").await, stored(1, 1));
        assert_eq!(bed.gist().await, gist(1, 1, Phase::Active, "successor"));
        assert!(bed.store.delete(&bed.id).await.unwrap());
    }
}

pub(super) async fn a_delete_does_not_hurt_the_first_grant_of_another_session(bed: Bed) {
    let other = bed.named("other");
    bed.established().await;
    let grant = other.grip(ALICE, Intent::Establish).await;
    for name in ["second", "third", "fourth"] {
        let grip = bed.grip(BOB, Intent::Refresh).await;
        bed.commit(grip, name).await;
    }
    assert!(bed.store.delete(&bed.id).await.unwrap());
    assert_eq!(other.commit(grant, "other").await, stored(1, 1));
    assert_eq!(other.commit(grant, "other").await, stored(1, 1));
    assert_eq!(other.gist().await, gist(1, 1, Phase::Active, "other"));
}

type Ends = (Option<SystemTime>, Option<SystemTime>);

/// All that credentials hold.
fn plain(credentials: &Credentials) -> ([Option<String>; 3], Ends, [String; 3]) {
    let tokens = credentials.tokens();
    let secrets = [tokens.access_token(), tokens.refresh_token(), tokens.secret_of_token()];
    let ends = (tokens.access_expires_at(), tokens.refresh_expires_at());
    let texts = [tokens.attributes(), credentials.authority(), credentials.client()];
    let secrets = secrets.map(|secret| secret.map(|secret| secret.expose_secret().to_owned()));
    (secrets, ends, texts.map(str::to_owned))
}
