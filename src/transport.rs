//! The HTTP client for all requests to authorization servers, and its configuration.
//!
//! The client limits how long a response takes and how large it is, and it follows no redirect.

mod address_policy;
mod api_client;
mod client_identity;
mod client_key;
mod fixed;
mod http_client;
#[cfg(test)]
pub(crate) mod peer;
mod public_address;
mod refused;
mod resolver;
mod roots;
mod send_error;
mod send_state;
#[cfg(test)]
mod tests;
mod tls;

use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use url::Url;
use zeroize::Zeroizing;

use self::address_policy::{AddressPolicy, HttpHost, Rules};
pub(crate) use self::address_policy::{HostPattern, check_endpoint, is_confidential};
pub(crate) use self::api_client::{ApiClient, ConfigureApiClient};
pub(crate) use self::client_identity::ClientIdentity;
pub(crate) use self::client_key::ClientKey;
#[doc(hidden)]
pub use self::fixed::*;
use self::http_client::HttpClientParts;
use self::public_address::Nat64;
pub(crate) use self::refused::Refused;
use self::resolver::{Lookups, Resolver};
pub(crate) use self::send_error::SendError;
pub(crate) use self::send_state::SendState;
use self::send_state::Withheld;
#[cfg(feature = "postgres")]
pub(crate) use self::tls::verifying_config;
pub(crate) use self::tls::{crypto_provider, read_roots};
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result, quoted};

/// The port of `https`.
const HTTPS: u16 = 443;

/// The first buffer for a body whose length the server does not say; most answers fit.
const FIRST_BUFFER: usize = 4 * 1024;

/// Configures how requests reach authorization servers.
///
/// Without any setting, the crate sends requests only over `https`, with TLS 1.2 or later, HTTP/1.1
/// and the root certificates of the operating system. It uses no proxy, follows no redirect, and
/// sends no request again by itself. Environment variables such as `HTTPS_PROXY`, `SSL_CERT_FILE`
/// and `SSL_CERT_DIR` have no effect.
///
/// ```
/// use session_warden::transport::TransportConfig;
///
/// let config = TransportConfig::default()
///     .proxy("http://operator:canary@proxy.example:3128")?
///     .allow_hosts(["login.example.com", "*.idp.example"]);
/// assert!(!format!("{config:?}").contains("canary"));
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct TransportConfig {
    roots: Vec<CertificateDer<'static>>,
    proxy: Option<Url>,
    name_servers: Option<Vec<SocketAddr>>,
    internal_tenants: bool,
    rules: Rules,
}

impl TransportConfig {
    /// Trusts these root certificates too, in addition to those of the operating system. `pem`
    /// holds one certificate or more in PEM (RFC 7468). You can call this several times.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `pem` has no certificate, or has one that cannot be read.
    pub fn root_certificate_pem(mut self, pem: &[u8]) -> Result<Self> {
        self.roots.extend(read_roots(pem)?);
        Ok(self)
    }

