//! Key rings, and the encryption of tickets and stored records.
//!
//! To seal is to encrypt and authenticate; to open is to verify and decrypt. A [`KeyRing`] holds
//! numbered master keys. The process opens with all of them, and seals with one of them: the key
//! with the highest number, apart from keys that are marked to open only. So you can change keys
//! without losing anything. The crate encrypts nothing with a master key itself: for each use it
//! derives a key by HKDF-SHA256 (RFC 5869), for XChaCha20-Poly1305.

mod cipher;
mod key_ring_fault;
mod key_ring_text;
mod key_source;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod mac;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretBox};
use tokio::sync::watch;
use zeroize::{Zeroize, Zeroizing};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use self::cipher::key_number_of;
pub(crate) use self::cipher::{AeadContext, OVERHEAD, OpenFault, random};
pub use self::key_ring_fault::KeyRingFault;
pub use self::key_source::{KeySource, KeySourceFault};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use self::mac::{KeysId, MacKey, TAG_BYTES};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;

/// The numbered master keys of a process. The process opens with all of them. It seals with the key
/// that has the highest number, apart from keys that [only open](RingKey::opens_only).
///
/// Clones share one set of keys: [`reload`](Self::reload) changes it for all of them. Give the same
/// keys to every process that serves the same users. To change the key of several processes, first
/// add a new key with a higher number to all of them, marked to open only. Then remove the mark in
/// all of them. Remove the old key when you need nothing that it sealed: tickets expire within
/// minutes, and the supervisor seals stored records again with the new key. The guide has [the
/// steps](crate::guide::operations#changing-keys).
///
/// As text a ring is a list of entries `number:key`, where a key is 32 random bytes in base64, as
/// `openssl rand -base64 32` prints them. A key that only opens is written `opens:number:key`.
/// Commas, spaces or line ends separate entries, and `#` begins a comment up to the end of the
/// line.
///
/// ```
/// use session_warden::seal::KeyRing;
///
/// let ring = KeyRing::parse(
///     "1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=  # until the end of May
///      opens:2:Q0MVmZBnzcjbJJDuuxkKMWvBEdfmJv1W1BJKxMwyGJw=",
/// )?;
/// assert_eq!(format!("{ring:?}"), "KeyRing { seals: 1, opens: [1, 2] }");
///
/// // When all processes have key 2, in every clone at once:
/// ring.reload(KeyRing::parse(
///     "1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=
///      2:Q0MVmZBnzcjbJJDuuxkKMWvBEdfmJv1W1BJKxMwyGJw=",
/// )?);
/// assert_eq!(format!("{ring:?}"), "KeyRing { seals: 2, opens: [1, 2] }");
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
pub struct KeyRing(watch::Sender<Arc<Keys>>);

impl KeyRing {
    /// Makes a ring of one random key, which exists only in this process: no other process can open
    /// what it seals. The number is random too, so that this process can tell a ticket of another
    /// process from an altered ticket.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RetryLater`] if the operating system gives no random bytes.
    pub fn generate() -> Result<Self> {
        let key = MasterKey::from(random()?);
        let sealing = (u32::from_be_bytes(random()?), key);
        Ok(Self::of(Keys { sealing, opening: Vec::new(), generated: true }))
    }

    /// Makes a ring of one key. If all bytes of the key are zero, the ring seals nothing and opens
    /// nothing.
    #[must_use]
    pub fn new(number: u32, key: MasterKey) -> Self {
        Self::of(Keys { sealing: (number, key), opening: Vec::new(), generated: false })
    }

    /// Makes a ring of these keys, which may be in any order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with [`KeyRingFault::NoKey`] or [`KeyRingFault::NoSealingKey`]
    /// if none of them may seal, with [`KeyRingFault::DoubleNumber`] if two have the same number,
    /// with [`KeyRingFault::EqualKeys`] if two are the same, with [`KeyRingFault::WeakKey`] if all
    /// bytes of a key are zero.
    pub fn from_keys(keys: impl IntoIterator<Item = RingKey>) -> Result<Self> {
        Ok(Self::of(Keys::of(keys.into_iter().collect())?))
    }

