//! Each rule reports a history that breaks it.

use std::time::Duration;

use super::*;
use crate::processes::history::Reading;
use crate::processes::orders::{Deed, Operation, Seen};

const KEY: &str = "a/device";
const SECOND: u64 = 1_000_000_000;

fn answer(pid: u32, start: u64, outcome: Outcome) -> Answer {
    let (operation, key) = (Some(Operation::Token), KEY.to_owned());
    Answer { order: start, pid, start, end: start + 10, operation, key, outcome }
}

fn token(pid: u32, start: u64, generation: u64) -> Answer {
    let hash = format!("access-{generation}");
    answer(pid, start, Outcome::Token(Handed { epoch: 1, generation, hash, works: None }))
}

fn failed(kind: &str, start: u64) -> Answer {
    let (kind, why) = (kind.to_owned(), String::new());
    answer(1, start, Outcome::Failed { kind, retry_after_ms: None, why })
}

fn deed(pid: u32, start: u64, what: Did) -> Deed {
    Deed { pid, start, end: start + 10, key: KEY.to_owned(), what }
}

fn stores(pid: u32, start: u64, generation: u64) -> Deed {
    let token = format!("access-{generation}");
    deed(pid, start, Did::Stored { epoch: 1, generation, token, grant: false, fence: generation })
}

fn seen(generation: u64, claimed: bool) -> Seen {
    let token = Some(format!("access-{generation}"));
    Seen { epoch: 1, generation, fence: 7, claimed, lost: false, token }
}

fn reading(start: u64, seen: Seen) -> Reading {
    Reading { start, end: start + 10, key: KEY.to_owned(), seen }
}

/// A refresh that gave this generation.
fn exchange(at: u64, generation: u64) -> Exchange {
    Exchange {
        at,
        key: KEY.to_owned(),
        sent: Some(format!("refresh-{}", generation - 1)),
        access: Some(format!("access-{generation}")),
        refresh: Some(format!("refresh-{generation}")),
        error: None,
    }
}

fn stop(pid: u32, from: u64, until: u64, has_lock: bool) -> Down {
    Down { pid, from, until, has_lock }
}

fn book() -> Book {
    Book::default()
}

const NONE: [&str; 0] = [];

#[test]
fn i1_a_store_that_has_an_older_generation_than_before_is_refused() {
    let of = |deeds: Vec<Deed>, readings: Vec<Reading>| {
        generations_that_go_down(&Book { deeds, readings, ..book() })
    };
    let older = || vec![reading(100, seen(1, false))];
    assert_eq!(of(vec![stores(1, 0, 2)], older()).len(), 1);
    assert_eq!(of(vec![stores(1, 95, 2)], older()), NONE, "they were at once");
    assert_eq!(of(vec![stores(1, 0, 1)], older()), NONE);
    assert_eq!(of(vec![], vec![reading(0, seen(2, false)), reading(20, seen(1, false))]).len(), 1);
    let saw = deed(2, 100, Did::Saw(seen(1, false)));
    assert_eq!(of(vec![stores(1, 0, 2), saw], vec![]).len(), 1, "whoever reads");
}

#[test]
fn i2_a_process_that_is_more_than_a_second_behind_is_refused() {
    let of = |start, downs: Vec<Down>| {
        let (answers, deeds) = (vec![token(2, start, 1)], vec![stores(1, 0, 2)]);
        answers_that_are_behind(&Book { answers, deeds, downs, ..book() })
    };
    assert_eq!(of(SECOND / 2, vec![]), NONE);
    assert_eq!(of(SECOND + 20, vec![]).len(), 1);
    let half = |pid| vec![stop(pid, 100, SECOND / 2, false)];
    assert_eq!(of(SECOND + 20, half(2)), NONE, "it was stopped meanwhile");
    assert_eq!(of(SECOND + 20, half(1)).len(), 1, "another was");
    assert_eq!(of(2 * SECOND, half(2)).len(), 1, "for too short a time");
}

#[test]
fn how_far_behind_a_process_was_is_measured_without_its_stops() {
    let (answers, deeds) = (vec![token(2, 500, 1)], vec![stores(1, 0, 2)]);
    let mut book = Book { answers, deeds, ..book() };
    assert_eq!(farthest_behind(&book), 490);
    book.downs.push(stop(2, 100, 300, false));
    assert_eq!(farthest_behind(&book), 290);
}

