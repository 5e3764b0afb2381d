//! Where requests may go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

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
    #[error("the host's address is not public")]
    NotPublic,
}

/// Which addresses a transport takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) public_only: bool,
    pub(super) loopback_http: bool,
    /// None: all hosts.
    pub(super) hosts: Option<Vec<HostPattern>>,
}

impl Rules {
    /// Judges the URL as it was parsed for the connection, so that no second parser can see
    /// another host in it.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        check_form(url, self.loopback_http)?;
        let host = url.host().ok_or(Refused::Malformed)?;
        // Names are judged by the resolver, when their addresses are known.
        if self.public_only && address(&host).is_some_and(|address| !is_public(address)) {
            return Err(Refused::NotPublic);
        }
        match &self.hosts {
            Some(hosts) if !hosts.iter().any(|pattern| pattern.matches(&host)) => {
                Err(Refused::NotAllowed)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether some transport takes this URL: https, or plain http to a loopback address.
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

/// A host, or `*.` and the name above it.
#[derive(Clone, Debug)]
pub(super) struct HostPattern {
    /// In the form that a URL has it: lower case, punycode.
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
            // No URL has such a host, so it matches none.
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

/// Resolves names and refuses answers with an address that is not public. The connection is made
/// to the very addresses that were judged, so a second answer cannot replace them.
pub(super) struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            if found.iter().any(|address| !is_public(address.ip())) {
                return Err(Refused::NotPublic.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public internet (the registries of RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let reserved = match (a, b, c) {
        (0 | 10 | 127, ..) => true, // this network, private, loopback
        (100, 64..=127, _) => true, // shared by a provider's customers (RFC 6598)
        (169, 254, _) => true,      // link-local, where clouds keep their metadata
        (172, 16..=31, _) => true,  // private
        (192, 0, 0 | 2) => true,    // protocol assignments, documentation
        (192, 88, 99) => true,      // the former 6to4 relays
        (192, 168, _) => true,      // private
        (198, 18 | 19, _) => true,  // benchmarks
        (198, 51, 100) => true,     // documentation
        (203, 0, 113) => true,      // documentation
        (224..=255, ..) => true,    // multicast, reserved, broadcast
        _ => false,
    };
    !reserved
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64 and 6to4 lead to the IPv4 address that they hold.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(held(high, low)),
        [0x2002, high, low, ..] => is_public_v4(held(high, low)),
        // Protocol assignments (Teredo among them) and documentation.
        [0x2001, 0x0000..=0x01ff | 0x0db8, ..] => false,
        [0x3fff, 0x0000..=0x0fff, ..] => false,
        // All other global addresses begin with 001. What does not is loopback, unspecified,
        // v4-mapped, link-local, unique local, multicast or not assigned.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn held(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(address: &str) -> bool {
        is_public(address.parse().unwrap())
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn addresses_of_the_public_internet_are_public() {
        for address in [
            "1.1.1.1",
            "93.184.215.14",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2a00:1450:4001::8a",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(public(address), "{address}");
        }
    }

    #[test]
    fn every_other_address_is_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:1.1.1.1",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:c0a8:1::1",
        ] {
            assert!(!public(address), "{address}");
        }
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
