//! A provider that puts its token in another place than the header `Authorization`.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue, request, response};
use session_warden::Error;
use session_warden::provider::{
    ExchangeError, HttpSender, Issued, Provider, Rejection, Revoked, Rotation, Signing,
};
use session_warden::secret::Secret;
use session_warden::testing::ScriptedProvider;
use session_warden::token::{Placement, Tokens};
use url::Url;

/// Where the token goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Bearer,
    Header,
    Query,
    /// A header that is another one for each send.
    Signature,
}

pub const PLACES: [Place; 4] = [Place::Bearer, Place::Header, Place::Query, Place::Signature];

pub struct Placing {
    pub inner: ScriptedProvider,
    pub place: Place,
    pub signed: AtomicU64,
}

impl Placing {
    pub fn new(inner: ScriptedProvider, place: Place) -> Self {
        Self { inner, place, signed: AtomicU64::new(0) }
    }
}

impl Provider for Placing {
    type Grant = ();
    type Challenge = std::convert::Infallible;
    type Attributes = ();

    fn authority_url(&self) -> &Url {
        self.inner.authority_url()
    }

    fn client_id(&self) -> &str {
        self.inner.client_id()
    }

    fn refresh_token_rotation(&self) -> Rotation {
        self.inner.refresh_token_rotation()
    }

    fn placement(&self) -> Option<Placement> {
        match self.place {
            Place::Bearer => Some(Placement::bearer()),
            Place::Header => Some(Placement::header(HeaderName::from_static("x-token"))),
            Place::Query | Place::Signature => None,
        }
    }

    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        grant: (),
    ) -> Result<Issued<Self>, ExchangeError> {
        match self.inner.establish(sender, grant).await? {
            Issued::Tokens(tokens) => Ok(Issued::Tokens(tokens)),
            Issued::Challenge(never) => match never {},
        }
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        refresh_token: &Secret,
        held: &Tokens<()>,
    ) -> Result<Tokens<()>, ExchangeError> {
        self.inner.refresh(sender, refresh_token, held).await
    }

    async fn revoke(
        &self,
        sender: &HttpSender<'_>,
        held: &Tokens<()>,
    ) -> Result<Revoked, ExchangeError> {
        self.inner.revoke(sender, held).await
    }

    fn authorize(&self, signing: &Signing<'_>, request: &mut request::Parts) -> Result<(), Error> {
        let token = signing.token().expose_secret();
        match self.place {
            Place::Bearer | Place::Header => signing.put_header(request)?,
            Place::Query => {
                let mut url = Url::parse(&request.uri.to_string()).unwrap();
                url.query_pairs_mut().append_pair("token", token);
                request.uri = url.as_str().parse().unwrap();
            }
            Place::Signature => {
                let number = self.signed.fetch_add(1, Ordering::SeqCst);
                let text = format!("Signature {number} of {token}");
                let value = HeaderValue::from_str(&text).unwrap();
                request.headers.insert("authorization", value);
            }
        }
        Ok(())
    }

    fn rejection(&self, response: &response::Parts, body_prefix: &[u8]) -> Rejection {
        let is_word = || body_prefix.starts_with(b"{\"status\":\"BAD_TOKEN\"");
        match response.status.as_u16() {
            401 => Rejection::TokenDead,
            400 if is_word() => Rejection::TokenDead,
            _ => Rejection::None,
        }
    }
}
