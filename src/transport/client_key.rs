//! The private key of an OAuth 2.0 client.

use std::fmt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{Signer, SigningKey};

use super::{crypto_provider, invalid};
use crate::error::Result;
use crate::secret::Secret;

/// A private key that can sign: of TLS handshakes with a client certificate, and of client
/// assertions. `Debug` prints nothing of it.
#[derive(Clone)]
pub(crate) struct ClientKey(Arc<dyn SigningKey>);

impl ClientKey {
    /// Reads a key in PEM: PKCS#8 (RFC 5958), SEC1 (RFC 5915) or PKCS#1 (RFC 8017).
    ///
    /// The causes are dropped, because they may quote the text.
    pub(crate) fn from_pem(pem: &Secret) -> Result<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| {
            invalid(
                "`client_key` has no private key in PEM that can be read; give one that is not \
                 encrypted, for example PKCS#8, which begins with `-----BEGIN PRIVATE KEY-----`",
            )
        })?;
        let key = crypto_provider().key_provider.load_private_key(der).map_err(|_| {
            invalid(
                "`client_key` is not a key that can sign; give an RSA key of at least 2048 bits, \
                 an EC key of the curve P-256, P-384 or P-521, or an Ed25519 key",
            )
        })?;
        Ok(Self(key))
    }

    /// A signer of this scheme; None if the key is of another kind.
    pub(crate) fn signer(&self, scheme: SignatureScheme) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(&[scheme])
    }

    pub(super) fn signing_key(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
