//! Error bodies, and what the service's numbers mean.
//!
//! Numbers, names and texts are those of the "Authentication Service" API 2.0.4 and of the SDK's
//! error classes.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::Refusal;
use crate::provider::http_message;
use crate::provider::http_message::HttpResponse;
use crate::provider::http_message::lenient::{number, text};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, FailureClass};

/// The service's numbers that are used by name.
pub(super) const NO_PERMISSION: u16 = 10;
pub(super) const RESOURCE_UNKNOWN: u16 = 16;
pub(super) const OAUTH_TOKEN: u16 = 108;
pub(super) const ACCESS_TOKEN_UNKNOWN: u16 = 117;
pub(super) const ACCESS_TOKEN_EXPIRED: u16 = 118;
const MFA_REQUIRED: u16 = 129;

/// The kind of the request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Password,
    /// A code, or a single-use token.
    OneUse,
    Mfa,
    Refresh,
    /// An operation.
    Call,
}

/// An error body.
pub(super) struct ServiceError {
    number: Option<u16>,
    /// The code of RFC 6749 section 5.2.
    error: Option<String>,
    /// 109 with a time that is too far from the server's.
    skewed: bool,
    remaining_delay: Option<Duration>,
}

impl ServiceError {
    /// The error in a response; None if the response has none.
    pub(super) fn read(response: &HttpResponse) -> Option<Self> {
        let members: Members = http_message::json_object(response).ok()?;
        let inner = members.exh_error.unwrap_or_default();
        let words = [&members.message, &members.description, &inner.description, &inner.message];
        let words: Vec<_> = words.into_iter().flatten().map(|text| text.to_lowercase()).collect();
        let code = members.code.or(inner.code);
        let number = code.and_then(as_number).or_else(|| {
            let requires_mfa = members.error.as_deref() == Some("mfa_required");
            let by_text = || words.iter().find_map(|words| number_of(words));
            if requires_mfa { Some(MFA_REQUIRED) } else { by_text() }
        });
        if number.is_none() && members.error.is_none() {
            return None;
        }
        // "The oauth_timestamp is too far in the past. Please correct your time".
        let skewed = words.iter().any(|words| words.contains("timestamp is too far"));
        let millis = members.remaining_delay.filter(|millis| *millis >= 0.0);
        let remaining_delay =
            millis.and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
        Some(Self { number, error: members.error, skewed, remaining_delay })
    }

    /// Whether the server wants a second factor.
    pub(super) fn requires_mfa(&self) -> bool {
        self.number == Some(MFA_REQUIRED)
    }

    pub(super) fn is(&self, number: u16) -> bool {
        self.number == Some(number)
    }

    /// The failure that it means for this kind of request.
    fn class(&self, request_kind: RequestKind) -> Option<FailureClass> {
        let known = self.number.and_then(|number| self.by_number(number, request_kind));
        known.or_else(|| by_error(self.error.as_deref()?, request_kind))
    }

    fn by_number(&self, number: u16, request_kind: RequestKind) -> Option<FailureClass> {
        let refused = |refusal| FailureClass::Refused(refusal);
        Some(match number {
            NO_PERMISSION => refused(Refusal::NotPermitted),
            RESOURCE_UNKNOWN if request_kind == RequestKind::OneUse => {
                refused(Refusal::GrantExpired)
            }
            // An unknown or unverified method of a second factor, or an unknown record.
            RESOURCE_UNKNOWN => refused(Refusal::Other),
            // No application, an unknown one, or its credentials are unknown, wrong or missing.
            101 | 103 | 107 | 123 | 124 | 126 => FailureClass::InvalidClient,
            // No user on the request, a callback or a response type that is not the application's,
            // a grant that it has not.
            104 | 113 | 114 | 121 => FailureClass::Unclassified,
            106 => refused(Refusal::WrongCredentials),
            OAUTH_TOKEN => refused(Refusal::GrantExpired),
            109 if self.skewed => refused(Refusal::ClockSkew),
            109 => FailureClass::InvalidClient,
            // "A request with identical parameters was already received": the request reached the
            // service twice, and the result of the first is not known.
            110 => FailureClass::Ambiguous,
            115 | 116 | 122 | 139 => refused(Refusal::GrantExpired),
            119 | 120 if request_kind == RequestKind::Refresh => FailureClass::Rejected,
            119 | 120 => refused(Refusal::GrantExpired),
            // After a refresh and a second try. The request was not processed.
            ACCESS_TOKEN_UNKNOWN | ACCESS_TOKEN_EXPIRED => FailureClass::NotProcessed,
            128 | 132 | 133 | 136 | 137 | 138 => refused(Refusal::Other),
            // A user has to log in again, with a second factor.
            MFA_REQUIRED if request_kind == RequestKind::Refresh => FailureClass::Rejected,
            MFA_REQUIRED => refused(Refusal::Other),
            130 => refused(Refusal::WrongCode),
            131 => refused(Refusal::ChallengeExpired),
            134 => refused(Refusal::CodeTooSoon),
            211 | 212 => refused(Refusal::Locked),
            213 => refused(Refusal::LockedForGood),
            _ => return None,
        })
    }

