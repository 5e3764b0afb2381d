//! The due order and the list.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{ALICE, BOB, ENDS, Fixture, HOUR, done, gist, id, is_about, is_stored};
use crate::error::LostReason;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::store::{Due, DuePage, Ends, Filter, Intent, Listed, Phase, Record, SettleTo};

fn ends(due_in: Option<Duration>) -> Ends {
    Ends { due_in, ..ENDS }
}

pub(super) async fn due_records_come_in_order_none_twice_and_none_missed(fixture: Fixture) {
    let mut expected = Vec::new();
    for number in 0..30_u32 {
        let fixture = fixture.named(&format!("device-{:02}", (number * 7) % 30));
        // Many at one time, as far as the clock stands still, and some at none.
        let due_in = (number % 6 != 5).then(|| (10 - number % 4) * HOUR);
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        is_stored(fixture.commit_with(grant, "any", ends(due_in)).await, 1, 1);
        let at = fixture.record().await.due_at;
        assert_eq!(at.is_some(), due_in.is_some());
        expected.extend(at.map(|at| Due { at, id: fixture.id.clone() }));
    }
    expected.sort();
    for limit in [1, 3, 7, 1000] {
        let mut seen: Vec<Due> = Vec::new();
        loop {
            let DuePage { due, now } = fixture.store.due(seen.last(), limit).await.unwrap();
            assert!(due.len() <= limit);
            if due.is_empty() {
                break;
            }
            let first = due[0].at.duration_since(now.wall).ok();
            assert!(first.is_some_and(|first| first > 6 * HOUR), "by the store's clock: {first:?}");
            seen.extend(due);
        }
        assert_eq!(seen, expected, "in pages of {limit}");
    }
}

pub(super) async fn a_record_is_due_when_its_newest_commit_says_so(fixture: Fixture) {
    let mut claim = fixture.granted(ALICE, Intent::Establish).await;
    let hours = [Some(5 * HOUR), Some(2 * HOUR), None, Some(7 * HOUR), Some(7 * HOUR)];
    for due_in in hours {
        done(fixture.commit_with(claim, "any", ends(due_in)).await);
        let stored = fixture.stored().await;
        let due = fixture.due().await.due;
        assert_eq!(
            due.into_iter().map(|due| due.at).collect::<Vec<_>>(),
            Vec::from_iter(stored.record.due_at)
        );
        match due_in {
            Some(due_in) => is_about(stored.due_in(), due_in),
            None => assert_eq!(stored.due_in(), None),
        }
        claim = fixture.granted(ALICE, Intent::Refresh).await;
    }
    // A claim and a harmless end of it move nothing.
    let due = fixture.due().await.due;
    assert!(fixture.is_due().await);
    done(fixture.settle(claim, SettleTo::Before).await);
    assert_eq!(fixture.due().await.due, due);
}

pub(super) async fn what_is_lost_or_closed_and_told_is_not_due(fixture: Fixture) {
    let (lost, closed, active) =
        (fixture.named("lost"), fixture.named("closed"), fixture.named("active"));
    lost.lost().await;
    active.established().await;
    closed.established().await;
    let claim = closed.closed().await;
    let due = |page: DuePage| page.due.into_iter().map(|due| due.id).collect::<Vec<_>>();
    let both = [closed.id.clone(), active.id.clone()];
    assert_eq!(due(fixture.due().await), both, "the untold one first");
    done(closed.settle(claim, SettleTo::Revoked).await);
    assert_eq!(due(fixture.due().await), both[1..]);
}

