//! A provider without its types, as sessions of several providers share it.

use std::any::Any;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use url::Url;

use super::{
    ExchangeError, FailureClass, Issued, Provider, Rejection, RevocationReach, Revoked, Rotation,
};
use super::{Signing, Wire};
use crate::error::{Error, ErrorKind};
use crate::token::{Credentials, Placement, Tokens};

/// A grant or a challenge whose type only the typed handle knows.
pub(crate) type Parcel = Box<dyn Any + Send>;

/// What an establish gave, without its types.
pub(crate) enum ErasedIssued {
    Tokens(Credentials),
    Challenge(Parcel),
}

/// [`Provider`] for any of its types.
pub(crate) trait Erased: Send + Sync {
    /// The provider itself, for who knows its type.
    fn itself(&self) -> Arc<dyn Any + Send + Sync>;
    fn dialect(&self) -> &'static str;
    fn authority(&self) -> &Url;
    fn client(&self) -> &str;
    fn rotation(&self) -> Rotation;
    fn revocation_reach(&self) -> RevocationReach;
    fn placement(&self) -> Option<Placement>;
    fn prepare<'a>(&'a self, wire: &'a Wire<'a>) -> BoxFuture<'a, Result<(), ExchangeError>>;
    fn establish<'a>(
        &'a self,
        wire: &'a Wire<'a>,
        grant: Parcel,
    ) -> BoxFuture<'a, Result<ErasedIssued, ExchangeError>>;
    fn refresh<'a>(
        &'a self,
        wire: &'a Wire<'a>,
        held: &'a Credentials,
    ) -> BoxFuture<'a, Result<Credentials, ExchangeError>>;
    fn revoke<'a>(
        &'a self,
        wire: &'a Wire<'a>,
        held: &'a Credentials,
    ) -> BoxFuture<'a, Result<Revoked, ExchangeError>>;
    /// Tokens with their attributes as text, bound to this provider's authority and client.
    fn bind(&self, tokens: Tokens<Arc<str>>) -> Credentials;
    fn renewal(&self, held: Option<&Credentials>) -> Option<Parcel>;
    fn authorize(
        &self,
        signing: &Signing<'_>,
        request: &mut http::request::Parts,
    ) -> Result<(), Error>;
    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection;
}

/// The origin that credentials are bound to.
pub(crate) fn origin(provider: &dyn Erased) -> String {
    provider.authority().origin().ascii_serialization()
}

pub(crate) struct Adapter<P> {
    provider: Arc<P>,
    /// What credentials are bound to. All sessions of the provider share the text.
    authority: Arc<str>,
    client: Arc<str>,
}

impl<P: Provider> Erased for Adapter<P> {
    fn itself(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::<P>::clone(&self.provider)
    }

