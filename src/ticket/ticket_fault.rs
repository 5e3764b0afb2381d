//! Why a ticket is refused.

use crate::error::{Error, ErrorKind, Refusal};

/// Why a ticket is refused. It contains nothing of the ticket.
///
/// It is the cause, [`source`](std::error::Error::source), of an [`Error`]: of the kind
/// `Refused(ChallengeExpired)` if the user came too late or twice, and otherwise `InvalidInput`.
/// The error's own text says what to do.
///
/// See the example of [`Login`](crate::session::Login).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketFault {
    /// It is not a ticket, or another version made it.
    #[error("a malformed ticket")]
    Malformed,
    /// Its key is not in the key ring: it was removed, or another process made the ticket.
    #[error("an unknown key number")]
    UnknownKey,
    /// It was changed, another application made it, or another key of the same number sealed it.
    #[error("a wrong authentication tag")]
    Altered,
    /// It has expired.
    #[error("an expired ticket")]
    Expired,
    /// It was issued for another step: the ticket of a login was passed where the ticket of a
    /// challenge is needed, for example.
    #[error("a ticket for another step")]
    OtherPurpose,
    /// Another provider issued it.
    #[error("a ticket of another provider")]
    OtherProvider,
    /// It is for another session.
    #[error("a ticket of another session")]
    OtherSession,
    /// It was used in this process.
    #[error("a used ticket")]
    Used,
}

impl TicketFault {
    /// What is wrong, and what to do.
    fn advice(self) -> &'static str {
        match self {
            Self::Malformed => {
                "the text is not a ticket of this version of the crate; pass back the ticket's \
                 whole text, or begin the login again"
            }
            Self::UnknownKey => {
                "the ticket was sealed with a key that is not in this process's key ring; begin \
                 the login again, and give every process the same key ring \
                 (`SupervisorBuilder::key_ring`)"
            }
            Self::Altered => {
                "the ticket was changed, or sealed by another application or with another key of \
                 the same number; begin the login again, and give every process the same key ring \
                 and the same application name"
            }
            Self::Expired => "the ticket is too old; begin the login again",
            Self::OtherPurpose => {
                "the ticket was issued for another step; pass the ticket of a login to \
                 `finish_login`, that of a login on another device to `finish_device_login`, and \
                 that of a challenge to `establish`"
            }
            Self::OtherProvider => {
                "another provider issued the ticket; pass it to the provider that issued it"
            }
            Self::OtherSession => {
                "the ticket was issued for another session; pass it to the session that it was \
                 issued for"
            }
            Self::Used => "the ticket was already used; begin the login again",
        }
    }
}

impl From<TicketFault> for Error {
    fn from(fault: TicketFault) -> Self {
        let kind = match fault {
            TicketFault::Expired | TicketFault::Used => {
                ErrorKind::Refused(Refusal::ChallengeExpired)
            }
            TicketFault::Malformed
            | TicketFault::UnknownKey
            | TicketFault::Altered
            | TicketFault::OtherPurpose
            | TicketFault::OtherProvider
            | TicketFault::OtherSession => ErrorKind::InvalidInput,
        };
        Self::new(kind).about(fault.advice()).with_source(fault)
    }
}
