//! What a failed exchange says to the caller: which server, what it did, what to do.

use std::borrow::Cow;
use std::error::Error as StdError;

use super::{ExchangeError, FailureClass, UnusableBody};
use crate::error::{Endpoint, Error, ProviderCode, Refusal};
use crate::key::SessionId;
use crate::log::log_limited;
use crate::provider::HttpSender;
use crate::transport::{MAX_BODY_BYTES, SendError};

impl ExchangeError {
    /// Whether the transport refused the address of the request.
    pub(super) fn is_refused_address(&self) -> bool {
        matches!(self.cause(), Some(SendError::Address(_)))
    }

    fn is_refused_certificate(&self) -> bool {
        matches!(self.cause(), Some(SendError::ClientRefused(_)))
    }

    /// The text for the caller; None if the kind of the error says all that is known.
    pub(super) fn advice(&self) -> Option<Cow<'static, str>> {
        if let Some(words) = &self.about {
            return Some(words.to_string().into());
        }
        if let Some(inner) = self.cause::<Self>() {
            return inner.advice();
        }
        if let Some(text) = self.unusable() {
            return Some(text.into());
        }
        let at = self.at_endpoint();
        let text = match self.class {
            FailureClass::NotSent => return self.unsent(&at),
            FailureClass::Untrusted => format!(
                "the certificate of the server{at} is not trusted; correct it, or add its root \
                 with `TransportConfig::root_certificate_pem`"
            ),
            FailureClass::NotProcessed => self.event(&at)?,
            FailureClass::Throttled => {
                format!("{}, because of too many requests", self.event(&at)?)
            }
            FailureClass::Ambiguous => {
                format!("{}, so the outcome of the request is not known", self.event(&at)?)
            }
            FailureClass::Refused(Refusal::Other) => {
                let code = self.code.as_ref().map(ProviderCode::as_str)?;
                format!("the server answered with the code {code}")
            }
            FailureClass::Rejected | FailureClass::Refused(_) => return None,
            FailureClass::InvalidClient if self.is_refused_certificate() => format!(
                "the server{at} refused the client's certificate in the TLS handshake; check \
                 `client_certificate` and when it expires"
            ),
            FailureClass::InvalidClient => {
                let answered = self.status.map(|status| format!(" answered {status}{at} and"));
                let answered = answered.unwrap_or_default();
                format!(
                    "the server{answered} rejected the client; check the client id, the client \
                     secret or key, and how the client sends them"
                )
            }
            FailureClass::Unclassified | FailureClass::Misconfigured => {
                return self.unexpected();
            }
        };
        Some(text.into())
    }

    /// What is known of a request that was not sent.
    fn unsent(&self, at: &str) -> Option<Cow<'static, str>> {
        if let Some(own) = self.cause::<Error>() {
            return own.explanation();
        }
        let fault: &SendError = self.cause()?;
        let text = if let SendError::Withheld(_) = fault {
            format!("the request to the server{at} was not sent, because its time was over")
        } else {
            format!(
                "the server{at} could not be reached ({}); check that it runs and that the URL is \
                 right",
                fault.reason()
            )
        };
        Some(text.into())
    }

    /// What happened to a request that was sent.
    fn event(&self, at: &str) -> Option<String> {
        Some(match (self.status, self.cause()) {
            (Some(status @ 200..300), _) => {
                format!("the server answered {status}{at} with a body that cannot be read")
            }
            (Some(status), _) => format!("the server answered {status}{at}"),
            (None, Some(SendError::Unanswered)) => {
                format!("the server{at} did not respond in time")
            }
            (None, Some(SendError::TooLarge)) => {
                format!("the response of the server{at} is longer than {MAX_BODY_BYTES} bytes")
            }
            (None, Some(_)) => format!(
                "the connection to the server{at} broke before the whole response had arrived"
            ),
            (None, None) => return None,
        })
    }

    /// What is wrong with a response, an address or the settings.
    fn unexpected(&self) -> Option<Cow<'static, str>> {
        if let Some(SendError::Address(refused)) = self.cause() {
            let url = self.endpoint.as_ref().map_or("", Endpoint::url);
            return Some(refused.advice(url).into());
        }
        match self.status {
            Some(status) => Some(self.unexpected_response(check_what(status)).into()),
            None => self.cause::<Error>().and_then(Error::explanation),
        }
    }

    /// The text about a response that is not the expected one.
    pub(super) fn unexpected_response(&self, advice: &str) -> String {
        let (at, expected) = (self.at_endpoint(), self.expected.unwrap_or("another response"));
        let status = self.status.map_or_else(String::new, |status| format!(" {status}"));
        format!("the server answered{status}{at}, where {expected} was expected; {advice}")
    }

    /// The text about two responses of which neither is the expected one; None if one of the two
    /// requests had no response.
    pub(super) fn unexpected_responses(&self, earlier: &Self) -> Option<String> {
        let (first, second) = (earlier.status?, self.status?);
        let (there, here) = (earlier.at_endpoint(), self.at_endpoint());
        let is_redirect = |status: &u16| (300..400).contains(status);
        let telling = [first, second].into_iter().find(is_redirect).unwrap_or(second);
        let expected = self.expected.unwrap_or("another response");
        let advice = check_what(telling);
        Some(format!(
            "the server answered {first}{there} and {second}{here}, where {expected} was expected; \
             {advice}"
        ))
    }

    /// What is wrong with a response of which nothing else is known.
    fn unusable(&self) -> Option<String> {
        let fault = self.unusable_body()?;
        let tail = match self.class {
            FailureClass::Ambiguous => ", so the outcome of the request is not known",
            FailureClass::Unclassified | FailureClass::Misconfigured => {
                "; check the URL and the settings of the provider"
            }
            FailureClass::NotSent
            | FailureClass::Untrusted
            | FailureClass::NotProcessed
            | FailureClass::Throttled
            | FailureClass::Rejected
            | FailureClass::Refused(_)
            | FailureClass::InvalidClient => return None,
        };
        let (at, expected) = (self.at_endpoint(), self.expected.unwrap_or("a response"));
        let status = self.status.map_or_else(String::new, |status| format!(" {status}"));
        let kind = fault.content_type.as_ref();
        let kind = kind.map_or_else(String::new, |kind| format!(" ({kind})"));
        let words = &fault.words;
        Some(format!("the server answered{status}{kind}{at} with {expected} that {words}{tail}"))
    }

    /// Logs a response that cannot be used, without its text.
    pub(in crate::provider) fn log_unusable_body(&self, sender: &HttpSender<'_>) {
        let Some(fault) = self.unusable_body() else { return };
        let session = sender.session();
        log_limited!(
            sender.log_limit(),
            warn,
            session.map(SessionId::provider),
            "the server sent a response that cannot be used",
            tenant = session.map(|session| session.key().tenant().as_str()),
            token_id = session.map(|session| session.key().token_id()),
            status = self.status,
            content_type = fault.content_type,
            fault = &*fault.words,
            endpoint = self.endpoint.as_ref().map(Endpoint::url)
        );
    }

    fn unusable_body(&self) -> Option<&UnusableBody> {
        self.cause()
    }

    /// " at " and the endpoint, if it is known.
    fn at_endpoint(&self) -> String {
        self.endpoint.as_ref().map_or_else(String::new, |at| format!(" at {}", at.url()))
    }

    fn cause<E: StdError + 'static>(&self) -> Option<&E> {
        self.source.as_ref()?.downcast_ref()
    }
}

/// What to check after a response with this status that is not understood.
fn check_what(status: u16) -> &'static str {
    match status {
        404 | 405 | 410 => "check the URL",
        300..400 => "the crate follows no redirect, so use the URL that the server redirects to",
        _ => "check the URL and the settings of the provider",
    }
}
