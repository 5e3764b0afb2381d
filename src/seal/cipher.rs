//! Encrypts and decrypts (AEAD).
//!
//! A sealed text is a version, the number of the master key (big endian), a nonce, and the
//! ciphertext with its tag. All of it is authenticated, and so is its context.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hkdf::{Hkdf, InvalidLength};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::{KeyRing, KeyRingFault, MasterKey};
use crate::error::{Error, ErrorKind, Result};

/// How many bytes longer a sealed text is than its plaintext.
pub(crate) const OVERHEAD: usize = 1 + NUMBER_BYTES + NONCE_BYTES + TAG_BYTES;

const VERSION: u8 = 1;
const NUMBER_BYTES: usize = 4;
/// So long that random nonces never repeat and no counter is needed.
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Makes the keys of this crate differ from those of another program with the same master key.
const SALT: &[u8] = b"session-warden seal 1";

/// The context that a sealed text is bound to. It opens in no other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AeadContext<'a> {
    /// The use. Each use has keys of its own.
    pub(crate) label: &'static str,
    /// The owner, such as a tenant. Each has a key of its own.
    pub(crate) key_context: &'a [&'a [u8]],
    /// Authenticated with the text: it must be the same when the text is opened.
    pub(crate) associated_data: &'a [&'a [u8]],
}

/// Why a sealed text does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenFault {
    /// It is too short, or of another version.
    #[error("malformed ciphertext")]
    Malformed,
    /// The ring has no key of this number.
    #[error("key {0} is not in the key ring")]
    UnknownKey(u32),
    /// It was changed, sealed in another context, or sealed by another key of the same number.
    #[error("a wrong authentication tag")]
    Altered,
}

impl KeyRing {
    /// Seals `plain` with the sealing key. It is encrypted in place.
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
        Ok([&[VERSION], &number.to_be_bytes()[..], &nonce, &plain, &tag].concat())
    }

    /// Opens a text that was sealed in the same context.
    pub(crate) fn open(
        &self,
        context: &AeadContext<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenFault> {
        let (number, nonce, text, tag) = parts(sealed).ok_or(OpenFault::Malformed)?;
        let keys = self.keys();
        // Anybody can seal with a key of zero bytes.
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

/// The number of the key that sealed this; `None` if it is not sealed.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn key_number_of(sealed: &[u8]) -> Option<u32> {
    parts(sealed).map(|(number, ..)| number)
}

/// Random bytes from the operating system.
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

type DerivedKey = Zeroizing<[u8; 32]>;

/// The cipher with the key of this use and context.
fn cipher(key: &MasterKey, context: &AeadContext<'_>) -> Result<XChaCha20Poly1305, InvalidLength> {
    let derived = derive(key, context)?;
    Ok(XChaCha20Poly1305::new((&*derived).into()))
}

/// The key of this use and context, from the master key.
pub(super) fn derive(
    key: &MasterKey,
    context: &AeadContext<'_>,
) -> Result<DerivedKey, InvalidLength> {
    let (mut extracted, hkdf) = Hkdf::<Sha256>::extract(Some(SALT), key.expose());
    extracted.as_mut_slice().zeroize();
    let mut derived = Zeroizing::new([0; 32]);
    hkdf.expand(&hkdf_info(context), derived.as_mut_slice())?;
    Ok(derived)
}

/// HKDF's `info`: the use and the owner of a key.
fn hkdf_info(context: &AeadContext<'_>) -> Vec<u8> {
    let mut info = Vec::new();
    append(&mut info, context.label.as_bytes());
    context.key_context.iter().for_each(|part| append(&mut info, part));
    info
}

/// The associated data (AAD). The nonce is part of the cipher's input anyway.
fn associated_data(number: u32, context: &AeadContext<'_>) -> Vec<u8> {
    let mut data = vec![VERSION];
    data.extend_from_slice(&number.to_be_bytes());
    context.associated_data.iter().for_each(|part| append(&mut data, part));
    data
}

/// Appends a part after its length, so that two different lists never give the same bytes.
fn append(data: &mut Vec<u8>, part: &[u8]) {
    let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(part);
}

/// The cipher refuses texts of 256 GB.
fn unsealable<E>(_: E) -> Error {
    Error::new(ErrorKind::InvalidInput).about("the data is too long to be encrypted")
}
