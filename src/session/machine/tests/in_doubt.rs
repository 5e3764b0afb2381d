//! When a session in doubt retries.

use super::super::*;
use super::sample::*;
use crate::error::ErrorKind;

const AT_ONCE: Class = Class::Ambiguous(Retry::AtOnce);
const LATE: Class = Class::Ambiguous(Retry::Late);

fn failed(state: State, class: Class, at: &StepContext) -> State {
    step(state, Input::Failed(failure(class)), at).0
}

#[track_caller]
fn in_doubt_of(state: &State) -> InDoubt {
    match (&state.settled, &state.running) {
        (Some(Settled::InDoubt(_, in_doubt)), None) => *in_doubt,
        _ => panic!("not in doubt: {state:?}"),
    }
}

fn starts(state: &State, at: &StepContext) -> Option<Start> {
    step(state.clone(), Input::Need { newer_than: 0, renewable: Renewable::Itself }, at).1.start
}

#[test]
fn within_a_servers_grace_the_retry_is_at_once_and_by_the_schedule() {
    let state = failed(refreshing(due(), None), AT_ONCE, &after(0));
    assert_eq!(next_wake(&state, &after(0).policy), Some(boot(NOW)));
    assert_eq!(starts(&state, &after(0)), Some(Start::Refresh));
}

#[test]
fn without_grace_the_retry_waits_until_the_token_nears_its_end() {
    let state = failed(refreshing(fresh(), None), LATE, &after(0));
    assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 890));
    assert_eq!(starts(&state, &after(889)), None);
    assert_eq!(starts(&state, &after(890)), Some(Start::Refresh));
    assert_eq!(next_wake(&state, &after(0).policy), end_of_refresh_token());
    assert_eq!(next_wake(&state, &ahead(after(0)).policy), Some(boot(NOW + 890)));
    assert_eq!(due_at(&state, &fresh()), Some(boot(NOW + 890)), "readers ask then");
}

fn end_of_refresh_token() -> Option<BootTime> {
    Some(boot(NOW + REFRESH_LIFE - 3600))
}

#[test]
fn no_retry_comes_before_a_queued_first_request_can_have_been_processed() {
    for held in [expired(), CredentialState { expires: None, ..due() }, due_soon()] {
        let state = failed(refreshing(held, None), LATE, &after(0));
        assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 20), "twice the budget");
        assert_eq!(starts(&state, &after(19)), None);
        assert_eq!(starts(&state, &after(20)), Some(Start::Refresh));
    }
}

fn due_soon() -> CredentialState {
    CredentialState { expires: Some(boot(NOW + 15)), ..due() }
}

#[test]
fn the_wait_that_the_server_asked_for_holds_in_doubt() {
    for class in [AT_ONCE, LATE] {
        let failure = Failure { wait: seconds(200), ..failure(class) };
        let failed = step(refreshing(expired(), None), Input::Failed(failure), &after(0)).0;
        assert_eq!(in_doubt_of(&failed).retry_at, boot(NOW + 200));
    }
}

#[test]
fn the_second_lost_answer_backs_off_and_is_not_hurried() {
    let former = InDoubt { retry_early: true, ..retry_from(NOW) };
    let state = failed(refreshing(due(), Some(former)), AT_ONCE, &after(0));
    let expected =
        InDoubt { tries: 2, retry_at: boot(NOW + 2), floor: boot(NOW + 2), retry_early: false };
    assert_eq!(in_doubt_of(&state), expected);
    let state = failed(refreshing(due(), Some(expected)), AT_ONCE, &after(0));
    assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 4));
}

#[test]
fn where_a_used_token_kills_the_session_no_retry_overtakes_the_one_before() {
    let state = failed(refreshing(due(), Some(retry_from(NOW))), LATE, &after(0));
    assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 20), "twice the budget, as the first time");
    let late = InDoubt { tries: 8, ..retry_from(NOW) };
    let state = failed(refreshing(due(), Some(late)), LATE, &after(0));
    assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 256));
}

