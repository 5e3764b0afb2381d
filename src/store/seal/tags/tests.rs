use super::*;
use crate::key::{ProviderName, SessionKey};
use crate::seal::MasterKey;

fn id(tenant: &str) -> SessionId {
    let key = SessionKey::new(tenant, "d").unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

fn vault(number: u32) -> Vault {
    Vault::sealing(Some(KeyRing::new(number, MasterKey::from([7; 32]))))
}

#[test]
fn a_tag_holds_for_its_session_and_its_data_alone_and_names_its_key() {
    let (own, one) = (id("t"), vault(1));
    let mut tags = Tags::default();
    let tag = tags.tag(&one, &own, None, b"data").unwrap().unwrap();
    tags.check(&one, &own, b"data", Some(&tag)).unwrap();
    let altered = Err(SealFault::Altered);
    assert_eq!(tags.check(&one, &own, b"datb", Some(&tag)), altered);
    assert_eq!(tags.check(&one, &id("u"), b"data", Some(&tag)), altered);
    for no_tag in [None, Some(&tag[..MAC_BYTES - 1]), Some(&tag[..3]), Some(&[][..])] {
        assert_eq!(tags.check(&one, &own, b"data", no_tag), altered);
    }
    let other = tags.check(&vault(2), &own, b"data", Some(&tag));
    assert_eq!(other, Err(SealFault::KeyMissing(1)));
    let by_another = tags.tag(&vault(2), &own, Some(1), b"data").unwrap().unwrap();
    assert_eq!(by_another[..4], [0, 0, 0, 2], "the ring has no key 1");
    assert_eq!(tags.tag(&Vault::Open, &own, None, b"data").unwrap(), None);
    assert_eq!(tags.check(&Vault::Open, &own, b"data", None), Ok(()));
    let generated = Vault::sealing(Some(KeyRing::generate().unwrap()));
    assert_eq!(tags.tag(&generated, &own, None, b"data"), Err(SealFault::GeneratedKeys));
}

#[test]
fn another_key_of_the_same_number_gives_other_tags_at_once() {
    let ring = KeyRing::new(1, MasterKey::from([7; 32]));
    let (vault, mut tags) = (Vault::sealing(Some(ring.clone())), Tags::default());
    let tag = tags.tag(&vault, &id("t"), None, b"data").unwrap().unwrap();
    tags.check(&vault, &id("t"), b"data", Some(&tag)).unwrap();
    ring.reload(KeyRing::new(1, MasterKey::from([8; 32])));
    let altered = tags.check(&vault, &id("t"), b"data", Some(&tag));
    assert_eq!(altered, Err(SealFault::Altered));
}

#[test]
fn more_tenants_than_are_remembered_have_their_tags_too() {
    let (vault, mut tags) = (vault(1), Tags::default());
    for number in 0..REMEMBERED * 2 {
        let id = id(&format!("t{number}"));
        let tag = tags.tag(&vault, &id, None, b"data").unwrap().unwrap();
        tags.check(&vault, &id, b"data", Some(&tag)).unwrap();
    }
    assert!(tags.keys.len() <= REMEMBERED);
}
