//! The HTTP clients of one transport: the one without a client certificate, and one for each
//! certificate. They differ in nothing else.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use url::Url;

use super::resolver::Resolver;
use super::{CONNECT_TIMEOUT, POOL_IDLE_TIMEOUT};

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// What every HTTP client of one transport has.
pub(super) struct HttpClientParts {
    /// Without a client certificate.
    pub(super) tls: ClientConfig,
    pub(super) plain_http: bool,
    pub(super) proxy: Option<reqwest::Proxy>,
    pub(super) resolver: Arc<Resolver>,
}

impl HttpClientParts {
    /// A client that presents this certificate to servers that ask for one.
    pub(super) fn client(
        &self,
        certificate: Option<&Arc<CertifiedKey>>,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let mut tls = self.tls.clone();
        if let Some(certificate) = certificate {
            let presented = SingleCertAndKey::from(Arc::clone(certificate));
            tls.client_auth_cert_resolver = Arc::new(presented);
            // A resumed TLS session keeps the certificate with which it began.
            tls.resumption = Resumption::default();
        }
        let mut builder = hardened(tls).https_only(!self.plain_http);
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        builder.dns_resolver(Arc::clone(&self.resolver)).build()
    }
}

impl HttpClientParts {
    /// The beginning of the client for APIs: it trusts the same roots and uses the same proxy as the
    /// clients for authorization servers, but reaches any address.
    pub(super) fn api_client(&self) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(self.tls.clone())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT);
        match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        }
    }
}

/// The proxy for `https` alone: plain HTTP has no tunnel, so that a proxy would read the tokens.
pub(super) fn proxy(url: &Url) -> Result<reqwest::Proxy, reqwest::Error> {
    let beside = reqwest::NoProxy::from_string("127.0.0.0/8,::1");
    Ok(reqwest::Proxy::https(url.clone())?.no_proxy(beside))
}

/// The settings of every request, independent of the features that other crates enable in reqwest.
fn hardened(tls: ClientConfig) -> reqwest::ClientBuilder {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    // RFC 9110 section 12.5.3: without this header a server may use any coding, and nothing here
    // decodes one.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .tls_backend_preconfigured(tls)
        .http1_only()
        // A 307 would take the refresh token to another host.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .no_hickory_dns()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
}
