//! The claims that a session may have in the store.

use crate::clock::Now;
use crate::store::ClaimId;

/// While a record has a claim, the store refuses every other claim, also one of this process, unless
/// that names the claim which it replaces. So a slot remembers a claim's id until the store has
/// confirmed that the claim has ended.
#[derive(Default)]
pub(super) struct Claims {
    /// Requested, and not answered: the store may have written it.
    asked: Option<(ClaimId, Now)>,
    /// Written, and not ended as far as this process knows.
    written: Option<ClaimId>,
}

impl Claims {
    /// The id of the next claim, the claim that it replaces, and the time of its first request.
    pub(super) fn begin(&mut self, now: Now) -> (ClaimId, Option<ClaimId>, Now) {
        // Keep the id of a request without an answer: with a new id the store could have a claim
        // that no later claim names, which would block the session until its lease is over.
        let (id, at) = *self.asked.get_or_insert_with(|| (ClaimId::random(), now));
        (id, self.written, at)
    }

    pub(super) fn answered(&mut self, claim: ClaimId, granted: bool) {
        if self.asked.take_if(|(asked, _)| *asked == claim).is_some() && granted {
            self.written = Some(claim);
        }
    }

    /// Whether the store has no claim of this slot, as far as this process knows.
    pub(super) fn are_none(&self) -> bool {
        self.asked.is_none() && self.written.is_none()
    }

    pub(super) fn ended(&mut self, claim: ClaimId) {
        self.written.take_if(|written| *written == claim);
    }
}

#[cfg(test)]
mod tests;
