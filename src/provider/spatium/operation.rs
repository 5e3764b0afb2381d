//! Calls beside the session's own.

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use uuid::Uuid;

use super::answer::{self, Envelope};
use super::grant::{Credentials, SecurityToken};
use super::{Spatium, settings};
use crate::error::{Refusal, Result};
use crate::provider::{ClientOperation, ExchangeError, Wire};
use crate::secret::Secret;

/// Asks for a security token for a user name and a password
/// (`POST {url}/api/security-factor/credentials`, the seed). With those of other factors it
/// establishes a session; where it is enough alone, the grant
/// [`Credentials`] does both in one go.
#[derive(Debug)]
#[doc(alias = "security-factor")]
pub struct CredentialsFactor {
    credentials: Credentials,
    /// The id of the latest request, which its answer repeats.
    asked: Mutex<Uuid>,
}

impl CredentialsFactor {
    /// This user with this password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        let credentials = Credentials::new(username, password);
        Self { credentials, asked: Mutex::new(Uuid::nil()) }
    }
}

impl ClientOperation<Spatium> for CredentialsFactor {
    type Output = SecurityToken;

    fn request(&self, provider: &Spatium) -> Result<Request<Bytes>> {
        let id = Uuid::new_v4();
        *self.asked.lock() = id;
        provider.request(&provider.paths.credentials, id, self.credentials.body()?)
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        answer: &Response<Bytes>,
    ) -> Result<SecurityToken, ExchangeError> {
        Envelope::check(answer, *self.asked.lock())?;
        security_token(wire, answer)
    }
}

/// The security token in an answer, or why there is none.
pub(super) fn security_token(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
) -> Result<SecurityToken, ExchangeError> {
    if !answer.status().is_success() {
        return Err(settings::refused(wire, answer, Refusal::UnknownSubject));
    }
    answer::security_token(answer)
}
