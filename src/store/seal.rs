//! Sealing of records: what a store writes to a disk in place of credentials.
//!
//! Credentials are written as bytes, padded, and sealed for their place: provider, tenant, token
//! id, epoch, and the attempt that produced them. All of it is known before the commit, so sealing
//! is done by whoever asks, and a store sees sealed bytes alone. The generation is not: it is known
//! with the commit only.

mod body;

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::record::{Attempt, Record};
use super::{StoreError, StoreErrorKind};
use crate::key::SessionId;
use crate::seal::{KeyRing, OpenFault, Place, number_of};
use crate::token::Credentials;

/// Why a record cannot be sealed or opened. It is the cause, [`source`](std::error::Error::source),
/// of a [`StoreError`], and holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealFault {
    /// The store was given no keys.
    #[error(
        "there are no keys to seal records with: give the supervisor a key ring that outlives the \
         process (KeyRing::from_file, KeyRing::from_env), or the store itself"
    )]
    NoKeys,
    /// The keys are gone with the process, and what they sealed would be with them.
    #[error(
        "the key ring was generated and is gone with the process, so its records would be lost: \
         give the supervisor one that outlives it (KeyRing::from_file, KeyRing::from_env)"
    )]
    GeneratedKeys,
    /// The key that seals has zero bytes only.
    #[error(
        "the key that is to seal records has zero bytes only: make one with openssl rand -base64 32"
    )]
    WeakKey,
    /// The ring has no key of this number.
    #[error("key {0} seals the record and is not in the key ring: add it again")]
    KeyMissing(u32),
    /// It was changed, moved from another record, or sealed by another key of the same number.
    #[error("the record was altered, belongs elsewhere, or another key has its key's number")]
    Altered,
    /// What was sealed is not what this version writes.
    #[error("the record is not of a form that this version reads")]
    Malformed,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomBytes,
}

impl From<SealFault> for StoreError {
    fn from(fault: SealFault) -> Self {
        let kind = match fault {
            SealFault::NoKeys
            | SealFault::GeneratedKeys
            | SealFault::WeakKey
            | SealFault::KeyMissing(_) => StoreErrorKind::Sealed,
            SealFault::Altered | SealFault::Malformed => StoreErrorKind::Corrupt,
            SealFault::NoRandomBytes => StoreErrorKind::Unavailable,
        };
        Self::new(kind).with_source(fault)
    }
}

/// Credentials as a store keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    /// The attempt that produced them. A tombstone's outbox keeps it, which its record does not.
    pub(super) made: Attempt,
    pub(super) bytes: Arc<[u8]>,
}

impl Sealed {
    /// The number of the key that seals them; none if they are in clear.
    pub(super) fn key(&self) -> Option<u32> {
        number_of(&self.bytes)
    }
}

/// Seals and opens for one store.
pub(super) enum Vault {
    /// With keys, once there are some.
    Sealing(Keys),
    /// Nothing is sealed.
    Open,
}

/// The keys of a store.
#[derive(Default)]
pub(super) struct Keys {
    /// The store's own, which the supervisor's do not replace.
    own: Option<KeyRing>,
    given: ArcSwapOption<KeyRing>,
}

impl Vault {
    pub(super) fn sealing(own: Option<KeyRing>) -> Self {
        Self::Sealing(Keys { own, given: ArcSwapOption::empty() })
    }

    /// Takes the supervisor's keys.
    pub(super) fn give(&self, keys: &KeyRing) -> Result<(), SealFault> {
        match self {
            Self::Sealing(Keys { own: Some(own), .. }) => lasting(own),
            Self::Sealing(Keys { own: None, given }) => {
                lasting(keys)?;
                given.store(Some(Arc::new(keys.clone())));
                Ok(())
            }
            Self::Open => Ok(()),
        }
    }

    /// The ring; none where nothing is sealed.
    pub(super) fn ring(&self) -> Result<Option<KeyRing>, SealFault> {
        match self {
            Self::Sealing(Keys { own: Some(own), .. }) => Ok(Some(own.clone())),
            Self::Sealing(Keys { own: None, given }) => {
                let given = given.load();
                given.as_deref().cloned().map(Some).ok_or(SealFault::NoKeys)
            }
            Self::Open => Ok(None),
        }
    }

