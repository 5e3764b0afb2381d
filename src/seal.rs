//! Sealing: what leaves the process is encrypted, and opens only where it belongs.
//!
//! A [`KeyRing`] holds numbered master keys. The highest number seals and all of them open, so
//! that keys change without anything being lost. No master key encrypts anything itself: each use
//! has a key of its own, derived by HKDF-SHA256 (RFC 5869), for XChaCha20-Poly1305.

mod cipher;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretBox};
use zeroize::{Zeroize, Zeroizing};

#[cfg(feature = "sqlite")]
pub(crate) use self::cipher::number_of;
pub(crate) use self::cipher::{OVERHEAD, OpenFault, Place, random};
use crate::error::{Error, ErrorKind, Result};

/// The master keys of a process, by number. The highest number seals, all of them open.
///
/// Clones share one set of keys: [`reload`](Self::reload) changes it for all of them. Give every
/// process that serves the same users the same ring. To change the key, add one with a higher
/// number everywhere, and remove the old one when nothing that it sealed is needed any more:
/// tickets live for minutes, stored records until they are sealed anew.
///
/// As text a ring is a list of entries `number:key`, where a key is 32 random bytes in base64, as
/// `openssl rand -base64 32` prints them. Commas, spaces or line ends stand between entries, and
/// `#` begins a comment that ends with its line.
///
/// ```
/// use session_warden::seal::KeyRing;
///
/// let ring = KeyRing::parse(
///     "1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=  # until the end of May
///      2:Q0MVmZBnzcjbJJDuuxkKMWvBEdfmJv1W1BJKxMwyGJw=",
/// )?;
/// assert_eq!(format!("{ring:?}"), "KeyRing { seals: 2, opens: [1, 2] }");
///
/// // Later, in every clone at once:
/// ring.reload(KeyRing::parse("2:Q0MVmZBnzcjbJJDuuxkKMWvBEdfmJv1W1BJKxMwyGJw=")?);
/// assert_eq!(format!("{ring:?}"), "KeyRing { seals: 2, opens: [2] }");
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
pub struct KeyRing(Arc<ArcSwap<Keys>>);

impl KeyRing {
    /// A ring of one random key, which is gone with the process: what it sealed opens in this
    /// process only. The number is random too, so that a ticket of another process is told apart
    /// from one that was altered.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RetryLater`] if the operating system gives no random bytes.
    pub fn generate() -> Result<Self> {
        let key = MasterKey::from(random()?);
        let newest = (u32::from_be_bytes(random()?), key);
        Ok(Self::of(Keys { newest, older: Vec::new(), generated: true }))
    }

    /// A ring of one key.
    #[must_use]
    pub fn new(number: u32, key: MasterKey) -> Self {
        Self::of(Keys { newest: (number, key), older: Vec::new(), generated: false })
    }

    /// The same keys and one more. Clones that were made before do not get it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with [`KeyRingFault::DoubleNumber`] if the ring has a key of
    /// this number.
    pub fn with(self, number: u32, key: MasterKey) -> Result<Self> {
        let mut keys = Keys::clone(&self.keys());
        keys.add(number, key)?;
        Ok(Self::of(keys))
    }

    /// The ring in the environment variable of this name. Other programmes of the same user may
    /// be able to read a process's environment; prefer [`from_file`](Self::from_file) where you
    /// can.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with a [`KeyRingFault`] if the variable is not set or is no
    /// ring.
    #[expect(clippy::disallowed_methods, reason = "the caller names the variable")]
    pub fn from_env(variable: &str) -> Result<Self> {
        match std::env::var(variable).map(Zeroizing::new) {
            Ok(text) => Self::parse(&text),
            Err(std::env::VarError::NotPresent) => {
                Err(KeyRingFault::Unset { variable: text::shown(variable) }.into())
            }
            Err(std::env::VarError::NotUnicode(_)) => Err(KeyRingFault::NotText.into()),
        }
    }

    /// The ring in this file, which nobody but the process's own user should be able to read. It
    /// is read at once, so call it at the start or from a thread that may block.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with a [`KeyRingFault`] if the file cannot be read or is no
    /// ring. The path is not part of the error, because a key that was passed by mistake would be.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let bytes = text::read(path.as_ref())?;
        Self::parse(std::str::from_utf8(&bytes).map_err(|_| KeyRingFault::NotText)?)
    }

    /// The ring in this text. Its own buffer is the caller's to wipe.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with a [`KeyRingFault`] that says which entry is wrong and how.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self::of(text::keys(text)?))
    }

    /// Takes the keys of `other`, in all clones at once. What is being sealed or opened meanwhile
    /// is finished with the keys that were there before.
    pub fn reload(&self, other: Self) {
        self.0.store(other.keys());
    }

    fn of(keys: Keys) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys)))
    }

    fn keys(&self) -> Arc<Keys> {
        self.0.load_full()
    }
}

