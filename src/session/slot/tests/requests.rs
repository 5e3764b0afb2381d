//! The replies of a slot to requests for a token, and its loads.

use futures_util::FutureExt;

use super::*;

fn others(version: u64, ends: bool) -> Input {
    Input::ExternalChange(ExternalChange { version: Some(version), ends })
}

fn any(newer_than: u64) -> TokenRequest {
    TokenRequest { newer_than, renewable: Renewable::No, fresh: false }
}

#[test]
fn a_request_is_answered_from_memory_or_returns_the_work_to_do_first() {
    let bench = Bench::new();
    let SlotReply::Load(load) = bench.ask(0) else { panic!("it is not loaded yet") };
    assert!(matches!(bench.ask(0), SlotReply::Join(_)), "one load for all");
    bench.answer_load(load.number, 1, Settled::Active(bench.held(1)));
    load.end(FlightOutcome::AskAgain);
    assert!(matches!(bench.ask(0), SlotReply::Ready(token) if token.generation() == 1));
    let SlotReply::Start(Start::Refresh, sender, flight) = bench.ask(1) else { panic!() };
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)), "the token in hand is served meanwhile");
    assert!(sender.joined().now_or_never().is_none(), "no caller waits for it");
    assert!(matches!(bench.ask(1), SlotReply::Join(joined) if joined.is(&flight)));
    assert!(sender.joined().now_or_never().is_some());
    let (class, error) = (machine::Class::Harmless, Error::new(ErrorKind::RetryLater));
    bench.apply(Input::Failed(machine::Failure { class, error, wait: 5 * SECOND }));
    bench.slot.complete(&sender, FlightOutcome::AskAgain);
    let SlotReply::Failed(error) = bench.ask(1) else { panic!("it cools down") };
    assert_eq!(error.retry_after(), Some(5 * SECOND));
}

#[test]
fn a_session_that_may_start_nothing_returns_an_error_and_still_serves_its_token() {
    let bench = Bench::with_token(1);
    let request = |newer_than| {
        let rejected = Err(Error::new(ErrorKind::ShuttingDown));
        bench.slot.request(any(newer_than), rejected, &bench.step_context()).0
    };
    assert!(matches!(request(0), SlotReply::Ready(_)));
    let SlotReply::Failed(error) = request(1) else { panic!("it starts") };
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    assert!(!bench.slot.is_busy());
}

#[tokio::test]
async fn a_request_for_a_fresh_token_starts_a_refresh_only_when_it_is_due() {
    let bench = Bench::with_token(1);
    let fresh = || bench.request(TokenRequest { fresh: true, ..any(0) });
    assert!(matches!(fresh(), SlotReply::Ready(_)));
    bench.clock.advance(720 * SECOND).await;
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)), "it serves");
    assert!(matches!(fresh(), SlotReply::Start(Start::Refresh, ..)));
    assert!(matches!(fresh(), SlotReply::Ready(_)), "one is enough");
}

#[test]
fn of_many_callers_at_once_one_starts_and_the_others_join() {
    for _ in 0..50 {
        let bench = Bench::with_token(1);
        let (starts, joins) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| match bench.ask(1) {
                    // Kept, because a dropped sender ends the flight.
                    SlotReply::Start(_, sender, _) => {
                        std::mem::forget(sender);
                        starts.fetch_add(1, Ordering::SeqCst);
                    }
                    SlotReply::Join(_) => drop(joins.fetch_add(1, Ordering::SeqCst)),
                    SlotReply::Ready(_) | SlotReply::Failed(_) | SlotReply::Load(_) => {}
                });
            }
        });
        assert_eq!((starts.into_inner(), joins.into_inner()), (1, 3));
    }
}

#[test]
fn of_many_callers_at_once_one_loads_and_the_others_join() {
    let bench = Bench::new();
    let asked = [(); 4].map(|()| bench.ask(0));
    let load_queue = asked.iter().filter(|request| matches!(request, SlotReply::Load(_)));
    let joins = asked.iter().filter(|request| matches!(request, SlotReply::Join(_)));
    assert_eq!((load_queue.count(), joins.count()), (1, 3));
}

