//! The due order and the list.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{
    ALICE, BOB, ENDS, Fixture, HOUR, conflict, done, gist, id, is_about, is_stored,
};
use crate::error::LostReason;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::store::{
    Due, DuePage, Ends, Intent, Listed, Phase, Presence, Record, RecordFilter, Reschedule,
    SettleTo, Statement,
};

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
            let page = fixture.store.due(fixture.id.provider(), 20 * HOUR, seen.last(), limit);
            let DuePage { due, now, .. } = page.await.unwrap();
            let is_last = seen.len() + due.len() == expected.len();
            assert!(due.len() == limit || (is_last && due.len() < limit), "full but for the last");
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
    done(fixture.settle_until(claim, (SettleTo::Before, None), Some(3 * HOUR)).await);
    is_about(fixture.stored().await.due_in(), 3 * HOUR);
    assert!(fixture.is_due().await);
}

pub(super) async fn only_what_is_due_in_time_at_its_provider_and_not_at_work_is_named(
    fixture: Fixture,
) {
    let names = |page: DuePage| {
        Vec::from_iter(page.due.into_iter().map(|due| due.id.key().token_id().to_owned()))
    };
    for (name, hours) in [("soon", 1), ("later", 3)] {
        let fixture = fixture.named(name);
        let grant = fixture.granted(ALICE, Intent::Establish).await;
        done(fixture.commit_with(grant, "any", ends(Some(hours * HOUR))).await);
    }
    let provider = fixture.id.provider().clone();
    let due = |within| fixture.store.due(&provider, within, None, 10);
    assert_eq!(names(due(Duration::ZERO).await.unwrap()), [""; 0]);
    assert_eq!(names(due(2 * HOUR).await.unwrap()), ["soon"]);
    assert_eq!(names(due(4 * HOUR).await.unwrap()), ["soon", "later"]);
    let other = ProviderName::new("other").unwrap();
    assert_eq!(names(fixture.store.due(&other, 4 * HOUR, None, 10).await.unwrap()), [""; 0]);
    fixture.named("soon").granted(BOB, Intent::Refresh).await;
    assert_eq!(names(due(4 * HOUR).await.unwrap()), ["later"], "its holder is at work");
    fixture.named("later").silent(BOB, Intent::Refresh).await;
    assert_eq!(names(due(4 * HOUR).await.unwrap()), ["later"], "its lease has ended");
}

pub(super) async fn of_several_that_announce_an_end_one_does(fixture: Fixture) {
    let grant = fixture.granted(ALICE, Intent::Establish).await;
    let ends = Ends { due_in: Some(HOUR), announce_in: Some(HOUR), ..ENDS };
    done(fixture.commit_with(grant, "any", ends).await);
    let stored = fixture.stored().await;
    is_about(stored.announce_in(), HOUR);
    let version = stored.record.version;
    let announced = |announced, due_in| {
        Statement::Reschedule(Reschedule { version, announced, due_in: Some(due_in) })
    };
    let one = done(fixture.apply(announced(true, 5 * HOUR)).await);
    assert!(one.version > version);
    let found = conflict(fixture.apply(announced(true, 7 * HOUR)).await).unwrap();
    assert_eq!((found.version, found.announce_at), (one.version, None));
    let stored = fixture.stored().await;
    assert_eq!(stored.announce_in(), None);
    is_about(stored.due_in(), 5 * HOUR);
    // A look that is moved announces nothing, and a new token is to be announced again.
    let refresh = fixture.granted(ALICE, Intent::Refresh).await;
    done(fixture.commit_with(refresh, "any", ends).await);
    let version = fixture.record().await.version;
    let moved = Reschedule { version, announced: false, due_in: None };
    done(fixture.apply(Statement::Reschedule(moved)).await);
    let stored = fixture.stored().await;
    assert_eq!(stored.due_in(), None);
    is_about(stored.announce_in(), HOUR);
    assert!(!fixture.is_due().await);
}

pub(super) async fn the_supervisors_that_live_are_named(fixture: Fixture) {
    let holders = async |fixture: &Fixture| {
        let known = fixture.due().await.holders;
        let mut holders: Vec<_> =
            known.into_iter().filter(|it| [ALICE, BOB].contains(it)).collect();
        holders.sort_unstable();
        holders
    };
    for owner in [ALICE, BOB] {
        fixture.store.presence(owner, Presence::Register).await.unwrap();
    }
    let mut both = [ALICE, BOB];
    both.sort_unstable();
    assert_eq!(holders(&fixture).await, both);
    fixture.store.presence(ALICE, Presence::Retire).await.unwrap();
    assert_eq!(holders(&fixture).await, [BOB]);
}

pub(super) async fn what_is_lost_or_closed_and_revoked_is_not_due(fixture: Fixture) {
    let (lost, closed, active) =
        (fixture.named("lost"), fixture.named("closed"), fixture.named("active"));
    lost.lost().await;
    active.established().await;
    closed.established().await;
    let claim = closed.closed().await;
    let due = |page: DuePage| page.due.into_iter().map(|due| due.id).collect::<Vec<_>>();
    let both = [closed.id.clone(), active.id.clone()];
    assert_eq!(due(fixture.due().await), both[1..], "whoever closed it tells the server");
    done(closed.settle(claim, SettleTo::Before).await);
    assert_eq!(due(fixture.due().await), both, "the untold one first");
    let claim = closed.granted(BOB, Intent::Revoke).await;
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
        RecordFilter::default(),
        RecordFilter { provider: Some(provider.clone()), ..RecordFilter::default() },
        RecordFilter { tenant: Some(tenant.clone()), ..RecordFilter::default() },
        RecordFilter { phase: Some(Phase::Closed), ..RecordFilter::default() },
        RecordFilter { phase: Some(Phase::Lost), ..RecordFilter::default() },
        RecordFilter { provider: Some(provider), tenant: Some(tenant), phase: Some(Phase::Active) },
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
    fixture.named("closed").uninformed().await;
    fixture.named("granting").granted(ALICE, Intent::Establish).await;
    fixture.named("lost").lost().await;
    let refresh = fixture.named("refreshing").refreshing().await;
    let listed = all(&fixture, &RecordFilter::default(), 1000).await;
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
    let filter = RecordFilter::default();
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

async fn all(fixture: &Fixture, filter: &RecordFilter, limit: usize) -> Vec<Listed> {
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
