//! Decides where requests may go.

use std::net::IpAddr;

use url::{Host, Url};

use super::public_address::{Nat64, OwnAddresses, is_public};
use super::refused::Refused;

/// The rules of a transport's configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) public_only: bool,
    pub(super) loopback_http: bool,
    /// The hosts that plain http may go to.
    pub(super) http_hosts: Vec<HttpHost>,
    /// `None` allows all hosts.
    pub(super) hosts: Option<Vec<HostPattern>>,
    /// `None` allows all ports. Applies to https only.
    pub(super) ports: Option<Vec<u16>>,
    pub(super) nat64: Vec<Nat64>,
}

impl Rules {
    /// Checks the URL as it was parsed for the connection, so that no second parser can see another
    /// host in it. The resolver checks the addresses of names when it knows them.
    fn check(&self, url: &Url) -> Result<(), Refused> {
        let host = check_form(url)?;
        if url.scheme() == "http" && !self.allows_http(&host) {
            return Err(Refused::NotHttps);
        }
        let port = url.port_or_known_default();
        if let Some(ports) = &self.ports
            && url.scheme() == "https"
            && !port.is_some_and(|port| ports.contains(&port))
        {
            return Err(Refused::Port);
        }
        match &self.hosts {
            Some(hosts) if !hosts.iter().any(|pattern| pattern.matches(&host)) => {
                Err(Refused::NotAllowed)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn allows_http(&self, host: &Host<&str>) -> bool {
        let loopback = address(host).is_some_and(|address| address.is_loopback());
        let named = self.http_hosts.iter().any(|allowed| allowed.pattern.matches(host));
        (self.loopback_http && loopback) || named
    }
}

/// The rules of one transport, together with this machine's addresses.
pub(super) struct AddressPolicy {
    rules: Rules,
    own: OwnAddresses,
}

impl AddressPolicy {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, own: OwnAddresses::of_machine() }
    }

    /// Fails if neither a request nor a browser may be sent to this URL.
    pub(super) fn url(&self, url: &Url) -> Result<(), Refused> {
        let literal = url.host().and_then(|host| address(&host));
        literal.map_or(Ok(()), |literal| self.address(literal))?;
        self.rules.check(url)
    }

    /// Fails if no connection may go to this address.
    pub(super) fn address(&self, address: IpAddr) -> Result<(), Refused> {
        let allowed = !self.rules.public_only
            || (is_public(address, &self.rules.nat64) && !self.own.has(address));
        if allowed { Ok(()) } else { Err(Refused::NotPublic) }
    }
}

/// Fails if no transport could allow this URL. It must be https or http, and name no user.
pub(crate) fn check_endpoint(url: &Url) -> Result<(), Refused> {
    check_form(url).map(drop)
}

/// Whether nobody outside this machine reads what is sent to this URL: it is https, or its host is a
/// loopback address.
pub(crate) fn is_confidential(url: &Url) -> bool {
    let literal = url.host().and_then(|host| address(&host));
    url.scheme() == "https" || literal.is_some_and(|literal| literal.is_loopback())
}

/// The host of a URL that some transport could allow.
fn check_form(url: &Url) -> Result<Host<&str>, Refused> {
    let host = url.host().ok_or(Refused::Malformed)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::UserInfo);
    }
    if matches!(url.scheme(), "https" | "http") { Ok(host) } else { Err(Refused::NotHttps) }
}

fn address(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(IpAddr::V6(*address)),
    }
}

/// A host, or `*.` and a domain.
#[derive(Clone, Debug)]
pub(crate) struct HostPattern {
    /// In the form of a URL's host: lower case, punycode.
    name: String,
    below: bool,
}

impl HostPattern {
    pub(crate) fn new(pattern: &str) -> Self {
        let (name, below) = match pattern.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (pattern, false),
        };
        let name = match Host::parse(without_dot(name)) {
            Ok(host) => host.to_string(),
            // Not a valid host, so it matches no URL.
            Err(_) => name.to_owned(),
        };
        Self { name, below }
    }

    /// Whether it names a host, or a domain after its `*.`.
    pub(crate) fn is_valid(&self) -> bool {
        Host::parse(&self.name).is_ok()
    }

    pub(crate) fn matches(&self, host: &Host<&str>) -> bool {
        let host = host.to_string();
        let host = without_dot(&host);
        if !self.below {
            return host == self.name;
        }
        let above = host.strip_suffix(self.name.as_str());
        above.and_then(|above| above.strip_suffix('.')).is_some_and(|below| !below.is_empty())
    }
}

