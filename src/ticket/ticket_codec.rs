//! The plaintext of a ticket as bytes: its id, its expiry, the session's three names, each after
//! its length, and the payload as JSON. Numbers are big endian.
//!
//! Not one JSON object, because a cookie has little space.

use std::io;

use serde::Serialize;
use zeroize::Zeroizing;

use super::{MAX_PLAINTEXT_BYTES, TicketId};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{ProviderName, SessionId, SessionKey};

pub(super) struct TicketContents<'a> {
    pub(super) id: TicketId,
    pub(super) expires: u64,
    pub(super) session: SessionId,
    pub(super) payload: &'a [u8],
}

pub(super) fn encode(
    id: &TicketId,
    expires: u64,
    session: &SessionId,
    payload: &impl Serialize,
) -> Result<Zeroizing<Vec<u8>>> {
    let mut bounded = Bounded::new();
    let written = bounded.header(id, expires, session).map_err(serde_json::Error::io);
    match written.and_then(|()| serde_json::to_writer(&mut bounded, payload)) {
        Ok(()) => Ok(bounded.bytes),
        Err(error) => {
            // The cause is dropped, because the payload's own code may quote a secret in it.
            let why = if error.is_io() {
                "the data of the login has no room in a ticket; use shorter options and names"
            } else {
                "the data of the login is not serializable; correct its `Serialize` code"
            };
            Err(Error::new(ErrorKind::InvalidInput).about(why))
        }
    }
}

/// `None` if [`encode`](fn@encode) did not write it.
pub(super) fn decode(plain: &[u8]) -> Option<TicketContents<'_>> {
    let (id, rest) = plain.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (provider, rest) = name(rest)?;
    let (tenant, rest) = name(rest)?;
    let (token_id, payload) = name(rest)?;
    let key = SessionKey::new(tenant, token_id).ok()?;
    let session = SessionId::new(ProviderName::new(provider).ok()?, key);
    Some(TicketContents { id: *id, expires: u64::from_be_bytes(*expires), session, payload })
}

fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

/// A buffer that takes no more than a ticket can hold. It is allocated at its full size, because a
/// buffer that grows leaves an unwiped copy behind.
struct Bounded {
    bytes: Zeroizing<Vec<u8>>,
}

impl Bounded {
    fn new() -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(MAX_PLAINTEXT_BYTES)) }
    }

    fn header(&mut self, id: &TicketId, expires: u64, session: &SessionId) -> io::Result<()> {
        use io::Write;
        self.write_all(id)?;
        self.write_all(&expires.to_be_bytes())?;
        let key = session.key();
        for name in [session.provider().as_str(), key.tenant().as_str(), key.token_id()] {
            let length = u16::try_from(name.len()).map_err(|_| full())?;
            self.write_all(&length.to_be_bytes())?;
            self.write_all(name.as_bytes())?;
        }
        Ok(())
    }
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > MAX_PLAINTEXT_BYTES {
            return Err(full());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}
