//! Why a request failed, and how far it got.

use std::error::Error as StdError;
use std::io;

use rustls::AlertDescription;

use super::CONNECT_TIMEOUT;
use super::refused::Refused;
use super::resolver::Unresolved;
use super::send_state::Withheld;

/// Why there is no answer. No variant holds a URL or a byte of a body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection, so no byte of the request left: name, address, TLS handshake or proxy.
    #[error("no connection could be made")]
    NotSent(#[source] reqwest::Error),
    /// The request may not go there.
    #[error("the transport refuses the address")]
    Address(#[from] Refused),
    /// No connection, because the server's certificate is not valid.
    #[error("the TLS handshake failed because of the certificate")]
    Untrusted(#[source] reqwest::Error),
    /// The server refused the client's certificate, or requires one, in the TLS handshake. It has
    /// not processed the request: with TLS 1.3, a client may send before the server has checked the
    /// certificate (RFC 8446 section 4.4.2), and the server reads nothing of that if it refuses.
    #[error("the server refused the client's certificate in the TLS handshake")]
    ClientRefused(#[source] reqwest::Error),
    /// No connection took a byte of the request.
    #[error("the request was not sent")]
    Withheld(#[source] Withheld),
    /// There was a connection. It is not known how much of the request the server took.
    #[error("the connection broke")]
    Ambiguous(#[source] reqwest::Error),
    /// The request was sent, and the whole answer did not come in time.
    #[error("no response in time")]
    Unanswered,
    /// The server took the request, and its answer is longer than the limit.
    #[error("too long a response")]
    TooLarge,
}

impl SendError {
    /// Redirects are off, so that "connect" in the error means this request's own connection.
    /// `withheld` is set if no connection took a byte of the request.
    pub(super) fn of_request(error: reqwest::Error, withheld: Option<Withheld>) -> Self {
        let error = error.without_url();
        if find::<rustls::Error>(&error).is_some_and(refuses_client) {
            return Self::ClientRefused(error);
        }
        match withheld {
            Some(Withheld::Failed) if !error.is_connect() => return Self::NotSent(error),
            Some(Withheld::Failed) => {}
            Some(why) => return Self::Withheld(why),
            None => return Self::Ambiguous(error),
        }
        if let Some(refused) = find::<Refused>(&error) {
            return Self::Address(*refused);
        }
        match find::<rustls::Error>(&error) {
            Some(
                rustls::Error::InvalidCertificate(_)
                | rustls::Error::InvalidCertRevocationList(_)
                | rustls::Error::NoCertificatesPresented,
            ) => Self::Untrusted(error),
            Some(_) | None => Self::NotSent(error),
        }
    }

    /// Why no connection was made, in a few words without a URL.
    pub(crate) fn reason(&self) -> String {
        let Self::NotSent(error) = self else { return self.to_string() };
        if let Some(unresolved) = find::<Unresolved>(error) {
            return unresolved.to_string();
        }
        if find::<rustls::Error>(error).is_some() {
            return "the TLS handshake failed".to_owned();
        }
        if error.is_timeout() {
            return format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            None | Some(io::ErrorKind::Other) => "no connection".to_owned(),
            Some(kind) => kind.to_string(),
        }
    }

    /// The server answered, so it took the request.
    pub(super) fn of_body(error: reqwest::Error) -> Self {
        Self::Ambiguous(error.without_url())
    }
}

/// Whether the server's alert is about the client's certificate (RFC 8446 section 6.2, RFC 5246
/// section 7.2.2). A server sends these alerts in the handshake alone.
fn refuses_client(error: &rustls::Error) -> bool {
    let rustls::Error::AlertReceived(alert) = error else { return false };
    [
        AlertDescription::NoCertificate,
        AlertDescription::BadCertificate,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::CertificateRevoked,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnknownCA,
        AlertDescription::AccessDenied,
        AlertDescription::CertificateRequired,
    ]
    .contains(alert)
}

/// The first error of type `T` among the causes.
fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // The `source` of an `io::Error` skips the error that it wraps, so that is looked at first.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
