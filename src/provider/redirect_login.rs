//! Logins through a browser: the part of the provider.

#[cfg(test)]
mod arbitrary_redirects;

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use url::Url;

use super::{ExchangeError, HttpSender, Provider};
use crate::error::Result;
use crate::secret::Secret;

/// A provider whose users log in through a browser. The backend sends the browser to the server,
/// and the server sends it back with a code (RFC 6749 section 4.1, or a vendor's variant of it).
///
/// [`Session::begin_login`](crate::session::Session::begin_login) creates the state and the code
/// verifier, and seals them into the ticket. An implementation only writes and reads URLs. See
/// [a complete provider](super#a-complete-provider).
pub trait RedirectLogin: Provider {
    /// The options that can differ from login to login. The ticket holds them.
    type LoginOptions: Default + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The URL to which the backend sends the browser. The crate calls this method after
    /// [`Provider::prepare`].
    ///
    /// # Errors
    ///
    /// `Misconfigured` or `InvalidInput` if the URL cannot be built.
    fn login_url(&self, login: &LoginRequest<'_>, options: &Self::LoginOptions) -> Result<Url>;

    /// The request that gives the parameters of the login to the server before the browser is sent
    /// there (RFC 9126 section 2.1). If there is one, the crate sends it and calls
    /// [`pushed_url`](Self::pushed_url) in place of [`login_url`](Self::login_url). The crate calls
    /// this method after [`Provider::prepare`]. Defaults to None: the URL has the parameters.
    ///
    /// # Errors
    ///
    /// `Misconfigured` or `InvalidInput` if the request cannot be built.
    fn pushed_request(
        &self,
        login: &LoginRequest<'_>,
        options: &Self::LoginOptions,
    ) -> Result<Option<Request<Bytes>>> {
        let _ = (login, options);
        Ok(None)
    }

    /// Reads the response to [`pushed_request`](Self::pushed_request): the URL to which the backend
    /// sends the browser, and the time until which the server accepts it. A provider that pushes
    /// nothing need not implement it.
    ///
    /// # Errors
    ///
    /// The failure's class.
    fn pushed_url(
        &self,
        sender: &HttpSender<'_>,
        response: &Response<Bytes>,
    ) -> std::result::Result<(Url, SystemTime), ExchangeError> {
        Err(sender.status_error(response))
    }

    /// Reads the grant from `redirect`: the URL with which the browser came back, or only its query
    /// or fragment.
    ///
    /// # Errors
    ///
    /// `Refused` if the server or the user refused the login, or if `redirect` is the response to
    /// another login ([`LoginStateMismatch`](crate::error::Refusal::LoginStateMismatch));
    /// `InvalidInput` if `redirect` is not a response to a login.
    fn login_grant(
        &self,
        redirect: &str,
        login: &LoginRequest<'_>,
        options: &Self::LoginOptions,
    ) -> Result<Self::Grant>;
}

/// The secrets of one login: they show that a response belongs to the request that began the login.
/// See [a complete provider](super#a-complete-provider).
#[derive(Debug)]
pub struct LoginRequest<'a> {
    state: &'a Secret,
    verifier: &'a Secret,
}

impl<'a> LoginRequest<'a> {
    pub(crate) fn new(state: &'a Secret, verifier: &'a Secret) -> Self {
        Self { state, verifier }
    }

    /// The state. The browser takes it to the server and must bring it back (RFC 6749 section
    /// 10.12).
    #[must_use]
    pub fn state(&self) -> &Secret {
        self.state
    }

    /// The code verifier (RFC 7636 section 4.1). Send it with the code, and not before.
    #[must_use]
    pub fn code_verifier(&self) -> &Secret {
        self.verifier
    }

    /// The code challenge, by the method `S256` (RFC 7636 section 4.2).
    #[must_use]
    pub fn code_challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose_secret()))
    }

    /// A nonce for the ID token (`OpenID` Connect Core 1.0 section 15.5.2). It is another hash of
    /// the code verifier, so that whoever sees it learns neither the verifier nor the state.
    #[must_use]
    pub fn nonce(&self) -> String {
        let mut hash = Sha256::new_with_prefix("nonce ");
        hash.update(self.verifier.expose_secret());
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standards_example() {
        let state = Secret::from("s");
        let verifier = Secret::from("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let challenge = LoginRequest::new(&state, &verifier).code_challenge();
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
