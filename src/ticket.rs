//! Tickets: what a login that takes more than one request leaves with the browser.
//!
//! A ticket is sealed by the supervisor's [`KeyRing`] and holds all that the next request needs, so
//! that no process has to remember it, and another one may go on.

pub(crate) mod serde_secret;
#[cfg(test)]
mod tests;
mod ticket_codec;
mod ticket_fault;
mod used_tickets;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use self::ticket_codec::TicketContents;
pub use self::ticket_fault::TicketFault;
use self::used_tickets::UsedTickets;
use crate::error::{Error, Result};
use crate::key::{ProviderName, SessionId};
use crate::policy::{MAX_COOKIE_BYTES, MAX_TICKET_BYTES};
use crate::seal::{self, AeadContext, KeyRing, OpenFault};
use crate::secret::Secret;

/// The opaque text that a login's next step needs: letters, digits, `-`, `_` and one full stop, so
/// that it can stand in a cookie, a form field or a URL without being encoded.
///
/// Keep it with the browser that began the login and nobody else, and hand it back as it was. It
/// is a secret: there is no `Display` and no `Serialize`, `Debug` prints nothing of it, and it is
/// wiped when its last clone is dropped.
///
/// ```
/// use session_warden::ticket::Ticket;
///
/// // What the browser sent back in the cookie that it was given.
/// let ticket: Ticket = "sw1.AQEAAAABbm90IGEgcmVhbCBvbmU".parse()?;
/// assert_eq!(ticket.as_str(), "sw1.AQEAAAABbm90IGEgcmVhbCBvbmU");
/// assert_eq!(format!("{ticket:?}"), "Ticket([redacted])");
///
/// // Text of another kind is refused at once; a forged ticket is when the login goes on.
/// assert!(Ticket::parse("sw1.<script>").is_err());
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
pub struct Ticket(Secret);

impl Ticket {
    /// The ticket with this text. Whether it is genuine shows when it is used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) with [`TicketFault::Malformed`]
    /// if it has a character that no ticket has, does not begin like one, or is longer than
    /// [`MAX_TICKET_BYTES`].
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = Zeroizing::new(text.into());
        let code = text.strip_prefix(PREFIX).ok_or(TicketFault::Malformed)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.len() > MAX_TICKET_BYTES || code.is_empty() || !code.bytes().all(plain) {
            return Err(TicketFault::Malformed.into());
        }
        Ok(Self(Secret::from(text.as_str())))
    }

    /// The text, for a cookie or a form field. Whoever has it and can log in at the server can
    /// end the login.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether browsers keep it in a cookie: its text has at most [`MAX_COOKIE_BYTES`]. If not,
    /// put it in a hidden form field, or begin the login with shorter options and names. A browser
    /// drops a cookie that is too long without a word.
    ///
    /// ```
    /// use session_warden::ticket::Ticket;
    ///
    /// assert!(Ticket::parse(format!("sw1.{}", "A".repeat(1000)))?.fits_cookie());
    /// assert!(!Ticket::parse(format!("sw1.{}", "A".repeat(4000)))?.fits_cookie());
    /// # Ok::<(), session_warden::Error>(())
    /// ```
    #[must_use]
    pub fn fits_cookie(&self) -> bool {
        self.as_str().len() <= MAX_COOKIE_BYTES
    }
}

impl FromStr for Ticket {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket([redacted])")
    }
}

/// What a ticket is for. One that is for one thing is of no use for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To come back from a login page.
    Login,
    /// To answer a challenge.
    Challenge,
}

/// Tells a ticket from all others.
pub(crate) type TicketId = [u8; 16];

/// Issues a supervisor's tickets, opens them, and knows which were used in this process.
#[derive(Debug)]
pub(crate) struct Tickets {
    ring: KeyRing,
    application: Option<String>,
    used: Mutex<UsedTickets>,
}

impl Tickets {
    /// `max_used` used tickets are remembered at once.
    pub(crate) fn new(ring: KeyRing, max_used: usize) -> Self {
        Self { ring, application: None, used: Mutex::new(UsedTickets::new(max_used)) }
    }

    /// Tickets of this application: those of another one that has the same keys do not open, and
    /// neither do those without an application.
    pub(crate) fn of_application(self, name: String) -> Self {
        Self { application: Some(name), ..self }
    }

