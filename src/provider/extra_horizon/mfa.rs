//! The second factor.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::host::Host;
use crate::error::{Error, ErrorKind};
use crate::provider::http_message::HttpResponse;
use crate::provider::http_message::lenient::{number, secret, text};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, FailureClass};
use crate::provider::{Exchanged, http_message};
use crate::secret::Secret;
use crate::ticket::{Ticket, serde_secret};

/// The server asks for a second factor. Answer with an [`MfaAnswer`](super::MfaAnswer).
///
/// The caller may answer in another request, after a restart, or at another process with the same
/// key ring, because the [`ticket`](Self::ticket) holds the data that the answer needs. See the
/// [example of the module](super).
#[doc(alias = "MfaRequiredError")]
pub struct MfaChallenge {
    methods: Vec<MfaMethod>,
    ticket: Ticket,
    expires_at: SystemTime,
}

/// One of the user's ways to give a second factor: an authenticator app, for example. See the
/// [example of the module](super).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MfaMethod {
    /// The id of the method. Pass it to [`MfaAnswer::new`](super::MfaAnswer::new).
    pub id: String,
    /// The name that the user gave to the method.
    pub name: String,
    /// The kind of the method: `totp` or `recoveryCodes`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The vendor's own tags, `selected` for example.
    pub tags: Vec<String>,
}

impl MfaChallenge {
    /// The user's ways to give a second factor, in the server's order.
    #[must_use]
    pub fn methods(&self) -> &[MfaMethod] {
        &self.methods
    }

    /// The ticket that the answer needs. Give it only to the browser that began the login.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// When the challenge expires, by the wall clock: after the server's lifetime for it
    /// (`tokenExpiresIn`, milliseconds) or after
    /// [`Policy::challenge_ttl`](crate::policy::Policy::challenge_ttl), whichever is shorter.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// The challenge in a response that asks for a second factor.
    pub(super) fn read(
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        host: &Host,
        client: &str,
    ) -> Exchanged<Self> {
        let Members { mfa: Some(mfa) } = http_message::json_object(response)? else {
            return Err(http_message::unusable(response, "does not say what the second factor is"));
        };
        let Some(token) = mfa.token else {
            return Err(http_message::unusable(response, "has a second factor without a token"));
        };
        let millis = mfa.token_expires_in.filter(|millis| *millis > 0.0);
        let life = millis.and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
        let expires_at = sender.challenge_ends(life);
        let sealed =
            Sealed { token, authority: host.authority().to_string(), client: client.to_owned() };
        let ticket = sender.seal(&sealed, life)?;
        let methods = mfa.methods.into_iter().filter_map(Method::usable).collect();
        Ok(Self { methods, ticket, expires_at })
    }
}

impl fmt::Debug for MfaChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MfaChallenge")
            .field("methods", &self.methods)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The MFA token in a ticket of a challenge.
pub(super) fn open(
    sender: &HttpSender<'_>,
    ticket: &Ticket,
    host: &Host,
    client: &str,
) -> Exchanged<Secret> {
    let sealed: Sealed = sender.open(ticket)?;
    if sealed.authority != host.authority().as_str() || sealed.client != client {
        let error = Error::new(ErrorKind::Misconfigured).about(
            "the challenge belongs to another cluster or application; begin the login again",
        );
        return Err(ExchangeError::new(FailureClass::NotSent).with_source(error));
    }
    Ok(sealed.token)
}

/// What a ticket holds: the token, and the only cluster and application that it may be sent to.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(with = "serde_secret")]
    token: Secret,
    authority: String,
    client: String,
}

#[derive(Deserialize)]
struct Members {
    mfa: Option<Mfa>,
}

#[derive(Deserialize)]
struct Mfa {
    #[serde(default, deserialize_with = "secret")]
    token: Option<Secret>,
    // The vendor's API description has this name once with a typing error and once without.
    #[serde(
        default,
        rename = "tokenExpiresIn",
        alias = "tokenExipresIn",
        deserialize_with = "number"
    )]
    token_expires_in: Option<f64>,
    #[serde(default)]
    methods: Vec<Method>,
}

#[derive(Deserialize)]
struct Method {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    name: Option<String>,
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    tags: Vec<String>,
}

impl Method {
    /// None for a method without an id, because no answer can name it.
    fn usable(self) -> Option<MfaMethod> {
        Some(MfaMethod {
            id: self.id?,
            name: self.name.unwrap_or_default(),
            kind: self.kind.unwrap_or_default(),
            tags: self.tags,
        })
    }
}

/// A list of texts; empty if the value is anything else.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        Texts(Vec<String>),
        Other(IgnoredAny),
    }
    Ok(match Tags::deserialize(from)? {
        Tags::Texts(texts) => texts,
        Tags::Other(_) => Vec::new(),
    })
}
