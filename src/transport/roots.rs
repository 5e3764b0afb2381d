//! The root certificates that the transport trusts.

use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};

/// Trusts the operating system's roots and these: the system's own verifier knows its roots.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
pub(super) fn trust(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    added: &[CertificateDer<'static>],
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    use std::sync::Arc;

    use rustls_platform_verifier::Verifier;

    let provider = Arc::clone(builder.crypto_provider());
    let verifier = if added.is_empty() {
        Verifier::new(provider)?
    } else {
        Verifier::new_with_extra_roots(added.iter().cloned(), provider)?
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
}

/// Trusts the operating system's roots and these, and none that `SSL_CERT_FILE` or `SSL_CERT_DIR`
/// names: anybody who can set a variable could read all tokens.
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(super) fn trust(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    added: &[CertificateDer<'static>],
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    // Some systems have certificates that no verifier can read.
    roots.add_parsable_certificates(system::roots());
    for root in added {
        roots.add(root.clone())?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(builder.with_root_certificates(roots))
}

/// Why there is no TLS client.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("there are no root certificates")]
    NoRoots,
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

#[cfg(all(unix, not(target_vendor = "apple")))]
mod system {
    use std::collections::HashSet;
    use std::path::Path;

    use rustls::pki_types::CertificateDer;
    use rustls_native_certs::load_certs_from_paths;

    /// Reads the files that exist, as OpenSSL does.
    pub(super) fn roots() -> HashSet<CertificateDer<'static>> {
        let file = FILES.iter().map(Path::new).find(|file| file.exists());
        let file = file.map(|file| load_certs_from_paths(Some(file), None).certs);
        let directories = DIRECTORIES.iter().map(Path::new).filter(|directory| directory.exists());
        let directories = directories.map(|path| load_certs_from_paths(None, Some(path)).certs);
        file.into_iter().chain(directories).flatten().collect()
    }

    /// The first existing file is read.
    const FILES: &[&str] = &[
        "/etc/ssl/certs/ca-certificates.crt", // Debian, Gentoo, NixOS
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
        "/etc/pki/tls/certs/ca-bundle.crt",   // older ones of these
        "/etc/ssl/ca-bundle.pem",             // SUSE
        "/etc/pki/tls/cacert.pem",            // OpenELEC
        "/etc/ssl/cert.pem",                  // Alpine, OpenBSD
        "/opt/etc/ssl/certs/ca-certificates.crt", // Entware
        "/usr/local/etc/ssl/cert.pem",        // FreeBSD
        "/usr/local/share/certs/ca-root-nss.crt", // DragonFly
        "/etc/openssl/certs/ca-certificates.crt", // NetBSD
        "/etc/certs/ca-certificates.crt",     // illumos, Solaris
    ];

    /// All existing directories are read.
    const DIRECTORIES: &[&str] = &[
        "/etc/ssl/certs",
        "/etc/pki/tls/certs",
        "/usr/local/share/certs",
        "/etc/openssl/certs",
        "/etc/certs/CA",
    ];
}
