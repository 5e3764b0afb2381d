//! The JWT by which a client authenticates (RFC 7523 section 2.2).

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::ecdsa_signature;
use super::settings::{PrivateKeyJwt, SigningAlgorithm};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::CLIENT_ASSERTION_LIFE;
use crate::secret::Secret;
use crate::transport::ClientKey;

/// Signs the assertions of one client.
pub(super) struct AssertionSigner {
    key: ClientKey,
    settings: PrivateKeyJwt,
}

impl AssertionSigner {
    /// Fails if the key cannot be read, or is not of the algorithm's kind.
    pub(super) fn new(settings: PrivateKeyJwt, pem: &Secret) -> Result<Self> {
        let key = ClientKey::from_pem(pem)?;
        if key.signer(scheme(settings.algorithm)).is_none() {
            let needed = match settings.algorithm {
                SigningAlgorithm::Es256 => "an EC key of the curve P-256, which ES256 needs",
                SigningAlgorithm::Rs256 => "an RSA key, which RS256 needs",
                SigningAlgorithm::Ps256 => "an RSA key, which PS256 needs",
                SigningAlgorithm::EdDsa => "an Ed25519 key, which EdDSA needs",
            };
            return Err(Error::new(ErrorKind::InvalidInput)
                .about(format!("`client_key` is not {needed}; correct the key or `algorithm`")));
        }
        Ok(Self { key, settings })
    }

    /// A new assertion (RFC 7523 section 3). `audience` applies if the settings have none.
    pub(super) fn sign(
        &self,
        client_id: &str,
        audience: &str,
        now: SystemTime,
    ) -> Result<Zeroizing<String>> {
        let audience = self.settings.audience.as_deref().unwrap_or(audience);
        self.signed(&Value::Object(new_claims([client_id, client_id, audience], now)))
    }

    /// The JWT of these claims, signed as RFC 7515 section 5.1 says.
    pub(super) fn signed(&self, claims: &Value) -> Result<Zeroizing<String>> {
        let mut header = json!({ "alg": self.settings.algorithm, "typ": "JWT" });
        if let Some(kid) = &self.settings.kid {
            header["kid"] = kid.as_str().into();
        }
        let [header, claims] =
            [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signature =
            self.signature(format!("{header}.{claims}").as_bytes()).ok_or_else(|| {
                Error::new(ErrorKind::Misconfigured)
                    .about("the client's key made no signature; replace `client_key`")
            })?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(Zeroizing::new([header, claims, signature].join(".")))
    }

    /// The signature in the form of RFC 7518 section 3, or RFC 8037 section 3.1.
    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let algorithm = self.settings.algorithm;
        let signature = self.key.signer(scheme(algorithm))?.sign(message).ok()?;
        match algorithm {
            SigningAlgorithm::Es256 => ecdsa_signature::fixed(&signature).map(Vec::from),
            SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 | SigningAlgorithm::EdDsa => {
                Some(signature)
            }
        }
    }
}

/// The claims of a new JWT (RFC 7523 section 3) with this issuer, subject and audience.
pub(super) fn new_claims(
    [issuer, subject, audience]: [&str; 3],
    now: SystemTime,
) -> Map<String, Value> {
    let issued = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims: [(&str, Value); 6] = [
        ("iss", issuer.into()),
        ("sub", subject.into()),
        ("aud", audience.into()),
        ("jti", Uuid::new_v4().to_string().into()),
        ("iat", issued.into()),
        ("exp", (issued + CLIENT_ASSERTION_LIFE.as_secs()).into()),
    ];
    claims.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// The name of the same algorithm in TLS (RFC 8446 section 4.2.3).
fn scheme(algorithm: SigningAlgorithm) -> SignatureScheme {
    match algorithm {
        SigningAlgorithm::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        SigningAlgorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
        SigningAlgorithm::Ps256 => SignatureScheme::RSA_PSS_SHA256,
        SigningAlgorithm::EdDsa => SignatureScheme::ED25519,
    }
}