#[test]
fn i3_a_refresh_token_that_is_sent_twice_is_refused() {
    let claim = || deed(1, 0, Did::Claimed { base: 1, fence: 5 });
    let of = |more: Vec<Deed>, downs: Vec<Down>| {
        let exchanges = vec![exchange(0, 1), exchange(20, 2), exchange(100, 2)];
        let deeds = [vec![stores(1, 0, 1), claim()], more].concat();
        tokens_sent_again(&Book { exchanges, deeds, downs, ..book() })
    };
    assert_eq!(of(vec![], vec![]).len(), 1);
    assert_eq!(of(vec![], vec![stop(1, 15, u64::MAX, false)]), NONE, "its sender was killed");
    assert_eq!(of(vec![], vec![stop(1, 101, u64::MAX, false)]).len(), 1, "later");
    assert_eq!(of(vec![], vec![stop(2, 15, 90, false)]).len(), 1, "another was stopped");
    assert_eq!(of(vec![], vec![stop(2, 15, 90, true)]), NONE, "in the middle of a write");
    let ends = |in_doubt| vec![deed(1, 50, Did::Ended { fence: 5, in_doubt })];
    assert_eq!(of(ends(true), vec![]), NONE, "its answer was lost");
    assert_eq!(of(ends(false), vec![]).len(), 1);
    let other = |base| vec![deed(3, 5, Did::Claimed { base, fence: 6 })];
    let its_stop = || vec![stop(3, 15, 90, false)];
    assert_eq!(of(other(9), its_stop()).len(), 1, "it had claimed another generation");
    assert_eq!(of(other(1), its_stop()), NONE);
    let two = vec![exchange(20, 2), exchange(100, 3)];
    assert_eq!(tokens_sent_again(&Book { exchanges: two, ..book() }), NONE);
}

#[test]
fn i4_a_token_that_is_handed_out_before_it_is_saved_is_refused() {
    let of = |deeds: Vec<Deed>, readings: Vec<Reading>| {
        let answers = vec![token(1, 100, 2)];
        tokens_not_saved(&Book { answers, deeds, readings, ..book() })
    };
    assert_eq!(of(vec![stores(1, 0, 2)], vec![]), NONE);
    assert_eq!(of(vec![stores(1, 0, 1)], vec![]).len(), 1);
    assert_eq!(of(vec![stores(1, 111, 2)], vec![]).len(), 1, "later");
    assert_eq!(of(vec![], vec![reading(0, seen(2, false))]), NONE, "somebody saw it");
    assert_eq!(of(vec![deed(1, 95, Did::Owes)], vec![]), NONE);
    assert_eq!(of(vec![deed(2, 95, Did::Owes)], vec![]).len(), 1, "another owes");
}

#[test]
fn i4_a_token_that_is_gone_when_its_process_is_dead_is_refused() {
    let of = |deeds: Vec<Deed>| {
        let (answers, readings) = (vec![token(1, 0, 2)], vec![reading(100, seen(1, false))]);
        generations_that_go_down(&Book { answers, deeds, readings, ..book() })
    };
    assert_eq!(of(vec![]).len(), 1);
    assert_eq!(of(vec![deed(1, 0, Did::Owes)]), NONE);
}

#[test]
fn a_generation_of_two_tokens_is_refused_unless_one_was_reported_and_never_saved() {
    let other = |start| {
        let hash = "other".to_owned();
        answer(2, start, Outcome::Token(Handed { epoch: 1, generation: 2, hash, works: None }))
    };
    let of = |deeds: Vec<Deed>| {
        let answers = vec![token(1, 100, 2), other(200)];
        faults(&answers_of_the_record(&Book { answers, deeds, ..book() }))
    };
    assert_eq!(of(vec![]).len(), 1);
    assert_eq!(of(vec![deed(1, 95, Did::Owes)]), NONE);
    assert_eq!(of(vec![deed(2, 95, Did::Owes)]), NONE);
    assert_eq!(of(vec![deed(1, 95, Did::Owes), stores(1, 300, 2)]).len(), 1, "it was saved");
    assert_eq!(of(vec![deed(1, 105, Did::Owes)]).len(), 1, "reported late");
}

#[test]
fn i5_a_claim_that_rests_is_refused() {
    let waits = |seconds| {
        let (lease, hold) = (Duration::from_secs(seconds), Duration::from_secs(1));
        Waits { budget: hold, lease, hold }
    };
    let of = |fence, seconds, downs: Vec<Down>| {
        let last = Seen { fence, ..seen(1, true) };
        let readings = vec![reading(0, seen(1, true)), reading(6 * SECOND, last)];
        claims_that_rest(&Book { readings, downs, ..book() }, waits(seconds))
    };
    assert_eq!(of(7, 3, vec![]).len(), 1);
    assert_eq!(of(7, 5, vec![]), NONE);
    assert_eq!(of(8, 3, vec![]), NONE, "it is another claim");
    assert_eq!(of(7, 3, vec![stop(1, SECOND, 3 * SECOND, true)]), NONE, "nobody could write");
    assert_eq!(of(7, 3, vec![stop(1, SECOND, 3 * SECOND, false)]).len(), 1);
}

