//! The due order and the list.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::bed::{ALICE, BOB, Bed, gist, id, stored, wall};
use crate::error::LostReason;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::store::{Due, Filter, Intent, Listed, Phase, SettleTo, Settled};

pub(super) async fn due_records_come_in_order_none_twice_and_none_missed(bed: Bed) {
    let mut expected = Vec::new();
    for number in 0..30_u64 {
        let bed = bed.named(&format!("device-{:02}", (number * 7) % 30));
        // Many at one time, and some at none.
        let at = (number % 6 != 5).then(|| wall(100 - number % 4));
        let grip = bed.grip(ALICE, Intent::Establish).await;
        assert_eq!(bed.commit_due(grip, "any", at).await, stored(1, 1));
        expected.extend(at.map(|at| Due { at, id: bed.id.clone() }));
    }
    expected.sort();
    for limit in [1, 3, 7, 1000] {
        let mut seen: Vec<Due> = Vec::new();
        loop {
            let page = bed.store.due(seen.last(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, expected, "in pages of {limit}");
    }
}

pub(super) async fn a_record_is_due_when_its_newest_commit_says_so(bed: Bed) {
    let mut grip = bed.grip(ALICE, Intent::Establish).await;
    for at in [Some(wall(50)), Some(wall(20)), None, Some(wall(70)), Some(wall(70))] {
        bed.commit_due(grip, "any", at).await;
        let due = bed.store.due(None, 10).await.unwrap();
        assert_eq!(due.into_iter().map(|due| due.at).collect::<Vec<_>>(), Vec::from_iter(at));
        assert_eq!(bed.record().await.due_at, at);
        grip = bed.grip(ALICE, Intent::Refresh).await;
    }
    // A claim and a harmless end of it move nothing.
    assert!(bed.is_due().await);
    assert_eq!(bed.settle(grip, SettleTo::Before).await, Settled::Done);
    let due = bed.store.due(None, 10).await.unwrap();
    assert_eq!(due, [Due { at: wall(70), id: bed.id.clone() }]);
}

pub(super) async fn what_is_lost_or_closed_and_told_is_not_due(bed: Bed) {
    let (lost, closed, active) = (bed.named("lost"), bed.named("closed"), bed.named("active"));
    lost.lost().await;
    active.established().await;
    closed.established().await;
    let generation = closed.closed().await;
    let due = |due: Vec<Due>| due.into_iter().map(|due| due.id).collect::<Vec<_>>();
    let both = [closed.id.clone(), active.id.clone()];
    assert_eq!(due(bed.store.due(None, 10).await.unwrap()), both, "the untold one first");
    closed.store.outbox(&closed.id, generation).await.unwrap();
    assert_eq!(due(bed.store.due(None, 10).await.unwrap()), both[1..]);
}

pub(super) async fn a_list_filters_and_pages_in_the_order_of_ids(bed: Bed) {
    let mut ids = BTreeSet::new();
    // An order of bytes, not of any language.
    for name in ["b", "a", "B", "_", "a-b", "ab", "\u{e9}", "z", "10", "9"] {
        for (provider, tenant) in [("p", "t"), ("p", "T"), ("q", "t")] {
            let bed = bed.of(id(provider, tenant, name));
            bed.established().await;
            if name == "z" {
                bed.closed().await;
            }
            ids.insert(bed.id.clone());
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
            let record = bed.of(id.clone()).record().await;
            expected.extend(filter.passes(id, &record).then(|| id.clone()));
        }
        for limit in [1, 4, 1000] {
            let listed = all(&bed, filter, limit).await;
            let seen: Vec<_> = listed.iter().map(|listed| listed.id.clone()).collect();
            assert_eq!(seen, expected, "{filter:?} in pages of {limit}");
            assert!(listed.iter().all(|listed| filter.passes(&listed.id, &listed.record)));
        }
    }
}

pub(super) async fn a_list_is_not_disturbed_by_changes_meanwhile(bed: Bed) {
    for number in 0..20 {
        bed.named(&format!("device-{number:02}")).established().await;
    }
    let filter = Filter::default();
    let mut seen: Vec<SessionId> = Vec::new();
    for page in 0_usize.. {
        let listed = bed.store.list(&filter, seen.last(), 4).await.unwrap();
        if listed.is_empty() {
            break;
        }
        seen.extend(listed.into_iter().map(|listed| listed.id));
        // Behind, at and before the place where the list stands, everything moves.
        let behind = bed.named(&format!("device-{:02}", page * 4));
        behind.store.delete(&behind.id).await.unwrap();
        bed.of(seen.last().unwrap().clone()).grip(ALICE, Intent::Refresh).await;
        let ahead = bed.named(&format!("device-{:02}", page * 4 + 5));
        if ahead.load().await.is_some() {
            let grip = ahead.grip(BOB, Intent::Refresh).await;
            ahead.commit_due(grip, "moved", None::<SystemTime>).await;
            assert_eq!(ahead.gist().await, gist(1, 2, Phase::Active, "moved"));
        }
        bed.named(&format!("a-new-one-{page}")).established().await;
        let lost = bed.named(&format!("device-{:02}", page * 4 + 6));
        if lost.load().await.is_some() {
            let grip = lost.grip(BOB, Intent::Refresh).await;
            lost.settle(grip, SettleTo::Lost(LostReason::Rejected)).await;
        }
    }
    let expected = (0..20).map(|number| bed.named(&format!("device-{number:02}")).id);
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

async fn all(bed: &Bed, filter: &Filter, limit: usize) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::new();
    loop {
        let after = listed.last().map(|listed| listed.id.clone());
        let page = bed.store.list(filter, after.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return listed;
        }
        listed.extend(page);
    }
}
