//! What a slot answers to the one question of a caller, and what it reads.

use futures_util::FutureExt;

use super::*;

fn others(version: u64, ends: bool) -> Input {
    Input::News(News { version: Some(version), ends })
}

fn any(above: u64) -> Wants {
    Wants { above, renewable: Renewable::No, fresh: false }
}

#[test]
fn a_request_is_answered_from_memory_or_says_what_is_to_be_done_first() {
    let bench = Bench::new();
    let Request::Read(reading) = bench.wants(0) else { panic!("it is not read yet") };
    assert!(matches!(bench.wants(0), Request::Join(_)), "one reading for all");
    bench.answer_reading(reading.number, 1, Settled::Active(bench.held(1)));
    reading.end(Landing::Again);
    assert!(matches!(bench.wants(0), Request::Ready(token) if token.generation() == 1));
    let Request::Start(Start::Refresh, pilot, flight) = bench.wants(1) else { panic!() };
    assert!(matches!(bench.wants(0), Request::Ready(_)), "the token in hand is served meanwhile");
    assert!(pilot.joined().now_or_never().is_none(), "nobody waits for it");
    assert!(matches!(bench.wants(1), Request::Join(joined) if joined.is(&flight)));
    assert!(pilot.joined().now_or_never().is_some());
    let (class, error) = (machine::Class::Harmless, Error::new(ErrorKind::RetryLater));
    bench.apply(Input::Failed(machine::Failure { class, error, wait: 5 * SECOND }));
    bench.slot.land(&pilot, Landing::Again);
    let Request::Failed(error) = bench.wants(1) else { panic!("it cools down") };
    assert_eq!(error.retry_after(), Some(5 * SECOND));
}

#[test]
fn a_session_that_may_not_start_anything_says_so_and_goes_on_serving() {
    let bench = Bench::with_token(1);
    let request = |above| {
        let shut = Err(ErrorKind::ShuttingDown);
        bench.slot.request(any(above), shut, &bench.moment()).0
    };
    assert!(matches!(request(0), Request::Ready(_)));
    let Request::Failed(error) = request(1) else { panic!("it starts") };
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    assert!(!bench.slot.is_busy());
}

#[tokio::test]
async fn whoever_wants_a_fresh_token_starts_a_refresh_only_when_it_is_due() {
    let bench = Bench::with_token(1);
    let fresh = || bench.request(Wants { fresh: true, ..any(0) });
    assert!(matches!(fresh(), Request::Ready(_)));
    bench.clock.advance(720 * SECOND).await;
    assert!(matches!(bench.wants(0), Request::Ready(_)), "it serves");
    assert!(matches!(fresh(), Request::Start(Start::Refresh, ..)));
    assert!(matches!(fresh(), Request::Ready(_)), "one is enough");
}

#[test]
fn of_many_who_ask_at_once_one_starts_and_the_others_join() {
    for _ in 0..50 {
        let bench = Bench::with_token(1);
        let (starts, joins) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| match bench.wants(1) {
                    // Kept: a pilot that is dropped has nobody to wait for.
                    Request::Start(_, pilot, _) => {
                        std::mem::forget(pilot);
                        starts.fetch_add(1, Ordering::SeqCst);
                    }
                    Request::Join(_) => drop(joins.fetch_add(1, Ordering::SeqCst)),
                    Request::Ready(_) | Request::Failed(_) | Request::Read(_) => {}
                });
            }
        });
        assert_eq!((starts.into_inner(), joins.into_inner()), (1, 3));
    }
}

#[test]
fn of_many_who_ask_at_once_one_reads_and_the_others_join() {
    let bench = Bench::new();
    let asked = [(); 4].map(|()| bench.wants(0));
    let readings = asked.iter().filter(|request| matches!(request, Request::Read(_)));
    let joins = asked.iter().filter(|request| matches!(request, Request::Join(_)));
    assert_eq!((readings.count(), joins.count()), (1, 3));
}

#[test]
fn a_reading_that_is_dropped_lets_the_next_caller_read() {
    let bench = Bench::new();
    for round in 1..=3 {
        let Request::Read(reading) = bench.wants(0) else { panic!("nobody reads") };
        assert_eq!(reading.number, round);
        assert!(bench.slot.wants_read(round));
        drop(reading);
        assert!(!bench.slot.wants_read(round));
    }
    let first = bench.slot.first_read(&bench.moment());
    let Some(Request::Read(reading)) = first else { panic!("nobody reads") };
    assert!(matches!(bench.slot.first_read(&bench.moment()), Some(Request::Join(_))));
    bench.answer_reading(reading.number, 1, Settled::Vacant { trouble: None });
    reading.end(Landing::Again);
    assert!(bench.slot.first_read(&bench.moment()).is_none(), "it is read");
}

#[test]
fn a_reading_that_failed_is_told_to_all_who_ask_until_it_may_be_tried_again() {
    let bench = Bench::new();
    let Request::Read(reading) = bench.wants(0) else { panic!("nobody reads") };
    let error = Error::new(ErrorKind::Store);
    bench.apply(Input::LoadFailed { read: reading.number, error });
    reading.end(Landing::Again);
    for request in [bench.wants(0), bench.slot.first_read(&bench.moment()).unwrap()] {
        let Request::Failed(error) = request else { panic!("it reads again at once") };
        assert_eq!(error.kind(), ErrorKind::Store);
    }
    bench.clock.suspend(bench.moment().rules.backoff.base);
    assert!(matches!(bench.wants(0), Request::Read(_)));
}

