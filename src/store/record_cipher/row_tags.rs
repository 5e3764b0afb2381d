//! The tags that authenticate rows.

use std::collections::HashMap;

use super::{RecordCipher, SealFault};
use crate::key::{SessionId, Tenant};
use crate::seal::{AeadContext, KeyRing, KeysId, MacKey, TAG_BYTES};

/// The length of a tag with the number of its key.
pub(crate) const ROW_TAG_BYTES: usize = NUMBER_BYTES + TAG_BYTES;

const NUMBER_BYTES: usize = 4;

/// How many tenants' keys are cached. Defaults to 1,024, some 300 KB: to derive a key takes longer
/// than to use it.
const MAX_CACHED_KEYS: usize = 1024;

/// Makes and checks tags, with a key for each tenant.
#[derive(Default)]
pub(crate) struct RowTags {
    /// The keys of the ring from which the cached keys were derived.
    cached_for: KeysId,
    /// The number of the master key, and the key that was derived from it.
    keys: HashMap<Tenant, (u32, MacKey)>,
}

impl RowTags {
    /// The tag over this session's row, after the number of its key. Made with the key `number`, or
    /// with the sealing key if the ring has no such key. `None` if nothing is sealed.
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

    /// Fails if the tag is not the one that [`tag`](Self::tag) makes.
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

    /// The key of the session's tenant.
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