/// A host that plain http may go to.
#[derive(Clone, Debug)]
pub(super) struct HttpHost {
    /// As the configuration names it.
    pub(super) name: String,
    pattern: HostPattern,
}

impl HttpHost {
    pub(super) fn new(name: String) -> Self {
        Self { pattern: HostPattern::new(&name), name }
    }

    /// Whether it names one host: no URL, no port, no pattern.
    pub(super) fn is_valid(&self) -> bool {
        !self.pattern.below && Host::parse(without_dot(&self.name)).is_ok()
    }
}

/// `example.com.` is the same host as `example.com`.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn plain_http_goes_to_an_allowed_loopback_address_and_nowhere_else() {
        let strict = Rules::default();
        let local = Rules { loopback_http: true, ..Rules::default() };
        for text in ["http://127.0.0.1:1/", "http://127.9.9.9/", "http://[::1]:1/", "http://127.1/"]
        {
            assert_eq!(strict.check(&url(text)), Err(Refused::NotHttps), "{text}");
            assert_eq!(local.check(&url(text)), Ok(()), "{text}");
        }
        for text in [
            "http://localhost/",
            "http://example.com/",
            "http://10.0.0.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://127.0.0.1.example.com/",
            "ftp://127.0.0.1/",
        ] {
            assert_eq!(local.check(&url(text)), Err(Refused::NotHttps), "{text}");
        }
        assert_eq!(strict.check(&url("https://localhost/")), Ok(()));
    }

    #[test]
    fn plain_http_goes_to_a_named_host_and_to_none_that_looks_like_it() {
        let hosts = ["Keycloak", "10.0.0.7"].map(|name| HttpHost::new(name.to_owned()));
        let rules = Rules { http_hosts: hosts.to_vec(), ..Rules::default() };
        for text in ["http://keycloak:8080/", "http://KEYCLOAK./", "http://10.0.0.7/"] {
            assert_eq!(rules.check(&url(text)), Ok(()), "{text}");
        }
        for text in [
            "http://keycloak.evil.example/",
            "http://a.keycloak/",
            "http://keycloak2/",
            "http://localhost/",
            "http://127.0.0.1/",
            "http://10.0.0.8/",
            "ftp://keycloak/",
        ] {
            assert_eq!(rules.check(&url(text)), Err(Refused::NotHttps), "{text}");
        }
        assert_eq!(rules.check(&url("http://u@keycloak/")), Err(Refused::UserInfo));
        assert_eq!(rules.check(&url("https://anywhere.example/")), Ok(()));
        for name in ["", "*.keycloak", "http://keycloak", "keycloak:8080", "a/b", "a b"] {
            assert!(!HttpHost::new(name.to_owned()).is_valid(), "{name}");
        }
        for name in ["keycloak", "auth.dev.internal.", "10.0.0.7", "[::1]"] {
            assert!(HttpHost::new(name.to_owned()).is_valid(), "{name}");
        }
    }

    #[test]
    fn a_url_with_a_user_or_without_a_host_is_refused() {
        let rules = Rules::default();
        for text in ["https://u@example.com/", "https://:p@example.com/"] {
            assert_eq!(rules.check(&url(text)), Err(Refused::UserInfo), "{text}");
        }
        assert_eq!(rules.check(&url("data:text/plain,x")), Err(Refused::Malformed));
    }

    #[test]
    fn a_host_pattern_matches_its_host_or_the_names_below_it_and_nothing_that_looks_like_it() {
        let rules = Rules {
            hosts: Some(
                ["Login.Example.com", "*.idp.example", "[::1]", "*.bücher.example", "***"]
                    .map(HostPattern::new)
                    .to_vec(),
            ),
            ..Rules::default()
        };
        for text in [
            "https://login.example.com/",
            "https://LOGIN.example.com./",
            "https://a.idp.example/",
            "https://a.b.idp.example:8443/",
            "https://[::1]/",
            "https://de.bücher.example/",
        ] {
            assert_eq!(rules.check(&url(text)), Ok(()), "{text}");
        }
        for text in [
            "https://example.com/",
            "https://idp.example/",
            "https://evilidp.example/",
            "https://a.idp.example.evil.example/",
            "https://x.login.example.com/",
            "https://127.0.0.1/",
        ] {
            assert_eq!(rules.check(&url(text)), Err(Refused::NotAllowed), "{text}");
        }
        let none = Rules { hosts: Some(Vec::new()), ..Rules::default() };
        assert_eq!(none.check(&url("https://example.com/")), Err(Refused::NotAllowed));
    }
}
