//! The machine's rules, one by one.

use super::super::*;
use super::sample::*;
use crate::error::ErrorKind;

const NEED: Input = Input::Need { newer_than: 0, renewable: Renewable::No };

fn fail(class: Class) -> Input {
    Input::Failed(failure(class))
}

/// The state after these inputs, with all effects.
fn run(
    state: State,
    inputs: impl IntoIterator<Item = Input>,
    at: &StepContext,
) -> (State, Effects) {
    let mut all = Effects::default();
    let state = inputs.into_iter().fold(state, |state, input| {
        let (state, Effects { start, notifications }) = step(state, input, at);
        all.start = all.start.or(start);
        all.notifications.extend(notifications);
        state
    });
    (state, all)
}

#[track_caller]
fn kind_of(state: &State, newer_than: u64, now: u64) -> ErrorKind {
    match token_decision(state, newer_than, Renewable::No, boot(now)) {
        TokenDecision::Fail(error) => error.kind(),
        other @ (TokenDecision::Token(_)
        | TokenDecision::Wait
        | TokenDecision::Load
        | TokenDecision::Ask) => {
            panic!("{other:?}")
        }
    }
}

#[track_caller]
fn served(state: &State, now: u64) -> u64 {
    match token_decision(state, 0, Renewable::No, boot(now)) {
        TokenDecision::Token(token) => token.generation(),
        other @ (TokenDecision::Fail(_)
        | TokenDecision::Wait
        | TokenDecision::Load
        | TokenDecision::Ask) => {
            panic!("{other:?} of {state:?}")
        }
    }
}

#[test]
fn a_refused_or_challenged_grant_leaves_a_live_session_serving() {
    let unclassified = Class::Unclassified { other_success_at: None };
    for class in [Class::Refused, Class::Harmless, unclassified, Class::Misconfigured] {
        let (state, effects) =
            run(active(fresh()), [Input::Begin(Start::Establish), fail(class)], &after(0));
        assert_eq!(effects.notifications, []);
        assert_eq!(served(&state, NOW), G);
    }
    let (state, _) =
        run(active(fresh()), [Input::Begin(Start::Establish), Input::Challenged], &after(0));
    assert_eq!(served(&state, NOW), G);
    let (state, _) = step(state, Input::Tick, &after(600));
    assert!(
        matches!(state, State { settled: Some(Settled::Active(_)), running: None, .. }),
        "the challenge has ended: {state:?}"
    );
    assert_eq!(served(&state, NOW + 600), G);
}

#[test]
fn a_grant_whose_answer_was_lost_leaves_the_former_session_to_be_refreshed_before_use() {
    for retry in [Retry::AtOnce, Retry::Late] {
        let inputs = [Input::Begin(Start::Establish), fail(Class::Ambiguous(retry))];
        let (state, _) = run(active(fresh()), inputs, &after(0));
        assert!(serving(&state, boot(NOW)).is_none());
        let (state, effects) = step(state, NEED, &after(0));
        assert_eq!(effects.start, Some(Start::Refresh));
        let (state, _) = step(state, fail(Class::Harmless), &after(0));
        assert!(serving(&state, boot(NOW)).is_none(), "still perhaps dead");
    }
}

#[test]
fn a_suspect_token_that_cannot_be_refreshed_is_served() {
    let state = active(CredentialState { suspect: true, ..single(fresh()) });
    assert_eq!(served(&state, NOW), G);
}

