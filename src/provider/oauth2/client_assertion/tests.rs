//! What an assertion says, and whether its signature is right, by another implementation.

use std::collections::HashSet;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

use super::*;

const RSA_KEY: &str = include_str!("rsa_key.pem");

/// The public part of [`RSA_KEY`] (RFC 8017 appendix A.1.1).
const RSA_PUBLIC: &[u8] = include_bytes!("rsa_public_key.der");

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn signer(settings: PrivateKeyJwt, pem: &str) -> AssertionSigner {
    AssertionSigner::new(settings, &Secret::from(pem)).unwrap()
}

fn signed(signer: &AssertionSigner) -> String {
    let signed = signer.sign("app", "https://as.example", SystemTime::UNIX_EPOCH + NOW);
    signed.unwrap().to_string()
}

/// Header and claims of an assertion whose signature is right.
fn read(
    assertion: &str,
    algorithm: &'static dyn VerificationAlgorithm,
    public: &[u8],
) -> [Value; 2] {
    let (message, signature) = assertion.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = UnparsedPublicKey::new(algorithm, public);
    key.verify(message.as_bytes(), &signature).unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    [header, claims]
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
}

#[test]
fn each_algorithm_signs_as_another_implementation_verifies() {
    let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let cases: [(_, _, String, &'static dyn VerificationAlgorithm, &[u8]); 4] = [
        (
            SigningAlgorithm::Es256,
            "ES256",
            elliptic.serialize_pem(),
            &ECDSA_P256_SHA256_FIXED,
            elliptic.public_key_raw(),
        ),
        (
            SigningAlgorithm::Rs256,
            "RS256",
            RSA_KEY.to_owned(),
            &RSA_PKCS1_2048_8192_SHA256,
            RSA_PUBLIC,
        ),
        (
            SigningAlgorithm::Ps256,
            "PS256",
            RSA_KEY.to_owned(),
            &RSA_PSS_2048_8192_SHA256,
            RSA_PUBLIC,
        ),
        (
            SigningAlgorithm::EdDsa,
            "EdDSA",
            edwards.serialize_pem(),
            &ED25519,
            edwards.public_key_raw(),
        ),
    ];
    for (algorithm, name, pem, verification, public) in cases {
        let signer = signer(PrivateKeyJwt::new(algorithm), &pem);
        // Many, because an ECDSA signature has numbers of different lengths.
        for _ in 0..64 {
            let [header, _] = read(&signed(&signer), verification, public);
            assert_eq!(header, json!({ "alg": name, "typ": "JWT" }));
        }
    }
}

#[test]
fn an_assertion_is_for_one_minute_and_one_request_and_names_client_and_audience() {
    let key = KeyPair::generate().unwrap();
    let settings = PrivateKeyJwt::new(SigningAlgorithm::Es256);
    let named = PrivateKeyJwt { kid: Some("k".to_owned()), ..settings.clone() };
    let named = PrivateKeyJwt { audience: Some("https://as.example/token".to_owned()), ..named };
    let cases =
        [(settings, None, "https://as.example"), (named, Some("k"), "https://as.example/token")];
    for (settings, kid, audience) in cases {
        let signer = signer(settings, &key.serialize_pem());
        let mut ids = HashSet::new();
        for _ in 0..3 {
            let [header, mut claims] =
                read(&signed(&signer), &ECDSA_P256_SHA256_FIXED, key.public_key_raw());
            assert_eq!(header["kid"].as_str(), kid);
            let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
            assert!(ids.insert(id.as_str().unwrap().to_owned()));
            let expected = json!({
                "iss": "app", "sub": "app", "aud": audience,
                "iat": 1_800_000_000, "exp": 1_800_000_060,
            });
            assert_eq!(claims, expected);
        }
    }
}

#[test]
fn a_key_that_is_none_or_of_another_kind_is_refused_and_not_shown() {
    let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let longer = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    let block = |kind: &str| format!("-----BEGIN {kind}-----\ncanary00\n-----END {kind}-----\n");
    let cases = [
        (SigningAlgorithm::Rs256, elliptic.clone()),
        (SigningAlgorithm::Ps256, elliptic.clone()),
        (SigningAlgorithm::EdDsa, elliptic),
        (SigningAlgorithm::Es256, longer),
        (SigningAlgorithm::Es256, RSA_KEY.to_owned()),
        (SigningAlgorithm::Es256, "canary".to_owned()),
        (SigningAlgorithm::Es256, "-----BEGIN canary".to_owned()),
        (SigningAlgorithm::Es256, block("PRIVATE KEY")),
        (SigningAlgorithm::Es256, block("ENCRYPTED PRIVATE KEY")),
        (SigningAlgorithm::Es256, block("CERTIFICATE")),
    ];
    for (algorithm, pem) in cases {
        let refused = AssertionSigner::new(PrivateKeyJwt::new(algorithm), &Secret::from(&*pem));
        let refused = refused.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        let shown = format!("{refused} {refused:?}");
        assert!(shown.contains("`client_key`"), "{shown}");
        let line = pem.lines().nth(1).unwrap_or("canary");
        assert!(!shown.contains("canary") && !shown.contains(line), "{shown}");
    }
}
