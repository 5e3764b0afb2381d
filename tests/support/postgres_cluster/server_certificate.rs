//! A certificate of a server, from an authority of its own.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// All in PEM.
pub struct ServerCertificate {
    pub root: String,
    pub chain: String,
    pub key: String,
}

impl ServerCertificate {
    /// For servers of these names; a name may be an address.
    pub fn new(names: &[String]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the tests");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let chain = params.signed_by(&key, &root).unwrap().pem();
        Self { root: root.pem(), chain, key: key.serialize_pem() }
    }
}