    fn dialect(&self) -> &'static str {
        self.provider.dialect()
    }

    fn authority(&self) -> &Url {
        self.provider.authority()
    }

    fn client(&self) -> &str {
        self.provider.client()
    }

    fn rotation(&self) -> Rotation {
        self.provider.rotation()
    }

    fn revocation_reach(&self) -> RevocationReach {
        self.provider.revocation_reach()
    }

    fn placement(&self) -> Option<Placement> {
        self.provider.placement()
    }

    fn prepare<'a>(&'a self, wire: &'a Wire<'a>) -> BoxFuture<'a, Result<(), ExchangeError>> {
        Box::pin(self.provider.prepare(wire))
    }

    fn establish<'a>(
        &'a self,
        wire: &'a Wire<'a>,
        grant: Parcel,
    ) -> BoxFuture<'a, Result<ErasedIssued, ExchangeError>> {
        Box::pin(async move {
            let Ok(grant) = grant.downcast::<P::Grant>() else {
                let other =
                    Error::new(ErrorKind::InvalidInput).about("a grant of another provider");
                return Err(ExchangeError::new(FailureClass::NotSent).with_source(other));
            };
            match self.provider.establish(wire, *grant).await? {
                Issued::Tokens(tokens) => self.erase(tokens).map(ErasedIssued::Tokens),
                Issued::Challenge(challenge) => Ok(ErasedIssued::Challenge(Box::new(challenge))),
            }
        })
    }

    fn refresh<'a>(
        &'a self,
        wire: &'a Wire<'a>,
        held: &'a Credentials,
    ) -> BoxFuture<'a, Result<Credentials, ExchangeError>> {
        Box::pin(async move {
            let held = typed::<P>(held)?;
            let mut issued = self.provider.refresh(wire, &held).await?;
            // RFC 6749 section 6: no refresh token in the answer, the old one stays.
            issued.refresh = issued.refresh.or(held.refresh);
            self.erase(issued)
        })
    }

    fn revoke<'a>(
        &'a self,
        wire: &'a Wire<'a>,
        held: &'a Credentials,
    ) -> BoxFuture<'a, Result<Revoked, ExchangeError>> {
        Box::pin(async move { self.provider.revoke(wire, &typed::<P>(held)?).await })
    }

    fn bind(&self, mut tokens: Tokens<Arc<str>>) -> Credentials {
        if let (Some(access), Some(place)) = (&mut tokens.access, self.provider.placement()) {
            access.secret = access.secret.prefixed(place.prefix());
        }
        let (authority, client) = (Arc::clone(&self.authority), Arc::clone(&self.client));
        Credentials { tokens, authority, client }
    }

    fn renewal(&self, held: Option<&Credentials>) -> Option<Parcel> {
        let held = held.and_then(|held| typed::<P>(held).ok());
        self.provider.renewal(held.as_ref()).map(|grant| Box::new(grant) as Parcel)
    }

    fn authorize(
        &self,
        signing: &Signing<'_>,
        request: &mut http::request::Parts,
    ) -> Result<(), Error> {
        self.provider.authorize(signing, request)
    }

    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
        self.provider.rejection(response, body_prefix)
    }
}

impl<P: Provider> Adapter<P> {
    pub(crate) fn new(provider: P) -> Self {
        let authority = provider.authority().origin().ascii_serialization().into();
        let client = provider.client().into();
        Self { provider: Arc::new(provider), authority, client }
    }

    fn erase(&self, tokens: Tokens<P::Attributes>) -> Result<Credentials, ExchangeError> {
        let Tokens { access, refresh, token_secret, attributes } = tokens;
        // The exchange succeeded, so credentials are never refused for their attributes: what
        // cannot be written as JSON is kept as `null` and reported when it is asked for.
        let attributes = serde_json::to_string(&attributes).unwrap_or_else(|_| "null".to_owned());
        let attributes = attributes.into();
        Ok(self.bind(Tokens { access, refresh, token_secret, attributes }))
    }
}

/// The tokens with their attributes as text, as [`Erased::bind`] takes them.
pub(crate) fn untyped<P: Provider>(
    tokens: Tokens<P::Attributes>,
) -> Result<Tokens<Arc<str>>, serde_json::Error> {
    let Tokens { access, refresh, token_secret, attributes } = tokens;
    let attributes = serde_json::to_string(&attributes)?.into();
    Ok(Tokens { access, refresh, token_secret, attributes })
}

/// The tokens with the provider's own attributes.
pub(crate) fn typed<P: Provider>(
    held: &Credentials,
) -> Result<Tokens<P::Attributes>, ExchangeError> {
    let Tokens { access, refresh, token_secret, attributes } = held.tokens.clone();
    let attributes = serde_json::from_str(&attributes).map_err(|unreadable| {
        ExchangeError::new(FailureClass::NotSent).with_source(
            Error::new(ErrorKind::Misconfigured)
                .about("the record's attributes are not this provider's")
                .with_source(unreadable),
        )
    })?;
    Ok(Tokens { access, refresh, token_secret, attributes })
}