#[test]
fn a_load_that_is_dropped_lets_the_next_caller_load() {
    let bench = Bench::new();
    for round in 1..=3 {
        let SlotReply::Load(load) = bench.ask(0) else { panic!("no load starts") };
        assert_eq!(load.number, round);
        assert!(bench.slot.wants_load(round));
        drop(load);
        assert!(!bench.slot.wants_load(round));
    }
    let first = bench.slot.first_load(&bench.step_context());
    let Some(SlotReply::Load(load)) = first else { panic!("no load starts") };
    assert!(matches!(bench.slot.first_load(&bench.step_context()), Some(SlotReply::Join(_))));
    bench.answer_load(load.number, 1, Settled::Vacant { backoff: None });
    load.end(FlightOutcome::AskAgain);
    assert!(bench.slot.first_load(&bench.step_context()).is_none(), "it is loaded");
}

#[test]
fn after_a_failed_load_all_callers_get_its_error_until_the_backoff_is_over() {
    let bench = Bench::new();
    let SlotReply::Load(load) = bench.ask(0) else { panic!("no load starts") };
    let error = Error::new(ErrorKind::Store);
    bench.apply(Input::LoadFailed { read: load.number, error });
    load.end(FlightOutcome::AskAgain);
    for request in [bench.ask(0), bench.slot.first_load(&bench.step_context()).unwrap()] {
        let SlotReply::Failed(error) = request else { panic!("it loads again at once") };
        assert_eq!(error.kind(), ErrorKind::Store);
    }
    bench.clock.suspend(bench.step_context().policy.backoff.base);
    assert!(matches!(bench.ask(0), SlotReply::Load(_)));
}

#[test]
fn an_external_change_is_loaded_once_in_the_background_or_by_a_caller_that_cannot_wait() {
    let bench = Bench::with_token(1);
    bench.apply(others(2, false));
    let Some(Start::Load(number)) = bench.slot.take_background_start() else {
        panic!("no load starts")
    };
    assert!(bench.slot.take_background_start().is_none(), "once");
    assert!(bench.slot.wants_load(number));
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)), "the token in hand is good");
    bench.is_fresh(1);
    let SlotReply::Load(load) = bench.ask(1) else { panic!("it starts without a load") };
    assert!(!bench.slot.wants_load(number), "the caller was faster");
    bench.answer_load(load.number, 2, Settled::Active(bench.held(2)));
    load.end(FlightOutcome::AskAgain);
    assert!(matches!(bench.ask(1), SlotReply::Ready(token) if token.generation() == 2));
}

#[test]
fn a_token_that_another_process_ended_is_not_read_any_more() {
    let bench = Bench::with_token(1);
    bench.apply(others(2, true));
    bench.is_stale();
    assert!(matches!(bench.ask(0), SlotReply::Load(_)));
    bench.load(bench.held(2));
    bench.is_fresh(2);
}

#[test]
fn an_external_change_during_a_start_is_loaded_when_the_start_is_taken_back() {
    let bench = Bench::with_token(1);
    let SlotReply::Start(_, sender, _) = bench.ask(1) else { panic!("nothing starts") };
    bench.apply(others(2, false));
    assert_eq!(bench.slot.take_background_start(), None);
    bench.slot.give_up(|flight| flight.is_of(&sender), &bench.step_context());
    assert!(matches!(bench.slot.take_background_start(), Some(Start::Load(_))));
}

