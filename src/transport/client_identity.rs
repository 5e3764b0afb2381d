//! A client certificate with its key, with which a client identifies itself in the TLS handshake
//! (RFC 8705 section 2).

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};

use super::client_key::ClientKey;
use super::http_client::HttpClientParts;
use super::invalid;
use crate::error::{Error, Result};

/// A client certificate with its key, and the HTTP clients that present it. A request that has it
/// among its extensions is sent with the certificate.
#[derive(Clone)]
pub(crate) struct ClientIdentity(Arc<Identity>);

struct Identity {
    certificate: Arc<CertifiedKey>,
    /// The client for each transport, made when it is first needed. They are kept here, so that
    /// they end with the provider. A client of one transport never serves another one, whose rules
    /// of addresses differ.
    clients: Mutex<Vec<(Weak<HttpClientParts>, reqwest::Client)>>,
}

impl ClientIdentity {
    /// `chain` has the certificate of the key in PEM, and after it those of the authorities that
    /// the server may not have.
    pub(crate) fn new(chain: &str, key: &ClientKey) -> Result<Self> {
        let found = CertificateDer::pem_slice_iter(chain.as_bytes());
        // The cause is dropped: it may quote the text, and a key may be there by mistake.
        let found = found.collect::<Result<Vec<_>, _>>().map_err(|_| unreadable())?;
        if found.is_empty() {
            return Err(unreadable());
        }
        for certificate in &found {
            ParsedCertificate::try_from(certificate)
                .map_err(|cause| unreadable().with_source(cause))?;
        }
        let certificate = CertifiedKey::new(found, key.signing_key());
        match certificate.keys_match() {
            Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                return Err(invalid(
                    "`client_key` does not belong to the first certificate of \
                     `client_certificate`; give the two that belong together",
                ));
            }
        }
        let (certificate, clients) = (Arc::new(certificate), Mutex::default());
        Ok(Self(Arc::new(Identity { certificate, clients })))
    }

    /// The HTTP client of the transport with these parts.
    pub(super) fn client(
        &self,
        parts: &Arc<HttpClientParts>,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let mut clients = self.0.clients.lock();
        clients.retain(|(of, _)| of.strong_count() > 0);
        let own = clients.iter().find(|(of, _)| of.as_ptr() == Arc::as_ptr(parts));
        if let Some((_, client)) = own {
            return Ok(client.clone());
        }
        let client = parts.client(Some(&self.0.certificate))?;
        clients.push((Arc::downgrade(parts), client.clone()));
        Ok(client)
    }
}

fn unreadable() -> Error {
    invalid(
        "`client_certificate` has no certificate in PEM that can be read; give the certificate, \
         which begins with `-----BEGIN CERTIFICATE-----`, and after it those of its authorities",
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::secret::Secret;
    use crate::transport::{Transport, TransportConfig};

    fn transport() -> Transport {
        Transport::new(&TransportConfig::default()).unwrap()
    }

    #[test]
    fn each_transport_has_its_own_client_until_it_ends() {
        let key = KeyPair::generate().unwrap();
        let chain = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let key = ClientKey::from_pem(&Secret::from(key.serialize_pem())).unwrap();
        let identity = ClientIdentity::new(&chain.pem(), &key).unwrap();
        let (first, second) = (transport(), transport());
        let clients = |identity: &ClientIdentity| identity.0.clients.lock().len();
        for _ in 0..3 {
            identity.client(&first.parts).unwrap();
        }
        assert_eq!(clients(&identity), 1);
        identity.clone().client(&second.parts).unwrap();
        assert_eq!(clients(&identity), 2);
        drop(first);
        identity.client(&second.parts).unwrap();
        assert_eq!(clients(&identity), 1);
    }
}
