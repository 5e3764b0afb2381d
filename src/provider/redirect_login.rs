//! Logins through a browser: what a provider does for one.

#[cfg(test)]
mod arbitrary_redirects;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use url::Url;

use super::Provider;
use crate::error::Result;
use crate::secret::Secret;

/// A provider whose users log in through a browser: the backend sends it to the server, and it
/// comes back with a code (RFC 6749 section 4.1, or a vendor's variant of it).
///
/// [`Sessions::begin_login`](crate::supervisor::Sessions) creates state and verifier and seals them
/// into the ticket. An implementation only writes and reads URLs.
pub trait RedirectLogin: Provider {
    /// The options that can differ from login to login. They are stored in the ticket.
    type LoginOptions: Default + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The URL to send the browser to. The crate calls it after [`Provider::prepare`].
    ///
    /// # Errors
    ///
    /// `Misconfigured` or `InvalidInput` if there is no such URL.
    fn login_url(&self, login: &LoginRequest<'_>, options: &Self::LoginOptions) -> Result<Url>;

    /// The grant in `redirect`, with which the browser came back: a URL, its query, or its
    /// fragment.
    ///
    /// # Errors
    ///
    /// `Refused` with the reason that the server or the user gave; with
    /// [`LoginStateMismatch`](crate::error::Refusal::LoginStateMismatch) if it is the response to
    /// another login; `InvalidInput` if it is not a response to a login.
    fn login_grant(
        &self,
        redirect: &str,
        login: &LoginRequest<'_>,
        options: &Self::LoginOptions,
    ) -> Result<Self::Grant>;
}

/// What ties the response to a login to the request that began it.
#[derive(Debug)]
pub struct LoginRequest<'a> {
    state: &'a Secret,
    verifier: &'a Secret,
}

impl<'a> LoginRequest<'a> {
    pub(crate) fn new(state: &'a Secret, verifier: &'a Secret) -> Self {
        Self { state, verifier }
    }

    /// The state, which the browser takes to the server and must bring back (RFC 6749 section
    /// 10.12).
    #[must_use]
    pub fn state(&self) -> &Secret {
        self.state
    }

    /// The code verifier (RFC 7636 section 4.1). It is sent with the code and not before.
    #[must_use]
    pub fn code_verifier(&self) -> &Secret {
        self.verifier
    }

    /// Its challenge by the method `S256` (RFC 7636 section 4.2).
    #[must_use]
    pub fn code_challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose_secret()))
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