    /// Seals what `attempt` produced for the session's grant number `epoch`.
    pub(super) fn seal(
        &self,
        id: &SessionId,
        (epoch, made): (u64, Attempt),
        credentials: &Credentials,
    ) -> Result<Sealed, SealFault> {
        let plain = body::write(credentials).ok_or(SealFault::Malformed)?;
        let bytes = match self.ring()? {
            Some(ring) => {
                // Also asked here because a ring can be changed for a generated one at any time.
                lasting(&ring)?;
                at(id, (epoch, made), |place| ring.seal(place, plain))
                    .map_err(|_| SealFault::NoRandomBytes)?
            }
            None => plain.to_vec(),
        };
        Ok(Sealed { made, bytes: bytes.into() })
    }

    /// The credentials of a record of this epoch.
    pub(super) fn open(
        &self,
        id: &SessionId,
        epoch: u64,
        sealed: &Sealed,
    ) -> Result<Arc<Credentials>, SealFault> {
        let credentials = match self.ring()? {
            None => body::read(&sealed.bytes),
            Some(ring) => {
                let place = (epoch, sealed.made);
                let plain = at(id, place, |place| ring.open(place, &sealed.bytes));
                body::read(&plain.map_err(|fault| match fault {
                    OpenFault::UnknownKey(number) => SealFault::KeyMissing(number),
                    OpenFault::Altered => SealFault::Altered,
                    OpenFault::Malformed => SealFault::Malformed,
                })?)
            }
        };
        credentials.map(Arc::new).ok_or(SealFault::Malformed)
    }

    /// The same under the key that seals now.
    pub(super) fn reseal(
        &self,
        id: &SessionId,
        epoch: u64,
        sealed: &Sealed,
    ) -> Result<Sealed, SealFault> {
        let credentials = self.open(id, epoch, sealed)?;
        self.seal(id, (epoch, sealed.made), &credentials)
    }

    /// The record with its credentials opened.
    pub(super) fn opened(
        &self,
        id: &SessionId,
        record: Record<Sealed>,
    ) -> Result<Record, SealFault> {
        let open = |sealed: &Option<Sealed>| {
            sealed.as_ref().map(|sealed| self.open(id, record.epoch, sealed)).transpose()
        };
        let (credentials, outbox) = (open(&record.credentials)?, open(&record.outbox)?);
        Ok(with(&record, credentials, outbox))
    }
}

/// The record with these in place of what it has.
pub(super) fn with<C, D>(
    record: &Record<C>,
    credentials: Option<D>,
    outbox: Option<D>,
) -> Record<D> {
    Record {
        epoch: record.epoch,
        generation: record.generation,
        fence: record.fence,
        phase: record.phase,
        lease: record.lease,
        credentials,
        made_by: record.made_by,
        suspect: record.suspect,
        lost: record.lost,
        outbox,
        retry_at: record.retry_at,
        tries: record.tries,
        due_at: record.due_at,
    }
}

/// Whether the ring may seal what outlives the process.
fn lasting(ring: &KeyRing) -> Result<(), SealFault> {
    if ring.is_generated() {
        Err(SealFault::GeneratedKeys)
    } else if ring.is_weak() {
        Err(SealFault::WeakKey)
    } else {
        Ok(())
    }
}