    /// Adds a key, which seals if its number is the highest of the keys that may seal.
    /// Clones that were made before do not get it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with [`KeyRingFault::DoubleNumber`] if the ring has a key of
    /// this number, with [`KeyRingFault::EqualKeys`] if it has this key, with
    /// [`KeyRingFault::WeakKey`] if the key has zero bytes only.
    pub fn with(self, number: u32, key: MasterKey) -> Result<Self> {
        self.and(RingKey::new(number, key))
    }

    /// Adds a key that only opens, even if its number is the highest. Clones that were made before
    /// do not get it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with [`KeyRingFault::DoubleNumber`] if the ring has a key of
    /// this number, with [`KeyRingFault::EqualKeys`] if it has this key, with
    /// [`KeyRingFault::WeakKey`] if the key has zero bytes only.
    pub fn with_opening(self, number: u32, key: MasterKey) -> Result<Self> {
        self.and(RingKey::new(number, key).opens_only())
    }

    /// Reads a ring from the environment variable of this name. Other programs of the same user may
    /// be able to read the environment of your process, so prefer [`from_file`](Self::from_file).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with a [`KeyRingFault`] if the variable is not set or holds no
    /// ring.
    #[expect(clippy::disallowed_methods, reason = "the caller names the variable")]
    pub fn from_env(variable: &str) -> Result<Self> {
        match std::env::var(variable).map(Zeroizing::new) {
            Ok(text) => Self::parse(&text),
            Err(std::env::VarError::NotPresent) => {
                Err(KeyRingFault::Unset { variable: key_ring_text::shown(variable) }.into())
            }
            Err(std::env::VarError::NotUnicode(_)) => Err(KeyRingFault::NotText.into()),
        }
    }

    /// Reads a ring from this file, which only the process's own user should be able to read. This
    /// blocks while it reads, so call it at the start or from a thread that may block.
    ///
    /// On Unix the file must belong to the process's user or to root, and no other user may be able
    /// to write it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with a [`KeyRingFault`] if the file cannot be read, if other
    /// users can write it, or if it holds no ring. The error does not contain the path, because it
    /// may be a key that was passed by mistake.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let bytes = key_ring_text::read(path.as_ref())?;
        Self::parse(std::str::from_utf8(&bytes).map_err(|_| KeyRingFault::NotText)?)
    }

    /// Parses a ring from this text. The caller should overwrite the text's buffer afterwards.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with a [`KeyRingFault`] that says which entry is wrong and how.
    ///
    /// # Example
    ///
    /// ```
    /// use std::error::Error as _;
    /// use session_warden::seal::{KeyRing, KeyRingFault};
    ///
    /// let invalid = KeyRing::parse("1:YSBwYXNzcGhyYXNl").unwrap_err();
    /// let fault = invalid.source().and_then(|fault| fault.downcast_ref());
    /// assert_eq!(fault, Some(&KeyRingFault::WrongLength { number: 1, bytes: 12 }));
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self::of(key_ring_text::keys(text)?))
    }

    /// Replaces the keys with those of `other`, in all clones at once. Operations that are running
    /// finish with the old keys. A supervisor then seals the records of its store with the new key.
    pub fn reload(&self, other: Self) {
        // Read before the lock is taken: the two may be one ring.
        let keys = other.keys();
        drop(self.0.send_replace(keys));
    }

    /// Waits for every [`reload`](Self::reload) from now on.
    pub(crate) fn reloads(&self) -> Reloads {
        Reloads(self.0.subscribe())
    }

    fn and(self, key: RingKey) -> Result<Self> {
        let mut keys = Keys::clone(&self.keys());
        keys.add(key)?;
        Ok(Self::of(keys))
    }

    fn of(keys: Keys) -> Self {
        Self(watch::Sender::new(Arc::new(keys)))
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.borrow())
    }
}

/// For what is written to a disk.
impl KeyRing {
    /// Whether its key exists only in this process.
    pub(crate) fn is_generated(&self) -> bool {
        self.keys().generated
    }

    /// Whether everybody knows the key that seals, because it has only zero bytes.
    pub(crate) fn is_weak(&self) -> bool {
        self.keys().sealing.1.is_zero()
    }

    /// The number of the key that seals.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn sealing_number(&self) -> u32 {
        self.keys().sealing.0
    }

    /// The key that seals, and the numbers below it, in order. Keys with higher numbers are left
    /// out: they may seal in other processes already, and two processes would reseal each other's
    /// records without end.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn succession(&self) -> Succession {
        let keys = self.keys();
        let (to, numbers) = (keys.sealing.0, keys.opening.iter().map(|(number, _)| *number));
        let mut from: Vec<_> = numbers.filter(|number| *number < to).collect();
        from.sort_unstable();
        Succession { from, to }
    }
}

