//! TLS for the transport: the cryptography that the features choose, and the trusted roots.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::invalid;
use super::roots::{self, TlsError};
use crate::error::{Error, Result};

/// TLS 1.2 or later, for HTTP/1.1. The features of this crate choose the cryptography: a provider
/// that the program installed for rustls as its default is neither used nor replaced.
pub(super) fn client_config(added: &[CertificateDer<'static>]) -> Result<ClientConfig> {
    let mut config = verifying_config(added)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// TLS 1.2 or later, with the system's roots and these, for any protocol.
pub(crate) fn verifying_config(added: &[CertificateDer<'static>]) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|cause| unusable(cause.into()))?;
    Ok(roots::trust(builder, added).map_err(unusable)?.with_no_client_auth())
}

/// The certificates in this PEM (RFC 7468). Fails if there is none, or one that cannot be read.
pub(crate) fn read_roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = || invalid("the root certificates cannot be read; give certificates in PEM");
    let found = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let found = found.map_err(|cause| unreadable().with_source(cause))?;
    if found.is_empty() {
        return Err(unreadable());
    }
    for root in &found {
        let added = RootCertStore::empty().add(root.clone());
        added.map_err(|cause| unreadable().with_source(cause))?;
    }
    Ok(found)
}

fn unusable(cause: TlsError) -> Error {
    match cause {
        TlsError::NoRoots => {
            invalid("the system has no root certificates; give some with `root_certificate_pem`")
        }
        TlsError::Rustls(cause) => {
            invalid("TLS cannot be set up, so see the cause of this error").with_source(cause)
        }
    }
}

/// AWS-LC if both are enabled, because a program that enables it may be obliged to use it.
#[cfg(feature = "tls-aws-lc")]
pub(crate) fn crypto_provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
pub(crate) fn crypto_provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
pub(crate) fn crypto_provider() -> CryptoProvider {
    compile_error!(
        "session-warden needs a TLS feature: enable `tls-ring`, which is a default feature, or `tls-aws-lc`"
    )
}
