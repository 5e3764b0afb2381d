//! The generation of the access token. It is below the generation of the credentials if a response
//! brought a refresh token, but no access token that can be used.

use super::CredentialState;
use crate::error::Error;

impl CredentialState {
    /// Whether an access token of this generation is the present one.
    pub(super) fn is_of(&self, generation: u64) -> bool {
        (self.token_generation..=self.generation).contains(&generation)
    }

    /// Whether the exchange that brought the refresh token brought no access token.
    pub(super) fn has_former_token(&self) -> bool {
        self.token_generation < self.generation
    }

    /// Why that exchange brought no access token.
    pub(super) fn refusal(&self) -> Option<&Error> {
        let backoff = self.backoff.as_ref().filter(|_| self.has_former_token());
        backoff.map(|backoff| &backoff.error)
    }

    /// Keeps the generation of the access token, and its rejection, if it is still the same token:
    /// a caller to whom that token is too old must not get it once more.
    pub(super) fn remember_token(&mut self, former: &Self) {
        let same = self.token.as_ref().zip(former.token.as_ref()).is_some_and(|(one, other)| {
            one.epoch() == other.epoch() && one.expose_secret() == other.expose_secret()
        });
        if same {
            self.rejected |= former.rejected;
            self.damping.clone_from(&former.damping);
            self.count_token(former.token_generation);
        }
    }

    /// Sets the generation of the access token.
    pub(super) fn count_token(&mut self, generation: u64) {
        self.token_generation = generation;
        self.token = self.token.take().map(|token| token.counted((self.epoch, generation)));
    }
}
