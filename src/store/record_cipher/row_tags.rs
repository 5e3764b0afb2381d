//! Tags over what stays in clear of a record.

use std::collections::HashMap;

use super::{RecordCipher, SealFault};
use crate::key::{SessionId, Tenant};
use crate::seal::{AeadContext, KeyRing, KeysId, MacKey, TAG_BYTES};

/// The bytes of a tag with the number of its key.
pub(crate) const ROW_TAG_BYTES: usize = NUMBER_BYTES + TAG_BYTES;

const NUMBER_BYTES: usize = 4;

/// How many tenants' keys are remembered. Defaults to 1,024, some 300 KB: to derive one takes
/// longer than to use it.
const MAX_CACHED_KEYS: usize = 1024;

/// Gives tags and checks them, with a key for each tenant.
#[derive(Default)]
pub(crate) struct RowTags {
    /// Which ring the keys are of.
    cached_for: KeysId,
    /// The number of the master key, and what was derived of it.
    keys: HashMap<Tenant, (u32, MacKey)>,
}

impl RowTags {
    /// A tag for what stays in clear of this session: the number of its key, and the tag. By the
    /// key `number`, or by the one that seals where the ring has no such key. None where nothing is
    /// sealed.
    pub(crate) fn tag(
        &mut self,
        cipher: &RecordCipher,
        id: &SessionId,
        number: Option<u32>,
        data: &[u8],
    ) -> Result<Option<[u8; ROW_TAG_BYTES]>, SealFault> {
        let Some(ring) = cipher.persistent_ring()? else { return Ok(None) };
        let sealing = ring.sealing_number();
        let mut tag = [0; ROW_TAG_BYTES];
        let (head, rest) = tag.split_at_mut(NUMBER_BYTES);
        for number in [number.unwrap_or(sealing), sealing] {
            if let Some(key) = self.key(&ring, number, id) {
                head.copy_from_slice(&number.to_be_bytes());
                rest.copy_from_slice(&key.tag(data));
                return Ok(Some(tag));
            }
        }
        Err(SealFault::NoKeys)
    }

    /// Refuses what has another tag than [`tag`](Self::tag) gave.
    pub(crate) fn check(
        &mut self,
        cipher: &RecordCipher,
        id: &SessionId,
        data: &[u8],
        tag: Option<&[u8]>,
    ) -> Result<(), SealFault> {
        let Some(ring) = cipher.ring()? else { return Ok(()) };
        let (number, tag) = tag.and_then(<[u8]>::split_first_chunk).ok_or(SealFault::Altered)?;
        let number = u32::from_be_bytes(*number);
        let key = self.key(&ring, number, id).ok_or(SealFault::KeyMissing(number))?;
        if key.verify(data, tag) { Ok(()) } else { Err(SealFault::Altered) }
    }

    /// Each tenant has a key of its own.
    fn key(&mut self, ring: &KeyRing, number: u32, id: &SessionId) -> Option<&MacKey> {
        let current = ring.keys_id();
        if self.cached_for != current {
            (self.cached_for, self.keys) = (current, HashMap::new());
        }
        let tenant = id.key().tenant();
        if self.keys.get(tenant).is_none_or(|(of, _)| *of != number) {
            let context = tenant.as_str().as_bytes();
            let key = ring.mac_key(
                number,
                &AeadContext { label: "row", key_context: &[context], associated_data: &[] },
            )?;
            if self.keys.len() >= MAX_CACHED_KEYS {
                self.keys.clear();
            }
            self.keys.insert(tenant.clone(), (number, key));
        }
        self.keys.get(tenant).map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests;
