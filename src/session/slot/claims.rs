//! The claims that a session may have in the store.

use crate::clock::Now;
use crate::store::ClaimId;

/// A claim that was written is refused to others, this process included, until it is ended or
/// replaced. So its id is remembered until the store has said that it is gone.
#[derive(Default)]
pub(super) struct Claims {
    /// Asked for, and not answered: it may be written.
    asked: Option<(ClaimId, Now)>,
    /// Written, and not ended as far as is known.
    written: Option<ClaimId>,
}

impl Claims {
    /// The id of the next claim, the one that it replaces, and when it was first asked for. A claim
    /// without an answer is asked for again under its own id, so that there is never a second that
    /// nobody can name.
    pub(super) fn begin(&mut self, now: Now) -> (ClaimId, Option<ClaimId>, Now) {
        let (id, at) = *self.asked.get_or_insert_with(|| (ClaimId::random(), now));
        (id, self.written, at)
    }

    pub(super) fn answered(&mut self, claim: ClaimId, granted: bool) {
        if self.asked.take_if(|(asked, _)| *asked == claim).is_some() && granted {
            self.written = Some(claim);
        }
    }

    /// Whether the store has none of them, as far as is known.
    pub(super) fn are_none(&self) -> bool {
        self.asked.is_none() && self.written.is_none()
    }

    pub(super) fn ended(&mut self, claim: ClaimId) {
        self.written.take_if(|written| *written == claim);
    }
}

#[cfg(test)]
mod tests;
