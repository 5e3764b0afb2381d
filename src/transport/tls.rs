//! TLS for the transport: the cryptography that the features choose, and the trusted roots.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

use super::roots::{self, TlsError};

/// TLS 1.2 or later, for HTTP/1.1. The features of this crate choose the cryptography: a provider
/// that the program installed for rustls as its default is neither used nor replaced.
pub(super) fn client_config(added: &[CertificateDer<'static>]) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()?;
    let mut config = roots::trust(builder, added)?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
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