    /// Sends everything but plain HTTP (to a loopback address, or to
    /// [a named host](Self::allow_http_hosts)) through this proxy, an `http` or
    /// `https` URL that may hold the proxy's user name and password. `https` requests go through
    /// a tunnel (RFC 9110 section 9.3.6), so that the proxy sees no token.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `url` is not such a URL.
    pub fn proxy(mut self, url: &str) -> Result<Self> {
        // The parser's error is dropped, because it may quote the password in the URL.
        let url = Url::parse(url)
            .map_err(|_| invalid("the proxy's URL cannot be read; write an http or https URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(invalid(
                "the proxy's URL has no host, or is neither http nor https; correct it",
            ));
        }
        self.proxy = Some(url);
        Ok(self)
    }

    /// Looks names up at these servers instead of those of the system's configuration. The crate
    /// reads the system's hosts file in either case.
    #[must_use]
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.name_servers = Some(servers.into_iter().collect());
        self
    }

    /// Refuses every address that is not public: private, loopback, link-local, shared (RFC 6598),
    /// documentation, multicast and similar addresses, the platform address of Azure
    /// (168.63.129.16), and the addresses of this machine's own interfaces. This applies to an
    /// address in a URL and to the addresses that DNS returns for a name: if one of these is not
    /// public, the crate uses none of them. Use it for providers whose URLs tenants may set.
    ///
    /// It contradicts [`proxy`](Self::proxy), which resolves names on its own,
    /// [`allow_loopback_http`](Self::allow_loopback_http) and
    /// [`allow_http_hosts`](Self::allow_http_hosts): a supervisor with both does not start.
    #[must_use]
    pub fn public_addresses_only(mut self) -> Self {
        self.rules.public_only = true;
        self
    }

    /// Names the prefix of your network's own NAT64 gateway (RFC 6052), for example
    /// `2001:db8:64::/96`. The crate then checks an address under this prefix by the IPv4 address
    /// in it. It does so for `64:ff9b::/96` without this setting. You can call this several times.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `prefix` is not an IPv6 prefix of 32, 40, 48, 56, 64 or 96
    /// bits.
    pub fn nat64_prefix(mut self, prefix: &str) -> Result<Self> {
        let prefix = Nat64::parse(prefix).ok_or_else(|| {
            invalid(
                "the NAT64 prefix is not an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits; write \
                 for example 2001:db8:64::/96",
            )
        })?;
        self.rules.nat64.push(prefix);
        Ok(self)
    }

    /// Refuses all hosts except these, also in the URL to which
    /// [`begin_login`](crate::Session::begin_login) sends a browser. A host is written as
    /// `login.example.com`. `*.example.com` stands for every name below `example.com`, but not for
    /// `example.com` itself. You can call this several times.
    #[must_use]
    pub fn allow_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let patterns = hosts.into_iter().map(|host| HostPattern::new(&host.into()));
        self.rules.hosts.get_or_insert_default().extend(patterns);
        self
    }

    /// Refuses all ports of `https` URLs except these. You can call this several times. Without
    /// this setting, the URLs of tenants may have port 443 only, and all other URLs may have any
    /// port.
    #[must_use]
    pub fn allow_ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.rules.ports.get_or_insert_default().extend(ports);
        self
    }

    /// Lets the providers of
    /// [`provider_per_tenant`](crate::supervisor::SupervisorBuilder::provider_per_tenant) reach all
    /// addresses that your own providers reach. Without this setting, they reach only public
    /// addresses, as with [`public_addresses_only`](Self::public_addresses_only), only port 443 or
    /// [the ports that you name](Self::allow_ports), and never over plain HTTP.
    ///
    /// With this setting, a person who can set a tenant's URL can make this machine send requests
    /// into your own network. Use it if only you can write the table of customers, in tests, or
    /// with a [`proxy`](Self::proxy) that refuses internal addresses itself.
    #[must_use]
    pub fn tenants_reach_internal_addresses(mut self) -> Self {
        self.internal_tenants = true;
        self
    }

    /// The configuration for the providers of tenants, if it differs.
    pub(crate) fn for_tenants(&self) -> Option<Self> {
        if self.internal_tenants {
            return None;
        }
        let mut strict = self.clone();
        strict.rules.public_only = true;
        strict.rules.loopback_http = false;
        strict.rules.http_hosts.clear();
        strict.rules.ports.get_or_insert_with(|| vec![HTTPS]);
        Some(strict)
    }

    /// Allows plain HTTP to a loopback address that is written as a number, `127.0.0.1` or `[::1]`,
    /// for example. It does not allow the name `localhost`, because a resolver decides which
    /// address that is. Use it in tests, and for a server or sidecar on the same machine.
    #[must_use]
    pub fn allow_loopback_http(mut self) -> Self {
        self.rules.loopback_http = true;
        self
    }

    /// Allows plain HTTP to these hosts, for a server in a container of the same machine:
    /// `allow_http_hosts(["keycloak"])` for `http://keycloak:8080` of a docker-compose file, whose
    /// private address is then reached. Names are compared as a whole: no `*`, no port. May be
    /// called again for more. The start logs a warning with the names.
    ///
    /// **For development only.** Whoever sees the traffic reads every token, password and client
    /// secret, and whoever answers for the name gets them, because plain HTTP has no certificate.
    /// The providers of tenants do not get this permission, unless
    /// [`tenants_reach_internal_addresses`](Self::tenants_reach_internal_addresses) gives them all
    /// that your own providers have. These requests go past a [`proxy`](Self::proxy), which would
    /// read them. It contradicts [`public_addresses_only`](Self::public_addresses_only): a
    /// supervisor with both does not start.
    ///
    /// ```
    /// use session_warden::transport::TransportConfig;
    ///
    /// let config = TransportConfig::default().allow_http_hosts(["keycloak"]);
    /// ```
    #[must_use]
    pub fn allow_http_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.rules.http_hosts.extend(hosts.into_iter().map(|host| HttpHost::new(host.into())));
        self
    }

    fn contradiction(&self) -> Option<Cow<'static, str>> {
        let Rules { public_only, loopback_http, http_hosts, .. } = &self.rules;
        if let Some(host) = http_hosts.iter().find(|host| !host.is_valid()) {
            let text = format!(
                "{} in `allow_http_hosts` is not the name of a host; write the name alone, without \
                 scheme, port and `*`",
                quoted(&host.name)
            );
            return Some(text.into());
        }
        let text = if !public_only {
            return None;
        } else if *loopback_http {
            "`public_addresses_only` and `allow_loopback_http` contradict each other; remove one \
             of them from the transport"
        } else if !http_hosts.is_empty() {
            "`public_addresses_only` and `allow_http_hosts` contradict each other; remove one of \
             them from the transport"
        } else if self.proxy.is_some() {
            "a proxy resolves names itself, so the transport cannot check that addresses are \
             public; remove `public_addresses_only`, or for providers of tenants set \
             `tenants_reach_internal_addresses`"
        } else {
            return None;
        };
        Some(text.into())
    }

    /// The hosts that plain HTTP may go to, as they were named.
    fn http_hosts(&self) -> Vec<&str> {
        self.rules.http_hosts.iter().map(|host| host.name.as_str()).collect()
    }
}

