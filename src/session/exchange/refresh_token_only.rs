//! A refresh whose response has a new refresh token, but no access token that can be used.

use std::sync::Arc;

use super::{End, Exchange};
use crate::clock::Now;
use crate::journal::Room;
use crate::provider::ExchangeError;
use crate::session::from_record;
use crate::session::machine::{self, Settled, State};
use crate::store::{Attempt, Intent};
use crate::token::Access;

impl Exchange {
    /// Saves the new refresh token beside the former access token. The server may have spent the
    /// former refresh token, so it is saved as after a refresh that succeeded.
    pub(super) async fn refresh_token_only(
        &mut self,
        (attempt, room, refresh): (Attempt, Option<Room>, Access),
        failed: ExchangeError,
        sent: Now,
    ) -> End {
        self.observation.failed(&failed);
        let held = |state: &State| state.settled.as_ref().and_then(Settled::held).cloned();
        let Some(former) = self.slot.with_state(held) else {
            return self.failed(Intent::Refresh, attempt, failed, sent).await;
        };
        let failure = self.failure(Intent::Refresh, failed, Some(sent));
        let Self { context, slot, client, .. } = &*self;
        let at = context.step_context(slot);
        let mut credentials = (*former.credentials).clone();
        credentials.tokens.refresh = Some(refresh);
        let is_served =
            former.is_usable(at.now.boot) && !client.provider.refresh_ends_access_tokens();
        if let Some(access) = credentials.tokens.access.as_mut().filter(|_| !is_served) {
            // The record must say it too: otherwise another process would serve the token.
            access.expires_at = Some(at.now.wall);
        }
        let counters = (self.epoch, self.base + 1);
        let issued = from_record::held(client, Arc::new(credentials), counters, sent);
        let held = machine::with_former_token(issued, former, &failure, &at);
        match self.save(Intent::Refresh, (attempt, room), held).await {
            None => End::RefreshTokenOnly(failure.error),
            Some(superseded) => End::TokensSuperseded(superseded),
        }
    }
}
