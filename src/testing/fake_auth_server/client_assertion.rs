//! Verifies the JWT by which a client authenticates (RFC 7523 section 3), with the algorithm ES256.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::transport::crypto_provider;

/// The public key of a client.
#[derive(Clone)]
pub(super) struct PublicKey {
    /// The point of the curve, uncompressed.
    point: Vec<u8>,
}

/// What an assertion says.
#[derive(Deserialize)]
pub(super) struct Claims {
    /// The client.
    pub(super) iss: String,
    sub: String,
    aud: String,
    pub(super) jti: String,
    exp: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

impl PublicKey {
    /// Reads a key of the curve P-256 in PEM (RFC 5480 section 2).
    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
        let point = info.strip_prefix(P256)?.to_vec();
        (point.len() == POINT).then_some(Self { point })
    }

    /// Whether this key signed the assertion.
    pub(super) fn has_signed(&self, assertion: &str) -> bool {
        let verified = || {
            let (message, signature) = assertion.rsplit_once('.')?;
            let header: Header = part(assertion.split('.').next()?)?;
            let signature = der(&URL_SAFE_NO_PAD.decode(signature).ok()?)?;
            let algorithms = crypto_provider().signature_verification_algorithms.mapping;
            let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
            let (_, algorithms) = algorithms.iter().find(|(found, _)| *found == scheme)?;
            let verified =
                algorithms.first()?.verify_signature(&self.point, message.as_bytes(), &signature);
            Some(header.alg == "ES256" && verified.is_ok())
        };
        verified().unwrap_or(false)
    }
}

impl Claims {
    pub(super) fn read(assertion: &str) -> Option<Self> {
        part(assertion.split('.').nth(1)?)
    }

    /// Whether the assertion is for one of these audiences and not expired. Its client and its
    /// signature are not checked.
    pub(super) fn are_valid(&self, audiences: &[&str], now: SystemTime) -> bool {
        let ends = UNIX_EPOCH + Duration::from_secs(self.exp);
        let left = ends.duration_since(now).unwrap_or_default();
        audiences.contains(&self.aud.as_str()) && !left.is_zero() && left <= LONGEST
    }

    /// Whether the issuer speaks for itself, as a client does that authenticates.
    pub(super) fn is_of_issuer(&self) -> bool {
        self.iss == self.sub
    }
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// The two numbers of a signature in DER (RFC 3279 section 2.2.3).
fn der(fixed: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = fixed.split_at_checked(32).filter(|(_, s)| s.len() == 32)?;
    let mut numbers = integer(r);
    numbers.extend(integer(s));
    let mut der = vec![0x30, u8::try_from(numbers.len()).ok()?];
    der.extend(numbers);
    Some(der)
}

fn integer(number: &[u8]) -> Vec<u8> {
    let from = number.iter().position(|byte| *byte != 0).unwrap_or(number.len() - 1);
    let mut digits = number.get(from..).unwrap_or_default().to_vec();
    if digits.first().is_some_and(|first| *first >= 128) {
        digits.insert(0, 0);
    }
    // At most 33.
    let mut der = vec![2, u8::try_from(digits.len()).unwrap_or_default()];
    der.append(&mut digits);
    der
}

/// What every key of the curve P-256 begins with: the algorithm, and the start of the bit string.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The bytes of a point.
const POINT: usize = 65;

/// An assertion that is valid for longer is refused, as servers do.
const LONGEST: Duration = Duration::from_secs(300);
