//! What a session is told from outside: by APIs, and by whoever changes settings.

use super::{Effects, Held, Lost, Rest, Start, State, Trouble, lose};
use crate::clock::BootTime;
use crate::error::{ErrorKind, LostReason};

pub(super) fn rejected(mut state: State, generation: u64) -> State {
    match &mut state {
        State::Rest(rest)
        | State::Challenged { former: rest, .. }
        | State::Establishing { former: rest, .. }
        | State::Closing { former: rest } => rest.reject(generation),
        State::Refreshing { held, .. } => held.reject(generation),
        State::Unloaded { .. } | State::Revoking { .. } => {}
    }
    state
}

/// An API accepted the token. A later rejection by another API then says little about the token, so
/// the damping starts again at its shortest span.
pub(super) fn accepted(mut state: State, generation: u64) -> State {
    match &mut state {
        State::Rest(rest)
        | State::Challenged { former: rest, .. }
        | State::Establishing { former: rest, .. }
        | State::Closing { former: rest } => {
            if let Some(held) = rest.held_mut() {
                held.accept(generation);
            }
        }
        State::Refreshing { held, .. } => held.accept(generation),
        State::Unloaded { .. } | State::Revoking { .. } => {}
    }
    state
}

/// Whether a rejection of the token of this generation starts no refresh: the last one brought
/// this very token a moment ago, and the next would bring one that is no better.
pub(crate) fn is_damped(state: &State, generation: u64, now: BootTime) -> bool {
    let rest = state.rest();
    let held = rest.as_ref().and_then(|rest| rest.serving());
    held.is_some_and(|held| held.generation == generation && held.is_damped(now))
}

/// A session that was lost provisionally is tried at the next need, unless it has just been tried.
pub(super) fn refresh_by_hand(mut state: State, now: BootTime) -> State {
    match &mut state {
        State::Rest(Rest::Lost(Lost { held: Some(held), .. }))
        | State::Challenged { former: Rest::Lost(Lost { held: Some(held), .. }), .. } => {
            let cooling = Trouble::cooling(held.trouble.as_ref(), now);
            if let Some(unclassified) = held.unclassified.as_mut().filter(|_| !cooling) {
                unclassified.retry_at = unclassified.retry_at.min(now);
            }
        }
        State::Rest(_)
        | State::Unloaded { .. }
        | State::Challenged { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => {}
    }
    state
}

pub(super) fn dead(
    state: State,
    generation: u64,
    reason: LostReason,
    effects: &mut Effects,
) -> State {
    let mut lose_if = |mut rest: Rest| {
        let lost = rest.lost();
        if lost.is_some_and(LostReason::is_ours) && !reason.is_ours() {
            // We ended it ourselves, and no renewal may forget that.
            rest.reject(generation);
            rest
        } else if lost == Some(reason) {
            rest
        } else if rest.serving().is_some_and(|held| held.generation == generation) {
            lose(rest, reason, None, effects)
        } else {
            rest
        }
    };
    match state {
        State::Rest(rest) => State::Rest(lose_if(rest)),
        State::Challenged { former, until } => State::Challenged { former: lose_if(former), until },
        State::Establishing { former, renewal, answer, overdue } => {
            State::Establishing { former: lose_if(former), renewal, answer, overdue }
        }
        State::Closing { former } => State::Closing { former: lose_if(former) },
        // A refresh that runs finds out itself.
        State::Refreshing { .. } => rejected(state, generation),
        State::Unloaded { .. } | State::Revoking { .. } => state,
    }
}

/// Another process changed the record, which is read again unless it is what is here. Whatever runs
/// or is owed finds out by its own statement.
pub(super) fn elsewhere(
    state: State,
    counters: Option<(u64, u64)>,
    effects: &mut Effects,
) -> State {
    match state {
        State::Rest(rest)
            if !rest.is_owed() && counters.is_none_or(|newest| rest.counters() < newest) =>
        {
            effects.start = Some(Start::Load);
            State::Unloaded { trouble: None }
        }
        State::Rest(_)
        | State::Unloaded { .. }
        | State::Challenged { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => state,
    }
}

/// Other settings: what the former ones were refused for is forgotten, and credentials are held
/// against the authority and client that are named now.
pub(super) fn reconfigured(mut state: State, foreign: bool, now: BootTime) -> State {
    match &mut state {
        State::Rest(rest)
        | State::Challenged { former: rest, .. }
        | State::Establishing { former: rest, .. }
        | State::Closing { former: rest } => fit(rest, foreign, now),
        State::Refreshing { held, .. } => mark(held, foreign),
        State::Revoking { closed } => pardon(&mut closed.trouble),
        State::Unloaded { .. } => {}
    };
    state
}

fn fit(rest: &mut Rest, foreign: bool, now: BootTime) {
    match rest {
        Rest::Vacant { trouble } => {
            pardon(trouble);
        }
        Rest::Active(held) => mark(held, foreign),
        Rest::InDoubt(held, doubt) => {
            let refused = held.trouble.as_ref().is_some_and(is_misconfigured);
            mark(held, foreign);
            if refused {
                // It was tried out, and only its client stood in the way.
                doubt.retry_at = doubt.retry_at.min(now);
                doubt.floor = doubt.floor.min(now);
            }
        }
        Rest::Lost(lost) => {
            pardon(&mut lost.trouble);
            if let Some(held) = &mut lost.held {
                mark(held, foreign);
            }
        }
        Rest::Closed(closed) => {
            pardon(&mut closed.trouble);
            pardon(&mut closed.unrenewed);
        }
    }
}

fn mark(held: &mut Held, foreign: bool) {
    held.foreign = foreign;
    pardon(&mut held.trouble);
}

fn pardon(trouble: &mut Option<Trouble>) {
    trouble.take_if(|trouble| is_misconfigured(trouble));
}

fn is_misconfigured(trouble: &Trouble) -> bool {
    trouble.error.kind() == ErrorKind::Misconfigured
}
