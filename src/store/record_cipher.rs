//! Encrypts the credentials of records for stores that write to a disk.
//!
//! Credentials are encoded as bytes, padded, and sealed. The ciphertext is bound to provider,
//! tenant, token id, epoch, the attempt that produced the credentials, the column, and whether the
//! session is live. All of it is known before a commit, so the caller's task seals, and the store's
//! thread sees only sealed bytes. A close moves credentials to the outbox, and the store seals them
//! again for that column. The columns in clear are authenticated by a tag over the whole row.

mod row_tags;

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

pub(super) use self::row_tags::{ROW_TAG_BYTES, RowTags};
use super::record::{Attempt, Record, Stored};
use super::statement::Outcome;
use super::{StoreError, StoreErrorKind};
use crate::key::SessionId;
use crate::seal::{AeadContext, KeyRing, OpenFault, key_number_of};
use crate::token::{Credentials, credentials_codec};

/// Why a record cannot be sealed or opened. It is the cause, [`source`](std::error::Error::source),
/// of a [`StoreError`], whose own text says what to do. It holds no secret.
///
/// See the example of [`SqliteBuilder`](super::sqlite::SqliteBuilder).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealFault {
    /// The store was given no keys.
    #[error("no keys")]
    NoKeys,
    /// The keys exist only in this process, so its records could not be opened after it.
    #[error("keys that were generated at the start")]
    GeneratedKeys,
    /// The key that seals has zero bytes only.
    #[error("a key of zero bytes")]
    WeakKey,
    /// The ring has no key of this number.
    #[error("an unknown key number")]
    KeyMissing(u32),
    /// The record was changed or moved, or another key of the same number sealed it.
    #[error("a wrong authentication tag")]
    Altered,
    /// The sealed content is of a form that this version does not read.
    #[error("malformed credentials")]
    Malformed,
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    NoRandomBytes,
}

impl SealFault {
    /// What is wrong, and what to do.
    fn advice(self) -> Cow<'static, str> {
        let text = match self {
            Self::NoKeys | Self::GeneratedKeys => {
                "the store's records are encrypted with keys that must outlive the process; give \
                 the supervisor a key ring (`SupervisorBuilder::key_ring` with \
                 `KeyRing::from_file` or `KeyRing::from_env`)"
            }
            Self::WeakKey => {
                "the key that is to encrypt the store's records has only zero bytes; make a key \
                 with `openssl rand -base64 32`"
            }
            Self::KeyMissing(number) => {
                return format!(
                    "key {number}, which encrypts the session's record, is not in the key ring; \
                     add it again"
                )
                .into();
            }
            Self::Altered => {
                "the session's record does not open with the key of its number: if the key ring \
                 has another key under that number, restore the old key, and otherwise restore a \
                 backup"
            }
            Self::Malformed => {
                "the session's record has a format that this version does not read; update this \
                 program, or restore a backup"
            }
            Self::NoRandomBytes => "the operating system gave no random bytes; try again",
        };
        text.into()
    }
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
        Self::new(kind).about(fault.advice()).with_source(fault)
    }
}

/// Credentials as a store writes them: sealed, or in clear if the store seals nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SealedCredentials {
    /// The column that they are bound to.
    pub(super) column: SealedColumn,
    pub(super) bytes: Arc<[u8]>,
}

impl SealedCredentials {
    /// The number of the key that seals them; `None` if they are in clear.
    pub(super) fn key_number(&self) -> Option<u32> {
        key_number_of(&self.bytes)
    }
}

/// The column that sealed credentials are bound to. So nobody who can write the file can have
/// revoked credentials served, or live ones revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SealedColumn {
    /// Bound to the row only, as in a file of version 1.
    Unnamed,
    /// The credentials of a live session.
    Credentials,
    /// The outbox of a closed session.
    Outbox,
}