impl fmt::Debug for TransportConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self.proxy.as_ref().map(|url| url.origin().ascii_serialization());
        f.debug_struct("TransportConfig")
            .field("roots", &self.roots.len())
            .field("proxy", &proxy)
            .field("name_servers", &self.name_servers)
            .field("internal_tenants", &self.internal_tenants)
            .field("rules", &self.rules)
            .finish()
    }
}

/// The HTTP client that all exchanges of a supervisor share.
pub(crate) struct Transport {
    client: reqwest::Client,
    /// For the clients of requests with a client certificate.
    parts: Arc<HttpClientParts>,
    address_policy: Arc<AddressPolicy>,
}

impl Transport {
    pub(crate) fn new(config: &TransportConfig) -> Result<Self> {
        if let Some(words) = config.contradiction() {
            return Err(invalid(words));
        }
        let unusable = |cause: reqwest::Error| {
            invalid("the HTTP client cannot be set up, so see the cause of this error")
                .with_source(cause.without_url())
        };
        let http_hosts = config.http_hosts();
        if !http_hosts.is_empty() {
            tracing::warn!(
                hosts = ?http_hosts,
                "plain http is allowed to these hosts, so tokens and passwords are sent there \
                 unencrypted; use allow_http_hosts in development only"
            );
        }
        let tls = tls::client_config(&config.roots)?;
        let plain_http = config.rules.loopback_http || !http_hosts.is_empty();
        let proxy = config.proxy.as_ref().map(http_client::proxy).transpose().map_err(unusable)?;
        let address_policy = Arc::new(AddressPolicy::new(config.rules.clone()));
        let lookups = Lookups::new(config.name_servers.clone());
        let resolver = Arc::new(Resolver { lookups, address_policy: Arc::clone(&address_policy) });
        let parts = Arc::new(HttpClientParts { tls, plain_http, proxy, resolver });
        let client = parts.client(None).map_err(unusable)?;
        Ok(Self { client, parts, address_policy })
    }

    /// The client for APIs, with the settings of the program.
    pub(crate) fn api_client(&self, configure: Option<ConfigureApiClient>) -> ApiClient {
        ApiClient::new(Arc::clone(&self.parts), configure)
    }

