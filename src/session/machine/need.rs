//! What a need starts, and what stands in its way.

use super::{Doubt, Effects, Held, Moment, Renewable, Rest, Start, State, Trouble, age, lose};
use crate::clock::BootTime;
use crate::error::LostReason;

pub(super) fn need(
    state: State,
    above: u64,
    renewable: Renewable,
    at: &Moment,
    effects: &mut Effects,
) -> State {
    match state {
        State::Unloaded { trouble } => {
            if !Trouble::cooling(trouble.as_ref(), at.now.boot) {
                effects.start = Some(Start::Load);
            }
            State::Unloaded { trouble }
        }
        State::Rest(rest) => {
            // A refresh token that is known to have ended is not sent.
            let rest = age(rest, at, effects);
            match act(&rest, above, renewable, at) {
                Act::Nothing => State::Rest(rest),
                Act::Lose(reason) => State::Rest(lose(rest, reason, None, effects)),
                Act::Renew => {
                    effects.start = Some(Start::Renew);
                    State::Establishing {
                        former: rest,
                        renewal: true,
                        answer: None,
                        overdue: false,
                    }
                }
                Act::Refresh(held, doubt) => refresh(*held, doubt, effects),
            }
        }
        // The challenge's ticket stays good: its answer is a grant, taken in every state.
        State::Challenged { former, until } => {
            let former = age(former, at, effects);
            match act(&former, above, renewable, at) {
                Act::Nothing | Act::Renew | Act::Lose(_) => State::Challenged { former, until },
                Act::Refresh(held, doubt) => refresh(*held, doubt, effects),
            }
        }
        State::Establishing { .. }
        | State::Refreshing { .. }
        | State::Closing { .. }
        | State::Revoking { .. } => state,
    }
}

fn refresh(held: Held, doubt: Option<Doubt>, effects: &mut Effects) -> State {
    effects.start = Some(Start::Refresh);
    State::Refreshing { held, doubt, answer: None, overdue: false }
}

enum Act {
    Nothing,
    Refresh(Box<Held>, Option<Doubt>),
    Renew,
    Lose(LostReason),
}

fn act(rest: &Rest, above: u64, renewable: Renewable, at: &Moment) -> Act {
    let now = at.now.boot;
    let renew_if = |may: bool, trouble: &Option<Trouble>| {
        let free = may && !Trouble::cooling(trouble.as_ref(), now);
        if free { Act::Renew } else { Act::Nothing }
    };
    match rest {
        Rest::Vacant { trouble } => renew_if(renewable > Renewable::No, trouble),
        Rest::Lost(_) if rest.serving().is_some_and(|held| !held.is_wanted(above, now)) => {
            Act::Nothing
        }
        Rest::Lost(lost) => {
            let renewal = renew_if(renewable.brings_back(lost.reason), &lost.trouble);
            match (renewal, lost.to_be_tried(now)) {
                // Also where a renewal cools down: the schedule must not wake it in vain.
                (Act::Nothing, Some(held)) => Act::Refresh(Box::new(held.clone()), None),
                (renewal, _) => renewal,
            }
        }
        Rest::Closed(closed) => renew_if(renewable == Renewable::Vouched, &closed.unrenewed),
        Rest::InDoubt(held, doubt) => {
            if now >= doubt.retry_at && !held.foreign {
                Act::Refresh(Box::new(held.clone()), Some(*doubt))
            } else {
                Act::Nothing
            }
        }
        Rest::Active(held) => act_on_active(held, above, renewable, now),
    }
}

fn act_on_active(held: &Held, above: u64, renewable: Renewable, now: BootTime) -> Act {
    let cooling = Trouble::cooling(held.trouble.as_ref(), now);
    // Owed and due: no exchange until saved, or a crash would lose two refreshes, not one.
    if !held.is_wanted(above, now) || cooling || held.foreign || held.is_owed() {
        return Act::Nothing;
    }
    if held.can_refresh(now) {
        Act::Refresh(Box::new(held.clone()), None)
    } else if renewable > Renewable::No {
        Act::Renew
    } else if held.rejected {
        Act::Lose(LostReason::Rejected)
    } else if held.is_expired(now) {
        Act::Lose(LostReason::RefreshExpired)
    } else {
        Act::Nothing
    }
}
