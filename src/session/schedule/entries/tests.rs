use std::time::Duration;

use super::*;
use crate::key::{ProviderName, SessionKey};

fn at(seconds: u64) -> BootTime {
    BootTime::new(Duration::from_secs(seconds))
}

fn id(name: &str) -> SessionId {
    SessionId::new(ProviderName::new("p").unwrap(), SessionKey::new("t", name).unwrap())
}

fn take(schedule: &mut Entries, now: u64) -> Option<SessionId> {
    schedule.take_due(at(now)).map(|(id, _)| id)
}

fn end(schedule: &mut Entries, name: &str, checked: CheckResult) {
    schedule.checked(&id(name), checked, |tries| at(1000 + u64::from(tries)));
}

#[test]
fn sessions_are_checked_in_the_order_of_their_times_and_not_before() {
    let mut schedule = Entries::default();
    for (seconds, name) in [(30, "c"), (10, "a"), (20, "b")] {
        schedule.arm(&id(name), Some(at(seconds)));
    }
    assert_eq!(schedule.next(), Some(at(10)));
    assert_eq!(take(&mut schedule, 9), None);
    assert_eq!(take(&mut schedule, 20), Some(id("a")));
    assert_eq!(take(&mut schedule, 20), Some(id("b")));
    assert_eq!(take(&mut schedule, 20), None);
    assert_eq!(schedule.next(), Some(at(30)));
}

#[test]
fn a_session_has_one_entry_however_often_its_time_changes() {
    let mut schedule = Entries::default();
    for seconds in [50, 10, 90] {
        schedule.arm(&id("a"), Some(at(seconds)));
        assert!(schedule.offer(&id("a"), at(1)), "it is there");
        assert_eq!((schedule.len(), schedule.next()), (1, Some(at(seconds))));
    }
    schedule.arm(&id("a"), None);
    assert_eq!((schedule.len(), schedule.next()), (0, None));
}

#[test]
fn a_session_stays_while_it_is_checked_and_keeps_a_time_that_is_set_meanwhile() {
    let mut schedule = Entries::default();
    schedule.arm(&id("a"), Some(at(10)));
    assert_eq!(take(&mut schedule, 10), Some(id("a")));
    schedule.arm(&id("a"), Some(at(11)));
    assert_eq!(take(&mut schedule, 50), None, "one check at a time");
    end(&mut schedule, "a", CheckResult::Done);
    assert_eq!(take(&mut schedule, 50), Some(id("a")));
    end(&mut schedule, "a", CheckResult::Done);
    assert_eq!(schedule.len(), 0);
}

#[test]
fn a_failed_check_is_repeated_after_a_pause_that_nothing_shortens() {
    let mut schedule = Entries::default();
    schedule.arm(&id("a"), Some(at(10)));
    for tries in 1..4 {
        assert_eq!(take(&mut schedule, 2000), Some(id("a")));
        end(&mut schedule, "a", CheckResult::Failed);
        schedule.arm(&id("a"), Some(at(10)));
        assert_eq!(schedule.next(), Some(at(1000 + tries)));
    }
    assert_eq!(take(&mut schedule, 2000), Some(id("a")));
    end(&mut schedule, "a", CheckResult::Done);
    schedule.arm(&id("a"), Some(at(10)));
    assert_eq!(schedule.next(), Some(at(10)), "a success ends that");
}

#[test]
fn failed_records_take_no_room_from_others_and_have_a_bound() {
    let mut schedule = Entries::default();
    let name = |number| format!("device-{number:06}");
    let fill = |schedule: &mut Entries, from: usize, many: usize| {
        (from..from + many).filter(|number| schedule.offer(&id(&name(*number)), at(1))).count()
    };
    let mut next = 0;
    while next < DUE_FAILED {
        assert_eq!(fill(&mut schedule, next, DUE_AT_ONCE), DUE_AT_ONCE);
        assert_eq!(fill(&mut schedule, next + DUE_AT_ONCE, 1), 0, "no room");
        while let Some(failing) = take(&mut schedule, 1) {
            end(&mut schedule, failing.key().token_id(), CheckResult::Failed);
        }
        next += DUE_AT_ONCE;
    }
    assert_eq!(schedule.len(), DUE_FAILED);
    assert_eq!(fill(&mut schedule, next, 1), 1);
    assert_eq!(take(&mut schedule, 1), Some(id(&name(next))));
    end(&mut schedule, &name(next), CheckResult::Failed);
    assert_eq!(schedule.len(), DUE_FAILED, "the store brings it again");
}

#[test]
fn sessions_wait_in_their_queues_which_have_a_bound() {
    let mut schedule = Entries::default();
    let (one, other) = (WaitQueue::Client, WaitQueue::ClientOf(Tenant::new("t").unwrap()));
    let queue = |schedule: &mut Entries, wait_queue: &WaitQueue, name: &str| {
        assert!(schedule.offer(&id(name), at(1)));
        assert_eq!(take(schedule, 1), Some(id(name)));
        end(schedule, name, CheckResult::Queued);
        schedule.queue(wait_queue, &id(name))
    };
    assert!(
        queue(&mut schedule, &one, "a")
            && !queue(&mut schedule, &one, "b")
            && queue(&mut schedule, &other, "c")
    );
    schedule.arm(&id("a"), Some(at(1)));
    assert_eq!((take(&mut schedule, 50), schedule.len()), (None, 3), "it waits already");
    assert_eq!(schedule.take_queued(&one), Some(id("a")));
    end(&mut schedule, "a", CheckResult::LeftToStore);
    assert_eq!(schedule.take_queued(&one), Some(id("b")));
    assert_eq!(schedule.take_queued(&one), None);
    assert!(queue(&mut schedule, &one, "d"), "the queue has no task, so the caller must start one");
    for number in 1..DUE_WAITING {
        assert!(schedule.has_room(&one));
        queue(&mut schedule, &one, &format!("more-{number}"));
    }
    assert!(!schedule.has_room(&one) && schedule.has_room(&other));
}

#[test]
fn a_source_has_a_bound_of_requests_at_once() {
    let mut schedule = Entries::default();
    let mut tasks = 0;
    for number in 0..DUE_SOURCES + 5 {
        tasks += usize::from(schedule.queue(&WaitQueue::Source, &id(&number.to_string())));
    }
    assert_eq!(tasks, DUE_SOURCES);
    let mut taken = 0;
    while schedule.take_queued(&WaitQueue::Source).is_some() {
        taken += 1;
    }
    assert_eq!(taken, DUE_SOURCES + 5);
    assert!(schedule.queue(&WaitQueue::Source, &id("next")), "one task has ended");
    assert!(!schedule.queue(&WaitQueue::Source, &id("after")), "the others have not");
}
