//! Credentials as bytes: a version, the tokens with their ends, attributes, authority and client,
//! each text with its length before it, and zeros up to a multiple of [`PADDING`]. Numbers are big
//! endian.
//!
//! Written by hand, because a serializer's buffer grows and leaves unwiped copies behind.

use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::{Access, Credentials, Tokens};
use crate::secret::Secret;

/// Credentials are padded to a multiple of this, because the length of a token can reveal its
/// server and its kind.
const PADDING: usize = 256;

const VERSION: u8 = 1;

/// `None` if a part has 4 GB.
pub(crate) fn encode(credentials: &Credentials) -> Option<Zeroizing<Vec<u8>>> {
    let tokens = &credentials.tokens;
    // Allocated at its full size, because a buffer that grows leaves an unwiped copy behind.
    let mut out = Zeroizing::new(Vec::with_capacity(max_bytes(credentials)));
    out.push(VERSION);
    for access in [&tokens.access, &tokens.refresh].map(Option::as_ref) {
        optional(&mut out, access.map(|access| access.secret.expose_secret()))?;
        end(&mut out, access.and_then(|access| access.expires_at))?;
    }
    optional(&mut out, tokens.token_secret.as_ref().map(Secret::expose_secret))?;
    for part in [&tokens.attributes, &credentials.authority, &credentials.client] {
        text(&mut out, part)?;
    }
    let length = out.len().next_multiple_of(PADDING);
    out.resize(length, 0);
    Some(out)
}

/// `None` if [`encode()`] did not write it.
pub(crate) fn decode(plain: &[u8]) -> Option<Credentials> {
    let mut rest = plain.strip_prefix(&[VERSION])?;
    let (access, refresh) = (take_access(&mut rest)?, take_access(&mut rest)?);
    let token_secret = take_optional(&mut rest)?.map(Into::into);
    let attributes = take_text(&mut rest)?.into();
    let (authority, client) = (take_text(&mut rest)?, take_text(&mut rest)?);
    let padding = rest.len() < PADDING && rest.iter().all(|byte| *byte == 0);
    let tokens = Tokens { access, refresh, token_secret, attributes };
    padding.then(|| Credentials::new(tokens, authority, client))
}

/// The most bytes that credentials take.
fn max_bytes(credentials: &Credentials) -> usize {
    let tokens = &credentials.tokens;
    let accesses = [&tokens.access, &tokens.refresh].map(Option::as_ref);
    let secrets = accesses.into_iter().flatten().map(|access| &access.secret);
    let secrets = secrets.chain(&tokens.token_secret).map(|secret| secret.expose_secret().len());
    let texts = [&tokens.attributes, &credentials.authority, &credentials.client];
    let all = secrets.chain(texts.into_iter().map(|text| text.len())).sum::<usize>();
    // The version, six texts with their presence and length, and two ends with theirs.
    (1 + 6 * 5 + 2 * 17 + all).next_multiple_of(PADDING)
}

fn text(out: &mut Vec<u8>, text: &str) -> Option<()> {
    out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Some(())
}

fn optional(out: &mut Vec<u8>, present: Option<&str>) -> Option<()> {
    out.push(present.is_some().into());
    present.map_or(Some(()), |present| text(out, present))
}

/// In nanoseconds since 1970, signed.
fn end(out: &mut Vec<u8>, end: Option<SystemTime>) -> Option<()> {
    out.push(end.is_some().into());
    if let Some(end) = end {
        let nanos = match end.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()).ok()?,
            Err(before) => -i128::try_from(before.duration().as_nanos()).ok()?,
        };
        out.extend_from_slice(&nanos.to_be_bytes());
    }
    Some(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_flag(rest: &mut &[u8]) -> Option<bool> {
    match take::<1>(rest)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
    let (text, left) = rest.split_at_checked(length)?;
    *rest = left;
    std::str::from_utf8(text).ok()
}

fn take_optional<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a str>> {
    if take_flag(rest)? { take_text(rest).map(Some) } else { Some(None) }
}

fn take_access(rest: &mut &[u8]) -> Option<Option<Access>> {
    let secret = take_optional(rest)?;
    let expires_at = if take_flag(rest)? { Some(take_time(rest)?) } else { None };
    Some(secret.map(|secret| Access { secret: secret.into(), expires_at }))
}

fn take_time(rest: &mut &[u8]) -> Option<SystemTime> {
    const SECOND: u128 = 1_000_000_000;
    let nanos = i128::from_be_bytes(take(rest)?);
    let (size, epoch) = (nanos.unsigned_abs(), SystemTime::UNIX_EPOCH);
    let part = u32::try_from(size % SECOND).ok()?;
    let duration = Duration::new(u64::try_from(size / SECOND).ok()?, part);
    if nanos < 0 { epoch.checked_sub(duration) } else { epoch.checked_add(duration) }
}

#[cfg(test)]
mod tests;
