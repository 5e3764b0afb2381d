//! How a session is forgotten.

use super::{Effects, Notice, Rest, Start, State, exchange};

/// Taken in every state in which no exchange runs, and also of a record that cannot be read: a
/// damaged one would otherwise stay for ever.
pub(super) fn forget(state: State, effects: &mut Effects) -> State {
    let former = match state {
        State::Unloaded { trouble } => Rest::Vacant { trouble },
        State::Rest(rest) | State::Challenged { former: rest, .. } => rest,
        State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => return state,
    };
    effects.start = Some(Start::Forget);
    State::Closing { former }
}

pub(super) fn forgotten(state: State, effects: &mut Effects) -> State {
    match state {
        State::Closing { .. } => {
            effects.notices.push(Notice::Forgotten);
            State::Rest(Rest::Vacant { trouble: None })
        }
        State::Unloaded { .. }
        | State::Rest(_)
        | State::Challenged { .. }
        | State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Revoking { .. } => state,
    }
}

/// What had nothing in memory is read again: it may be a record that was never read.
pub(super) fn forget_failed(state: State) -> State {
    if let State::Closing { former: Rest::Vacant { trouble } } = state {
        return State::Unloaded { trouble };
    }
    exchange::close_failed(state)
}
