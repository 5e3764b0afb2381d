//! A proxy in front of a server that takes TLS connections, and requires a certificate of clients.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, in PEM.
pub struct CertifiedKeyPem {
    pub chain: String,
    pub key: String,
}

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of a client.
    pub fn client(&self) -> CertifiedKeyPem {
        self.certify(Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn certify(&self, names: Vec<String>, usage: ExtendedKeyUsagePurpose) -> CertifiedKeyPem {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages.push(usage);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        CertifiedKeyPem { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

/// The proxy. It ends with this value.
pub struct TlsProxy {
    /// `https`, with the address as a number.
    pub url: String,
    /// The root of the server's certificate, for
    /// [`root_certificate_pem`](session_warden::transport::TransportConfig::root_certificate_pem).
    pub root: String,
    /// A certificate that the proxy accepts.
    pub client: CertifiedKeyPem,
    accepting: AbortHandle,
}

impl TlsProxy {
    /// A proxy for the server at this `http` URL. It closes each connection after one response, so
    /// that each request has a handshake.
    pub async fn start(server: &str) -> Self {
        let authority = Authority::new("the tests");
        let own =
            authority.certify(vec!["127.0.0.1".to_owned()], ExtendedKeyUsagePurpose::ServerAuth);
        let acceptor = TlsAcceptor::from(Arc::new(config(&authority, &own)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let server: SocketAddr = server.strip_prefix("http://").unwrap().parse().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, server));
            }
        });
        let (root, client) = (authority.pem(), authority.client());
        Self { url, root, client, accepting: accepting.abort_handle() }
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn config(authority: &Authority, own: &CertifiedKeyPem) -> ServerConfig {
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut clients = RootCertStore::empty();
    clients.add(certificate(&authority.pem())).unwrap();
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&crypto));
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate(&own.chain)], key)
        .unwrap()
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, server: SocketAddr) {
    match acceptor.accept(stream).into_fallible().await {
        Ok(mut client) => {
            let Ok(mut server) = TcpStream::connect(server).await else { return };
            // Ends in an error where one of the two closes without a word, and that is an end too.
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
        }
        Err((_, mut stream)) => {
            // The client may have sent its request with the end of the handshake. Unread bytes
            // would reset the connection, and with it the alert that says what is wrong.
            drop(stream.shutdown().await);
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
    }
}
