//! Rejections of tokens that a former rejection brought.

use super::super::*;
use super::sample::*;

/// The session after a refresh at `now` that brought `generation`.
fn refreshed(state: State, now: u64, generation: u64) -> State {
    let newer_than = Input::Need { newer_than: generation - 1, renewable: Renewable::No };
    let (state, effects) = step(state, newer_than, &after(now));
    assert_eq!(effects.start, Some(Start::Refresh));
    let (state, _) = step(state, Input::Issued(held(NOW + now, (2, generation))), &after(now));
    step(state, Input::Saved { version: V + 1, epoch: 2, generation, suspect: false }, &after(now))
        .0
}

fn rejected(state: State, now: u64, generation: u64) -> State {
    assert!(!is_damped(&state, generation, boot(NOW + now)), "{generation} is damped at {now} s");
    step(state, Input::Rejected { generation }, &after(now)).0
}

#[test]
fn the_first_rejection_refreshes_and_the_token_that_it_brings_is_damped_for_ten_seconds() {
    let state = refreshed(rejected(active(fresh()), 0, G), 0, G + 1);
    for now in [0, 9] {
        assert!(is_damped(&state, G + 1, boot(NOW + now)));
        assert!(!is_damped(&state, G, boot(NOW + now)), "that one is replaced");
    }
    assert!(!is_damped(&state, G + 1, boot(NOW + 10)));
}

#[test]
fn the_span_doubles_with_each_refresh_that_a_rejection_starts_up_to_ten_minutes() {
    let mut state = rejected(active(fresh()), 0, G);
    let mut now = 0;
    for (n, span) in [10, 20, 40, 80, 160, 320, 600, 600].into_iter().enumerate() {
        let generation = G + 1 + n as u64;
        state = refreshed(state, now, generation);
        assert!(is_damped(&state, generation, boot(NOW + now + span - 1)));
        now += span;
        state = rejected(state, now, generation);
    }
}

#[test]
fn an_accepted_token_ends_the_doubling_but_not_the_first_ten_seconds() {
    let mut state = refreshed(rejected(active(fresh()), 0, G), 0, G + 1);
    state = refreshed(rejected(state, 10, G + 1), 10, G + 2);
    assert!(is_damped(&state, G + 2, boot(NOW + 29)), "20 s");
    let other = step(state.clone(), Input::Accepted { generation: G + 1 }, &after(11)).0;
    assert!(is_damped(&other, G + 2, boot(NOW + 29)), "that was another token");
    let state = step(state, Input::Accepted { generation: G + 2 }, &after(11)).0;
    assert!(is_damped(&state, G + 2, boot(NOW + 19)));
    let state = refreshed(rejected(state, 20, G + 2), 20, G + 3);
    assert!(is_damped(&state, G + 3, boot(NOW + 29)));
    assert!(!is_damped(&state, G + 3, boot(NOW + 30)));
}

#[test]
fn a_refresh_by_age_ends_the_damping() {
    let state = refreshed(rejected(active(fresh()), 0, G), 0, G + 1);
    let state = refreshed(state, 1, G + 2);
    assert!(!is_damped(&state, G + 2, boot(NOW + 1)));
}
