//! The HTTP status for each kind of error.

use http::StatusCode;

use super::{ErrorKind, Refusal};

impl ErrorKind {
    /// The status with which a backend can pass the error on to its own clients.
    ///
    /// | kind | status | what the backend does |
    /// |---|---|---|
    /// | [`NotEstablished`](Self::NotEstablished), [`SignInAgain`](Self::SignInAgain) | 401 | lets the user sign in |
    /// | [`Refused`](Self::Refused) with [`Locked`](Refusal::Locked) or [`CodeTooSoon`](Refusal::CodeTooSoon) | 429 | lets the user wait |
    /// | `Refused` with [`NotPermitted`](Refusal::NotPermitted) or [`LockedForGood`](Refusal::LockedForGood) | 403 | tells the user |
    /// | `Refused` with [`ClockSkew`](Refusal::ClockSkew) | 502 | sets this machine's clock |
    /// | `Refused` with another reason | 401 | lets the user try again |
    /// | [`RetryLater`](Self::RetryLater), [`Capacity`](Self::Capacity), [`Store`](Self::Store), [`ShuttingDown`](Self::ShuttingDown) | 503 | sends [`Error::retry_after`](super::Error::retry_after) as `Retry-After` |
    /// | [`Deadline`](Self::Deadline) | 504 | lets the client call again |
    /// | [`Superseded`](Self::Superseded) | 409 | reads the session's status |
    /// | [`InvalidInput`](Self::InvalidInput) | 400 | corrects the arguments |
    /// | [`Misconfigured`](Self::Misconfigured) | 502 | alerts an operator |
    ///
    /// ```
    /// use session_warden::ErrorKind;
    ///
    /// assert_eq!(ErrorKind::RetryLater.http_status(), 503);
    /// ```
    #[must_use]
    pub fn http_status(self) -> StatusCode {
        match self {
            Self::NotEstablished | Self::SignInAgain(_) => StatusCode::UNAUTHORIZED,
            Self::Refused(refusal) => refusal.http_status(),
            Self::RetryLater | Self::Capacity | Self::Store | Self::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::Superseded => StatusCode::CONFLICT,
            Self::InvalidInput => StatusCode::BAD_REQUEST,
            Self::Misconfigured => StatusCode::BAD_GATEWAY,
        }
    }
}

impl Refusal {
    fn http_status(self) -> StatusCode {
        match self {
            Self::Locked | Self::CodeTooSoon => StatusCode::TOO_MANY_REQUESTS,
            Self::NotPermitted | Self::LockedForGood => StatusCode::FORBIDDEN,
            Self::ClockSkew => StatusCode::BAD_GATEWAY,
            Self::WrongCredentials
            | Self::WrongCode
            | Self::ChallengeExpired
            | Self::GrantExpired
            | Self::UnknownSubject
            | Self::LoginStateMismatch
            | Self::LoginPending
            | Self::HostNotAllowed
            | Self::Other => StatusCode::UNAUTHORIZED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::LostReason;

    #[test]
    fn each_kind_has_the_status_of_the_table() {
        for (kind, status) in [
            (ErrorKind::NotEstablished, 401),
            (ErrorKind::SignInAgain(LostReason::Rejected), 401),
            (ErrorKind::Refused(Refusal::WrongCredentials), 401),
            (ErrorKind::Refused(Refusal::Locked), 429),
            (ErrorKind::Refused(Refusal::CodeTooSoon), 429),
            (ErrorKind::Refused(Refusal::NotPermitted), 403),
            (ErrorKind::Refused(Refusal::LockedForGood), 403),
            (ErrorKind::Refused(Refusal::ClockSkew), 502),
            (ErrorKind::RetryLater, 503),
            (ErrorKind::Capacity, 503),
            (ErrorKind::Store, 503),
            (ErrorKind::ShuttingDown, 503),
            (ErrorKind::Deadline, 504),
            (ErrorKind::Superseded, 409),
            (ErrorKind::InvalidInput, 400),
            (ErrorKind::Misconfigured, 502),
        ] {
            assert_eq!(kind.http_status(), status, "{kind:?}");
        }
    }
}