#[test]
fn unsaved_credentials_are_served_and_not_exchanged_before_they_are_saved() {
    let unsaved = |held| active(CredentialState { saved: Saved::Unsaved { attempts: 1 }, ..held });
    assert_eq!(served(&unsaved(due()), NOW), G);
    for newer_than in [0, G] {
        let need = Input::Need { newer_than, renewable: Renewable::Itself };
        let (state, effects) = step(unsaved(due()), need, &ahead(after(0)));
        assert_eq!(effects, Effects::default());
        let held = serving(&state, boot(NOW)).unwrap();
        assert_eq!(due_at(&state, held), None, "no reader asks");
        assert!(next_wake(&state, &ahead(after(0)).policy) > Some(boot(NOW)));
    }
    let saved = Input::Saved { version: V + 1, epoch: 2, generation: G, suspect: false };
    let (_, effects) = run(unsaved(due()), [saved, NEED], &after(0));
    assert_eq!(effects.start, Some(Start::Refresh));
    assert_eq!(effects.notifications, [Notification::Saved]);
}

#[test]
fn callers_who_cannot_be_served_unsaved_credentials_get_retry_later() {
    let unsaved = |held| CredentialState { saved: Saved::Unsaved { attempts: 1 }, ..held };
    let cases = [
        (unsaved(fresh()), G),
        (unsaved(expired()), 0),
        (CredentialState { rejected: true, ..unsaved(fresh()) }, 0),
        (CredentialState { rejected: true, ..unsaved(fresh()) }, G),
    ];
    for (held, newer_than) in cases {
        assert_eq!(kind_of(&active(held), newer_than, NOW), ErrorKind::RetryLater);
    }
}

#[test]
fn a_401_on_another_generation_changes_nothing() {
    for generation in [G - 1, G + 1] {
        let (state, effects) =
            run(active(fresh()), [Input::Rejected { generation }, NEED], &after(0));
        assert_eq!(effects, Effects::default());
        assert_eq!(served(&state, NOW), G);
    }
}

#[test]
fn a_401_on_the_current_generation_ends_its_use_and_lets_a_need_refresh_it() {
    let (state, effects) = step(active(fresh()), Input::Rejected { generation: G }, &after(0));
    assert_eq!(effects, Effects::default(), "a report alone starts nothing");
    assert!(serving(&state, boot(NOW)).is_none());
    let (state, effects) = step(state, NEED, &after(0));
    assert_eq!(effects.start, Some(Start::Refresh));
    assert!(matches!(token_decision(&state, 0, Renewable::No, boot(NOW)), TokenDecision::Wait));
}

#[test]
fn a_401_during_a_refresh_ends_the_use_of_the_token_that_is_being_replaced() {
    let (state, _) = step(refreshing(due(), None), Input::Rejected { generation: G }, &after(0));
    assert!(serving(&state, boot(NOW)).is_none());
    let (state, _) = step(state, fail(Class::Harmless), &after(0));
    assert!(serving(&state, boot(NOW)).is_none());
}

#[test]
fn the_refresh_tokens_end_is_published_once_ahead_and_when_it_comes() {
    let check = |state: State, now| {
        let at = after(now);
        let (mut state, effects) = step(state, Input::Tick, &at);
        assert_eq!(effects.notifications, [], "not before it is recorded");
        let mut notifications = Vec::new();
        while let Some(input) = due_input(&state, &at) {
            let (next, effects) = step(state, input, &at);
            state = next;
            notifications.extend(effects.notifications);
        }
        (state, notifications)
    };
    let (state, notifications) = check(active(fresh()), REFRESH_LIFE - 3601);
    assert_eq!(notifications, []);
    let (state, notifications) = check(state, REFRESH_LIFE - 3600);
    assert_eq!(notifications, [Notification::Expiring { left: seconds(3600) }]);
    let (state, notifications) = check(state, REFRESH_LIFE - 3599);
    assert_eq!(notifications, [], "once");
    let (state, notifications) = check(state, REFRESH_LIFE);
    assert_eq!(notifications, [Notification::Lost(LostReason::RefreshExpired)]);
    let (_, notifications) = check(state, REFRESH_LIFE + 1);
    assert_eq!(notifications, []);
}

