//! What stores on a disk do alike to encrypt their records with a new key.

use parking_lot::Mutex;

use super::record_cipher::{RecordCipher, SealedColumn, SealedCredentials};
use super::{Record, StaleKey, StoreResult};
use crate::key::SessionId;
use crate::log::{LogLimit, log_session};
use crate::seal::Succession;

/// Where the next page of records to be encrypted again begins. `P` names a record.
#[derive(Clone)]
pub(super) struct ResealPosition<P> {
    succession: Succession,
    /// One of those that the succession is from.
    pub(super) key: u32,
    /// The last record that was seen; `None` at the start of the key.
    pub(super) after: Option<P>,
}

/// Where the pages of one store continue; `None` for the start.
pub(super) struct ResealPositions<P>(Mutex<Option<ResealPosition<P>>>);

impl<P> Default for ResealPositions<P> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<P: Clone> ResealPositions<P> {
    /// Where the next page begins: where the last one ended, or at the start if the keys have
    /// changed since. `None` if no older key is left.
    pub(super) fn next(&self, cipher: &RecordCipher) -> StoreResult<Option<ResealPosition<P>>> {
        let succession = cipher.ring()?.map(|ring| ring.succession());
        let position = self.0.lock().clone();
        Ok(succession.and_then(|succession| {
            let goes_on = position.filter(|position| position.succession == succession);
            goes_on.or_else(|| ResealPosition::start(succession, None))
        }))
    }

    /// Notes that a page was done. `last` is its last record if the key may have more of them. True
    /// if all keys are done. Call this only after the page is written: if that fails, the next call
    /// tries the same page again.
    pub(super) fn advance(&self, page: ResealPosition<P>, last: Option<P>) -> bool {
        let ResealPosition { succession, key, .. } = page;
        let next = match last {
            Some(last) => Some(ResealPosition { succession, key, after: Some(last) }),
            None => ResealPosition::start(succession, Some(key)),
        };
        let ended = next.is_none();
        *self.0.lock() = next;
        ended
    }
}

impl<P> ResealPosition<P> {
    /// The start of the key after this one, or of the first.
    fn start(succession: Succession, key: Option<u32>) -> Option<Self> {
        let key = *succession.from.iter().find(|next| key.is_none_or(|key| **next > key))?;
        Some(Self { succession, key, after: None })
    }
}

/// The record's credentials, if it has any, under the sealing key. `None` if the record must stay as
/// it is.
pub(super) fn credentials_anew(
    (cipher, log_limit): (&RecordCipher, &LogLimit),
    id: &SessionId,
    record: &Record<SealedCredentials>,
) -> Option<Option<SealedCredentials>> {
    // Not the outbox of a closed session, which is gone soon, and not under a claim: its holder may
    // be about to commit newer credentials.
    if record.lease.is_some() || record.outbox.is_some() {
        return None;
    }
    let Some(old) = record.credentials.as_ref() else { return Some(None) };
    let made = (record.epoch, record.made_by?);
    match cipher.reseal(id, made, SealedColumn::Credentials, old) {
        Ok(new) => Some(Some(new)),
        Err(fault) => {
            log_session!(
                log_limit,
                warn,
                id,
                "the record could not be encrypted again, and keeps its old key",
                cause = %fault
            );
            None
        }
    }
}

/// Of these keys with the numbers of their records, those that are not the sealing key.
pub(super) fn stale_keys(
    cipher: &RecordCipher,
    keys: Vec<(u32, u64)>,
) -> StoreResult<Vec<StaleKey>> {
    let sealing = cipher.ring()?.map(|ring| ring.sealing_number());
    let stale = keys.into_iter().filter(|(number, _)| Some(*number) != sealing);
    Ok(stale.map(|(number, records)| StaleKey { number, records }).collect())
}
