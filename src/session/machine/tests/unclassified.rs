//! The effects of answers that are not understood.

use super::super::*;
use super::sample::*;
use crate::error::ErrorKind;

const NEED: Input = Input::Need { newer_than: 0, renewable: Renewable::No };

/// A refresh at `now` whose answer is not understood. Another session succeeds at `healthy`.
fn tried(state: State, now: u64, healthy: Option<u64>) -> (State, Effects) {
    let (state, effects) = step(state, NEED, &after(now));
    assert_eq!(effects.start, Some(Start::Refresh), "{state:?}");
    let other_success_at = healthy.map(|healthy| boot(NOW + healthy));
    step(state, Input::Failed(failure(Class::Unclassified { other_success_at })), &after(now))
}

fn lost_of(state: &State) -> Option<LostReason> {
    state.settled.as_ref().and_then(Settled::lost)
}

#[track_caller]
fn error_of(state: &State, now: u64) -> Error {
    match token_decision(state, 0, Renewable::No, boot(NOW + now)) {
        TokenDecision::Fail(error) => error,
        other @ (TokenDecision::Token(_)
        | TokenDecision::Wait
        | TokenDecision::Load
        | TokenDecision::Ask) => {
            panic!("{other:?}")
        }
    }
}

/// Lost at 600 s, by the third answer.
fn lost_at_600() -> (State, Effects) {
    let (state, _) = tried(active(expired()), 0, None);
    let (state, _) = tried(state, 300, Some(200));
    tried(state, 600, Some(500))
}

#[test]
fn an_unclassified_answer_leaves_the_session_active_and_its_token_served() {
    let (state, effects) = tried(active(due()), 0, Some(0));
    assert_eq!(effects.notifications, [Notification::BackingOff { wait: seconds(1) }]);
    assert!(serving(&state, boot(NOW)).is_some());
    assert!(
        matches!(state, State { settled: Some(Settled::Active(_)), running: None, .. }),
        "{state:?}"
    );
}

#[test]
fn callers_get_retry_later_with_the_cause_until_the_session_is_lost() {
    let (mut state, mut now) = (active(expired()), 0);
    for _ in 0..2 {
        (state, _) = tried(state, now, Some(now));
        let error = error_of(&state, now);
        assert_eq!(error.kind(), ErrorKind::RetryLater);
        assert!(std::error::Error::source(&error).is_some());
        now += 300;
    }
    let (state, effects) = tried(state, now, Some(now - 1));
    assert_eq!(effects.notifications, [Notification::Lost(LostReason::Unclassified)]);
    let error = error_of(&state, now);
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Unclassified));
    assert!(std::error::Error::source(&error).is_some(), "it has a cause");
}

#[test]
fn a_session_is_not_lost_before_its_answers_have_lasted_a_minute() {
    let mut state = active(expired());
    for now in [0, 10, 25, 59] {
        (state, _) = tried(state, now, Some(now));
        assert_eq!(lost_of(&state), None, "after {now} s");
    }
    let (state, _) = tried(state, 75, Some(74));
    assert_eq!(lost_of(&state), Some(LostReason::Unclassified));
}

#[test]
fn a_session_is_not_lost_while_its_access_token_lives() {
    let mut state = active(due());
    for now in [0, 300, 600, 899] {
        (state, _) = tried(state, now, Some(now));
        assert_eq!(lost_of(&state), None, "after {now} s");
    }
    let (state, _) = tried(state, 1200, Some(1200));
    assert_eq!(lost_of(&state), Some(LostReason::Unclassified));
}

#[test]
fn a_session_is_not_lost_for_a_day_while_no_other_session_of_its_client_succeeds() {
    let mut state = active(CredentialState { refresh_expires: None, expiring: None, ..expired() });
    // A success before the first of these answers does not count.
    for now in (0..86_400).step_by(400) {
        (state, _) = tried(state, now, Some(0));
        assert_eq!(lost_of(&state), None, "after {now} s");
    }
    let (state, _) = tried(state, 86_400, Some(0));
    assert_eq!(lost_of(&state), Some(LostReason::Unclassified));
}