#[test]
fn a_session_whose_refresh_token_ended_serves_its_access_token_to_the_end() {
    let (state, _) = lost_but_serving();
    assert_eq!(served(&state, NOW + 899), G);
    let gone = ErrorKind::SignInAgain(LostReason::RefreshExpired);
    assert_eq!(kind_of(&state, 0, NOW + 900), gone);
    assert_eq!(kind_of(&state, G, NOW + 10), gone);
    let need = Input::Need { newer_than: 0, renewable: Renewable::Itself };
    let (_, effects) = step(state.clone(), need.clone(), &after(100));
    assert_eq!(effects, Effects::default(), "not renewed while it serves");
    let (_, effects) = step(state, need, &after(900));
    assert_eq!(effects.start, Some(Start::Renew));
}

#[test]
fn a_401_ends_the_token_of_a_lost_session_and_lets_it_be_renewed() {
    let (state, _) = lost_but_serving();
    let (state, _) = step(state, Input::Rejected { generation: G - 1 }, &after(10));
    assert_eq!(served(&state, NOW + 10), G);
    let (state, _) = step(state, Input::Rejected { generation: G }, &after(10));
    assert!(serving(&state, boot(NOW + 10)).is_none());
    let need = Input::Need { newer_than: 0, renewable: Renewable::Itself };
    assert_eq!(step(state, need, &after(10)).1.start, Some(Start::Renew));
}

fn lost_but_serving() -> (State, Effects) {
    let held = CredentialState { refresh_expires: Some(boot(NOW + 10)), ..fresh() };
    step(active(held), Input::Tick, &after(10))
}

#[test]
fn a_session_that_was_rejected_serves_nothing() {
    let (state, _) = step(refreshing(fresh(), None), fail(Class::Rejected), &after(0));
    assert!(serving(&state, boot(NOW)).is_none());
    let dead = Input::Dead { generation: G, reason: LostReason::Revoked };
    let (state, effects) = step(active(fresh()), dead, &after(0));
    assert!(serving(&state, boot(NOW)).is_none());
    assert_eq!(effects.notifications, [Notification::Lost(LostReason::Revoked)]);
}

#[test]
fn no_failure_of_the_network_or_of_the_client_loses_a_session() {
    let harmless = [
        Class::Harmless,
        Class::HeldBack,
        Class::Unclassified { other_success_at: None },
        Class::Misconfigured,
        Class::Ambiguous(Retry::AtOnce),
        Class::Ambiguous(Retry::Late),
    ];
    let mut state = active(expired());
    for round in 0..200 {
        let class = harmless[round % harmless.len()];
        let now = 400 * u64::try_from(round).unwrap();
        let (next, effects) = run(state, [NEED, fail(class)], &after(now));
        assert_eq!(effects.start, Some(Start::Refresh));
        assert_eq!(next.settled.as_ref().and_then(Settled::lost), None);
        state = next;
    }
}

#[test]
fn every_caller_gets_a_failure_until_it_is_time_to_try_again() {
    let failure = Failure { wait: seconds(30), ..failure(Class::Harmless) };
    let (state, _) = run(active(expired()), [NEED, Input::Failed(failure)], &after(0));
    for now in [0, 1, 29] {
        let (_, effects) = step(state.clone(), NEED, &after(now));
        assert_eq!(effects, Effects::default());
        let TokenDecision::Fail(error) = token_decision(&state, 0, Renewable::No, boot(NOW + now))
        else {
            panic!("it asks again")
        };
        assert_eq!(error.retry_after(), Some(seconds(30 - now)));
    }
    assert_eq!(step(state, NEED, &after(30)).1.start, Some(Start::Refresh));
}

