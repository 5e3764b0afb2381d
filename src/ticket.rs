//! Tickets: the browser keeps the state of a login that takes several requests.
//!
//! The supervisor encrypts a ticket with its [`KeyRing`]. The ticket holds everything that the next
//! request needs. So no process has to remember the login, and another process may continue it.

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

/// The opaque text that the next step of a login needs: letters, digits, `-`, `_` and one full
/// stop. It needs no encoding in a cookie, a form field or a URL.
///
/// Give a ticket only to the browser that began the login, and pass it back unchanged. The ticket of a
/// login on another device stays in the backend. A ticket is a secret: there is no `Display` and no
/// `Serialize`, `Debug` prints nothing of it, and dropping the last clone overwrites it.
///
/// ```
/// use session_warden::ticket::Ticket;
///
/// // The cookie that the browser sent back.
/// let ticket: Ticket = "sw1.AQEAAAABbm90IGEgcmVhbCBvbmU".parse()?;
/// assert_eq!(ticket.as_str(), "sw1.AQEAAAABbm90IGEgcmVhbCBvbmU");
/// assert_eq!(format!("{ticket:?}"), "Ticket([redacted])");
///
/// // Text of another form is refused at once, a forged ticket when the login continues.
/// assert!(Ticket::parse("sw1.<script>").is_err());
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
pub struct Ticket(Secret);

impl Ticket {
    /// Reads a ticket from its text. The crate verifies it when the login continues.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) with [`TicketFault::Malformed`]
    /// if the text has a character that no ticket has, does not begin as tickets do, or has more
    /// than 16 KiB.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = Zeroizing::new(text.into());
        let code = text.strip_prefix(PREFIX).ok_or(TicketFault::Malformed)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.len() > MAX_TICKET_BYTES || code.is_empty() || !code.bytes().all(plain) {
            return Err(TicketFault::Malformed.into());
        }
        Ok(Self(Secret::from(text.as_str())))
    }

    /// Returns the text, for a cookie or a form field. A person who has the text and can log in at
    /// the server can complete the login.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether the ticket is short enough for a cookie: at most 3,840 bytes. A browser drops a
    /// cookie that is too long without an error. If the ticket is too long, put it in a hidden form
    /// field, or begin the login with shorter options and names.
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

/// The step that a ticket is for. It opens for no other step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The return from a login page.
    Login,
    /// The answer to a challenge.
    Challenge,
    /// The end of a login on another device.
    DeviceLogin,
}

/// The random id of a ticket.
pub(crate) type TicketId = [u8; 16];

/// Issues and opens a supervisor's tickets, and remembers which of them were used in this process.
#[derive(Debug)]
pub(crate) struct Tickets {
    ring: KeyRing,
    application: Option<String>,
    used: Mutex<UsedTickets>,
}

impl Tickets {
    /// Remembers at most `max_used` used tickets.
    pub(crate) fn new(ring: KeyRing, max_used: usize) -> Self {
        Self { ring, application: None, used: Mutex::new(UsedTickets::new(max_used)) }
    }

    /// Binds tickets to this application. Tickets of another application with the same keys do not
    /// open, and neither do tickets without an application.
    pub(crate) fn of_application(self, name: String) -> Self {
        Self { application: Some(name), ..self }
    }

    /// The context of the application and the purpose, so that tickets of others do not open.
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
        // Both allocated at their full size, because a buffer that grows leaves an unwiped copy
        // behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + sealed.len()));
        bytes.push(purpose.byte());
        bytes.extend_from_slice(&sealed);
        let mut text = Zeroizing::new(String::with_capacity(MAX_TICKET_BYTES));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
        Ok(Ticket(Secret::from(text.as_str())))
    }

    /// Opens a ticket that is genuine, for `purpose`, and not expired at `now`. Its payload is read
    /// later, by [`Opened::read`], because only its provider knows the type.
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

    /// Marks a ticket as used in this process. Fails with [`TicketFault::Used`] if it was used
    /// before.
    pub(crate) fn mark_used<T>(&self, opened: &Opened<T>, now: SystemTime) -> Result<()> {
        let (session, expires) = (&opened.session, millis(opened.expires_at));
        self.used.lock().add(opened.id, session, expires, millis(now))
    }

    /// Makes a used ticket usable again, because the login did not get as far as the server.
    pub(crate) fn unmark_used(&self, id: &TicketId) {
        self.used.lock().remove(id);
    }

    fn unseal(&self, ticket: &Ticket, purpose: Purpose) -> Result<Opened<RawPayload>, TicketFault> {
        let code = ticket.as_str().strip_prefix(PREFIX).ok_or(TicketFault::Malformed)?;
        // Strict: the spare bits of the last character must be zero.
        let bytes = URL_SAFE_NO_PAD.decode(code).map_err(|_| TicketFault::Malformed)?;
        let bytes = Zeroizing::new(bytes);
        let (&byte, sealed) = bytes.split_first().ok_or(TicketFault::Malformed)?;
        let stated = Purpose::of(byte).ok_or(TicketFault::Malformed)?;
        let plain = self.with_context(stated, |context| self.ring.open(context, sealed))?;
        // After the text is opened. The purpose in clear is authentic only then, and a forged one
        // must be reported as an altered ticket.
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

/// The content of a genuine ticket.
pub(crate) struct Opened<T> {
    pub(crate) id: TicketId,
    pub(crate) session: SessionId,
    pub(crate) expires_at: SystemTime,
    pub(crate) payload: T,
}

/// A payload that is not parsed yet.
pub(crate) struct RawPayload(Zeroizing<Vec<u8>>);

impl<T> Opened<T> {
    /// Fails with [`TicketFault::OtherProvider`] if another provider issued it.
    pub(crate) fn for_provider(&self, name: &ProviderName) -> Result<()> {
        let is_own = self.session.provider() == name;
        if is_own { Ok(()) } else { Err(TicketFault::OtherProvider.into()) }
    }

    /// Fails with [`TicketFault::OtherSession`] or [`TicketFault::OtherProvider`] if it was issued
    /// for another session or by another provider.
    pub(crate) fn for_session(&self, id: &SessionId) -> Result<()> {
        self.for_provider(id.provider())?;
        if self.session == *id { Ok(()) } else { Err(TicketFault::OtherSession.into()) }
    }
}

impl Opened<RawPayload> {
    /// Parses the payload. The parser's error is dropped, because it quotes the payload.
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
    /// Stands in clear before the sealed text, so that a ticket for the wrong step can be told
    /// apart from an altered one.
    fn byte(self) -> u8 {
        match self {
            Self::Login => 1,
            Self::Challenge => 2,
            Self::DeviceLogin => 3,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        let all = [Self::Login, Self::Challenge, Self::DeviceLogin];
        all.into_iter().find(|purpose| purpose.byte() == byte)
    }

    /// Gives each purpose a key of its own.
    fn label(self) -> &'static str {
        match self {
            Self::Login => "ticket: login",
            Self::Challenge => "ticket: challenge",
            Self::DeviceLogin => "ticket: device login",
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

/// The beginning of every ticket of this version.
const PREFIX: &str = "sw1.";

/// The most bytes of plaintext with which a ticket is not too long.
const MAX_PLAINTEXT_BYTES: usize = (MAX_TICKET_BYTES - PREFIX.len()) / 4 * 3 - 1 - seal::OVERHEAD;

/// Milliseconds since the Unix epoch; 0 for earlier times.
fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
