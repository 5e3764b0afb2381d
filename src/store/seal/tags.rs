//! Tags over what stays in clear of a record.

use std::collections::HashMap;

use super::{SealFault, Vault};
use crate::key::{SessionId, Tenant};
use crate::seal::{Had, KeyRing, Place, TAG_BYTES, TagKey};

/// The bytes of a tag with the number of its key.
pub(crate) const MAC_BYTES: usize = NUMBER_BYTES + TAG_BYTES;

const NUMBER_BYTES: usize = 4;

/// How many tenants' keys are remembered. Defaults to 1,024, some 300 KB: to derive one takes
/// longer than to use it.
const REMEMBERED: usize = 1024;

/// Gives tags and checks them, with a key for each tenant.
#[derive(Default)]
pub(crate) struct Tags {
    /// Which ring the keys are of.
    had: Had,
    /// The number of the master key, and what was derived of it.
    keys: HashMap<Tenant, (u32, TagKey)>,
}

impl Tags {
    /// A tag for what stays in clear of this session: the number of its key, and the tag. By the
    /// key `number`, or by the one that seals where the ring has no such key. None where nothing is
    /// sealed.
    pub(crate) fn tag(
        &mut self,
        vault: &Vault,
        id: &SessionId,
        number: Option<u32>,
        data: &[u8],
    ) -> Result<Option<[u8; MAC_BYTES]>, SealFault> {
        let Some(ring) = vault.lasting_ring()? else { return Ok(None) };
        let sealing = ring.sealing();
        let mut tag = [0; MAC_BYTES];
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
        vault: &Vault,
        id: &SessionId,
        data: &[u8],
        tag: Option<&[u8]>,
    ) -> Result<(), SealFault> {
        let Some(ring) = vault.ring()? else { return Ok(()) };
        let (number, tag) = tag.and_then(<[u8]>::split_first_chunk).ok_or(SealFault::Altered)?;
        let number = u32::from_be_bytes(*number);
        let key = self.key(&ring, number, id).ok_or(SealFault::KeyMissing(number))?;
        if key.is_tag(data, tag) { Ok(()) } else { Err(SealFault::Altered) }
    }

    /// Each tenant has a key of its own.
    fn key(&mut self, ring: &KeyRing, number: u32, id: &SessionId) -> Option<&TagKey> {
        let had = ring.has();
        if self.had != had {
            (self.had, self.keys) = (had, HashMap::new());
        }
        let tenant = id.key().tenant();
        if self.keys.get(tenant).is_none_or(|(of, _)| *of != number) {
            let context = tenant.as_str().as_bytes();
            let key =
                ring.tag_key(number, &Place { label: "row", context: &[context], bound: &[] })?;
            if self.keys.len() >= REMEMBERED {
                self.keys.clear();
            }
            self.keys.insert(tenant.clone(), (number, key));
        }
        self.keys.get(tenant).map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests;
