//! Requests to APIs with a session's token.

use std::sync::Arc;

use http::{Uri, request};
use url::Url;

use super::Session;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::Signing;
use crate::token::PermissionToken;

impl<P> Session<P> {
    /// Adds a valid token to a request in the provider's way: as a header, a query field, or a
    /// signature over the request.
    ///
    /// This does not check where the request goes: see [`check_api_origin`](Self::check_api_origin).
    ///
    /// # Errors
    ///
    /// As [`permission_token`](Self::permission_token); `InvalidInput` if this request cannot
    /// carry the token.
    ///
    /// # Cancel safety
    ///
    /// As [`permission_token`](Self::permission_token). The request is unchanged until the token is
    /// there.
    pub async fn authorize(&self, request: &mut request::Parts) -> Result<PermissionToken> {
        let token = self.permission_token().await?;
        let secret = match self.dispatcher.find(&self.id) {
            Some(slot) => slot.with_state(|state| state.token_secret(token.generation())),
            None => None,
        };
        let signing = Signing::new(&token, secret.as_ref(), self.dispatcher.context.now().wall);
        self.client()?.provider.authorize(&signing, request)?;
        Ok(token)
    }

    /// Checks that the session's token may go to this URL: its origin is one of the API origins of
    /// the provider ([`Provider::api_origins`](crate::provider::Provider::api_origins),
    /// [`Registration::api_origins`](crate::provider::Registration::api_origins)). The request
    /// middleware checks this itself.
    ///
    /// ```
    /// use http::Uri;
    /// use session_warden::provider::Registration;
    /// use session_warden::testing::ScriptedProvider;
    /// use session_warden::{SessionKey, Supervisor};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), session_warden::Error> {
    /// let acme: Registration<ScriptedProvider> = ScriptedProvider::new().into();
    /// let acme = acme.api_origins(["https://api.example.com"]);
    /// let supervisor = Supervisor::builder().provider("acme", acme).start().await?;
    /// let session = supervisor.session("acme", SessionKey::single("device-17")?)?;
    ///
    /// session.check_api_origin(&Uri::from_static("https://api.example.com/profile")).await?;
    /// let other = Uri::from_static("https://api.example.org/profile");
    /// assert!(session.check_api_origin(&other).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the token may not go there; `Misconfigured` and `RetryLater` if the
    /// provider's source gives no provider for the tenant.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn check_api_origin(&self, url: &Uri) -> Result<()> {
        self.check_origin(&*self.resolved_client().await?, url)
    }

    /// The same with the client of the session.
    pub(crate) fn check_origin(&self, client: &Client, url: &Uri) -> Result<()> {
        let parsed = Url::parse(&url.to_string());
        let parsed = parsed.map_err(|_| {
            Error::new(ErrorKind::InvalidInput)
                .about("the request has no absolute URL; write it with scheme and host")
        });
        let checked = parsed.and_then(|url| client.api_origins.check(&url));
        checked.map_err(|error| error.of_session(&self.id))
    }

    /// The client of the session's tenant, from the provider's source if it is not known yet.
    pub(crate) async fn resolved_client(&self) -> Result<Arc<Client>> {
        let tenant_client = self.provider.tenant_client(self.id.key().tenant());
        let resolved = self.dispatcher.context.resolve(&tenant_client).await;
        resolved.map_err(|error| error.of_session(&self.id))
    }
}