#[test]
fn a_token_that_ends_at_once_keeps_the_backoff_of_the_session() {
    let former = |tries| CredentialState {
        backoff: Some(BackoffState { tries, ..backoff(NOW) }),
        ..expired()
    };
    let saved = Input::Saved { version: 0, epoch: 2, generation: G + 1, suspect: false };
    for (tries, life, kept) in [(3, 1, Some(NOW + 4)), (3, 2, None), (0, 1, None)] {
        let answer = CredentialState { expires: Some(boot(NOW + life)), ..held(NOW, (2, G + 1)) };
        let inputs = [Input::Issued(answer), saved.clone()];
        let (state, _) = run(refreshing(former(tries), None), inputs, &after(0));
        assert_eq!(served(&state, NOW), G + 1);
        let rest = state.settled.as_ref().unwrap();
        assert_eq!(rest.retry_at(), kept.map(boot), "{tries} failures, {life} s of life");
        let starts = |seconds| step(state.clone(), NEED, &after(seconds)).1.start;
        assert_eq!(starts(3), kept.is_none().then_some(Start::Refresh));
        assert_eq!(starts(4), Some(Start::Refresh));
    }
    let answer = CredentialState { expires: Some(boot(NOW + 1)), ..held(NOW, (2, G + 1)) };
    let inputs = [Input::Issued(answer), saved];
    let (state, _) = run(refreshing(expired(), None), inputs, &after(0));
    assert!(
        state.settled.as_ref().is_some_and(|settled| settled.retry_at().is_none()),
        "there was no failure"
    );
}

#[test]
fn an_answer_whose_task_died_is_served_unsaved() {
    for (begun, base) in [(refreshing(due(), None), 2), (establishing(vacant()), 1)] {
        let issued = Input::Issued(held(NOW, (base, G + 1)));
        let lost = fail(Class::Ambiguous(Retry::Late));
        let (state, effects) = run(begun, [issued, lost], &after(0));
        assert_eq!(served(&state, NOW), G + 1);
        assert!(serving(&state, boot(NOW)).is_some_and(CredentialState::is_unsaved));
        assert!(effects.notifications.contains(&Notification::Unsaved));
    }
}

#[test]
fn credentials_and_their_token_take_the_counters_that_the_store_gave_them() {
    let saved = Input::Saved { version: V + 1, epoch: 5, generation: G + 9, suspect: false };
    let begun = run(establishing(vacant()), [Input::Issued(fresh())], &after(0)).0;
    let unsaved = active(CredentialState { saved: Saved::Unsaved { attempts: 3 }, ..fresh() });
    for state in [begun, unsaved] {
        let (state, _) = step(state, saved.clone(), &after(0));
        let held = serving(&state, boot(NOW)).unwrap();
        let token = held.token.as_ref().unwrap();
        assert_eq!((held.epoch, held.generation), (5, G + 9));
        assert_eq!((token.epoch(), token.generation()), (5, G + 9), "a 401 names these");
    }
}

#[test]
fn credentials_that_were_saved_over_a_lost_session_are_refreshed_before_use() {
    let saved = Input::Saved { version: V + 1, epoch: 2, generation: G, suspect: true };
    let unsaved = active(CredentialState { saved: Saved::Unsaved { attempts: 1 }, ..fresh() });
    let (state, _) = step(unsaved, saved, &after(0));
    assert!(serving(&state, boot(NOW)).is_none());
    assert_eq!(step(state, NEED, &after(0)).1.start, Some(Start::Refresh));
}

#[test]
fn superseded_tokens_are_not_served_and_the_record_is_loaded_again() {
    for (name, state) in states() {
        let (next, effects) =
            step(state.clone(), Input::TokensSuperseded { found: None }, &after(0));
        assert_eq!(next.is_busy(), state.is_busy(), "{name}: no second exchange may begin");
        assert!(serving(&next, boot(NOW)).is_none(), "{name}");
        let cooling = state.load_backoff.is_some();
        let loads = !state.is_busy() && !state.is_unloaded() && !cooling;
        let loads = loads && state.load.running.is_none();
        let start = loads.then_some(Start::Load(next.load.number));
        assert_eq!((effects.start, &effects.notifications[..]), (start, &[][..]), "{name}");
        let unsaved = next.settled.as_ref().is_some_and(Settled::is_unsaved);
        assert!(!unsaved, "{name}: it is not saved any more");
    }
}