/// What belongs to this session and came from this attempt opens nowhere else: not in another
/// row, another tenant, or for another grant. Each tenant has a key of its own.
fn at<T>(
    id: &SessionId,
    (epoch, Attempt { base, fence }): (u64, Attempt),
    with: impl FnOnce(&Place<'_>) -> T,
) -> T {
    let tenant = id.key().tenant().as_str().as_bytes();
    with(&Place {
        label: "record",
        context: &[tenant],
        bound: &[
            id.provider().as_str().as_bytes(),
            tenant,
            id.key().token_id().as_bytes(),
            &epoch.to_be_bytes(),
            &base.to_be_bytes(),
            &fence.to_be_bytes(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ProviderName, SessionKey};
    use crate::seal::MasterKey;
    use crate::token::Tokens;

    const MADE: Attempt = Attempt { base: 3, fence: 7 };

    fn id(provider: &str, tenant: &str, token_id: &str) -> SessionId {
        let key = SessionKey::new(tenant, token_id).unwrap();
        SessionId::new(ProviderName::new(provider).unwrap(), key)
    }

    fn vault(number: u32) -> Vault {
        Vault::sealing(Some(KeyRing::new(number, MasterKey::from([7; 32]))))
    }

    fn credentials() -> Credentials {
        let tokens = Tokens::new(Arc::from("{}")).access("at", None).refresh("rt", None);
        Credentials::new(tokens, "https://a", "c")
    }

    #[test]
    fn a_record_opens_at_its_own_place_alone() {
        let (vault, own) = (vault(1), id("p", "t", "d"));
        let sealed = vault.seal(&own, (2, MADE), &credentials()).unwrap();
        assert_eq!(vault.open(&own, 2, &sealed).unwrap().client(), "c");
        for other in [id("q", "t", "d"), id("p", "u", "d"), id("p", "t", "e"), id("pt", "d", "d")] {
            assert_eq!(vault.open(&other, 2, &sealed).unwrap_err(), SealFault::Altered, "{other}");
        }
        assert_eq!(vault.open(&own, 3, &sealed).unwrap_err(), SealFault::Altered);
        for made in [Attempt { base: 4, ..MADE }, Attempt { fence: 8, ..MADE }] {
            let moved = Sealed { made, bytes: Arc::clone(&sealed.bytes) };
            assert_eq!(vault.open(&own, 2, &moved).unwrap_err(), SealFault::Altered);
        }
    }

    #[test]
    fn a_missing_key_is_told_by_its_number_and_not_as_damage() {
        let own = id("p", "t", "d");
        let sealed = vault(1).seal(&own, (2, MADE), &credentials()).unwrap();
        assert_eq!(sealed.key(), Some(1));
        let fault = vault(2).open(&own, 2, &sealed).unwrap_err();
        assert_eq!(fault, SealFault::KeyMissing(1));
        assert_eq!(StoreError::from(fault).kind(), StoreErrorKind::Sealed);
    }

    #[test]
    fn generated_keys_seal_no_record_in_whatever_way_they_come() {
        let (own, ring) = (id("p", "t", "d"), KeyRing::new(1, MasterKey::from([7; 32])));
        let vault = Vault::sealing(None);
        let seal = |vault: &Vault| vault.seal(&own, (2, MADE), &credentials()).map(|_| ());
        assert_eq!(seal(&vault), Err(SealFault::NoKeys));
        assert_eq!(vault.give(&KeyRing::generate().unwrap()), Err(SealFault::GeneratedKeys));
        vault.give(&ring).unwrap();
        seal(&vault).unwrap();
        ring.reload(KeyRing::generate().unwrap());
        assert_eq!(seal(&vault), Err(SealFault::GeneratedKeys));
        let generated = Vault::sealing(Some(KeyRing::generate().unwrap()));
        assert_eq!(generated.give(&ring), Err(SealFault::GeneratedKeys));
    }

    #[test]
    fn a_key_of_zero_bytes_seals_no_record() {
        let zero = KeyRing::new(1, MasterKey::from([0; 32]));
        assert_eq!(Vault::sealing(None).give(&zero), Err(SealFault::WeakKey));
        let vault = Vault::sealing(Some(zero));
        let sealed = vault.seal(&id("p", "t", "d"), (2, MADE), &credentials());
        assert_eq!(sealed.unwrap_err(), SealFault::WeakKey);
    }

    #[test]
    fn a_stores_own_keys_are_not_replaced_by_the_supervisors() {
        let (own, vault) = (id("p", "t", "d"), vault(5));
        vault.give(&KeyRing::generate().unwrap()).unwrap();
        assert_eq!(vault.seal(&own, (2, MADE), &credentials()).unwrap().key(), Some(5));
    }
}
