//! The host of a session, if a redirect or a response names it.

use std::borrow::Cow;

use url::Url;

use super::OAuth2;
use super::settings::SessionHost;
use crate::error::{Error, ErrorKind, Refusal, Result, quoted};
use crate::transport::HostPattern;

impl OAuth2 {
    /// The host that `named` means, which the redirect or the response has.
    ///
    /// # Errors
    ///
    /// `Refused` if the settings do not allow it.
    pub(super) fn allowed_host(&self, settings: &SessionHost, named: &str) -> Result<String> {
        let refused = || {
            let words = format!(
                "the server named the host {}, which the settings do not allow; if it belongs to \
                 the vendor, add it to `session_host.allowed`",
                quoted(named)
            );
            Error::new(ErrorKind::Refused(Refusal::HostNotAllowed)).about(words)
        };
        let scheme = self.authority.scheme();
        let url = named_url(named, settings.below.as_deref(), scheme).ok_or_else(refused)?;
        let host = url.host_str().filter(|_| is_allowed(settings, &url)).ok_or_else(refused)?;
        Ok(match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        })
    }

    /// The endpoint at the host of the session, if it has one and the endpoint is at the origin of
    /// the token endpoint.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the settings no longer allow the host.
    pub(super) fn at_host<'u>(&self, url: &'u Url, host: Option<&str>) -> Result<Cow<'u, Url>> {
        let Some(host) = host.filter(|_| url.origin() == self.authority.origin()) else {
            return Ok(Cow::Borrowed(url));
        };
        let moved = moved(url, host).filter(|moved| {
            self.session_host.as_ref().is_some_and(|settings| is_allowed(settings, moved))
        });
        moved.map(Cow::Owned).ok_or_else(|| {
            Error::new(ErrorKind::Misconfigured).about(format!(
                "the settings no longer allow the host {} of the session; add it to \
                 `session_host.allowed`, or sign the user in again",
                quoted(host)
            ))
        })
    }
}

/// The URL at another host, `example.com` or `example.com:8443`.
pub(super) fn moved(url: &Url, host: &str) -> Option<Url> {
    let place = Url::parse(&format!("{}://{host}", url.scheme())).ok()?;
    let mut moved = url.clone();
    moved.set_host(place.host_str()).ok()?;
    moved.set_port(place.port()).ok()?;
    Some(moved)
}

/// Checks the settings.
pub(super) fn check(settings: &SessionHost) -> Result<()> {
    let invalid = |words: String| Err(Error::new(ErrorKind::InvalidInput).about(words));
    if settings.callback_parameter.is_none() && settings.response_member.is_none() {
        return invalid(
            "`session_host` has neither `callback_parameter` nor `response_member`; name the \
             place where the server names the host"
                .to_owned(),
        );
    }
    if settings.allowed.is_empty() {
        return invalid(
            "`session_host.allowed` is empty; name the hosts of the vendor, or *. and its domain"
                .to_owned(),
        );
    }
    match settings.allowed.iter().find(|allowed| !split(allowed).0.is_valid()) {
        Some(wrong) => invalid(format!(
            "{} in `session_host.allowed` is not a host; write example.com, *.example.com or \
             example.com:8443",
            quoted(wrong)
        )),
        None => Ok(()),
    }
}

fn is_allowed(settings: &SessionHost, url: &Url) -> bool {
    let Some(host) = url.host() else { return false };
    let matches = |allowed: &String| {
        let (pattern, port) = split(allowed);
        port == url.port() && pattern.matches(&host)
    };
    settings.allowed.iter().any(matches)
}

/// The pattern and the port of an allowed host.
fn split(allowed: &str) -> (HostPattern, Option<u16>) {
    let parts = allowed.rsplit_once(':').filter(|(host, _)| !host.contains(':'));
    match parts.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (HostPattern::new(host), Some(port)),
        None => (HostPattern::new(allowed), None),
    }
}

