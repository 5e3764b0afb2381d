//! The messages of PostgreSQL's protocol, version 3, as far as a proxy has to know them.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The server is ready for the next statement: ends its answer to [`QUERY`], [`SYNC`] and to the
/// start of a session.
pub const READY_FOR_QUERY: u8 = b'Z';
/// Statements as text, and the wish for their answer.
pub const QUERY: u8 = b'Q';
/// A statement as text, whose values follow.
pub const PARSE: u8 = b'P';
/// The wish for an answer to all messages since the last.
pub const SYNC: u8 = b'S';

/// More than any message of a test has.
const MOST_BYTES: usize = 64 << 20;

/// The first message of a client asks for TLS with this code.
const TLS_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// Reads the first message of a client, which has no kind.
pub async fn read_first(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    read_behind(Vec::new(), from).await
}

/// Reads a message; its first byte is its kind.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let kind = from.read_u8().await?;
    read_behind(vec![kind], from).await
}

/// Whether a first message asks for TLS. What follows cannot be read.
pub fn asks_for_tls(first: &[u8]) -> bool {
    first.get(4..) == Some(&TLS_REQUEST)
}

/// Whether the message has this text in it, in its capitals or not.
pub fn has_text(message: &[u8], text: &str) -> bool {
    message.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}

/// Reads the length, which counts itself, and what follows.
async fn read_behind(mut message: Vec<u8>, from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let rest = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    let rest = rest.filter(|rest| *rest <= MOST_BYTES);
    let rest = rest.ok_or_else(|| Error::new(ErrorKind::InvalidData, "no message"))?;
    let begun = message.len();
    message.resize(begun + rest, 0);
    from.read_exact(&mut message[begun..]).await?;
    Ok(message)
}
