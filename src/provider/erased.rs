//! A provider without its types, so that sessions of several providers can share one form of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use url::Url;

use super::api_origins::ApiOrigins;
use super::binding::Binding;
use super::operation::refresh_token;
use super::{
    ExchangeError, Exchanged, FailureClass, Issued, Provider, Rejection, RevocationReach, Revoked,
    Rotation, Wrapped,
};
use super::{HttpSender, Signing};
use crate::error::{Error, ErrorKind};
use crate::token::{Credentials, Placement, Tokens};

/// A grant or a challenge whose type only the typed handle knows.
pub(crate) type ErasedValue = Box<dyn Any + Send>;

/// A running exchange.
type ExchangeFuture<'a, T> = BoxFuture<'a, Exchanged<T>>;

/// What an establish gave, without its types.
pub(crate) enum ErasedIssued {
    Tokens(Credentials),
    Challenge(ErasedValue),
}

/// [`Provider`] for any of its types.
pub(crate) trait Erased: Send + Sync {
    /// The provider and those inside it, for a caller that knows the type of one of them.
    fn providers(&self) -> Wrapped;
    /// Why the provider cannot be used; None if it can.
    fn fault(&self) -> Option<&'static str>;
    fn authority(&self) -> &str;
    /// What credentials are bound to.
    fn binding(&self) -> &Binding;
    /// The URLs of the settings, which the transport must allow.
    fn configured_urls(&self) -> &[Url];
    /// The origins of its APIs; a fault if the crate cannot use one.
    fn api_origins(&self) -> &Result<ApiOrigins, Error>;
    fn client(&self) -> &str;
    fn rotation(&self) -> Rotation;
    fn revocation_reach(&self) -> RevocationReach;
    fn refresh_ends_access_tokens(&self) -> bool;
    fn placement(&self) -> Option<Placement>;
    fn prepare<'a>(&'a self, sender: &'a HttpSender<'a>) -> ExchangeFuture<'a, ()>;
    fn establish<'a>(
        &'a self,
        sender: &'a HttpSender<'a>,
        grant: ErasedValue,
    ) -> ExchangeFuture<'a, ErasedIssued>;
    fn refresh<'a>(
        &'a self,
        sender: &'a HttpSender<'a>,
        held: &'a Credentials,
    ) -> ExchangeFuture<'a, Credentials>;
    fn revoke<'a>(
        &'a self,
        sender: &'a HttpSender<'a>,
        held: &'a Credentials,
    ) -> ExchangeFuture<'a, Revoked>;
    /// The issued credentials with attributes merged from those of `held`; a failure if they were
    /// issued for somebody else.
    fn continued(&self, held: &Credentials, issued: Credentials) -> Exchanged<Credentials>;
    /// Tokens with their attributes as text, bound to this provider's authority and client.
    fn bind(&self, tokens: Tokens<Arc<str>>) -> Credentials;
    fn renewal(&self, held: Option<&Credentials>) -> Option<ErasedValue>;
    fn authorize(
        &self,
        signing: &Signing<'_>,
        request: &mut http::request::Parts,
    ) -> Result<(), Error>;
    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection;
    #[cfg(any(feature = "reqwest", feature = "reqwest-middleware", feature = "tower"))]
    fn rejection_reads_body(&self, response: &http::response::Parts) -> bool;
}

/// A provider and its properties. The properties are read once, when the provider is registered. If
/// that panics, the provider cannot be used; so no property can panic later in an actor or a drop.
pub(crate) struct Adapter<P> {
    provider: Arc<P>,
    properties: Properties,
    fault: Option<&'static str>,
}

/// The properties of a provider, as it gives them.
struct Properties {
    authority: String,
    binding: Binding,
    configured_urls: Vec<Url>,
    api_origins: Result<ApiOrigins, Error>,
    client: Arc<str>,
    rotation: Option<Rotation>,
    reach: RevocationReach,
    ends_access_tokens: bool,
    placement: Option<Placement>,
}

impl Properties {
    fn of<P: Provider>(provider: &P) -> Self {
        let authority = provider.authority_url();
        Self {
            authority: authority.as_str().to_owned(),
            binding: Binding::of(authority, provider.endpoints_elsewhere()),
            configured_urls: provider.configured_urls(),
            api_origins: api_origins(&provider.api_origins()),
            client: provider.client_id().into(),
            rotation: Some(provider.refresh_token_rotation()),
            reach: provider.reach_of_revocation(),
            ends_access_tokens: provider.access_tokens_end_at_refresh(),
            placement: provider.placement(),
        }
    }
}