/// The keys whose records are sealed again, and the key that takes over.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Succession {
    pub(crate) from: Vec<u32>,
    pub(crate) to: u32,
}

/// The reloads of a ring, for as long as a clone of it exists.
pub(crate) struct Reloads(watch::Receiver<Arc<Keys>>);

impl Reloads {
    /// Waits for the next reload; false if there can be none. May be dropped.
    pub(crate) async fn next(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys();
        let seals = keys.sealing.0;
        let mut opens: Vec<_> = keys.opening.iter().map(|(number, _)| *number).collect();
        opens.push(seals);
        opens.sort_unstable();
        f.debug_struct("KeyRing").field("seals", &seals).field("opens", &opens).finish()
    }
}

/// 32 random bytes from which the keys of all uses are derived.
///
/// Clones share one allocation, which is overwritten when the last of them is dropped. `Debug`
/// prints `[redacted]`, and no method returns the bytes. The caller should wipe the array from
/// which the key was made.
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

    /// Whether it has only zero bytes, as a buffer into which no key was read.
    fn is_zero(&self) -> bool {
        self.expose().iter().all(|byte| *byte == 0)
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

/// A key with its number, and whether it may seal.
///
/// ```
/// use session_warden::seal::{KeyRing, MasterKey, RingKey};
///
/// # fn from_your_vault(number: u32) -> MasterKey { MasterKey::from([number as u8; 32]) }
/// let old = RingKey::new(1, from_your_vault(1));
/// let new = RingKey::new(2, from_your_vault(2)).opens_only();
/// let ring = KeyRing::from_keys([old, new])?;
/// assert_eq!(format!("{ring:?}"), "KeyRing { seals: 1, opens: [1, 2] }");
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RingKey {
    number: u32,
    key: MasterKey,
    seals: bool,
}

impl RingKey {
    /// Makes a key that may seal: it does if its number is the highest of the keys that may.
    #[must_use]
    pub fn new(number: u32, key: MasterKey) -> Self {
        Self { number, key, seals: true }
    }

    /// Marks the key to open only. Keep the mark until all processes have the key.
    #[must_use]
    pub fn opens_only(self) -> Self {
        Self { seals: false, ..self }
    }
}

/// At least one key, each with its own number.
#[derive(Clone)]
struct Keys {
    sealing: (u32, MasterKey),
    /// Besides it, in no order: there are two or three.
    opening: Vec<(u32, MasterKey)>,
    /// Made by [`KeyRing::generate`].
    generated: bool,
}

impl Keys {
    fn of(mut keys: Vec<RingKey>) -> Result<Self, KeyRingFault> {
        if keys.is_empty() {
            return Err(KeyRingFault::NoKey);
        }
        let first = keys.iter().position(|key| key.seals).ok_or(KeyRingFault::NoSealingKey)?;
        let RingKey { number, key, .. } = keys.swap_remove(first);
        if key.is_zero() {
            return Err(KeyRingFault::WeakKey { number });
        }
        let mut ring = Self { sealing: (number, key), opening: Vec::new(), generated: false };
        keys.into_iter().try_for_each(|key| ring.add(key))?;
        Ok(ring)
    }

    fn all(&self) -> impl Iterator<Item = &(u32, MasterKey)> {
        self.opening.iter().chain([&self.sealing])
    }

    fn get(&self, number: u32) -> Option<&MasterKey> {
        self.all().find(|(of, _)| *of == number).map(|(_, key)| key)
    }

    fn add(&mut self, RingKey { number, key, seals }: RingKey) -> Result<(), KeyRingFault> {
        if self.get(number).is_some() {
            return Err(KeyRingFault::DoubleNumber { number });
        }
        if key.is_zero() {
            return Err(KeyRingFault::WeakKey { number });
        }
        if let Some((other, _)) = self.all().find(|(_, other)| other.expose() == key.expose()) {
            return Err(KeyRingFault::EqualKeys { number, other: *other });
        }
        let mut added = (number, key);
        if seals && number > self.sealing.0 {
            std::mem::swap(&mut self.sealing, &mut added);
        }
        self.opening.push(added);
        Ok(())
    }
}
