//! Authentication of what stays in clear.

use std::sync::{Arc, Weak};

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::cipher::{self, Place};
use super::{KeyRing, Keys, MasterKey};

/// The bytes of a tag.
pub(crate) const TAG_BYTES: usize = 32;

/// The key of one use and context, derived as a sealing key is, under a label of its own.
#[derive(Clone)]
pub(crate) struct TagKey(Hmac<Sha256>);

/// Which keys a ring had. Keeps none of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Had(Weak<Keys>);

impl KeyRing {
    /// Which keys it has now.
    pub(crate) fn has(&self) -> Had {
        Had(Arc::downgrade(&self.keys()))
    }

    /// The key number `number` of this place's label and context; none if the ring has no such key.
    pub(crate) fn tag_key(&self, number: u32, place: &Place<'_>) -> Option<TagKey> {
        let keys = self.keys();
        // What a key of zero bytes authenticates, everybody can.
        let key = keys.get(number).filter(|key| !key.is_zero())?;
        derive(key, place)
    }
}

impl PartialEq for Had {
    fn eq(&self, other: &Self) -> bool {
        // While one of them is kept, nothing else is in its place.
        Weak::ptr_eq(&self.0, &other.0)
    }
}

impl TagKey {
    pub(crate) fn tag(&self, data: &[u8]) -> [u8; TAG_BYTES] {
        self.0.clone().chain_update(data).finalize().into_bytes().into()
    }

    /// Takes as long for a wrong tag as for the right one.
    pub(crate) fn is_tag(&self, data: &[u8], tag: &[u8]) -> bool {
        self.0.clone().chain_update(data).verify_slice(tag).is_ok()
    }
}

fn derive(key: &MasterKey, place: &Place<'_>) -> Option<TagKey> {
    let (mut extracted, hkdf) = Hkdf::<Sha256>::extract(Some(cipher::SALT), key.expose());
    extracted.as_mut_slice().zeroize();
    let mut derived = Zeroizing::new([0; 32]);
    hkdf.expand(&cipher::info(place), derived.as_mut_slice()).ok()?;
    Hmac::new_from_slice(&*derived).ok().map(TagKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(label: &'static str, context: &'a [&'a [u8]]) -> Place<'a> {
        Place { label, context, bound: &[] }
    }

    #[test]
    fn a_tag_holds_for_its_data_key_label_and_context_alone() {
        let ring = KeyRing::new(1, MasterKey::from([7; 32]));
        let key = |ring: &KeyRing, label, context: &[&[u8]]| {
            ring.tag_key(ring.sealing(), &place(label, context)).unwrap()
        };
        let own = key(&ring, "a", &[b"t"]);
        let tag = own.tag(b"data");
        assert!(own.is_tag(b"data", &tag));
        assert!(!own.is_tag(b"datb", &tag) && !own.is_tag(b"data", &tag[..31]));
        let other = KeyRing::new(1, MasterKey::from([8; 32]));
        for key in [key(&ring, "b", &[b"t"]), key(&ring, "a", &[b"u"]), key(&other, "a", &[b"t"])] {
            assert!(!key.is_tag(b"data", &tag));
        }
    }

    #[test]
    fn a_ring_has_other_keys_after_a_reload() {
        let ring = KeyRing::new(1, MasterKey::from([7; 32]));
        let had = ring.has();
        assert!(ring.clone().has() == had && Had::default() != had);
        ring.reload(KeyRing::new(1, MasterKey::from([8; 32])));
        assert!(ring.has() != had);
    }

    #[test]
    fn a_key_that_is_missing_or_known_to_everybody_gives_no_tags() {
        let zero = KeyRing::new(1, MasterKey::from([0; 32]));
        assert!(zero.tag_key(1, &place("a", &[])).is_none());
        let ring = KeyRing::new(1, MasterKey::from([7; 32]));
        assert!(ring.tag_key(2, &place("a", &[])).is_none());
    }
}
