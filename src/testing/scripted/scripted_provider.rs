//! The scripted provider as a provider: each call plays the next reply of its script.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::{Reply, ScriptedProvider};
use crate::provider::{
    ExchangeError, FailureClass, HttpSender, Issued, Provider, Rejection, RevocationReach, Revoked,
    Rotation, UnattendedGrant,
};
use crate::secret::Secret;
use crate::token::{Placement, Tokens};

impl<C, A> UnattendedGrant<ScriptedProvider<(), C, A>> for ()
where
    C: Send + Sync + 'static,
    A: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
}

impl<G, C, A> Provider for ScriptedProvider<G, C, A>
where
    C: Send + Sync + 'static,
    A: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
    G: Send + 'static,
{
    type Grant = G;
    type Challenge = C;
    type Attributes = A;

    fn authority_url(&self) -> &Url {
        &self.authority
    }

    fn client_id(&self) -> &str {
        &self.client
    }

    fn refresh_token_rotation(&self) -> Rotation {
        self.rotation
    }

    fn access_tokens_end_at_refresh(&self) -> bool {
        self.ends_access_tokens
    }

    fn reach_of_revocation(&self) -> RevocationReach {
        self.revocation_reach
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        _: G,
    ) -> Result<Issued<Self>, ExchangeError> {
        self.script.count(|counts| counts.establishes += 1);
        let reply = self.script.line(|lines| &mut lines.establish);
        self.play(sender, reply).await
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        _: &Secret,
        _: &Tokens<A>,
    ) -> Result<Tokens<A>, ExchangeError> {
        self.script.count(|counts| counts.refreshes += 1);
        let reply = self.script.line(|lines| &mut lines.refresh);
        match self.play(sender, reply).await? {
            Issued::Tokens(tokens) => Ok(tokens),
            Issued::Challenge(_) => Err(ExchangeError::new(FailureClass::Rejected)),
        }
    }

    async fn revoke(
        &self,
        sender: &HttpSender<'_>,
        _: &Tokens<A>,
    ) -> Result<Revoked, ExchangeError> {
        self.script.count(|counts| counts.revocations += 1);
        let reply = self.script.0.lines.lock().revoke.pop_front().unwrap_or(Reply::Issue);
        self.play(sender, reply).await.map(|_| Revoked::AtServer)
    }

    fn renewal_grant(&self, _: Option<&Tokens<A>>) -> Option<G> {
        self.renewal.as_ref().map(|grant| grant())
    }

    fn rejection(&self, response: &http::response::Parts, _: &[u8]) -> Rejection {
        match response.status.as_u16() {
            401 => Rejection::TokenDead,
            403 => Rejection::OtherReason,
            410 => Rejection::SessionDead,
            _ => Rejection::None,
        }
    }
}