/// Seals and opens the credentials of one store.
pub(super) enum RecordCipher {
    /// Nothing is sealed.
    Plaintext,
    /// Seals with the store's own keys. Those of a supervisor do not replace them.
    OwnKeys(KeyRing),
    /// Seals with the supervisor's keys, once they are set.
    SupervisorKeys(ArcSwapOption<KeyRing>),
}

impl RecordCipher {
    pub(super) fn with_keys(own: Option<KeyRing>) -> Self {
        own.map_or_else(|| Self::SupervisorKeys(ArcSwapOption::empty()), Self::OwnKeys)
    }

    /// Takes the supervisor's keys.
    pub(super) fn set_supervisor_keys(&self, keys: &KeyRing) -> Result<(), SealFault> {
        match self {
            Self::Plaintext => Ok(()),
            Self::OwnKeys(own) => check_persistent(own),
            Self::SupervisorKeys(current) => {
                check_persistent(keys)?;
                current.store(Some(Arc::new(keys.clone())));
                Ok(())
            }
        }
    }

    /// The ring; `None` if nothing is sealed.
    pub(super) fn ring(&self) -> Result<Option<KeyRing>, SealFault> {
        match self {
            Self::Plaintext => Ok(None),
            Self::OwnKeys(own) => Ok(Some(own.clone())),
            Self::SupervisorKeys(current) => {
                let current = current.load();
                current.as_deref().cloned().map(Some).ok_or(SealFault::NoKeys)
            }
        }
    }

    /// Seals the credentials that the attempt `made` for this epoch, for this column.
    pub(super) fn seal(
        &self,
        id: &SessionId,
        (epoch, made): (u64, Attempt),
        column: SealedColumn,
        credentials: &Credentials,
    ) -> Result<SealedCredentials, SealFault> {
        let plain = credentials_codec::encode(credentials).ok_or(SealFault::Malformed)?;
        let bytes = match self.persistent_ring()? {
            Some(ring) => {
                with_context(id, (epoch, made), column, |context| ring.seal(context, plain))
                    .map_err(|_| SealFault::NoRandomBytes)?
            }
            None => plain.to_vec(),
        };
        Ok(SealedCredentials { column, bytes: bytes.into() })
    }

    /// The credentials that the attempt `made` for this epoch.
    pub(super) fn open(
        &self,
        id: &SessionId,
        (epoch, made): (u64, Attempt),
        sealed: &SealedCredentials,
    ) -> Result<Arc<Credentials>, SealFault> {
        let credentials = match self.ring()? {
            None => credentials_codec::decode(&sealed.bytes),
            Some(ring) => {
                let open = |context: &AeadContext<'_>| ring.open(context, &sealed.bytes);
                let plain = with_context(id, (epoch, made), sealed.column, open);
                credentials_codec::decode(&plain.map_err(|fault| match fault {
                    OpenFault::UnknownKey(number) => SealFault::KeyMissing(number),
                    OpenFault::Altered => SealFault::Altered,
                    OpenFault::Malformed => SealFault::Malformed,
                })?)
            }
        };
        credentials.map(Arc::new).ok_or(SealFault::Malformed)
    }

    /// Seals the same credentials for this column, with the sealing key.
    pub(super) fn reseal(
        &self,
        id: &SessionId,
        made: (u64, Attempt),
        column: SealedColumn,
        sealed: &SealedCredentials,
    ) -> Result<SealedCredentials, SealFault> {
        let credentials = self.open(id, made, sealed)?;
        self.seal(id, made, column, &credentials)
    }

    /// The record with its credentials opened.
    pub(super) fn open_record(
        &self,
        id: &SessionId,
        record: Record<SealedCredentials>,
    ) -> Result<Record, SealFault> {
        let (epoch, made) = (record.epoch, record.made_by);
        let open = |sealed: &Option<SealedCredentials>| {
            let Some(sealed) = sealed else { return Ok(None) };
            self.open(id, (epoch, made.ok_or(SealFault::Malformed)?), sealed).map(Some)
        };
        let (credentials, outbox) = (open(&record.credentials)?, open(&record.outbox)?);
        Ok(record.with(credentials, outbox))
    }

