//! The token that callers put on requests, and the tokens that a session keeps.
//!
//! Callers get a [`PermissionToken`]. A session keeps [`Tokens`] and [`Credentials`].

pub(crate) mod credentials_codec;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};

use crate::secret::Secret;

/// An access token (RFC 6749 section 1.4) for callers. Clones share one allocation.
///
/// Two numbers tell one token of a session from another: [`epoch`](Self::epoch) counts grants, and
/// [`generation`](Self::generation) counts stored credentials. Keep the token that a request
/// carried: if the API answers `401`, [report](crate::Session::rejected) that very token, so that
/// the report does not affect a newer one.
///
/// ```
/// use session_warden::testing::ScriptedProvider;
/// use session_warden::{PermissionToken, SessionKey, Supervisor};
///
/// fn put_on(request: &mut http::Request<()>, token: &PermissionToken) {
///     if let Some((name, value)) = token.header() {
///         request.headers_mut().insert(name, value.clone());
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let supervisor = Supervisor::builder().provider("fake", ScriptedProvider::new()).start().await?;
/// let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// let session = sessions.session(SessionKey::single("device-17")?);
/// let _ = session.establish(()).await?;
///
/// let token = session.permission_token().await?;
/// let mut request = http::Request::new(());
/// put_on(&mut request, &token);
/// assert_eq!(request.headers()["authorization"], "Bearer access-1");
/// assert_eq!((token.epoch(), token.generation()), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PermissionToken(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    secret: Secret,
    header: Option<(HeaderName, HeaderValue)>,
    expires_at: Option<SystemTime>,
    epoch: u64,
    generation: u64,
}

impl PermissionToken {
    pub(crate) fn new(access: &Access, place: Option<&Placement>, at: (u64, u64)) -> Self {
        let header = place.and_then(|place| {
            let secret = access.secret.prefixed(place.prefix);
            let mut value = HeaderValue::from_maybe_shared(secret.shared_bytes()).ok()?;
            value.set_sensitive(true);
            Some((place.name.clone(), value))
        });
        let (epoch, generation) = at;
        let secret = access.secret.clone();
        Self(Arc::new(Inner { secret, header, expires_at: access.expires_at, epoch, generation }))
    }

    /// The same token under other counters.
    pub(crate) fn counted(mut self, (epoch, generation): (u64, u64)) -> Self {
        if (self.epoch(), self.generation()) != (epoch, generation) {
            let inner = Arc::make_mut(&mut self.0);
            inner.epoch = epoch;
            inner.generation = generation;
        }
        self
    }

    /// Returns the text of the token.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.0.secret.expose_secret()
    }

    /// Returns the header that carries the token, marked as sensitive. `None` if the provider has
    /// no fixed header for its tokens. In that case call
    /// [`Session::authorize`](crate::Session::authorize), which signs the request or puts the token
    /// into the query.
    #[must_use]
    pub fn header(&self) -> Option<(&HeaderName, &HeaderValue)> {
        self.0.header.as_ref().map(|(name, value)| (name, value))
    }

    /// When the token expires, by the wall clock. `None` if the server did not say.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at
    }

    /// The number of the grant that the token came from: 1 for the session's first `establish`.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// How many times the session had stored credentials when it stored those of this token. A
    /// newer token never has a smaller number.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }
}

impl fmt::Debug for PermissionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermissionToken")
            .field("epoch", &self.0.epoch)
            .field("generation", &self.0.generation)
            .field("expires_at", &self.0.expires_at)
            .finish_non_exhaustive()
    }
}

/// A fixed header that carries a permission token.
///
/// A [`Provider`](crate::provider::Provider) says with it where its server wants the token:
/// the guide's chapter [`providers`](crate::guide::providers) has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    name: HeaderName,
    prefix: &'static str,
}

impl Placement {
    /// The header `Authorization: Bearer <token>` (RFC 6750 section 2.1).
    #[must_use]
    pub fn bearer() -> Self {
        Self { name: http::header::AUTHORIZATION, prefix: "Bearer " }
    }

    /// The header `name`, with the token as its whole value.
    #[must_use]
    pub fn header(name: HeaderName) -> Self {
        Self { name, prefix: "" }
    }

    /// The name of the header.
    #[cfg(any(feature = "reqwest", feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) fn name(&self) -> &HeaderName {
        &self.name
    }

    pub(crate) fn prefix(&self) -> &'static str {
        self.prefix
    }
}

/// What a server issued for a session: access token, refresh token, token secret (RFC 5849), the
/// times at which the tokens expire, and the attributes that the provider keeps beside them.
///
/// ```
/// use session_warden::token::Tokens;
///
/// let tokens = Tokens::new(()).with_access_token("at-1", None).with_refresh_token("rt-1", None);
/// assert_eq!(tokens.refresh_token().unwrap().expose_secret(), "rt-1");
/// assert!(!format!("{tokens:?}").contains("rt-1"));
/// ```
#[derive(Clone)]
pub struct Tokens<A = ()> {
    pub(crate) access: Option<Access>,
    pub(crate) refresh: Option<Access>,
    pub(crate) token_secret: Option<Secret>,
    pub(crate) attributes: A,
}

/// A secret with the time at which it expires.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) secret: Secret,
    pub(crate) expires_at: Option<SystemTime>,
}

impl<A> Tokens<A> {
    /// Makes a value with these attributes and without any token.
    #[must_use]
    pub fn new(attributes: A) -> Self {
        Self { access: None, refresh: None, token_secret: None, attributes }
    }