#[test]
fn news_is_read_once_by_whoever_reads_many_or_by_a_caller_who_cannot_wait() {
    let bench = Bench::with_token(1);
    bench.apply(others(2, false));
    let Some(Start::Read(number)) = bench.slot.unread() else { panic!("nobody reads") };
    assert!(bench.slot.unread().is_none(), "once");
    assert!(bench.slot.wants_read(number));
    assert!(matches!(bench.wants(0), Request::Ready(_)), "the token in hand is good");
    bench.is_fresh(1);
    let Request::Read(reading) = bench.wants(1) else { panic!("it starts without reading") };
    assert!(!bench.slot.wants_read(number), "the caller was faster");
    bench.answer_reading(reading.number, 2, Settled::Active(bench.held(2)));
    reading.end(Landing::Again);
    assert!(matches!(bench.wants(1), Request::Ready(token) if token.generation() == 2));
}

#[test]
fn what_another_process_ended_is_not_read_by_anybody_from_then_on() {
    let bench = Bench::with_token(1);
    bench.apply(others(2, true));
    bench.is_stale();
    assert!(matches!(bench.wants(0), Request::Read(_)));
    bench.load(bench.held(2));
    bench.is_fresh(2);
}

#[test]
fn news_that_came_while_a_start_was_on_its_way_is_read_when_that_is_given_up() {
    let bench = Bench::with_token(1);
    let Request::Start(_, pilot, _) = bench.wants(1) else { panic!("nothing starts") };
    bench.apply(others(2, false));
    assert_eq!(bench.slot.unread(), None);
    bench.slot.give_up(|flight| flight.is_of(&pilot), &bench.moment());
    assert!(matches!(bench.slot.unread(), Some(Start::Read(_))));
}

#[test]
fn what_was_started_and_has_not_begun_is_given_back() {
    let bench = Bench::with_token(1);
    let Request::Start(Start::Refresh, pilot, flight) = bench.wants(1) else { panic!() };
    let (other, _) = flight::depart();
    bench.slot.give_up(|flight| flight.is_of(&other), &bench.moment());
    assert!(bench.slot.is_busy(), "that was another one");
    bench.slot.give_up(|of| of.is(&flight), &bench.moment());
    assert!(!bench.slot.is_busy() && !bench.slot.has_flight(&flight));
    assert!(!bench.slot.has_begun(&pilot), "what shows up later does not begin");
    let Request::Start(Start::Refresh, next, _) = bench.wants(1) else { panic!() };
    assert!(!bench.slot.has_begun(&pilot) && bench.slot.has_begun(&next));
}

#[test]
fn what_has_begun_is_not_given_up() {
    let bench = Bench::with_token(1);
    let Request::Start(Start::Refresh, pilot, flight) = bench.wants(1) else { panic!() };
    assert!(bench.slot.has_begun(&pilot));
    bench.slot.give_up(|of| of.is(&flight), &bench.moment());
    assert!(bench.slot.is_busy() && bench.slot.has_flight(&flight));
    let close = || bench.slot.begin(Start::Close, &bench.moment()).0;
    assert!(close().is_none(), "one thing at a time");
    bench.apply(Input::Conflict { found: None });
    bench.slot.land(&pilot, Landing::Again);
    assert!(bench.slot.has_begun(&close().expect("nothing runs")));
}

#[test]
fn a_wall_clock_that_is_set_makes_what_a_record_said_be_read_again_once() {
    for step in [3600, -3600] {
        let bench = Bench::with_token(1);
        bench.load(bench.recorded(2));
        bench.clock.step_wall(step);
        bench.apply(Input::Tick);
        let Some(Start::Read(number)) = bench.slot.unread() else { panic!("it is not read") };
        for _ in 0..3 {
            bench.apply(Input::Tick);
            assert_eq!(bench.slot.unread(), None);
        }
        bench.answer_reading(number, 2, Settled::Active(bench.recorded(2)));
        assert_eq!(bench.slot.unread(), None, "it is derived anew");
        assert!(matches!(bench.wants(0), Request::Ready(_)));
    }
}

#[test]
fn what_would_have_ended_by_the_clock_that_was_set_is_not_served_before_it_is_read() {
    for (step, serves) in [(600, true), (1200, false), (-1200, true)] {
        let bench = Bench::new();
        bench.load(bench.recorded(1));
        bench.clock.step_wall(step);
        let request = bench.wants(0);
        assert_eq!(matches!(request, Request::Ready(_)), serves, "{step} s");
        assert_eq!(matches!(request, Request::Read(_)), !serves, "{step} s");
        assert_eq!(bench.glance().1.is_some(), serves, "{step} s");
    }
}

#[test]
fn a_clock_that_is_set_or_a_suspend_moves_nothing_that_this_process_asked_for_itself() {
    let bench = Bench::with_token(1);
    bench.clock.step_wall(3600);
    assert!(matches!(bench.wants(0), Request::Ready(_)));
    assert_eq!(bench.slot.unread(), None);
    let bench = Bench::new();
    bench.load(bench.recorded(1));
    for disturb in
        [|clock: &ManualClock| clock.suspend(SECOND), |clock: &ManualClock| clock.step_wall(2)]
    {
        disturb(&bench.clock);
        assert!(matches!(bench.wants(0), Request::Ready(_)));
        assert_eq!(bench.slot.unread(), None, "the wall clock was not set");
    }
}

#[test]
fn a_clock_that_is_set_while_something_runs_is_noticed_afterwards() {
    let bench = Bench::new();
    bench.load(bench.recorded(1));
    let Request::Start(_, pilot, _) = bench.wants(1) else { panic!("nothing starts") };
    bench.clock.step_wall(3600);
    assert!(matches!(bench.wants(1), Request::Join(_)));
    bench.slot.give_up(|flight| flight.is_of(&pilot), &bench.moment());
    assert!(matches!(bench.wants(0), Request::Read(_)));
}