#[test]
fn network_failures_are_not_counted_and_do_not_reset_the_count() {
    let (mut state, _) = tried(active(expired()), 0, None);
    for now in [300, 600, 900] {
        let (next, _) = step(state, NEED, &after(now));
        state = step(next, Input::Failed(failure(Class::Harmless)), &after(now)).0;
    }
    let (state, _) = tried(state, 1200, Some(1200));
    assert_eq!(lost_of(&state), None, "the second");
    let (state, _) = tried(state, 1500, Some(1500));
    assert_eq!(lost_of(&state), Some(LostReason::Unclassified));
}

#[test]
fn a_success_resets_the_count() {
    let (state, _) = tried(active(expired()), 0, None);
    let (state, _) = tried(state, 300, None);
    let (state, _) = step(state, NEED, &after(600));
    let issued = Input::Issued(held(NOW + 600, (2, G + 1)));
    let (state, _) = step(state, issued, &after(600));
    let saved = Input::Saved { version: V + 1, epoch: 2, generation: G + 1, suspect: false };
    let (state, _) = step(state, saved, &after(600));
    let (state, _) = tried(state, 1600, Some(1600));
    assert_eq!(lost_of(&state), None);
}

#[test]
fn a_provisionally_lost_session_is_tried_once_a_day_and_by_hand_with_a_backoff() {
    let (state, _) = lost_at_600();
    let day = boot(NOW + 600).after(seconds(86_400));
    assert_eq!(next_wake(&state, &after(600).policy), None, "its refresh token ends before");
    let (state, _) = step(state, Input::RefreshByHand, &after(700));
    let (state, effects) = tried(state, 700, Some(699));
    assert_eq!(effects.notifications, [], "it was published before");
    assert_eq!(lost_of(&state), Some(LostReason::Unclassified));
    for now in [700, 701] {
        let (state, _) = step(state.clone(), Input::RefreshByHand, &after(now));
        let asks =
            matches!(token_decision(&state, 0, Renewable::No, boot(NOW + now)), TokenDecision::Ask);
        assert_eq!(asks, now == 701, "after a second it may be tried again by hand");
    }
    let held = CredentialState { refresh_expires: None, ..provisional(NOW).held.unwrap() };
    let lost = Settled::Lost(Lost { held: Some(held), ..provisional(NOW) });
    let tried = running(lost, Run::Refresh { answer: None });
    let later = step(tried, Input::Failed(failure(others_succeed())), &after(600));
    assert_eq!(next_wake(&later.0, &after(600).policy), Some(day));
}

#[test]
fn a_provisionally_lost_session_is_active_again_after_a_success() {
    let (state, _) = lost_at_600();
    let (state, _) = step(state, Input::RefreshByHand, &after(700));
    let (state, effects) = step(state, NEED, &after(700));
    assert_eq!(effects.start, Some(Start::Refresh));
    let (state, _) = step(state, Input::Issued(held(NOW + 700, (2, G + 1))), &after(700));
    let saved = Input::Saved { version: V + 1, epoch: 2, generation: G + 1, suspect: false };
    let (state, effects) = step(state, saved, &after(700));
    assert_eq!(effects.notifications, [Notification::Refreshed]);
    assert!(serving(&state, boot(NOW + 700)).is_some());
}

#[test]
fn a_network_failure_of_a_retry_leaves_the_session_provisionally_lost_and_due() {
    let state = rest(Settled::Lost(provisional(NOW)));
    for class in [Class::Harmless, Class::HeldBack, Class::Misconfigured] {
        let (state, _) = step(state.clone(), NEED, &after(0));
        let (state, effects) = step(state, Input::Failed(failure(class)), &after(0));
        assert_eq!(
            (lost_of(&state), effects.notifications),
            (Some(LostReason::Unclassified), vec![])
        );
        assert_eq!(next_wake(&state, &after(0).policy), Some(boot(NOW + 1)), "{class:?}");
    }
}

