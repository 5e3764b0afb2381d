//! A refresh that brings a refresh token, but no access token that can be used.

use super::super::*;
use super::sample::*;
use crate::error::ErrorKind;
use crate::token::PermissionToken;

const SAVED: Input = Input::Saved { version: V + 1, epoch: 2, generation: G + 1, suspect: false };
const NEED: Input = Input::Need { newer_than: G, renewable: Renewable::No };

fn refused() -> Failure {
    Failure { error: Error::new(ErrorKind::Misconfigured), ..failure(Class::Harmless) }
}

/// The answer to a refresh of these credentials.
fn answer(former: CredentialState) -> Input {
    Input::Issued(with_former_token(held(NOW, (2, G + 1)), former, &refused(), &after(0)))
}

fn run(state: State, inputs: impl IntoIterator<Item = Input>) -> (State, Vec<Notification>) {
    let mut all = Vec::new();
    let state = inputs.into_iter().fold(state, |state, input| {
        let (state, Effects { notifications, .. }) = step(state, input, &after(0));
        all.extend(notifications);
        state
    });
    (state, all)
}

fn held_of(state: &State) -> &CredentialState {
    state.settled.as_ref().and_then(Settled::held).unwrap()
}

#[track_caller]
fn error_of(state: &State, newer_than: u64) -> ErrorKind {
    match token_decision(state, newer_than, Renewable::No, boot(NOW)) {
        TokenDecision::Fail(error) => error.kind(),
        other @ (TokenDecision::Token(_)
        | TokenDecision::Wait
        | TokenDecision::Load
        | TokenDecision::Ask) => panic!("{other:?}"),
    }
}

fn generation_of(state: &State) -> Option<u64> {
    let held = serving(state, boot(NOW))?;
    held.token.as_ref().map(PermissionToken::generation)
}

#[test]
fn the_former_token_is_served_under_its_number_and_a_newer_one_is_refused_until_the_retry() {
    let (state, notifications) = run(refreshing(fresh(), None), [answer(fresh()), SAVED]);
    assert!(matches!(notifications[..], [Notification::BackingOff { .. }]), "{notifications:?}");
    assert_eq!(state.counters(), (2, G + 1));
    assert_eq!(generation_of(&state), Some(G));
    assert_eq!(held_of(&state).expires, fresh().expires);
    assert_eq!(error_of(&state, G), ErrorKind::Misconfigured);
    assert_eq!(step(state.clone(), NEED, &after(0)).1.start, None);
    let retry_at = state.settled.as_ref().and_then(Settled::retry_at).unwrap();
    let wait = retry_at.since(boot(NOW)).as_secs() + 1;
    assert_eq!(step(state, NEED, &after(wait)).1.start, Some(Start::Refresh));
}

#[test]
fn a_second_such_answer_is_not_announced_and_lengthens_the_backoff() {
    let (state, _) = run(refreshing(fresh(), None), [answer(fresh()), SAVED]);
    let first = held_of(&state).clone();
    let again = with_former_token(held(NOW, (2, G + 2)), first.clone(), &refused(), &after(0));
    let saved = Input::Saved { version: V + 2, epoch: 2, generation: G + 2, suspect: false };
    let state = State { running: Some(Run::Refresh { answer: None }), ..state };
    let (state, notifications) = run(state, [Input::Issued(again), saved]);
    assert_eq!(notifications, []);
    let tries = |held: &CredentialState| held.backoff.as_ref().unwrap().tries;
    assert_eq!((tries(&first), tries(held_of(&state))), (1, 2));
    assert_eq!((state.counters(), generation_of(&state)), ((2, G + 2), Some(G)));
}

#[test]
fn a_token_that_an_api_rejects_before_or_after_the_answer_is_not_served() {
    let rejected = |generation| Input::Rejected { generation };
    for inputs in [
        vec![answer(fresh()), rejected(G), SAVED],
        vec![answer(fresh()), SAVED, rejected(G)],
        vec![answer(fresh()), SAVED, rejected(G + 1)],
        vec![answer(fresh()), Input::Unsaved, rejected(G), SAVED],
        vec![answer(CredentialState { rejected: true, ..fresh() }), SAVED],
        vec![answer(CredentialState { suspect: true, ..fresh() }), SAVED],
    ] {
        let (state, _) = run(refreshing(fresh(), None), inputs.clone());
        assert_eq!(generation_of(&state), None, "{inputs:?}");
        assert_eq!(error_of(&state, 0), ErrorKind::Misconfigured, "{inputs:?}");
    }
    let (state, _) = run(refreshing(fresh(), None), [answer(fresh()), SAVED, rejected(G - 1)]);
    assert_eq!(generation_of(&state), Some(G));
}

#[test]
fn an_answer_with_a_refresh_token_resolves_a_doubt_and_a_provisional_loss() {
    let lost = provisional(NOW);
    let of_lost = lost.held.clone().unwrap();
    let refreshing_lost = running(Settled::Lost(lost), Run::Refresh { answer: None });
    for (state, former) in
        [(refreshing(fresh(), Some(retry_from(NOW))), fresh()), (refreshing_lost, of_lost)]
    {
        let (state, notifications) = run(state, [answer(former), SAVED]);
        assert!(matches!(&state.settled, Some(Settled::Active(held)) if held.backoff.is_some()));
        assert!(matches!(notifications[..], [Notification::BackingOff { .. }]));
    }
}

#[test]
fn an_answer_whose_task_died_keeps_the_refresh_token_unsaved() {
    let cut = Input::Failed(failure(Class::Ambiguous(Retry::Late)));
    let (state, notifications) = run(refreshing(fresh(), None), [answer(fresh()), cut]);
    assert!(matches!(notifications[..], [Notification::BackingOff { .. }, Notification::Unsaved]));
    assert!(held_of(&state).is_unsaved());
    assert_eq!((state.counters(), generation_of(&state)), ((2, G + 1), Some(G)));
    assert_eq!(step(state, NEED, &after(900)).1.start, None, "it is saved first");
}

#[test]
fn a_token_that_ended_with_the_refresh_is_not_served() {
    let issued = CredentialState { expires: Some(boot(NOW)), ..held(NOW, (2, G + 1)) };
    let held = with_former_token(issued, fresh(), &refused(), &after(0));
    let (state, _) = run(refreshing(fresh(), None), [Input::Issued(held), SAVED]);
    assert_eq!(generation_of(&state), None);
}

#[test]
fn a_process_that_loads_such_a_record_keeps_the_number_and_the_rejection_of_its_token() {
    for rejected in [false, true] {
        let known = CredentialState { rejected, ..fresh() };
        let record = CredentialState {
            backoff: cooling(),
            derived_at: Some(seconds(1)),
            ..held(NOW, (2, G + 1))
        };
        let change = external_change(false);
        let settled = Settled::Active(record);
        let input = Input::Loaded { read: 1, version: V + 1, settled };
        let (state, _) = run(loading(active(known), change), [input]);
        assert_eq!(generation_of(&state), (!rejected).then_some(G));
        assert_eq!((state.counters().1, error_of(&state, G)), (G + 1, ErrorKind::RetryLater));
    }
}