    /// Adds the access token, which expires at `expires_at`. `None` means that this is not known.
    #[must_use]
    pub fn with_access_token(
        mut self,
        token: impl Into<Secret>,
        expires_at: Option<SystemTime>,
    ) -> Self {
        self.access = Some(Access { secret: token.into(), expires_at });
        self
    }

    /// Adds the refresh token, which expires at `expires_at`. `None` means that this is not known.
    #[must_use]
    pub fn with_refresh_token(
        mut self,
        token: impl Into<Secret>,
        expires_at: Option<SystemTime>,
    ) -> Self {
        self.refresh = Some(Access { secret: token.into(), expires_at });
        self
    }

    /// Adds the token secret (RFC 5849 section 1.1).
    #[must_use]
    pub fn with_token_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.token_secret = Some(secret.into());
        self
    }

    /// The access token, if there is one.
    #[must_use]
    pub fn access_token(&self) -> Option<&Secret> {
        self.access.as_ref().map(|access| &access.secret)
    }

    /// When the access token expires, if known.
    #[must_use]
    pub fn access_expires_at(&self) -> Option<SystemTime> {
        self.access.as_ref().and_then(|access| access.expires_at)
    }

    /// The refresh token, if there is one.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh.as_ref().map(|refresh| &refresh.secret)
    }

    /// When the refresh token expires, if known.
    #[must_use]
    pub fn refresh_expires_at(&self) -> Option<SystemTime> {
        self.refresh.as_ref().and_then(|refresh| refresh.expires_at)
    }

    /// The token secret, if there is one.
    #[must_use]
    pub fn token_secret(&self) -> Option<&Secret> {
        self.token_secret.as_ref()
    }

    /// The attributes that the provider keeps beside the tokens.
    #[must_use]
    pub fn attributes(&self) -> &A {
        &self.attributes
    }
}

impl<A> fmt::Debug for Tokens<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("access", &self.access.is_some())
            .field("access_expires_at", &self.access_expires_at())
            .field("refresh", &self.refresh.is_some())
            .field("refresh_expires_at", &self.refresh_expires_at())
            .finish_non_exhaustive()
    }
}

/// The tokens and attributes of a session, with the authority that issued them and the client to
/// which it issued them. The attributes are JSON text.
///
/// A store writes and reads credentials as a whole. A store that writes to a disk must encrypt them
/// first. See the example of [`new`](Self::new).
#[derive(Clone)]
pub struct Credentials {
    pub(crate) tokens: Tokens<Arc<str>>,
    pub(crate) authority: Arc<str>,
    pub(crate) client: Arc<str>,
}

impl Credentials {
    /// Makes credentials from what a store reads. Pass the values that [`tokens`](Self::tokens),
    /// [`authority`](Self::authority) and [`client`](Self::client) returned when the store wrote
    /// the record.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use session_warden::token::{Credentials, Tokens};
    ///
    /// let attributes: Arc<str> = Arc::from("{}");
    /// let tokens = Tokens::new(attributes).with_refresh_token("rt-1", None);
    /// let credentials = Credentials::new(tokens, "https://login.example.com", "my-client");
    /// assert_eq!(credentials.authority(), "https://login.example.com");
    /// assert_eq!(credentials.tokens().refresh_token().unwrap().expose_secret(), "rt-1");
    /// ```
    #[must_use]
    pub fn new(
        tokens: Tokens<Arc<str>>,
        authority: impl Into<Arc<str>>,
        client: impl Into<Arc<str>>,
    ) -> Self {
        Self { tokens, authority: authority.into(), client: client.into() }
    }

    /// The URLs that the credentials are bound to, separated by spaces: first the
    /// [`authority_url`](crate::provider::Provider::authority_url) of the provider that got them,
    /// then its [`endpoints_elsewhere`](crate::provider::Provider::endpoints_elsewhere). The crate
    /// sends the tokens to no other URL. In credentials that version 0.1.0 saved, this is an origin
    /// without a path.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The id of the client to which the server issued the tokens. A refresh token is bound to that
    /// client (RFC 6749 section 6).
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Sets when the access token and the refresh token expire: each in the time given, from `now`.
    pub(crate) fn end_in(&mut self, now: SystemTime, lefts: [Option<Duration>; 2]) {
        let accesses = [&mut self.tokens.access, &mut self.tokens.refresh];
        for (access, left) in accesses.into_iter().zip(lefts) {
            if let (Some(access), Some(left)) = (access, left) {
                access.expires_at = now.checked_add(left);
            }
        }
    }

    /// The tokens, with the provider's attributes as JSON.
    #[must_use]
    pub fn tokens(&self) -> &Tokens<Arc<str>> {
        &self.tokens
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authority", &self.authority)
            .field("client", &self.client)
            .field("tokens", &self.tokens)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        Access { secret: Secret::from(text), expires_at: None }
    }

    #[test]
    fn a_token_is_ready_to_be_put_on_a_request_and_shows_nothing_in_debug() {
        let token = PermissionToken::new(&access("canary"), Some(&Placement::bearer()), (1, 7));
        let (name, value) = token.header().unwrap();
        assert_eq!(name, http::header::AUTHORIZATION);
        assert_eq!(value, "Bearer canary");
        assert!(value.is_sensitive());
        assert_eq!((token.expose_secret(), token.epoch(), token.generation()), ("canary", 1, 7));
        assert!(!format!("{token:?} {value:?}").contains("canary"));
    }

    #[test]
    fn a_token_that_no_header_can_carry_has_none() {
        let token = PermissionToken::new(&access("a\nb"), Some(&Placement::bearer()), (1, 1));
        assert!(token.header().is_none());
        assert_eq!(token.expose_secret(), "a\nb");
        assert!(PermissionToken::new(&access("ab"), None, (1, 1)).header().is_none());
    }
}