/// What a store on a disk asks.
#[cfg(feature = "sqlite")]
impl KeyRing {
    /// Whether it has a key that is gone with the process.
    pub(crate) fn is_generated(&self) -> bool {
        self.keys().generated
    }

    /// The number of the key that seals.
    pub(crate) fn newest(&self) -> u32 {
        self.keys().newest.0
    }

    /// The numbers of the keys that only open.
    pub(crate) fn older(&self) -> Vec<u32> {
        self.keys().older.iter().map(|(number, _)| *number).collect()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys();
        let newest = keys.newest.0;
        let mut opens: Vec<_> = keys.older.iter().map(|(number, _)| *number).collect();
        opens.push(newest);
        opens.sort_unstable();
        f.debug_struct("KeyRing").field("seals", &newest).field("opens", &opens).finish()
    }
}

/// 32 random bytes from which the keys of all uses are derived.
///
/// Clones share one allocation, which is overwritten when the last of them is dropped. `Debug`
/// prints `[redacted]`, and there is no way back to the bytes. An array that it was made from is
/// the caller's to wipe.
///
/// ```
/// use session_warden::seal::{KeyRing, MasterKey};
///
/// # fn from_your_vault() -> [u8; 32] { [7; 32] }
/// let key = MasterKey::from(from_your_vault());
/// assert_eq!(format!("{key:?}"), "[redacted]");
/// let ring = KeyRing::new(1, key);
/// ```
#[derive(Clone)]
pub struct MasterKey(Arc<SecretBox<[u8; 32]>>);

impl MasterKey {
    fn copied(bytes: &[u8; 32]) -> Self {
        Self(Arc::new(SecretBox::init_with_mut(|key: &mut [u8; 32]| key.copy_from_slice(bytes))))
    }

    fn expose(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }
}

impl From<[u8; 32]> for MasterKey {
    fn from(mut bytes: [u8; 32]) -> Self {
        let key = Self::copied(&bytes);
        bytes.zeroize();
        key
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why a text is no key ring. Nothing of a key is in it.
///
/// It is the cause, [`source`](std::error::Error::source), of an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingFault {
    /// The environment variable is not set.
    #[error(
        "the environment variable{} is not set: set it to an entry like 1:<base64 of 32 bytes>",
        variable.as_ref().map(|name| format!(" {name}")).unwrap_or_default()
    )]
    Unset {
        /// Its name, if it looks like one.
        variable: Option<String>,
    },
    /// The variable or the file is not UTF-8.
    #[error("the key ring is not UTF-8: write its entries as text, keys in base64")]
    NotText,
    /// The file cannot be read.
    #[error("the key ring's file cannot be read, {0}: check its path and who may read it")]
    Unreadable(io::ErrorKind),
    /// The text has more bytes than [`MAX_KEY_RING_BYTES`](crate::policy::MAX_KEY_RING_BYTES).
    #[error("the key ring's text is too long: is it another file?")]
    TooLong,
    /// There is no entry.
    #[error("the key ring has no key: write an entry like 1:<base64 of 32 bytes>")]
    NoKey,
    /// An entry does not begin with a number below 2^32 and a colon.
    #[error("entry {entry} of the key ring is not of the form <number>:<base64 of 32 bytes>")]
    NotAnEntry {
        /// Which one, counted from 1.
        entry: usize,
    },
    /// A key is not base64.
    #[error("key {number} of the key ring is not base64: make one with openssl rand -base64 32")]
    NotBase64 {
        /// The key's number.
        number: u32,
    },
    /// A key does not have 32 bytes.
    #[error(
        "key {number} of the key ring has {bytes} bytes, not 32: make one with openssl rand \
         -base64 32"
    )]
    WrongLength {
        /// The key's number.
        number: u32,
        /// How many bytes it has.
        bytes: usize,
    },
    /// Two keys have one number.
    #[error("two keys of the key ring have the number {number}: give each its own")]
    DoubleNumber {
        /// The number.
        number: u32,
    },
}

impl From<KeyRingFault> for Error {
    fn from(fault: KeyRingFault) -> Self {
        Self::new(ErrorKind::InvalidInput).with_source(fault)
    }
}

/// At least one key, each with its own number.
#[derive(Clone)]
struct Keys {
    newest: (u32, MasterKey),
    /// In no order: there are two or three.
    older: Vec<(u32, MasterKey)>,
    /// Made by [`KeyRing::generate`].
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "a store on a disk asks"))]
    generated: bool,
}

impl Keys {
    fn get(&self, number: u32) -> Option<&MasterKey> {
        let all = self.older.iter().chain([&self.newest]);
        all.into_iter().find(|(of, _)| *of == number).map(|(_, key)| key)
    }

    fn add(&mut self, number: u32, key: MasterKey) -> Result<(), KeyRingFault> {
        if self.get(number).is_some() {
            return Err(KeyRingFault::DoubleNumber { number });
        }
        let mut added = (number, key);
        if number > self.newest.0 {
            std::mem::swap(&mut self.newest, &mut added);
        }
        self.older.push(added);
        Ok(())
    }
}
