use super::*;
use crate::key::{ProviderName, SessionKey};
use crate::seal::MasterKey;
use crate::store::ClaimId;
use crate::token::Tokens;

const MADE: Attempt = Attempt { base: 3, fence: 7, claim: ClaimId(9) };
const LIVE: SealedColumn = SealedColumn::Credentials;

fn id(provider: &str, tenant: &str, token_id: &str) -> SessionId {
    let key = SessionKey::new(tenant, token_id).unwrap();
    SessionId::new(ProviderName::new(provider).unwrap(), key)
}

fn cipher(number: u32) -> RecordCipher {
    RecordCipher::with_keys(Some(KeyRing::new(number, MasterKey::from([7; 32]))))
}

fn credentials() -> Credentials {
    let tokens =
        Tokens::new(Arc::from("{}")).with_access_token("at", None).with_refresh_token("rt", None);
    Credentials::new(tokens, "https://a", "c")
}

#[test]
fn a_record_opens_at_its_own_place_alone() {
    let (cipher, own) = (cipher(1), id("p", "t", "d"));
    let sealed = cipher.seal(&own, (2, MADE), LIVE, &credentials()).unwrap();
    let open = |id: &SessionId, at, sealed: &SealedCredentials| {
        cipher.open(id, at, sealed).map(|credentials| credentials.client().to_owned())
    };
    assert_eq!(open(&own, (2, MADE), &sealed).unwrap(), "c");
    for other in [id("q", "t", "d"), id("p", "u", "d"), id("p", "t", "e"), id("pt", "d", "d")] {
        assert_eq!(open(&other, (2, MADE), &sealed), Err(SealFault::Altered), "{other}");
    }
    assert_eq!(open(&own, (3, MADE), &sealed), Err(SealFault::Altered));
    for made in [
        Attempt { base: 4, ..MADE },
        Attempt { fence: 8, ..MADE },
        Attempt { claim: ClaimId(8), ..MADE },
    ] {
        assert_eq!(open(&own, (2, made), &sealed), Err(SealFault::Altered));
    }
    for column in [SealedColumn::Unnamed, SealedColumn::Outbox] {
        let moved = SealedCredentials { column, bytes: Arc::clone(&sealed.bytes) };
        assert_eq!(open(&own, (2, MADE), &moved), Err(SealFault::Altered), "{column:?}");
    }
    let ring = cipher.ring().unwrap().unwrap();
    for (column, class) in [("credentials", "live"), ("outbox", "live"), ("credentials", "closed")]
    {
        let [epoch, base, fence, claim] = [2, 3, 7, 9].map(u64::to_be_bytes);
        let bound = [&b"p"[..], b"t", b"d", &epoch, &base, &fence, &claim];
        let bound = [&bound[..], &[column.as_bytes(), class.as_bytes()]].concat();
        let context =
            AeadContext { label: "session", key_context: &[b"t"], associated_data: &bound };
        let opened = ring.open(&context, &sealed.bytes).map(drop);
        let own = (column, class) == ("credentials", "live");
        assert_eq!(opened, if own { Ok(()) } else { Err(OpenFault::Altered) });
    }
}

#[test]
fn a_missing_key_is_told_by_its_number_and_not_as_damage() {
    let own = id("p", "t", "d");
    let sealed = cipher(1).seal(&own, (2, MADE), LIVE, &credentials()).unwrap();
    assert_eq!(sealed.key_number(), Some(1));
    let fault = cipher(2).open(&own, (2, MADE), &sealed).unwrap_err();
    assert_eq!(fault, SealFault::KeyMissing(1));
    assert_eq!(StoreError::from(fault).kind(), StoreErrorKind::Sealed);
}

#[test]
fn generated_keys_seal_no_record_in_whatever_way_they_come() {
    let (own, ring) = (id("p", "t", "d"), KeyRing::new(1, MasterKey::from([7; 32])));
    let cipher = RecordCipher::with_keys(None);
    let seal =
        |cipher: &RecordCipher| cipher.seal(&own, (2, MADE), LIVE, &credentials()).map(|_| ());
    assert_eq!(seal(&cipher), Err(SealFault::NoKeys));
    assert_eq!(
        cipher.set_supervisor_keys(&KeyRing::generate().unwrap()),
        Err(SealFault::GeneratedKeys)
    );
    cipher.set_supervisor_keys(&ring).unwrap();
    seal(&cipher).unwrap();
    ring.reload(KeyRing::generate().unwrap());
    assert_eq!(seal(&cipher), Err(SealFault::GeneratedKeys));
    let generated = RecordCipher::with_keys(Some(KeyRing::generate().unwrap()));
    assert_eq!(generated.set_supervisor_keys(&ring), Err(SealFault::GeneratedKeys));
}

#[test]
fn a_key_of_zero_bytes_seals_no_record() {
    let zero = KeyRing::new(1, MasterKey::from([0; 32]));
    assert_eq!(RecordCipher::with_keys(None).set_supervisor_keys(&zero), Err(SealFault::WeakKey));
    let cipher = RecordCipher::with_keys(Some(zero));
    let sealed = cipher.seal(&id("p", "t", "d"), (2, MADE), LIVE, &credentials());
    assert_eq!(sealed.unwrap_err(), SealFault::WeakKey);
}

#[test]
fn a_stores_own_keys_are_not_replaced_by_the_supervisors() {
    let (own, cipher) = (id("p", "t", "d"), cipher(5));
    cipher.set_supervisor_keys(&KeyRing::generate().unwrap()).unwrap();
    assert_eq!(cipher.seal(&own, (2, MADE), LIVE, &credentials()).unwrap().key_number(), Some(5));
}