    /// Fails if the rules refuse this URL. Its name is not looked up, because the browser that goes
    /// there looks it up itself.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Refused> {
        self.address_policy.url(url)
    }

    /// Sends a request and reads the whole answer. Calls `on_headers` before it reads the body. If
    /// the request has a [`ClientIdentity`] among its extensions, it presents that certificate.
    pub(crate) async fn send(
        &self,
        request: http::Request<Bytes>,
        send_state: &Arc<SendState>,
        times: Times,
        on_headers: impl FnOnce(),
    ) -> Result<http::Response<Bytes>, SendError> {
        let (mut head, bytes) = request.into_parts();
        let identity = head.extensions.remove::<ClientIdentity>();
        let body = reqwest::Body::wrap(send_state.body(bytes, &mut head.headers));
        let request = http::Request::from_parts(head, body);
        let request = reqwest::Request::try_from(request).map_err(|_| Refused::Malformed)?;
        self.address_policy.url(request.url())?;
        if send_state.is_too_late(send_state.clock().now()) {
            return Err(SendError::Withheld(Withheld::ClaimEnds));
        }
        let client = match &identity {
            Some(identity) => identity.client(&self.parts).map_err(SendError::NotSent)?,
            None => self.client.clone(),
        };
        let mut answering = pin!(answer(&client, request, send_state, on_headers));
        let clock = send_state.clock();
        tokio::select! {
            // The answer first: if it is there, neither the step nor the timeout matters.
            biased;
            answer = &mut answering => return answer,
            () = send_state.decided() => {}
            () = clock.sleep(times.attempt) => {
                // Decides against the connection's task. If that was faster, the request is sent,
                // and its answer must be waited for.
                if let Some(withheld) = send_state.withhold(Withheld::TooLate) {
                    return Err(SendError::Withheld(withheld));
                }
            }
        }
        let since =
            send_state.sent().map_or(Duration::ZERO, |sent| clock.now().boot.since(sent.boot));
        let answer = timeout(clock, times.answer.saturating_sub(since), answering).await;
        answer.unwrap_or(Err(SendError::Unanswered))
    }
}

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Until its last byte is sent.
    pub(crate) attempt: Duration,
    /// From then on, until the whole answer is read.
    pub(crate) answer: Duration,
}

async fn answer(
    client: &reqwest::Client,
    request: reqwest::Request,
    send_state: &SendState,
    on_headers: impl FnOnce(),
) -> Result<http::Response<Bytes>, SendError> {
    let mut answer = match client.execute(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let withheld = send_state.withhold(Withheld::Failed);
            return Err(SendError::of_request(error, withheld));
        }
    };
    on_headers();
    let body = read(&mut answer).await?;
    let mut response = http::Response::new(body);
    *response.status_mut() = answer.status();
    *response.version_mut() = answer.version();
    *response.headers_mut() = mem::take(answer.headers_mut());
    Ok(response)
}

/// Reads the body into memory that is wiped when its last holder drops it.
async fn read(answer: &mut reqwest::Response) -> Result<Bytes, SendError> {
    let announced = answer.content_length().map(|length| usize::try_from(length).ok());
    let capacity = match announced {
        Some(Some(length)) if length <= MAX_BODY_BYTES => length,
        Some(_) => return Err(SendError::TooLarge),
        None => FIRST_BUFFER,
    };
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    while let Some(chunk) = answer.chunk().await.map_err(SendError::of_body)? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(SendError::TooLarge);
        }
        append(&mut body, &chunk);
    }
    Ok(Bytes::from_owner(body))
}

/// As `extend_from_slice`, which would leave an unwiped copy behind where it moves the bytes.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let needed = body.len() + chunk.len();
    if needed > body.capacity() {
        let capacity = needed.max(body.capacity() * 2).min(MAX_BODY_BYTES);
        let mut grown = Zeroizing::new(Vec::with_capacity(capacity));
        grown.extend_from_slice(body);
        *body = grown;
    }
    body.extend_from_slice(chunk);
}

fn invalid(words: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput).about(words)
}
