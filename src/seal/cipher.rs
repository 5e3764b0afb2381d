//! Sealing and opening.
//!
//! A sealed text is a version, the number of the master key (big endian), a nonce, and the
//! ciphertext with its tag. All of it is authenticated, and so is the place that it was sealed for.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hkdf::{Hkdf, InvalidLength};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::{KeyRing, KeyRingFault, MasterKey};
use crate::error::{Error, ErrorKind, Result};

/// How many bytes a sealed text is longer than what it holds.
pub(crate) const OVERHEAD: usize = 1 + NUMBER_BYTES + NONCE_BYTES + TAG_BYTES;

const VERSION: u8 = 1;
const NUMBER_BYTES: usize = 4;
/// So long that random ones never meet, with no counter to keep.
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Keys of this crate are of no use to another programme that has the same master key.
pub(super) const SALT: &[u8] = b"session-warden seal 1";

/// Where a sealed text belongs. It opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AeadContext<'a> {
    /// What for. Each use has keys of its own.
    pub(crate) label: &'static str,
    /// Whose: each context, a tenant say, has a key of its own.
    pub(crate) key_context: &'a [&'a [u8]],
    /// What else must be the same when it is opened.
    pub(crate) associated_data: &'a [&'a [u8]],
}

/// Why a sealed text does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenFault {
    /// It is too short, or of another version.
    #[error("this is not sealed")]
    Malformed,
    /// The ring has no key of this number.
    #[error("key {0} is not in the key ring")]
    UnknownKey(u32),
    /// It was changed, sealed for another place, or sealed by another key of the same number.
    #[error("it was altered, or belongs elsewhere")]
    Altered,
}

impl KeyRing {
    /// Seals `plain` with the key that seals. It is encrypted where it lies.
    pub(crate) fn seal(
        &self,
        context: &AeadContext<'_>,
        mut plain: Zeroizing<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let keys = self.keys();
        let (number, key) = &keys.sealing;
        if key.is_zero() {
            return Err(KeyRingFault::WeakKey { number: *number }.into());
        }
        let nonce: [u8; NONCE_BYTES] = random()?;
        let tag = cipher(key, context)
            .map_err(unsealable)?
            .encrypt_inout_detached(
                (&nonce).into(),
                &associated_data(*number, context),
                plain.as_mut_slice().into(),
            )
            .map_err(unsealable)?;
        let mut sealed = Vec::with_capacity(OVERHEAD + plain.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&number.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&plain);
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what was sealed for the same place.
    pub(crate) fn open(
        &self,
        context: &AeadContext<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenFault> {
        let (number, nonce, text, tag) = parts(sealed).ok_or(OpenFault::Malformed)?;
        let keys = self.keys();
        // What a key of zero bytes seals, everybody can.
        let key = keys.get(number).filter(|key| !key.is_zero());
        let key = key.ok_or(OpenFault::UnknownKey(number))?;
        let mut plain = Zeroizing::new(text.to_vec());
        cipher(key, context)
            .map_err(|_| OpenFault::Altered)?
            .decrypt_inout_detached(
                nonce.into(),
                &associated_data(number, context),
                plain.as_mut_slice().into(),
                tag.into(),
            )
            .map_err(|_| OpenFault::Altered)?;
        Ok(plain)
    }
}

/// The number of the key that sealed this; none if it is not sealed.
#[cfg(feature = "sqlite")]
pub(crate) fn key_number_of(sealed: &[u8]) -> Option<u32> {
    parts(sealed).map(|(number, ..)| number)
}

/// Bytes from the operating system that nobody can foretell.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::RetryLater)
            .about("the operating system gave no random bytes")
            .with_source(error)
    })?;
    Ok(bytes)
}

type Parts<'a> = (u32, &'a [u8; NONCE_BYTES], &'a [u8], &'a [u8; TAG_BYTES]);

fn parts(sealed: &[u8]) -> Option<Parts<'_>> {
    let rest = sealed.strip_prefix(&[VERSION])?;
    let (number, rest) = rest.split_first_chunk()?;
    let (nonce, rest) = rest.split_first_chunk()?;
    let (text, tag) = rest.split_last_chunk()?;
    Some((u32::from_be_bytes(*number), nonce, text, tag))
}

/// The cipher with the key of this use and context.
fn cipher(key: &MasterKey, context: &AeadContext<'_>) -> Result<XChaCha20Poly1305, InvalidLength> {
    let (mut extracted, hkdf) = Hkdf::<Sha256>::extract(Some(SALT), key.expose());
    extracted.as_mut_slice().zeroize();
    let mut derived = Zeroizing::new([0; 32]);
    hkdf.expand(&hkdf_info(context), derived.as_mut_slice())?;
    Ok(XChaCha20Poly1305::new((&*derived).into()))
}

/// What a key is derived for: its use and whose it is.
pub(super) fn hkdf_info(context: &AeadContext<'_>) -> Vec<u8> {
    let mut info = Vec::new();
    append(&mut info, context.label.as_bytes());
    context.key_context.iter().for_each(|part| append(&mut info, part));
    info
}

/// What is authenticated beside the ciphertext. The nonce is part of the cipher's input anyway.
fn associated_data(number: u32, context: &AeadContext<'_>) -> Vec<u8> {
    let mut data = vec![VERSION];
    data.extend_from_slice(&number.to_be_bytes());
    context.associated_data.iter().for_each(|part| append(&mut data, part));
    data
}

/// With its length before it, so that no two lists of parts are written alike.
fn append(data: &mut Vec<u8>, part: &[u8]) {
    let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(part);
}

/// The cipher refuses texts of 256 GB.
fn unsealable<E>(_: E) -> Error {
    Error::new(ErrorKind::InvalidInput).about("too much to be sealed")
}