#[test]
fn a_rejection_in_doubt_is_lost_in_doubt_and_otherwise_rejected() {
    for (in_doubt, reason) in
        [(Some(retry_from(NOW)), LostReason::LostInDoubt), (None, LostReason::Rejected)]
    {
        for class in [Class::Rejected, Class::Refused] {
            let input = Input::Failed(failure(class));
            let (state, effects) = step(refreshing(due(), in_doubt), input, &after(0));
            assert_eq!(state.settled.as_ref().and_then(Settled::lost), Some(reason));
            assert_eq!(effects.notifications, [Notification::Lost(reason)]);
            let TokenDecision::Fail(error) =
                token_decision(&state, 0, Renewable::No, after(0).now.boot)
            else {
                panic!("a lost session is answered from memory")
            };
            assert_eq!(error.kind(), ErrorKind::SignInAgain(reason));
        }
    }
}

#[test]
fn a_session_whose_retry_was_not_processed_stays_in_doubt_and_publishes_it_once() {
    let (state, effects) =
        step(refreshing(due(), None), Input::Failed(failure(AT_ONCE)), &after(0));
    assert_eq!(effects.notifications, [Notification::InDoubt]);
    let (state, _) =
        step(state, Input::Need { newer_than: 0, renewable: Renewable::No }, &after(0));
    let (state, effects) = step(state, Input::Failed(failure(Class::Harmless)), &after(0));
    assert_eq!(effects, Effects::default());
    assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 1));
    let Some(Settled::InDoubt(held, _)) = &state.settled else { panic!("{state:?}") };
    assert!(held.is_usable(after(0).now.boot));
}

#[test]
fn a_live_token_is_served_in_doubt_and_a_dead_one_is_answered_at_once() {
    let state = failed(refreshing(fresh(), None), LATE, &after(0));
    assert!(matches!(
        token_decision(&state, 0, Renewable::No, boot(NOW + 800)),
        TokenDecision::Token(_)
    ));
    let TokenDecision::Fail(error) = token_decision(&state, G, Renewable::No, boot(NOW)) else {
        panic!("it waits")
    };
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RetryLater, Some(seconds(890))));
}

#[test]
fn a_need_does_not_hurry_the_retry() {
    let state = failed(refreshing(fresh(), None), LATE, &after(0));
    for newer_than in [0, G, G + 5] {
        let (next, effects) = step(
            state.clone(),
            Input::Need { newer_than, renewable: Renewable::Itself },
            &after(100),
        );
        assert_eq!(effects, Effects::default());
        assert_eq!(in_doubt_of(&next), in_doubt_of(&state));
    }
}

#[test]
fn after_a_rejected_access_token_the_retry_waits_only_for_the_floor() {
    let state = failed(refreshing(fresh(), None), LATE, &after(0));
    let (state, _) = step(state, Input::Rejected { generation: G }, &after(1));
    assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 20));
}

#[test]
fn a_rejected_access_token_does_not_shorten_the_backoff_of_a_failed_retry() {
    let failure = Failure { wait: seconds(100), ..failure(Class::Harmless) };
    let retrying = refreshing(due(), Some(retry_from(NOW)));
    let (state, _) = step(retrying, Input::Failed(failure), &after(0));
    let (state, _) = step(state, Input::Rejected { generation: G }, &after(1));
    assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 100));
    assert_eq!(starts(&state, &after(2)), None);
}

#[test]
fn a_rejected_access_token_does_not_shorten_the_servers_wait() {
    let failure = Failure { wait: seconds(100), ..failure(AT_ONCE) };
    let (state, _) = step(refreshing(due(), None), Input::Failed(failure), &after(0));
    for generation in [G, G - 1] {
        let (state, _) = step(state.clone(), Input::Rejected { generation }, &after(1));
        assert_eq!(in_doubt_of(&state).retry_at, boot(NOW + 100));
    }
}

#[test]
fn a_refresh_token_that_is_known_to_have_ended_is_not_sent() {
    let held = CredentialState { refresh_expires: Some(boot(NOW)), ..fresh() };
    let state = in_doubt(held, retry_from(NOW));
    for (renewable, start) in [(Renewable::No, None), (Renewable::Itself, None)] {
        let (state, effects) =
            step(state.clone(), Input::Need { newer_than: 0, renewable }, &after(0));
        assert_eq!(effects.start, start);
        assert_eq!(effects.notifications, [], "the schedule publishes it");
        let policy = after(0).policy;
        let lost = Due::Lost(LostReason::RefreshExpired);
        assert_eq!(due_now(&state, &policy, boot(NOW)), lost);
        assert!(serving(&state, boot(NOW)).is_some(), "its access token lives on");
    }
    let (_, effects) =
        step(state, Input::Need { newer_than: G, renewable: Renewable::Itself }, &after(0));
    assert_eq!(effects.start, Some(Start::Renew));
}
