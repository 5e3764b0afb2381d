//! Key rings as text.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::{KeyRingFault, Keys, MasterKey, RingKey};
use crate::policy::MAX_KEY_RING_BYTES;

/// Stands before an entry whose key does not seal yet.
const OPENS: &str = "opens:";

/// Some tools pad and some do not; both are accepted.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The file's bytes. The buffer never grows, because a buffer that grows leaves an unwiped copy
/// behind.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyRingFault> {
    // With less room to spare than this, reading to the end may go through other buffers.
    const SPARE: usize = 1024;
    let unreadable = |error: std::io::Error| KeyRingFault::Unreadable(error.kind());
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_RING_BYTES + SPARE));
    let file = open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(KeyRingFault::NotAFile);
    }
    if is_exposed(&metadata) {
        return Err(KeyRingFault::Exposed);
    }
    let most = u64::try_from(MAX_KEY_RING_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Does not block if the path names a pipe that nobody writes to.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path)
}

/// Whether a user other than the process's own and root can have written it.
#[cfg(unix)]
fn is_exposed(file: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owners = [rustix::process::geteuid().as_raw(), 0];
    !owners.contains(&file.uid()) || file.mode() & 0o022 != 0
}

#[cfg(not(unix))]
fn is_exposed(_: &Metadata) -> bool {
    false
}

pub(super) fn keys(text: &str) -> Result<Keys, KeyRingFault> {
    if text.len() > MAX_KEY_RING_BYTES {
        return Err(KeyRingFault::TooLong);
    }
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(before, _)| before));
    let between = |c: char| c == ',' || c.is_whitespace();
    let entries = lines.flat_map(|line| line.split(between)).filter(|entry| !entry.is_empty());
    let keys = entries.enumerate().map(|(at, entry)| self::entry(at + 1, entry));
    Keys::of(keys.collect::<Result<_, _>>()?)
}

/// The name of a variable, if it is safe to show. A key that was passed by mistake has 43
/// characters or more.
pub(super) fn shown(variable: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (variable.len() <= 40 && variable.chars().all(plain)).then(|| variable.to_owned())
}

fn entry(at: usize, entry: &str) -> Result<RingKey, KeyRingFault> {
    let wrong = || KeyRingFault::NotAnEntry { entry: at };
    let opening = entry.strip_prefix(OPENS);
    let (number, key) = opening.unwrap_or(entry).split_once(':').ok_or_else(wrong)?;
    // `u32::from_str` would take a sign too.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let room = base64::decoded_len_estimate(key.len());
    let mut bytes = Zeroizing::new(vec![0; room]);
    let length =
        BASE64.decode_slice(key, &mut bytes).map_err(|_| KeyRingFault::NotBase64 { number })?;
    let exact = bytes.get(..length).and_then(|bytes| bytes.try_into().ok());
    let exact = exact.ok_or(KeyRingFault::WrongLength { number, bytes: length })?;
    if is_weak(exact) {
        return Err(KeyRingFault::WeakKey { number });
    }
    let key = RingKey::new(number, MasterKey::copied(exact));
    Ok(if opening.is_some() { key.opens_only() } else { key })
}

/// Whether the bytes look like a placeholder. Of 32 random bytes, fewer than 8 are different in one
/// of 10^38 keys.
fn is_weak(key: &[u8; 32]) -> bool {
    const LEAST: usize = 8;
    let first_seen = |(at, byte): (usize, &u8)| !key.iter().take(at).any(|before| before == byte);
    key.iter().enumerate().filter(|seen| first_seen(*seen)).count() < LEAST
}