#[test]
fn a_failed_revocation_is_repeated_until_it_succeeds() {
    let outbox = Input::ClosedDurably { version: V + 1, closed: closed(true) };
    let (state, effects) = run(active(fresh()), [Input::Begin(Start::Close), outbox], &after(0));
    assert_eq!(
        (effects.start, &effects.notifications[..]),
        (Some(Start::Close), &[Notification::Revoked][..])
    );
    assert!(matches!(state.running, Some(Run::Revoke)));
    let (state, _) = step(state, Input::RevocationFailed { backoff: backoff(NOW + 5) }, &after(0));
    assert_eq!(kind_of(&state, 0, NOW), ErrorKind::NotEstablished);
    assert!(!state.is_disposable());
    assert_eq!(next_wake(&state, &after(0).policy), Some(boot(NOW + 5)));
    let revoke = Input::Begin(Start::Revoke);
    assert_eq!(step(state.clone(), revoke.clone(), &after(4)).1.start, None);
    let (state, effects) = step(state, revoke, &after(5));
    assert_eq!(effects.start, Some(Start::Revoke));
    let (state, _) = step(state, Input::Revoked, &after(5));
    assert!(state.is_disposable());
    assert_eq!(next_wake(&state, &after(5).policy), None);
}

/// The schedule checks a slot with a tick, and then does what is due.
#[test]
fn a_wake_makes_progress_so_that_the_schedule_never_spins() {
    for step_context in [after(0), ahead(after(0))] {
        for passed in [0, 60, 600, 900, REFRESH_LIFE, 2 * REFRESH_LIFE] {
            let at = StepContext { now: after(passed).now, ..step_context };
            for (name, state) in states() {
                let state = woken(state, &at);
                let wake = next_wake(&state, &at.policy);
                let settled = wake.is_none_or(|wake| wake > at.now.boot);
                let progress = settled || state.is_busy();
                assert!(progress, "{name} after {passed} s spins in {state:?}");
            }
        }
    }
}

pub(super) fn woken(state: State, at: &StepContext) -> State {
    let mut state = state;
    for _ in 0..4 {
        state = step(state, Input::Tick, at).0;
        let Some(input) = due_input(&state, at) else { return state };
        state = step(state, input, at).0;
    }
    panic!("the schedule spins in {state:?}");
}

/// The input of the schedule for what is due.
pub(super) fn due_input(state: &State, at: &StepContext) -> Option<Input> {
    let version = state.version + 1;
    match due_now(state, &at.policy, at.now.boot) {
        Due::Announce { left, .. } => Some(Input::Announced { version, left }),
        Due::Lost(reason) => Some(Input::LossRecorded { version, reason }),
        Due::Exchange if matches!(state.settled, Some(Settled::Closed(_))) => {
            Some(Input::Begin(Start::Revoke))
        }
        Due::Exchange => Some(NEED),
        Due::Nothing => None,
    }
}

