//! Authenticates data that stays in clear (HMAC-SHA256).

use std::sync::{Arc, Weak};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::cipher::{self, AeadContext};
use super::{KeyRing, Keys, MasterKey};

/// The bytes of a tag.
pub(crate) const TAG_BYTES: usize = 32;

/// The key of one use and owner, derived as a sealing key is, under a label of its own.
#[derive(Clone)]
pub(crate) struct MacKey(Hmac<Sha256>);

/// Identifies the keys that a ring had, without keeping them in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeysId(Weak<Keys>);

impl KeyRing {
    /// Identifies the keys that it has now.
    pub(crate) fn keys_id(&self) -> KeysId {
        KeysId(Arc::downgrade(&self.keys()))
    }

    /// The key of this context, derived from the master key `number`; `None` if the ring has no
    /// such key.
    pub(crate) fn mac_key(&self, number: u32, context: &AeadContext<'_>) -> Option<MacKey> {
        let keys = self.keys();
        // Anybody can make tags with a key of zero bytes.
        let key = keys.get(number).filter(|key| !key.is_zero())?;
        derive(key, context)
    }
}

impl PartialEq for KeysId {
    fn eq(&self, other: &Self) -> bool {
        // A weak reference keeps its allocation, so no other keys can get the same address.
        Weak::ptr_eq(&self.0, &other.0)
    }
}

impl MacKey {
    pub(crate) fn tag(&self, data: &[u8]) -> [u8; TAG_BYTES] {
        self.0.clone().chain_update(data).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub(crate) fn verify(&self, data: &[u8], tag: &[u8]) -> bool {
        self.0.clone().chain_update(data).verify_slice(tag).is_ok()
    }
}

fn derive(key: &MasterKey, context: &AeadContext<'_>) -> Option<MacKey> {
    let derived = cipher::derive(key, context).ok()?;
    Hmac::new_from_slice(&*derived).ok().map(MacKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context<'a>(label: &'static str, key_context: &'a [&'a [u8]]) -> AeadContext<'a> {
        AeadContext { label, key_context, associated_data: &[] }
    }

    #[test]
    fn a_tag_holds_for_its_data_key_label_and_context_alone() {
        let ring = KeyRing::new(1, MasterKey::from([7; 32]));
        let key = |ring: &KeyRing, label, key_context: &[&[u8]]| {
            ring.mac_key(ring.sealing_number(), &context(label, key_context)).unwrap()
        };
        let own = key(&ring, "a", &[b"t"]);
        let tag = own.tag(b"data");
        assert!(own.verify(b"data", &tag));
        assert!(!own.verify(b"datb", &tag) && !own.verify(b"data", &tag[..31]));
        let other = KeyRing::new(1, MasterKey::from([8; 32]));
        for key in [key(&ring, "b", &[b"t"]), key(&ring, "a", &[b"u"]), key(&other, "a", &[b"t"])] {
            assert!(!key.verify(b"data", &tag));
        }
    }

    #[test]
    fn a_ring_has_other_keys_after_a_reload() {
        let ring = KeyRing::new(1, MasterKey::from([7; 32]));
        let had = ring.keys_id();
        assert!(ring.clone().keys_id() == had && KeysId::default() != had);
        ring.reload(KeyRing::new(1, MasterKey::from([8; 32])));
        assert!(ring.keys_id() != had);
    }

    #[test]
    fn a_key_that_is_missing_or_known_to_everybody_gives_no_tags() {
        let zero = KeyRing::new(1, MasterKey::from([0; 32]));
        assert!(zero.mac_key(1, &context("a", &[])).is_none());
        let ring = KeyRing::new(1, MasterKey::from([7; 32]));
        assert!(ring.mac_key(2, &context("a", &[])).is_none());
    }
}