    /// How long to wait. The unit of `remainingDelay` is not documented. It is read as
    /// milliseconds, like `tokenExpiresIn` beside it: if that is wrong, the next response is
    /// another 134, while milliseconds that are read as seconds would lock a user out for hours.
    fn wait(&self) -> Option<Duration> {
        match self.number {
            // "Login attempt too fast": one attempt a second is allowed.
            Some(211) => Some(Duration::from_secs(1)),
            // After every tenth failure.
            Some(212) => Some(Duration::from_secs(60)),
            Some(134) => self.remaining_delay,
            Some(_) | None => None,
        }
    }
}

/// The failure that a response means.
pub(super) fn failure(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    request_kind: RequestKind,
) -> ExchangeError {
    let Some(error) = ServiceError::read(response) else {
        return sender.classified(response, None);
    };
    // A 200 with an `error` means that the request failed, as a 400 does.
    let unknown = response.status().is_success() && error.error.is_some();
    let named = error.class(request_kind).or(unknown.then_some(FailureClass::Unclassified));
    let failed = sender.classified(response, named);
    let redirected = response.status().is_redirection();
    let believed = named == Some(failed.class()) && !redirected;
    let wait = failed.retry_after().or(error.wait().filter(|_| believed));
    let failed = failed.with_retry_after(wait);
    match (error.number, &error.error) {
        (Some(number), _) => failed.with_code(&number.to_string()),
        (None, Some(error)) => failed.with_code(error),
        (None, None) => failed,
    }
}

fn by_error(error: &str, request_kind: RequestKind) -> Option<FailureClass> {
    let refused = |refusal| FailureClass::Refused(refusal);
    Some(match error {
        "invalid_grant" => match request_kind {
            RequestKind::Password => refused(Refusal::WrongCredentials),
            RequestKind::OneUse => refused(Refusal::GrantExpired),
            RequestKind::Mfa => refused(Refusal::WrongCode),
            RequestKind::Refresh => FailureClass::Rejected,
            RequestKind::Call => refused(Refusal::Other),
        },
        "invalid_client" => FailureClass::InvalidClient,
        "invalid_request" | "unauthorized_client" | "unsupported_grant_type" | "invalid_scope" => {
            FailureClass::Unclassified
        }
        _ => return None,
    })
}

/// The number for a text of the token endpoint, which does not send the number itself: the API
/// description lists only the texts.
fn number_of(words: &str) -> Option<u16> {
    Some(match words.trim_end_matches('.') {
        "client does not exist" => 123,
        "client credentials are missing in request" => 126,
        "this password email combination is unknown" => 106,
        "the requested callback is not associated with this application" => 113,
        "the associated authorization is unknown" => 115,
        "the associated authorization is expired" => 116,
        "invalid pkce values provided" => 122,
        "missing pkce verifier" => 128,
        "the refresh token is unknown" => 119,
        "the refresh token is expired" => 120,
        "multifactor authentication is required for this user" => MFA_REQUIRED,
        "the supplied mfa code is incorrect" => 130,
        "the supplied mfa token is not (or no longer) valid" => 131,
        "the mfa authentication attempt was too soon after a failed attempt" => 134,
        "login attempt too fast" => 211,
        "login timeout in progress, too many failed login attempts" => 212,
        "account is locked due to too many failed login attempts" => 213,
        _ => return None,
    })
}

/// The number of a service error. `body_prefix` may be only the beginning of the body.
pub(super) fn number_in(body_prefix: &[u8]) -> Option<u16> {
    if body_prefix.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let found = Cell::new(None);
    // Parsing fails where the body is cut; the number is kept if it was complete by then.
    drop(FindCode(&found).deserialize(&mut serde_json::Deserializer::from_slice(body_prefix)));
    found.get()
}

/// Finds the member `code` of an object.
struct FindCode<'f>(&'f Cell<Option<u16>>);

impl<'de> DeserializeSeed<'de> for FindCode<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FindCode<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        // A number is complete only if something follows it.
        let mut seen = None;
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            self.0.set(self.0.get().or(seen));
            if name == "code" {
                let Lenient(code) = members.next_value()?;
                seen = code.and_then(as_number);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        self.0.set(self.0.get().or(seen));
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Lenient(#[serde(deserialize_with = "number")] Option<f64>);

#[derive(Deserialize)]
struct Members {
    #[serde(default, deserialize_with = "number")]
    code: Option<f64>,
    #[serde(default, deserialize_with = "text")]
    error: Option<String>,
    #[serde(default, deserialize_with = "text")]
    message: Option<String>,
    #[serde(default, deserialize_with = "text")]
    description: Option<String>,
    #[serde(default, rename = "remainingDelay", deserialize_with = "number")]
    remaining_delay: Option<f64>,
    #[serde(default)]
    exh_error: Option<Inner>,
}

#[derive(Default, Deserialize)]
struct Inner {
    #[serde(default, deserialize_with = "number")]
    code: Option<f64>,
    #[serde(default, deserialize_with = "text")]
    description: Option<String>,
    #[serde(default, deserialize_with = "text")]
    message: Option<String>,
}

/// The number, if it can be one of the service's.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
fn as_number(number: f64) -> Option<u16> {
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&number);
    fits.then_some(number as u16)
}