    /// A ring's key for the application and the purpose, so that a ticket for another of them does
    /// not open.
    fn with_context<T>(&self, purpose: Purpose, with: impl FnOnce(&AeadContext<'_>) -> T) -> T {
        let application = self.application.as_ref().map(|name| name.as_bytes());
        with(&AeadContext {
            label: purpose.label(),
            key_context: application.as_slice(),
            associated_data: &[],
        })
    }

    /// A ticket that is good until `expires`, cut to whole milliseconds. Fails with `InvalidInput`
    /// if the payload is too much for a ticket.
    pub(crate) fn issue(
        &self,
        purpose: Purpose,
        session: &SessionId,
        expires: SystemTime,
        payload: &impl Serialize,
    ) -> Result<Ticket> {
        let id: TicketId = seal::random()?;
        let body = ticket_codec::encode(&id, millis(expires), session, payload)?;
        let sealed =
            Zeroizing::new(self.with_context(purpose, |context| self.ring.seal(context, body))?);
        // Both at their full length at once: growing would leave an unwiped copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + sealed.len()));
        bytes.push(purpose.byte());
        bytes.extend_from_slice(&sealed);
        let mut text = Zeroizing::new(String::with_capacity(MAX_TICKET_BYTES));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
        Ok(Ticket(Secret::from(text.as_str())))
    }

    /// What a ticket holds, if it is genuine, for `purpose`, and not expired at `now`.
    /// [`Opened::read`] reads its payload, when it is known whose it is: one of another type is
    /// malformed.
    pub(crate) fn verify(
        &self,
        ticket: &Ticket,
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Opened<RawPayload>> {
        let opened = self.unseal(ticket, purpose)?;
        if opened.expires_at <= now {
            return Err(TicketFault::Expired.into());
        }
        Ok(opened)
    }

    /// Marks a ticket as used in this process. Fails with [`TicketFault::Used`] if it was.
    pub(crate) fn mark_used<T>(&self, opened: &Opened<T>, now: SystemTime) -> Result<()> {
        let (session, expires) = (&opened.session, millis(opened.expires_at));
        self.used.lock().add(opened.id, session, expires, millis(now))
    }

    /// Gives a used ticket back, because what it was used for did not happen.
    pub(crate) fn unmark_used(&self, id: &TicketId) {
        self.used.lock().remove(id);
    }

    fn unseal(&self, ticket: &Ticket, purpose: Purpose) -> Result<Opened<RawPayload>, TicketFault> {
        let code = ticket.as_str().strip_prefix(PREFIX).ok_or(TicketFault::Malformed)?;
        // Strict: the bits that the last character has too many must be zero.
        let bytes = URL_SAFE_NO_PAD.decode(code).map_err(|_| TicketFault::Malformed)?;
        let bytes = Zeroizing::new(bytes);
        let (&byte, sealed) = bytes.split_first().ok_or(TicketFault::Malformed)?;
        let stated = Purpose::of(byte).ok_or(TicketFault::Malformed)?;
        let plain = self.with_context(stated, |context| self.ring.open(context, sealed))?;
        // Only now is the stated purpose known to be the true one.
        if stated != purpose {
            return Err(TicketFault::OtherPurpose);
        }
        let TicketContents { id, expires, session, payload } =
            ticket_codec::decode(&plain).ok_or(TicketFault::Malformed)?;
        let expires_at = time(expires).ok_or(TicketFault::Malformed)?;
        let payload = RawPayload(Zeroizing::new(payload.to_vec()));
        Ok(Opened { id, session, expires_at, payload })
    }
}

/// What a genuine ticket holds.
pub(crate) struct Opened<T> {
    pub(crate) id: TicketId,
    pub(crate) session: SessionId,
    pub(crate) expires_at: SystemTime,
    pub(crate) payload: T,
}

/// A payload that was not read yet.
pub(crate) struct RawPayload(Zeroizing<Vec<u8>>);

impl<T> Opened<T> {
    /// Fails with [`TicketFault::OtherProvider`] if it was issued by another.
    pub(crate) fn for_provider(&self, name: &ProviderName) -> Result<()> {
        if self.session.provider() == name {
            Ok(())
        } else {
            Err(TicketFault::OtherProvider.into())
        }
    }

    /// Fails with [`TicketFault::OtherSession`], or with [`TicketFault::OtherProvider`], if it was
    /// issued for another.
    pub(crate) fn for_session(&self, id: &SessionId) -> Result<()> {
        self.for_provider(id.provider())?;
        if self.session == *id { Ok(()) } else { Err(TicketFault::OtherSession.into()) }
    }
}

impl Opened<RawPayload> {
    /// With its payload as a `T`. What the parser says is dropped, because it quotes.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<Opened<T>> {
        let Self { id, session, expires_at, payload } = self;
        let payload = serde_json::from_slice(&payload.0).map_err(|_| TicketFault::Malformed)?;
        Ok(Opened { id, session, expires_at, payload })
    }
}

impl<T> fmt::Debug for Opened<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("session", &self.session)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Purpose {
    /// It stands before what is sealed, in clear, so that a ticket in the wrong place is told
    /// apart from an altered one.
    fn byte(self) -> u8 {
        match self {
            Self::Login => 1,
            Self::Challenge => 2,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Login, Self::Challenge].into_iter().find(|purpose| purpose.byte() == byte)
    }

    /// The two differ in their keys.
    fn label(self) -> &'static str {
        match self {
            Self::Login => "ticket: login",
            Self::Challenge => "ticket: challenge",
        }
    }
}

impl From<OpenFault> for TicketFault {
    fn from(fault: OpenFault) -> Self {
        match fault {
            OpenFault::Malformed => Self::Malformed,
            OpenFault::UnknownKey(_) => Self::UnknownKey,
            OpenFault::Altered => Self::Altered,
        }
    }
}

/// What every ticket of this version begins with.
const PREFIX: &str = "sw1.";

/// The most bytes that may be sealed so that a ticket is not too long.
const MAX_PLAINTEXT_BYTES: usize = (MAX_TICKET_BYTES - PREFIX.len()) / 4 * 3 - 1 - seal::OVERHEAD;

/// Since the epoch; the epoch for what was before it.
fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