const ANSWERS: &[(&str, &str)] = &[
    ("unloaded", "load"),
    ("unloaded, cooling", "RetryLater"),
    ("vacant", "NotEstablished"),
    ("vacant, cooling", "NotEstablished"),
    ("active, fresh", "token"),
    ("active, due", "token"),
    ("active, expired", "ask"),
    ("active, suspect", "ask"),
    ("active, rejected", "ask"),
    ("active, issuer mismatch", "Misconfigured"),
    ("active, unsaved", "token"),
    ("active, cooling", "token"),
    ("active, ended, not understood", "ask"),
    ("active, misconfigured", "token"),
    ("active, damped", "token"),
    ("active, no refresh token", "token"),
    ("active, no refresh token, rejected", "ask"),
    ("active, no refresh token, ended", "ask"),
    ("active, refresh token ended", "token"),
    ("in doubt, early", "token"),
    ("in doubt, misconfigured", "token"),
    ("in doubt, ripe", "token"),
    ("in doubt, retry early", "token"),
    ("in doubt, issuer mismatch", "Misconfigured"),
    ("in doubt, refresh token ended", "token"),
    ("lost, serving", "token"),
    ("lost", "SignInAgain(Rejected)"),
    ("lost, not recorded", "SignInAgain(Rejected)"),
    ("lost, cooling", "SignInAgain(Rejected)"),
    ("lost provisionally", "SignInAgain(Unclassified)"),
    ("lost provisionally, retry due", "ask"),
    ("closed", "NotEstablished"),
    ("lost by an operation", "token"),
    ("closed, not begun again", "NotEstablished"),
    ("closed, to be revoked", "NotEstablished"),
    ("closed, cooling", "NotEstablished"),
    ("challenged over vacant", "NotEstablished"),
    ("challenged over fresh", "token"),
    ("challenged over due", "token"),
    ("challenged over closed", "NotEstablished"),
    ("challenged over fresh, ended", "token"),
    ("grant over vacant", "wait"),
    ("grant over vacant, answered", "wait"),
    ("grant over fresh", "token"),
    ("grant over fresh, answered", "token"),
    ("renewal over vacant", "wait"),
    ("renewal over fresh", "token"),
    ("renewal over fresh, answered", "token"),
    ("refreshing", "token"),
    ("refreshing in doubt", "token"),
    ("refreshing, not understood", "wait"),
    ("refreshing, lost", "wait"),
    ("refreshing, answered", "token"),
    ("closing vacant", "wait"),
    ("closing fresh", "token"),
    ("forgetting unloaded", "wait"),
    ("forgetting fresh", "token"),
    ("revoking", "wait"),
    ("due, loading", "token"),
    ("due, ended elsewhere", "load"),
    ("expired, loading", "load"),
    ("in doubt, ripe, loading", "token"),
    ("lost provisionally, loading", "load"),
    ("vacant, loading", "load"),
    ("due, load failed", "token"),
    ("unsaved, load failed", "token"),
    ("refreshing, with a change", "token"),
];

