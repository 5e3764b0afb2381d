//! The root certificates that the transport trusts.

use reqwest::{Certificate, ClientBuilder};

/// Trusts the operating system's roots and these. On Windows and Apple's systems the system's own
/// verifier knows its roots.
#[cfg(not(all(unix, not(target_vendor = "apple"), not(target_os = "android"))))]
pub(super) fn trust(builder: ClientBuilder, added: &[Certificate]) -> Option<ClientBuilder> {
    Some(builder.tls_certs_merge(added.iter().cloned()))
}

/// Trusts the operating system's roots and these, and none that `SSL_CERT_FILE` or `SSL_CERT_DIR`
/// names: anybody who can set a variable could read all tokens. `None` if there are no roots.
#[cfg(all(unix, not(target_vendor = "apple"), not(target_os = "android")))]
pub(super) fn trust(builder: ClientBuilder, added: &[Certificate]) -> Option<ClientBuilder> {
    let mut roots = system::roots();
    roots.extend_from_slice(added);
    (!roots.is_empty()).then(|| builder.tls_certs_only(roots))
}

#[cfg(all(unix, not(target_vendor = "apple"), not(target_os = "android")))]
mod system {
    use std::collections::HashSet;
    use std::path::Path;

    use reqwest::Certificate;
    use rustls::RootCertStore;
    use rustls_native_certs::load_certs_from_paths;

    /// Reads the files that exist, as OpenSSL does, and skips certificates that no verifier can
    /// read.
    pub(super) fn roots() -> Vec<Certificate> {
        let file = FILES.iter().map(Path::new).find(|file| file.exists());
        let file = file.map(|file| load_certs_from_paths(Some(file), None).certs);
        let directories = DIRECTORIES.iter().map(Path::new).filter(|directory| directory.exists());
        let directories = directories.map(|path| load_certs_from_paths(None, Some(path)).certs);
        let found: HashSet<_> = file.into_iter().chain(directories).flatten().collect();
        let usable = found.iter().filter(|der| RootCertStore::empty().add((*der).clone()).is_ok());
        usable.filter_map(|der| Certificate::from_der(der).ok()).collect()
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