fn api_origins(named: &[String]) -> Result<ApiOrigins, Error> {
    let mut origins = ApiOrigins::default();
    origins.add(named.iter().map(String::as_str))?;
    Ok(origins)
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            authority: String::new(),
            binding: Binding::default(),
            configured_urls: Vec::new(),
            api_origins: Ok(ApiOrigins::default()),
            client: Arc::default(),
            rotation: None,
            reach: RevocationReach::default(),
            ends_access_tokens: false,
            placement: None,
        }
    }
}

impl<P: Provider> Erased for Adapter<P> {
    fn providers(&self) -> Wrapped {
        Wrapped::new(Arc::clone(&self.provider))
    }

    fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    fn authority(&self) -> &str {
        &self.properties.authority
    }

    fn binding(&self) -> &Binding {
        &self.properties.binding
    }

    fn configured_urls(&self) -> &[Url] {
        &self.properties.configured_urls
    }

    fn api_origins(&self) -> &Result<ApiOrigins, Error> {
        &self.properties.api_origins
    }

    fn client(&self) -> &str {
        &self.properties.client
    }

    fn rotation(&self) -> Rotation {
        self.properties.rotation.unwrap_or(Rotation::Strict)
    }

    fn revocation_reach(&self) -> RevocationReach {
        self.properties.reach
    }

    fn refresh_ends_access_tokens(&self) -> bool {
        self.properties.ends_access_tokens
    }

    fn placement(&self) -> Option<Placement> {
        self.properties.placement.clone()
    }

    fn prepare<'a>(&'a self, sender: &'a HttpSender<'a>) -> ExchangeFuture<'a, ()> {
        Box::pin(async move { self.provider.prepare(sender).await })
    }

    fn establish<'a>(
        &'a self,
        sender: &'a HttpSender<'a>,
        grant: ErasedValue,
    ) -> ExchangeFuture<'a, ErasedIssued> {
        Box::pin(async move {
            let Ok(grant) = grant.downcast::<P::Grant>() else {
                let other = Error::new(ErrorKind::InvalidInput).about(
                    "the grant is for another type of provider; pass the grant of this provider",
                );
                return Err(ExchangeError::new(FailureClass::NotSent).with_source(other));
            };
            match self.provider.establish(sender, *grant).await? {
                Issued::Tokens(tokens) => self.erase(tokens).map(ErasedIssued::Tokens),
                Issued::Challenge(challenge) => Ok(ErasedIssued::Challenge(Box::new(challenge))),
            }
        })
    }

    fn refresh<'a>(
        &'a self,
        sender: &'a HttpSender<'a>,
        held: &'a Credentials,
    ) -> ExchangeFuture<'a, Credentials> {
        Box::pin(async move {
            let bound_to = &*held.authority;
            let held = typed::<P>(held)?;
            self.check_places(bound_to, &held.attributes)?;
            let token = refresh_token(&held)?;
            let mut issued = self.provider.refresh(sender, token, &held).await?;
            // RFC 6749 section 6: if the response has no refresh token, the old one stays valid.
            issued.refresh = issued.refresh.or(held.refresh);
            self.erase(issued)
        })
    }

    fn revoke<'a>(
        &'a self,
        sender: &'a HttpSender<'a>,
        held: &'a Credentials,
    ) -> ExchangeFuture<'a, Revoked> {
        Box::pin(async move {
            let typed = typed::<P>(held)?;
            self.check_places(&held.authority, &typed.attributes)?;
            self.provider.revoke(sender, &typed).await
        })
    }

    fn continued(&self, held: &Credentials, mut issued: Credentials) -> Exchanged<Credentials> {
        let read = |text: &str| serde_json::from_str::<P::Attributes>(text).ok();
        // Attributes that cannot be read identify nobody.
        let both = read(&held.tokens.attributes).zip(read(&issued.tokens.attributes));
        let Some((known, said)) = both else { return Ok(issued) };
        // A panic has compared nothing, so the new tokens are kept.
        let compared = caught("merge_attributes", || self.provider.merge_attributes(&known, said));
        let Some(attributes) = compared.transpose()? else { return Ok(issued) };
        if let Ok(text) = serde_json::to_string(&attributes) {
            issued.tokens.attributes = text.into();
            issued.authority = self.bound_to(&attributes);
        }
        Ok(issued)
    }

    fn bind(&self, tokens: Tokens<Arc<str>>) -> Credentials {
        let authority = match serde_json::from_str(&tokens.attributes) {
            Ok(attributes) => self.bound_to(&attributes),
            Err(_) => Arc::clone(self.properties.binding.text()),
        };
        self.credentials(tokens, authority)
    }

    fn renewal(&self, held: Option<&Credentials>) -> Option<ErasedValue> {
        let asked = caught("renewal_grant", || {
            let held = held.and_then(|held| typed::<P>(held).ok());
            self.provider.renewal_grant(held.as_ref()).map(|grant| Box::new(grant) as ErasedValue)
        });
        asked.flatten()
    }

    fn authorize(
        &self,
        signing: &Signing<'_>,
        request: &mut http::request::Parts,
    ) -> Result<(), Error> {
        let signed = caught("authorize", || self.provider.authorize(signing, request));
        signed.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Misconfigured).about(
                "the provider's `authorize` panicked when it signed a request; see the panic's \
                 message",
            ))
        })
    }

    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
        let read = caught("rejection", || self.provider.rejection(response, body_prefix));
        read.unwrap_or(Rejection::None)
    }

    #[cfg(any(feature = "reqwest", feature = "reqwest-middleware", feature = "tower"))]
    fn rejection_reads_body(&self, response: &http::response::Parts) -> bool {
        let asked = caught("rejection_reads_body", || self.provider.rejection_reads_body(response));
        asked.unwrap_or(false)
    }
}