/// The URL that a server names: an origin, a host, or the name below the domain `below`.
fn named_url(named: &str, below: Option<&str>, scheme: &str) -> Option<Url> {
    let named = named.trim();
    let text = match below {
        _ if named.contains("://") => named.to_owned(),
        Some(domain) => format!("{scheme}://{named}.{domain}"),
        None => format!("{scheme}://{named}"),
    };
    // A URL parser drops these, or takes them for a part of the path.
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return None;
    }
    let url = Url::parse(&text).ok()?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    (bare && anonymous && url.scheme() == scheme && url.has_host()).then_some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(settings: SessionHost) -> OAuth2 {
        let client = OAuth2::new("https://accounts.example.com/oauth/token", "c").unwrap();
        client.session_host(settings).unwrap()
    }

    fn settings(allowed: &[&str], below: Option<&str>) -> SessionHost {
        SessionHost {
            callback_parameter: Some("server".to_owned()),
            below: below.map(str::to_owned),
            allowed: allowed.iter().map(|host| (*host).to_owned()).collect(),
            ..SessionHost::default()
        }
    }

    fn named(allowed: &[&str], below: Option<&str>, host: &str) -> Option<String> {
        let settings = settings(allowed, below);
        let found = client(settings.clone()).allowed_host(&settings, host);
        found.map_err(|error| assert_eq!(error.kind(), FORGED)).ok()
    }

    const FORGED: ErrorKind = ErrorKind::Refused(Refusal::HostNotAllowed);

    #[test]
    fn a_host_that_the_settings_name_is_used_in_each_form_that_servers_send() {
        let allowed = &["accounts.example.eu", "*.example.in", "accounts.example.com:8443"];
        for (host, expected) in [
            ("accounts.example.eu", "accounts.example.eu"),
            ("https://accounts.example.eu", "accounts.example.eu"),
            ("https://ACCOUNTS.example.eu/", "accounts.example.eu"),
            ("https://accounts.example.eu:443", "accounts.example.eu"),
            ("a.b.example.in", "a.b.example.in"),
            ("accounts.example.com:8443", "accounts.example.com:8443"),
        ] {
            assert_eq!(named(allowed, None, host).as_deref(), Some(expected), "{host}");
        }
        let below = named(&["*.example.com"], Some("example.com"), "acme");
        assert_eq!(below.as_deref(), Some("acme.example.com"));
    }

    #[test]
    fn every_other_host_is_refused() {
        let allowed = &["accounts.example.eu", "*.example.in"];
        for forged in [
            "evil.example",
            "example.in",
            "accounts.example.eu.evil.example",
            "evilaccounts.example.eu",
            "accounts.example.eu:8443",
            "accounts.example.eu@evil.example",
            "https://user@accounts.example.eu",
            "http://accounts.example.eu",
            "ftp://accounts.example.eu",
            "accounts.example.eu/path",
            "accounts.example.eu?a",
            "accounts.example.eu#a",
            "evil.example\\.example.in",
            "evil.example/.example.in",
            "evil.example#.example.in",
            "accounts.example\t.eu",
            "127.0.0.1",
            "[::1]",
            "",
            " ",
        ] {
            assert_eq!(named(allowed, None, forged), None, "{forged}");
        }
        for forged in ["evil.example/", "evil.example#", "evil.example?", "evil.example:80#", ""] {
            let found = named(&["*.example.com"], Some("example.com"), forged);
            assert_eq!(found, None, "{forged}");
        }
    }

    #[test]
    fn no_text_leads_to_a_host_that_is_not_allowed() {
        let allowed = &["accounts.example.eu", "*.example.in"];
        let near = "(https?:/{0,3})?(accounts[.])?example[.](eu|in)[a-z.:/?#@%\\\\é]{0,8}";
        let text = prop_oneof![any::<String>(), "[a-z.:/?#@%\\\\é0-9\\[\\]]{0,30}", near];
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(text in text, below in any::<bool>())| {
            let below = below.then_some("example.in");
            if let Some(host) = named(allowed, below, &text) {
                let url = Url::parse(&format!("https://{host}/token")).unwrap();
                let host = url.host_str().unwrap().trim_end_matches('.');
                let fits = host == "accounts.example.eu" || host.ends_with(".example.in");
                prop_assert!(fits && url.port().is_none(), "{:?}: {}", text, url);
            }
        });
    }

    #[test]
    fn only_endpoints_at_the_origin_of_the_token_endpoint_move() {
        let client = client(settings(&["accounts.example.eu"], None));
        let at = |url: &str| {
            let url = Url::parse(url).unwrap();
            client.at_host(&url, Some("accounts.example.eu")).unwrap().into_owned().to_string()
        };
        assert_eq!(at("https://accounts.example.com/a?b"), "https://accounts.example.eu/a?b");
        assert_eq!(at("https://api.example.com/a"), "https://api.example.com/a");
        let other = client.at_host(&client.authority, Some("evil.example")).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Misconfigured);
    }

    #[test]
    fn settings_that_allow_nothing_or_name_no_place_are_refused() {
        let own = |settings: SessionHost| check(&settings).unwrap_err().kind();
        assert_eq!(own(settings(&[], None)), ErrorKind::InvalidInput);
        assert_eq!(own(settings(&["https://example.com"], None)), ErrorKind::InvalidInput);
        let nowhere = SessionHost { callback_parameter: None, ..settings(&["a.example"], None) };
        assert_eq!(own(nowhere), ErrorKind::InvalidInput);
    }
}
