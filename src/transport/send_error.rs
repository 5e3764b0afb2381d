//! Why a request failed, and how far it got.

use std::error::Error as StdError;
use std::io;

use super::MAX_BODY_BYTES;
use super::address_policy::Refused;
use super::send_state::Withheld;

/// Why there is no answer. No variant holds a URL or a byte of a body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection, so no byte of the request left: name, address, TLS handshake or proxy.
    #[error("no connection could be made")]
    NotSent(#[source] reqwest::Error),
    /// The request may not go there.
    #[error("the address is refused")]
    Address(#[from] Refused),
    /// No connection, because the server's certificate is not valid.
    #[error("the TLS handshake failed over the certificate")]
    Untrusted(#[source] reqwest::Error),
    /// No connection took a byte of the request.
    #[error("the request was not sent")]
    Withheld(#[source] Withheld),
    /// There was a connection. It is not known how much of the request the server took.
    #[error("the connection broke before the whole answer was there")]
    Ambiguous(#[source] reqwest::Error),
    /// The request was sent, and the whole answer did not come in time.
    #[error("the server did not answer in time")]
    Unanswered,
    /// The server took the request, and its answer is longer than the limit.
    #[error("the answer is longer than {MAX_BODY_BYTES} bytes")]
    TooLarge,
}

impl SendError {
    /// Redirects are off, so that "connect" in the error means this request's own connection.
    /// `withheld` is set if no connection took a byte of the request.
    pub(super) fn of_request(error: reqwest::Error, withheld: Option<Withheld>) -> Self {
        let error = error.without_url();
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

    /// The server answered, so it took the request.
    pub(super) fn of_body(error: reqwest::Error) -> Self {
        Self::Ambiguous(error.without_url())
    }
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
