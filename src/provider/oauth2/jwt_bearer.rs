//! JWTs as grants (RFC 7523 section 2.1).

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use zeroize::Zeroizing;

use super::client_assertion::{AssertionSigner, new_claims};
use super::settings::{JwtAssertion, PrivateKeyJwt};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

/// The grant of a service account: a JWT that its key signs (RFC 7523 section 2.1). Each exchange
/// signs a new one, so [`ensure`](crate::Session::ensure) takes this grant. With
/// [`OAuth2::jwt_bearer`](super::OAuth2::jwt_bearer), each session obtains its tokens by itself.
///
/// If the client has no secret, key or certificate of its own, the request has no client id, because
/// the JWT says who sent it.
///
/// ```
/// use serde_json::json;
/// use session_warden::provider::oauth2::{JwtAssertion, JwtBearer, OAuth2, SigningAlgorithm};
///
/// fn provider(account: &str, key: &str) -> Result<OAuth2, session_warden::Error> {
///     let endpoint = "https://oauth2.googleapis.com/token";
///     let mut assertion = JwtAssertion::new(SigningAlgorithm::Rs256);
///     assertion.claims.insert("scope".to_owned(), json!("https://www.googleapis.com/auth/drive"));
///     let grant = JwtBearer::new(assertion, key)?;
///     Ok(OAuth2::new(endpoint, account)?.jwt_bearer(grant))
/// }
///
/// let refused = provider("reports@example.iam.gserviceaccount.com", "canary").unwrap_err();
/// assert!(!format!("{refused:?} {refused}").contains("canary"));
/// ```
#[derive(Clone)]
pub struct JwtBearer {
    signer: Arc<AssertionSigner>,
    assertion: JwtAssertion,
    pub(super) scope: Option<String>,
}

impl JwtBearer {
    /// The grant of this JWT. The key is a private key in PEM, not encrypted: PKCS#8, SEC1 or PKCS#1.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the key cannot be read, or is not of the algorithm's kind.
    pub fn new(assertion: JwtAssertion, key: impl Into<Secret>) -> Result<Self> {
        let JwtAssertion { algorithm, kid, .. } = &assertion;
        let jwt = PrivateKeyJwt { kid: kid.clone(), ..PrivateKeyJwt::new(*algorithm) };
        let signer = AssertionSigner::new(jwt, &key.into()).map_err(|error| {
            let words = "the key of the JWT cannot be used; give a private key in PEM, not \
                         encrypted, of the kind that `algorithm` needs";
            Error::new(ErrorKind::InvalidInput).about(words).with_source(error)
        })?;
        Ok(Self { signer: Arc::new(signer), assertion, scope: None })
    }

    /// Requests this scope, names with spaces between them, in place of the provider's.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The same for another user or account, for whom the service account acts.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.assertion.subject = Some(subject.into());
        self
    }

    /// A new JWT (RFC 7523 section 3). `audience` applies if the assertion has none.
    pub(super) fn signed(
        &self,
        client_id: &str,
        audience: &str,
        now: SystemTime,
    ) -> Result<Zeroizing<String>> {
        let JwtAssertion { issuer, subject, audience: own, claims: more, .. } = &self.assertion;
        let issuer = issuer.as_deref().unwrap_or(client_id);
        let subject = subject.as_deref().unwrap_or(issuer);
        let audience = own.as_deref().unwrap_or(audience);
        let mut claims = new_claims([issuer, subject, audience], now);
        claims.extend(more.clone());
        claims.retain(|_, value| !value.is_null());
        self.signer.signed(&Value::Object(claims))
    }
}

impl fmt::Debug for JwtBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtBearer")
            .field("assertion", &self.assertion)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
