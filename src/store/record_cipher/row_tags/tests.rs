use super::*;
use crate::key::{ProviderName, SessionKey};
use crate::seal::MasterKey;

fn id(tenant: &str) -> SessionId {
    let key = SessionKey::new(tenant, "d").unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

fn cipher(number: u32) -> RecordCipher {
    RecordCipher::with_keys(Some(KeyRing::new(number, MasterKey::from([7; 32]))))
}

#[test]
fn a_tag_holds_for_its_session_and_its_data_alone_and_names_its_key() {
    let (own, one) = (id("t"), cipher(1));
    let mut tags = RowTags::default();
    let tag = tags.tag(&one, &own, None, b"data").unwrap().unwrap();
    tags.check(&one, &own, b"data", Some(&tag)).unwrap();
    let altered = Err(SealFault::Altered);
    assert_eq!(tags.check(&one, &own, b"datb", Some(&tag)), altered);
    assert_eq!(tags.check(&one, &id("u"), b"data", Some(&tag)), altered);
    for no_tag in [None, Some(&tag[..ROW_TAG_BYTES - 1]), Some(&tag[..3]), Some(&[][..])] {
        assert_eq!(tags.check(&one, &own, b"data", no_tag), altered);
    }
    let other = tags.check(&cipher(2), &own, b"data", Some(&tag));
    assert_eq!(other, Err(SealFault::KeyMissing(1)));
    let by_another = tags.tag(&cipher(2), &own, Some(1), b"data").unwrap().unwrap();
    assert_eq!(by_another[..4], [0, 0, 0, 2], "the ring has no key 1");
    assert_eq!(tags.tag(&RecordCipher::Plaintext, &own, None, b"data").unwrap(), None);
    assert_eq!(tags.check(&RecordCipher::Plaintext, &own, b"data", None), Ok(()));
    let generated = RecordCipher::with_keys(Some(KeyRing::generate().unwrap()));
    assert_eq!(tags.tag(&generated, &own, None, b"data"), Err(SealFault::GeneratedKeys));
}

#[test]
fn another_key_of_the_same_number_gives_other_tags_at_once() {
    let ring = KeyRing::new(1, MasterKey::from([7; 32]));
    let (cipher, mut tags) = (RecordCipher::with_keys(Some(ring.clone())), RowTags::default());
    let tag = tags.tag(&cipher, &id("t"), None, b"data").unwrap().unwrap();
    tags.check(&cipher, &id("t"), b"data", Some(&tag)).unwrap();
    ring.reload(KeyRing::new(1, MasterKey::from([8; 32])));
    let altered = tags.check(&cipher, &id("t"), b"data", Some(&tag));
    assert_eq!(altered, Err(SealFault::Altered));
}

#[test]
fn more_tenants_than_are_remembered_have_their_tags_too() {
    let (cipher, mut tags) = (cipher(1), RowTags::default());
    for number in 0..MAX_CACHED_KEYS * 2 {
        let id = id(&format!("t{number}"));
        let tag = tags.tag(&cipher, &id, None, b"data").unwrap().unwrap();
        tags.check(&cipher, &id, b"data", Some(&tag)).unwrap();
    }
    assert!(tags.keys.len() <= MAX_CACHED_KEYS);
}