    /// As [`open_record`](Self::open_record), for a record as it was read.
    pub(super) fn open_stored(
        &self,
        id: &SessionId,
        stored: Stored<SealedCredentials>,
    ) -> Result<Stored, SealFault> {
        let Stored { record, now } = stored;
        Ok(Stored { record: self.open_record(id, record)?, now })
    }

    /// As [`open_record`](Self::open_record), for the record in an outcome.
    pub(super) fn open_outcome(
        &self,
        id: &SessionId,
        outcome: Outcome<SealedCredentials>,
    ) -> Result<Outcome, SealFault> {
        let opened = |stored| self.open_stored(id, stored);
        Ok(match outcome {
            Outcome::Done(done) => Outcome::Done(done),
            Outcome::Conflict(found) => Outcome::Conflict(found.map(opened).transpose()?),
            Outcome::Leased(found) => Outcome::Leased(opened(found)?),
            Outcome::Wait { left, found } => Outcome::Wait { left, found: opened(found)? },
        })
    }

    /// The record with its credentials and outbox sealed for their columns. Those that a close has
    /// moved, or that version 1 of the file sealed, are sealed again.
    pub(super) fn seal_for_columns(
        &self,
        id: &SessionId,
        record: &Record<SealedCredentials>,
    ) -> Result<Record<SealedCredentials>, SealFault> {
        let place = |sealed: &Option<SealedCredentials>, column: SealedColumn| match sealed {
            Some(sealed) if sealed.column != column => {
                let made = record.made_by.ok_or(SealFault::Malformed)?;
                self.reseal(id, (record.epoch, made), column, sealed).map(Some)
            }
            sealed => Ok(sealed.clone()),
        };
        let credentials = place(&record.credentials, SealedColumn::Credentials)?;
        let outbox = place(&record.outbox, SealedColumn::Outbox)?;
        Ok(record.clone().with(credentials, outbox))
    }

    /// The ring, if its keys outlive the process. Checked at each write, because a reload can
    /// replace the keys by generated ones at any time.
    pub(super) fn persistent_ring(&self) -> Result<Option<KeyRing>, SealFault> {
        let ring = self.ring()?;
        ring.as_ref().map_or(Ok(()), check_persistent)?;
        Ok(ring)
    }
}

/// Fails if the keys of the ring do not outlive the process, or if the sealing key is known to all.
fn check_persistent(ring: &KeyRing) -> Result<(), SealFault> {
    if ring.is_generated() {
        Err(SealFault::GeneratedKeys)
    } else if ring.is_weak() {
        Err(SealFault::WeakKey)
    } else {
        Ok(())
    }
}

/// Binds credentials to their session, grant, attempt and column, so that they open nowhere else.
/// Each tenant has a key of its own.
fn with_context<T>(
    id: &SessionId,
    (epoch, Attempt { base, fence, claim }): (u64, Attempt),
    column: SealedColumn,
    with: impl FnOnce(&AeadContext<'_>) -> T,
) -> T {
    let tenant = id.key().tenant().as_str().as_bytes();
    let (provider, token_id) = (id.provider().as_str().as_bytes(), id.key().token_id().as_bytes());
    let [epoch, base, fence, claim] = [epoch, base, fence, claim.0].map(u64::to_be_bytes);
    let (label, column): (_, &[&[u8]]) = match column {
        SealedColumn::Unnamed => ("record", &[]),
        SealedColumn::Credentials => ("session", &[&claim, b"credentials", b"live"]),
        SealedColumn::Outbox => ("session", &[&claim, b"outbox", b"closed"]),
    };
    let bound = [&[provider, tenant, token_id, &epoch, &base, &fence], column].concat();
    with(&AeadContext { label, key_context: &[tenant], associated_data: &bound })
}

#[cfg(test)]
mod tests;