#[test]
fn every_state_has_its_answer() {
    let actual = states().into_iter().map(|(name, state)| {
        let answer = match token_decision(&state, 0, Renewable::No, boot(NOW)) {
            TokenDecision::Token(_) => "token".to_owned(),
            TokenDecision::Wait => "wait".to_owned(),
            TokenDecision::Load => "load".to_owned(),
            TokenDecision::Ask => "ask".to_owned(),
            TokenDecision::Fail(error) => format!("{:?}", error.kind()),
        };
        (name, answer)
    });
    let expected = ANSWERS.iter().map(|(name, is)| (*name, (*is).to_owned()));
    assert_eq!(actual.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn a_callers_grant_begins_sessions_that_no_renewal_may_begin() {
    let need = |renewable| Input::Need { newer_than: 0, renewable };
    let by_us = |reason| Settled::Lost(lost(expired(), reason));
    let closed = Settled::Closed(closed(false));
    let ends = [by_us(LostReason::TokensDeleted), by_us(LostReason::SessionDeleted), closed];
    for ended in ends {
        let state = rest(ended);
        let start = |renewable| step(state.clone(), need(renewable), &after(0)).1.start;
        assert_eq!(start(Renewable::Itself), None, "{state:?}");
        assert_eq!(start(Renewable::Vouched), Some(Start::Renew), "{state:?}");
        assert!(matches!(
            token_decision(&state, 0, Renewable::Itself, boot(NOW)),
            TokenDecision::Fail(_)
        ));
        assert!(matches!(
            token_decision(&state, 0, Renewable::Vouched, boot(NOW)),
            TokenDecision::Ask
        ));
        // A failed grant is not tried again for each caller.
        let (state, _) = step(state, need(Renewable::Vouched), &after(0));
        let (state, _) = step(state, Input::Failed(failure(Class::Refused)), &after(0));
        assert!(matches!(
            token_decision(&state, 0, Renewable::Vouched, boot(NOW)),
            TokenDecision::Fail(_)
        ));
        assert_eq!(step(state, need(Renewable::Vouched), &after(0)).1.start, None);
    }
}

#[test]
fn every_state_has_its_wake_and_readers_their_due_time() {
    let now = boot(NOW);
    let expiring = Some(boot(NOW + REFRESH_LIFE - 3600));
    let forgotten = Some(boot(NOW + 305));
    let expected = |name: &str| match name {
        "unloaded, cooling" | "vacant, cooling" => (forgotten, None),
        // Before the record is loaded, only the passage of time counts.
        "due, loading" | "due, ended elsewhere" | "expired, loading" => (expiring, Some(now)),
        "in doubt, ripe, loading" => (expiring, Some(now)),
        "due, load failed" => (Some(boot(NOW + 5)), Some(now)),
        "unsaved, load failed" => (forgotten, None),
        "active, due" => (Some(now), Some(now)),
        "active, expired" | "active, ended, not understood" => (Some(now), Some(now)),
        "lost provisionally" => (Some(boot(NOW + 3600)), None),
        "lost provisionally, retry due" => (Some(now), None),
        "active, cooling" => (Some(boot(NOW + 5)), Some(boot(NOW + 5))),
        "active, fresh" | "active, suspect" | "active, rejected" | "active, damped" => {
            (Some(boot(NOW + 720)), Some(boot(NOW + 720)))
        }
        "active, issuer mismatch" => (expiring, Some(now)),
        "active, unsaved" => (Some(boot(NOW + REFRESH_LIFE)), None),
        "lost, not recorded" => (Some(BootTime::default()), None),
        "active, no refresh token" | "active, no refresh token, rejected" => {
            (None, Some(boot(NOW + 720)))
        }
        "active, no refresh token, ended" => (None, Some(now)),
        "active, refresh token ended" => (Some(now), Some(boot(NOW + 720))),
        "active, misconfigured" | "in doubt, early" | "in doubt, misconfigured" => {
            (Some(boot(NOW + 60)), Some(boot(NOW + 60)))
        }
        "in doubt, ripe" | "in doubt, retry early" | "in doubt, refresh token ended" => {
            (Some(now), Some(now))
        }
        "in doubt, issuer mismatch" => (expiring, Some(now)),
        "closed, not begun again" => (forgotten, None),
        "closed, to be revoked" => (Some(BootTime::default()), None),
        "closed, cooling" => (Some(boot(NOW + 5)), None),
        "challenged over vacant" | "challenged over closed" => (Some(boot(NOW + 60)), None),
        "challenged over fresh" => (Some(boot(NOW + 60)), Some(boot(NOW + 720))),
        "challenged over due" => (Some(now), Some(now)),
        "challenged over fresh, ended" => (Some(now), Some(boot(NOW + 720))),
        // Unloaded, vacant, lost and closed sessions have nothing due, and a running exchange needs
        // no check.
        _ => (None, None),
    };
    for (name, state) in states() {
        let wake = next_wake(&state, &ahead(after(0)).policy);
        let held = state.settled.as_ref().and_then(|settled| settled.serving().cloned());
        let due = held.and_then(|held| due_at(&state, &held));
        assert_eq!((wake, due), expected(name), "{name}");
    }
}

#[test]
fn on_demand_a_due_token_wakes_nothing_and_an_early_retry_does() {
    let policy = after(0).policy;
    let expiring = Some(boot(NOW + REFRESH_LIFE - 3600));
    assert_eq!(next_wake(&active(due()), &policy), expiring);
    assert_eq!(next_wake(&in_doubt(fresh(), retry_from(NOW)), &policy), expiring);
    let retry_early = InDoubt { retry_early: true, ..retry_from(NOW) };
    assert_eq!(next_wake(&in_doubt(fresh(), retry_early), &policy), Some(boot(NOW)));
}
