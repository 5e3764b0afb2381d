//! Sealing of records: what a store writes to a disk in place of credentials.
//!
//! Credentials are written as bytes, padded, and sealed for their place: provider, tenant, token
//! id, epoch, the attempt that produced them, the column that they stand in, and whether the
//! session lives. All of it is known before a commit, so whoever asks seals, and a store sees
//! sealed bytes alone; a close moves credentials to the outbox, and the store seals them for that
//! place. What stays in clear is authenticated beside it, by a tag over the whole row.

mod body;
mod tags;

use std::sync::Arc;

use arc_swap::ArcSwapOption;

pub(super) use self::tags::{MAC_BYTES, Tags};
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
    /// The place that they open in.
    pub(super) spot: Spot,
    pub(super) bytes: Arc<[u8]>,
}

impl Sealed {
    /// The number of the key that seals them; none if they are in clear.
    pub(super) fn key(&self) -> Option<u32> {
        number_of(&self.bytes)
    }
}

/// Where in its row a sealed text belongs: what is to be revoked is never served, and what is
/// served is never taken for what is to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    /// Version 1 of a file sealed for the row alone.
    Row,
    /// The credentials of a session that lives.
    Credentials,
    /// The outbox of one that is closed.
    Outbox,
}

/// Seals and opens for one store.
pub(super) enum Vault {
    /// Nothing is sealed.
    Open,
    /// With the store's own keys, which the supervisor's do not replace.
    Own(KeyRing),
    /// With the supervisor's, once there are some.
    Given(ArcSwapOption<KeyRing>),
}

impl Vault {
    pub(super) fn sealing(own: Option<KeyRing>) -> Self {
        own.map_or_else(|| Self::Given(ArcSwapOption::empty()), Self::Own)
    }

    /// Takes the supervisor's keys.
    pub(super) fn give(&self, keys: &KeyRing) -> Result<(), SealFault> {
        match self {
            Self::Open => Ok(()),
            Self::Own(own) => lasting(own),
            Self::Given(given) => {
                lasting(keys)?;
                given.store(Some(Arc::new(keys.clone())));
                Ok(())
            }
        }
    }

    /// The ring; none where nothing is sealed.
    pub(super) fn ring(&self) -> Result<Option<KeyRing>, SealFault> {
        match self {
            Self::Open => Ok(None),
            Self::Own(own) => Ok(Some(own.clone())),
            Self::Given(given) => {
                let given = given.load();
                given.as_deref().cloned().map(Some).ok_or(SealFault::NoKeys)
            }
        }
    }

    /// Seals what the attempt `made` for the session's grant number `epoch`, for this place.
    pub(super) fn seal(
        &self,
        id: &SessionId,
        (epoch, made): (u64, Attempt),
        spot: Spot,
        credentials: &Credentials,
    ) -> Result<Sealed, SealFault> {
        let plain = body::write(credentials).ok_or(SealFault::Malformed)?;
        let bytes = match self.lasting_ring()? {
            Some(ring) => at(id, (epoch, made), spot, |place| ring.seal(place, plain))
                .map_err(|_| SealFault::NoRandomBytes)?,
            None => plain.to_vec(),
        };
        Ok(Sealed { spot, bytes: bytes.into() })
    }

    /// The credentials that the attempt `made` for this epoch.
    pub(super) fn open(
        &self,
        id: &SessionId,
        (epoch, made): (u64, Attempt),
        sealed: &Sealed,
    ) -> Result<Arc<Credentials>, SealFault> {
        let credentials = match self.ring()? {
            None => body::read(&sealed.bytes),
            Some(ring) => {
                let open = |place: &Place<'_>| ring.open(place, &sealed.bytes);
                let plain = at(id, (epoch, made), sealed.spot, open);
                body::read(&plain.map_err(|fault| match fault {
                    OpenFault::UnknownKey(number) => SealFault::KeyMissing(number),
                    OpenFault::Altered => SealFault::Altered,
                    OpenFault::Malformed => SealFault::Malformed,
                })?)
            }
        };
        credentials.map(Arc::new).ok_or(SealFault::Malformed)
    }

    /// The same for this place, under the key that seals now.
    pub(super) fn reseal(
        &self,
        id: &SessionId,
        made: (u64, Attempt),
        spot: Spot,
        sealed: &Sealed,
    ) -> Result<Sealed, SealFault> {
        let credentials = self.open(id, made, sealed)?;
        self.seal(id, made, spot, &credentials)
    }

    /// The record with its credentials opened.
    pub(super) fn opened(
        &self,
        id: &SessionId,
        record: Record<Sealed>,
    ) -> Result<Record, SealFault> {
        let (epoch, made) = (record.epoch, record.made_by);
        let open = |sealed: &Option<Sealed>| {
            let Some(sealed) = sealed else { return Ok(None) };
            self.open(id, (epoch, made.ok_or(SealFault::Malformed)?), sealed).map(Some)
        };
        let (credentials, outbox) = (open(&record.credentials)?, open(&record.outbox)?);
        Ok(record.with(credentials, outbox))
    }

    /// The record with all that it holds sealed for the column that it stands in: what a close
    /// moved, and what version 1 of the file sealed, is sealed anew.
    pub(super) fn placed(
        &self,
        id: &SessionId,
        record: &Record<Sealed>,
    ) -> Result<Record<Sealed>, SealFault> {
        let place = |sealed: &Option<Sealed>, spot: Spot| match sealed {
            Some(sealed) if sealed.spot != spot => {
                let made = record.made_by.ok_or(SealFault::Malformed)?;
                self.reseal(id, (record.epoch, made), spot, sealed).map(Some)
            }
            sealed => Ok(sealed.clone()),
        };
        let credentials = place(&record.credentials, Spot::Credentials)?;
        let outbox = place(&record.outbox, Spot::Outbox)?;
        Ok(record.clone().with(credentials, outbox))
    }

    /// The ring, which may seal what outlives the process. Asked at each write because a ring can
    /// be changed for a generated one at any time.
    pub(super) fn lasting_ring(&self) -> Result<Option<KeyRing>, SealFault> {
        let ring = self.ring()?;
        ring.as_ref().map_or(Ok(()), lasting)?;
        Ok(ring)
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
/// row, column or tenant, or for another grant. Each tenant has a key of its own.
fn at<T>(
    id: &SessionId,
    (epoch, Attempt { base, fence, claim }): (u64, Attempt),
    spot: Spot,
    with: impl FnOnce(&Place<'_>) -> T,
) -> T {
    let tenant = id.key().tenant().as_str().as_bytes();
    let (provider, token_id) = (id.provider().as_str().as_bytes(), id.key().token_id().as_bytes());
    let [epoch, base, fence, claim] = [epoch, base, fence, claim.0].map(u64::to_be_bytes);
    let (label, column): (_, &[&[u8]]) = match spot {
        Spot::Row => ("record", &[]),
        Spot::Credentials => ("session", &[&claim, b"credentials", b"live"]),
        Spot::Outbox => ("session", &[&claim, b"outbox", b"closed"]),
    };
    let bound = [&[provider, tenant, token_id, &epoch, &base, &fence], column].concat();
    with(&Place { label, context: &[tenant], bound: &bound })
}

#[cfg(test)]
mod tests;