#[test]
fn i6_a_loss_that_no_server_caused_is_refused() {
    let rejection = |at, error: &str| {
        let error = Some(error.to_owned());
        Exchange { access: None, refresh: None, error, ..exchange(at, 2) }
    };
    let of = |exchanges: Vec<Exchange>| {
        let answers = vec![failed("SignInAgain(Rejected)", 100)];
        losses_without_rejection(&Book { answers, exchanges, ..book() })
    };
    assert_eq!(of(vec![]).len(), 1);
    assert_eq!(of(vec![rejection(50, "invalid_grant")]), NONE);
    assert_eq!(of(vec![rejection(150, "invalid_grant")]).len(), 1, "later");
    assert_eq!(of(vec![rejection(50, "invalid_client")]).len(), 1);
    let other = Exchange { key: "b/device".to_owned(), ..rejection(50, "invalid_grant") };
    assert_eq!(of(vec![other]).len(), 1);
    let readings = vec![reading(0, Seen { lost: true, ..seen(1, false) })];
    assert_eq!(losses_without_rejection(&Book { readings, ..book() }).len(), 1);
}

#[test]
fn i8_a_token_of_another_tenant_is_refused() {
    let of = |key: &str| {
        let exchanges = vec![Exchange { key: key.to_owned(), ..exchange(0, 2) }];
        tokens_of_others(&Book { answers: vec![token(1, 10, 2)], exchanges, ..book() })
    };
    assert_eq!(of(KEY), NONE);
    assert_eq!(of("b/device").len(), 1);
    assert_eq!(tokens_of_others(&Book { answers: vec![token(1, 10, 2)], ..book() }).len(), 1);
}

#[test]
fn i9_a_refresh_that_is_not_kept_is_refused() {
    let of = |exchanges: Vec<Exchange>, deeds: Vec<Deed>, newest| {
        let readings = vec![reading(0, seen(1, false)), reading(500, seen(newest, false))];
        exchanges_that_do_not_count(&Book { exchanges, deeds, readings, ..book() })
    };
    let grant = || Exchange { sent: None, ..exchange(0, 1) };
    let both = || vec![grant(), exchange(20, 2)];
    assert_eq!(of(both(), vec![], 2), NONE);
    assert_eq!(of(both(), vec![], 1).len(), 1, "one was lost");
    assert_eq!(of(both(), vec![], 3).len(), 1, "one came from nowhere");
    let refused = Exchange { access: None, ..exchange(30, 3) };
    let with_refused = || [both(), vec![refused.clone()]].concat();
    let closed = || deed(1, 30, Did::Closed { generation: 3 });
    assert_eq!(of(with_refused(), vec![], 2).len(), 1);
    assert_eq!(of(with_refused(), vec![closed()], 3), NONE, "a close came first");
    assert_eq!(of(both(), vec![closed()], 3), NONE);
    let thrown = || deed(1, 40, Did::Superseded { fence: 1 });
    let three = || vec![grant(), exchange(20, 2), exchange(35, 3)];
    assert_eq!(of(three(), vec![closed(), thrown()], 3), NONE);
    assert_eq!(of(three(), vec![thrown()], 2).len(), 1, "for nothing");
}

#[test]
fn a_call_that_fails_for_no_reason_is_refused() {
    let of = |kind, downs: Vec<Down>| {
        failures(&Book { answers: vec![failed(kind, SECOND)], downs, ..book() })
    };
    for kind in ["RetryLater", "SignInAgain(Rejected)"] {
        assert_eq!(of(kind, vec![]), NONE);
    }
    for kind in ["Store", "Deadline", "Capacity", "Misconfigured"] {
        assert_eq!(of(kind, vec![stop(2, 0, 2 * SECOND, false)]).len(), 1, "{kind}");
    }
    assert_eq!(of("Store", vec![stop(2, 0, 2 * SECOND, true)]), NONE);
    assert_eq!(of("Store", vec![stop(1, 0, 2 * SECOND, false)]), NONE, "it was stopped itself");
    assert_eq!(of("Deadline", vec![stop(1, 0, 2 * SECOND, true)]).len(), 1);
    assert_eq!(of("Store", vec![stop(2, 0, SECOND / 4, true)]).len(), 1, "it had gone on");
}

#[test]
fn a_caller_that_is_not_served_is_refused() {
    let of = |kind, revoked| {
        let answers = vec![failed(kind, 100), token(1, 0, 1)];
        unserved(&Book { answers, ..book() }, |_| revoked)
    };
    assert_eq!(of("NotEstablished", false).len(), 1);
    assert_eq!(of("NotEstablished", true), NONE);
    assert_eq!(of("Store", true).len(), 1);
    assert_eq!(of("RetryLater", true).len(), 1);
}