impl<P: Provider> Adapter<P> {
    pub(crate) fn new(provider: P) -> Self {
        let properties = caught("getters", || Properties::of(&provider));
        let fault = properties.is_none().then_some(PANICKED);
        Self { provider: Arc::new(provider), properties: properties.unwrap_or_default(), fault }
    }

    /// What the credentials of a session with these attributes are bound to.
    fn bound_to(&self, attributes: &P::Attributes) -> Arc<str> {
        let named =
            caught("endpoints_of_session", || self.provider.endpoints_of_session(attributes));
        self.properties.binding.and(&named.unwrap_or_default())
    }

    /// Fails if the attributes name a place that the credentials are not bound to: the attributes
    /// of a record alone, if somebody altered them, must not take its tokens to another server.
    fn check_places(&self, bound_to: &str, attributes: &P::Attributes) -> Exchanged<()> {
        let named = self.provider.endpoints_of_session(attributes);
        if Binding::has(bound_to, &named) {
            return Ok(());
        }
        let words = "the session's attributes name a host that its tokens are not bound to; sign \
                     the user in again";
        let other = Error::new(ErrorKind::Misconfigured).about(words);
        Err(ExchangeError::new(FailureClass::NotSent).with_source(other))
    }

    fn erase(&self, tokens: Tokens<P::Attributes>) -> Exchanged<Credentials> {
        let authority = self.bound_to(&tokens.attributes);
        let Tokens { access, refresh, token_secret, attributes } = tokens;
        // The exchange succeeded, so credentials are never refused for their attributes: those that
        // cannot be written as JSON are kept as `null`, and reading them reports the error.
        let attributes = serde_json::to_string(&attributes).unwrap_or_else(|_| "null".to_owned());
        let attributes = attributes.into();
        Ok(self.credentials(Tokens { access, refresh, token_secret, attributes }, authority))
    }

    /// The tokens with the placement of this provider, bound to the authority and to its client.
    fn credentials(&self, mut tokens: Tokens<Arc<str>>, authority: Arc<str>) -> Credentials {
        if let (Some(access), Some(place)) = (&mut tokens.access, &self.properties.placement) {
            access.secret = access.secret.prefixed(place.prefix());
        }
        Credentials { tokens, authority, client: Arc::clone(&self.properties.client) }
    }
}

#[cfg(test)]
impl<P: Provider> Adapter<P> {
    /// A refresh as a session asks for it, of tokens with the provider's attributes.
    pub(super) async fn refresh_typed(
        &self,
        sender: &HttpSender<'_>,
        held: Tokens<P::Attributes>,
    ) -> Exchanged<Credentials> {
        self.refresh(sender, &self.erase(held)?).await
    }
}

const PANICKED: &str =
    "its code panicked when the crate read its settings; see the panic's message";

/// The result of the provider's own code; None if it panics.
fn caught<R>(what: &'static str, ask: impl FnOnce() -> R) -> Option<R> {
    let panicked = |_: &_| tracing::error!(what, "the provider's code panicked");
    catch_unwind(AssertUnwindSafe(ask)).inspect_err(panicked).ok()
}

/// The provider of type `P`: the registered one, or one that it wraps.
pub(crate) fn find<P: Provider>(registered: &dyn Erased) -> Option<Arc<P>> {
    caught("wrapped", || registered.providers().find()).flatten()
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
pub(crate) fn typed<P: Provider>(held: &Credentials) -> Exchanged<Tokens<P::Attributes>> {
    let Tokens { access, refresh, token_secret, attributes } = held.tokens.clone();
    let attributes = serde_json::from_str(&attributes).map_err(|unreadable| {
        ExchangeError::new(FailureClass::NotSent).with_source(
            Error::new(ErrorKind::Misconfigured)
                .about(
                    "the record's attributes cannot be read as this provider's; register the \
                     provider with the type that the session was established with",
                )
                .with_source(unreadable),
        )
    })?;
    Ok(Tokens { access, refresh, token_secret, attributes })
}
