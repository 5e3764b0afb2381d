//! Why a ticket is refused.

use crate::error::{Error, ErrorKind, Refusal};

/// Why a ticket is refused. It contains nothing of the ticket.
///
/// It is the cause, [`source`](std::error::Error::source), of an [`Error`]: of the kind
/// `Refused(ChallengeExpired)` if the user came too late or twice, and otherwise `InvalidInput`.
///
/// See the example of [`Login`](crate::session::Login).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketFault {
    /// It is not a ticket, or another version made it.
    #[error("this is no ticket of this version: begin the login again")]
    Malformed,
    /// Its key is not in the key ring: it was removed, or another process made the ticket.
    #[error(
        "the key ring has no key for this ticket: begin the login again, and give every process \
         the same key ring"
    )]
    UnknownKey,
    /// It was changed, another application made it, or another key of the same number sealed it.
    #[error(
        "the ticket was altered, is of another application, or was sealed by another key of the \
         same number: begin the login again, and give every process of the application the same \
         key ring and the same application name"
    )]
    Altered,
    /// It has expired.
    #[error("the ticket has expired: begin the login again")]
    Expired,
    /// The ticket of a login was passed where the ticket of a challenge is needed, or the other way
    /// round.
    #[error("the ticket is for another step: use a login's and a challenge's each for its own")]
    OtherPurpose,
    /// Another provider issued it.
    #[error("the ticket is of another provider: hand it to the one that issued it")]
    OtherProvider,
    /// It is for another session.
    #[error("the ticket is of another session: hand it to the one that it was issued for")]
    OtherSession,
    /// It was used in this process.
    #[error("the ticket was used: begin the login again")]
    Used,
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
        Self::new(kind).with_source(fault)
    }
}
