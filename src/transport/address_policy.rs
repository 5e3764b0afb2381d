//! Decides where requests may go.

use std::net::IpAddr;

use url::{Host, Url};

use super::public_address::{Nat64, OwnAddresses, is_public};

/// Why a request may not go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the URL cannot be used")]
    Malformed,
    #[error("the URL is neither https nor plain http to an allowed loopback address")]
    NotHttps,
    #[error("the URL holds a user name or a password")]
    UserInfo,
    #[error("the host is not among those that are allowed")]
    NotAllowed,
    #[error("the port is not among those that are allowed")]
    Port,
    #[error("the host's address is not public, which it must be here")]
    NotPublic,
}

/// The rules of a transport's configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) public_only: bool,
    pub(super) loopback_http: bool,
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
        check_form(url, self.loopback_http)?;
        let host = url.host().ok_or(Refused::Malformed)?;
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

/// Fails if no transport could allow this URL. It must be https, or plain http to a loopback
/// address.
pub(crate) fn check_endpoint(url: &Url) -> Result<(), Refused> {
    check_form(url, true)
}

fn check_form(url: &Url, loopback_http: bool) -> Result<(), Refused> {
    let host = url.host().ok_or(Refused::Malformed)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::UserInfo);
    }
    let loopback = address(&host).is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback_http && loopback => Ok(()),
        _ => Err(Refused::NotHttps),
    }
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
pub(super) struct HostPattern {
    /// In the form of a URL's host: lower case, punycode.
    name: String,
    below: bool,
}

impl HostPattern {
    pub(super) fn new(pattern: &str) -> Self {
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

    fn matches(&self, host: &Host<&str>) -> bool {
        let host = host.to_string();
        let host = without_dot(&host);
        if !self.below {
            return host == self.name;
        }
        let above = host.strip_suffix(self.name.as_str());
        above.and_then(|above| above.strip_suffix('.')).is_some_and(|below| !below.is_empty())
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