#[test]
fn a_start_that_has_not_begun_is_taken_back() {
    let bench = Bench::with_token(1);
    let SlotReply::Start(Start::Refresh, sender, flight) = bench.ask(1) else { panic!() };
    let (other, _) = single_flight::channel();
    bench.slot.give_up(|flight| flight.is_of(&other), &bench.step_context());
    assert!(bench.slot.is_busy(), "that was another one");
    bench.slot.give_up(|of| of.is(&flight), &bench.step_context());
    assert!(!bench.slot.is_busy() && !bench.slot.has_flight(&flight));
    assert!(!bench.slot.try_begin(&sender), "what shows up later does not begin");
    let SlotReply::Start(Start::Refresh, next, _) = bench.ask(1) else { panic!() };
    assert!(!bench.slot.try_begin(&sender) && bench.slot.try_begin(&next));
}

#[test]
fn a_start_that_has_begun_is_not_taken_back() {
    let bench = Bench::with_token(1);
    let SlotReply::Start(Start::Refresh, sender, flight) = bench.ask(1) else { panic!() };
    assert!(bench.slot.try_begin(&sender));
    bench.slot.give_up(|of| of.is(&flight), &bench.step_context());
    assert!(bench.slot.is_busy() && bench.slot.has_flight(&flight));
    let close = || bench.slot.begin(Start::Close, &bench.step_context()).0;
    assert!(close().is_none(), "one thing at a time");
    bench.apply(Input::Conflict { found: None });
    bench.slot.complete(&sender, FlightOutcome::AskAgain);
    assert!(bench.slot.try_begin(&close().expect("nothing runs")));
}

#[test]
fn after_a_wall_clock_step_a_record_is_loaded_again_once() {
    for step in [3600, -3600] {
        let bench = Bench::with_token(1);
        bench.load(bench.recorded(2));
        bench.clock.step_wall(step);
        bench.apply(Input::Tick);
        let Some(Start::Load(number)) = bench.slot.take_background_start() else {
            panic!("it is not read")
        };
        for _ in 0..3 {
            bench.apply(Input::Tick);
            assert_eq!(bench.slot.take_background_start(), None);
        }
        bench.answer_load(number, 2, Settled::Active(bench.recorded(2)));
        assert_eq!(bench.slot.take_background_start(), None, "it is derived anew");
        assert!(matches!(bench.ask(0), SlotReply::Ready(_)));
    }
}

#[test]
fn a_token_that_has_expired_by_the_new_clock_is_not_served_before_the_load() {
    for (step, serves) in [(600, true), (1200, false), (-1200, true)] {
        let bench = Bench::new();
        bench.load(bench.recorded(1));
        bench.clock.step_wall(step);
        let request = bench.ask(0);
        assert_eq!(matches!(request, SlotReply::Ready(_)), serves, "{step} s");
        assert_eq!(matches!(request, SlotReply::Load(_)), !serves, "{step} s");
        assert_eq!(bench.read_snapshot().1.is_some(), serves, "{step} s");
    }
}

#[test]
fn a_clock_step_or_a_suspend_moves_no_time_of_tokens_that_this_process_obtained() {
    let bench = Bench::with_token(1);
    bench.clock.step_wall(3600);
    assert!(matches!(bench.ask(0), SlotReply::Ready(_)));
    assert_eq!(bench.slot.take_background_start(), None);
    let bench = Bench::new();
    bench.load(bench.recorded(1));
    for disturb in
        [|clock: &ManualClock| clock.suspend(SECOND), |clock: &ManualClock| clock.step_wall(2)]
    {
        disturb(&bench.clock);
        assert!(matches!(bench.ask(0), SlotReply::Ready(_)));
        assert_eq!(bench.slot.take_background_start(), None, "the wall clock was not set");
    }
}

#[test]
fn a_clock_step_during_an_exchange_is_noticed_afterwards() {
    let bench = Bench::new();
    bench.load(bench.recorded(1));
    let SlotReply::Start(_, sender, _) = bench.ask(1) else { panic!("nothing starts") };
    bench.clock.step_wall(3600);
    assert!(matches!(bench.ask(1), SlotReply::Join(_)));
    bench.slot.give_up(|flight| flight.is_of(&sender), &bench.step_context());
    assert!(matches!(bench.ask(0), SlotReply::Load(_)));
}