pub(super) async fn a_list_filters_and_pages_in_the_order_of_ids(fixture: Fixture) {
    let mut ids = BTreeSet::new();
    // An order of bytes, not of any language.
    for name in ["b", "a", "B", "_", "a-b", "ab", "\u{e9}", "z", "10", "9"] {
        for (provider, tenant) in [("p", "t"), ("p", "T"), ("q", "t")] {
            let fixture = fixture.of(id(provider, tenant, name));
            fixture.established().await;
            if name == "z" {
                fixture.closed().await;
            }
            ids.insert(fixture.id.clone());
        }
    }
    let (provider, tenant) = (ProviderName::new("p").unwrap(), Tenant::new("t").unwrap());
    let filters = [
        Filter::default(),
        Filter { provider: Some(provider.clone()), ..Filter::default() },
        Filter { tenant: Some(tenant.clone()), ..Filter::default() },
        Filter { phase: Some(Phase::Closed), ..Filter::default() },
        Filter { phase: Some(Phase::Lost), ..Filter::default() },
        Filter { provider: Some(provider), tenant: Some(tenant), phase: Some(Phase::Active) },
    ];
    for filter in &filters {
        let mut expected = Vec::new();
        for id in &ids {
            let record = fixture.of(id.clone()).record().await;
            expected.extend(filter.passes(id, &record).then(|| id.clone()));
        }
        for limit in [1, 4, 1000] {
            let listed = all(&fixture, filter, limit).await;
            let seen: Vec<_> = listed.iter().map(|listed| listed.id.clone()).collect();
            assert_eq!(seen, expected, "{filter:?} in pages of {limit}");
            assert!(listed.iter().all(|one| filter.passes(&one.id, &one.stored.record)));
        }
    }
}

pub(super) async fn a_list_shows_what_a_load_shows_but_credentials(fixture: Fixture) {
    fixture.named("active").established().await;
    fixture.named("closed").untold().await;
    fixture.named("granting").granted(ALICE, Intent::Establish).await;
    fixture.named("lost").lost().await;
    let refresh = fixture.named("refreshing").refreshing().await;
    let listed = all(&fixture, &Filter::default(), 1000).await;
    assert_eq!(listed.len(), 5);
    for Listed { id, stored } in listed {
        let loaded = fixture.of(id.clone()).record().await;
        assert_eq!(still(stored.record.clone()), still(loaded.with(None, None)), "{id}");
        let claim = stored.record.lease.map(|lease| lease.claim);
        if id == fixture.named("refreshing").id {
            is_about(stored.lease_left(), HOUR);
            is_about(stored.access_left(), HOUR);
            assert_eq!(claim, Some(refresh.id()));
        }
    }
}

/// The record without the times of its lease, which a store may give in another clock's time each
/// time that it reads them.
fn still(record: Record<()>) -> Record<()> {
    let lease = record.lease.map(|mut lease| {
        (lease.from, lease.until) = Default::default();
        lease
    });
    Record { lease, ..record.with(None, None) }
}

pub(super) async fn a_list_is_not_disturbed_by_changes_meanwhile(fixture: Fixture) {
    for number in 0..20 {
        fixture.named(&format!("device-{number:02}")).established().await;
    }
    let filter = Filter::default();
    let mut seen: Vec<SessionId> = Vec::new();
    for page in 0_usize.. {
        let listed = fixture.store.list(&filter, seen.last(), 4).await.unwrap();
        if listed.is_empty() {
            break;
        }
        seen.extend(listed.into_iter().map(|listed| listed.id));
        // Behind, at and before the place where the list stands, everything moves.
        let behind = fixture.named(&format!("device-{:02}", page * 4));
        done(behind.delete().await);
        fixture.of(seen.last().unwrap().clone()).granted(ALICE, Intent::Refresh).await;
        let ahead = fixture.named(&format!("device-{:02}", page * 4 + 5));
        if ahead.load().await.is_some() {
            let refresh = ahead.granted(BOB, Intent::Refresh).await;
            is_stored(ahead.commit_with(refresh, "moved", ends(None)).await, 1, 2);
            assert_eq!(ahead.gist().await, gist(1, 2, Phase::Active, "moved"));
        }
        fixture.named(&format!("a-new-one-{page}")).established().await;
        let lost = fixture.named(&format!("device-{:02}", page * 4 + 6));
        if lost.load().await.is_some() {
            let refresh = lost.granted(BOB, Intent::Refresh).await;
            done(lost.settle(refresh, SettleTo::Lost(LostReason::Rejected)).await);
        }
    }
    let expected = (0..20).map(|number| fixture.named(&format!("device-{number:02}")).id);
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

async fn all(fixture: &Fixture, filter: &Filter, limit: usize) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::new();
    loop {
        let after = listed.last().map(|listed| listed.id.clone());
        let page = fixture.store.list(filter, after.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return listed;
        }
        listed.extend(page);
    }
}