#[test]
fn in_a_provisionally_lost_session_a_rejection_is_final_and_a_lost_answer_is_in_doubt() {
    let (state, _) = step(rest(Settled::Lost(provisional(NOW))), NEED, &after(0));
    let rejected = step(state.clone(), Input::Failed(failure(Class::Rejected)), &after(0));
    assert_eq!(lost_of(&rejected.0), Some(LostReason::Rejected));
    assert_eq!(next_wake(&rejected.0, &after(0).policy), None);
    let lost = Class::Ambiguous(Retry::Late);
    let (state, effects) = step(state, Input::Failed(failure(lost)), &after(0));
    assert_eq!(effects.notifications, [Notification::InDoubt]);
    assert!(
        matches!(state, State { settled: Some(Settled::InDoubt(..)), running: None, .. }),
        "{state:?}"
    );
}

#[test]
fn unclassified_answers_count_also_in_doubt_and_a_rejected_client_never_does() {
    let mut state = in_doubt(expired(), retry_from(NOW));
    for now in [0, 300] {
        (state, _) = tried(state, now, Some(now));
        assert!(
            matches!(state, State { settled: Some(Settled::InDoubt(..)), running: None, .. }),
            "{state:?}"
        );
    }
    let (state, _) = tried(state, 600, Some(600));
    assert_eq!(lost_of(&state), Some(LostReason::Unclassified));
    let mut state =
        in_doubt(CredentialState { refresh_expires: None, ..expired() }, retry_from(NOW));
    for now in (0..200_000).step_by(400) {
        state = step(state, NEED, &after(now)).0;
        state = step(state, Input::Failed(failure(Class::Misconfigured)), &after(now)).0;
        assert_eq!(lost_of(&state), None);
    }
}

#[test]
fn a_session_in_doubt_names_its_cause() {
    let cause = Error::new(ErrorKind::RetryLater).about("the answer was cut short");
    let class = Class::Ambiguous(Retry::Late);
    let failure = Failure { error: cause, ..failure(class) };
    let (state, _) = step(refreshing(expired(), None), Input::Failed(failure), &after(0));
    let error = error_of(&state, 0);
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert!(source.is_some_and(|source| source.ends_with("the answer was cut short")));
}

#[test]
fn a_paced_retry_keeps_the_sessions_own_cause() {
    let (state, _) = tried(active(expired()), 0, None);
    let own = error_of(&state, 0);
    let (state, _) = step(state, NEED, &after(300));
    let (state, _) = step(state, Input::Failed(failure(Class::HeldBack)), &after(300));
    assert_eq!(error_of(&state, 300).to_string(), own.to_string());
}

#[test]
fn a_challenge_over_a_session_that_cannot_go_on_is_answered_at_once() {
    for former in [Settled::Active(single(expired())), vacant()] {
        let state = running(former, Run::Challenge { until: boot(NOW + 60) });
        for renewable in [Renewable::No, Renewable::Itself, Renewable::Vouched] {
            let TokenDecision::Fail(error) = token_decision(&state, 0, renewable, boot(NOW)) else {
                panic!("a caller would spin: {state:?}")
            };
            assert_eq!(error.kind(), ErrorKind::NotEstablished);
        }
    }
}

#[test]
fn a_provisionally_lost_session_is_tried_although_its_renewal_has_failed() {
    let lost = Lost { backoff: Some(backoff(NOW + 300)), ..provisional(NOW) };
    let state = rest(Settled::Lost(lost));
    assert!(matches!(token_decision(&state, 0, Renewable::Itself, boot(NOW)), TokenDecision::Ask));
    let need = Input::Need { newer_than: 0, renewable: Renewable::Itself };
    assert_eq!(step(state, need, &after(0)).1.start, Some(Start::Refresh));
}
