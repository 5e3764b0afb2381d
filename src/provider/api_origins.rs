//! The origins to which requests with a provider's permission tokens may go.

use std::net::IpAddr;

use url::{Host, Url};

use crate::error::{Error, ErrorKind, Result, quoted};
use crate::transport::HostPattern;

/// The origins of a provider's APIs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiOrigins(Vec<ApiOrigin>);

/// An origin (RFC 6454 section 4), or all hosts below a domain.
#[derive(Clone, Debug)]
struct ApiOrigin {
    scheme: Scheme,
    host: HostPattern,
    /// `None` if the URL has the default port of its scheme.
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Https,
    /// Only to a loopback address.
    Http,
}

impl ApiOrigins {
    /// Adds origins, in the form that [`Provider::api_origins`] describes.
    ///
    /// [`Provider::api_origins`]: super::Provider::api_origins
    pub(crate) fn add<'o>(&mut self, origins: impl IntoIterator<Item = &'o str>) -> Result<()> {
        for origin in origins {
            self.0.push(ApiOrigin::parse(origin)?);
        }
        Ok(())
    }

    /// Fails if a token must not go to this URL.
    pub(crate) fn check(&self, url: &Url) -> Result<()> {
        let refused = |words: String| Err(Error::new(ErrorKind::InvalidInput).about(words));
        if self.0.is_empty() {
            return refused(
                "the provider has no API origins, so its tokens go to no URL; set them with \
                 `Registration::api_origins`"
                    .to_owned(),
            );
        }
        if self.0.iter().any(|origin| origin.matches(url)) {
            return Ok(());
        }
        let asked = quoted(&url.origin().ascii_serialization());
        if url.scheme() == "http" && !is_loopback(url) {
            return refused(format!(
                "the token does not go to {asked}, because plain http is not encrypted; use https"
            ));
        }
        refused(format!(
            "the origin {asked} is not among the API origins of the provider; if the API is the \
             provider's, add the origin with `Registration::api_origins`"
        ))
    }
}

/// The origin of a server that is also the API. None if tokens must not go there: to a host of
/// `TransportConfig::allow_http_hosts`, for example.
pub(crate) fn of_server(url: &Url) -> Vec<String> {
    let origin = url.origin().ascii_serialization();
    if ApiOrigin::parse(&origin).is_ok() { vec![origin] } else { Vec::new() }
}

impl ApiOrigin {
    fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            let text = quoted(text);
            Error::new(ErrorKind::InvalidInput).about(format!("the API origin {text} {why}"))
        };
        let form = "is not an origin; write \"https://\" and a host, and the port if there is one, \
                    without a path";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refused(form))?;
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| refused(form))?;
        let bare =
            matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        let bare = bare && anonymous && !rest.contains('*');
        let Some(host) = url.host().filter(|_| bare) else { return Err(refused(form)) };
        let name = host.to_string();
        let name = name.trim_matches(['[', ']']);
        let scheme = match (url.scheme(), &host) {
            ("https", Host::Domain(_)) => Scheme::Https,
            ("https", Host::Ipv4(_) | Host::Ipv6(_)) if !below => Scheme::Https,
            ("http", _) if is_loopback(&url) && !below => Scheme::Http,
            ("http", Host::Domain("localhost")) => {
                return Err(refused(
                    "is refused because a resolver may give any address for localhost; write \
                     127.0.0.1",
                ));
            }
            ("http", _) => return Err(refused("is refused because plain http is not encrypted")),
            _ => return Err(refused(form)),
        };
        let pattern = if below { format!("*.{name}") } else { host.to_string() };
        Ok(Self { scheme, host: HostPattern::new(&pattern), port: url.port() })
    }

    fn matches(&self, url: &Url) -> bool {
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" if is_loopback(url) => Scheme::Http,
            _ => return false,
        };
        let host = url.host().is_some_and(|host| self.host.matches(&host));
        scheme == self.scheme && url.port() == self.port && host
    }
}

/// Whether the host is a loopback address. The name `localhost` is not one.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(of: &[&str]) -> ApiOrigins {
        let mut origins = ApiOrigins::default();
        origins.add(of.iter().copied()).unwrap();
        origins
    }

    fn allows(origins: &ApiOrigins, url: &str) -> bool {
        origins.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn a_token_goes_to_the_origins_that_are_named_and_nowhere_else() {
        let named = origins(&[
            "https://api.example.com",
            "https://api.example.com:8443/",
            "https://*.site.example",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://BÜCHER.example",
        ]);
        for allowed in [
            "https://api.example.com/a?b=c#d",
            "https://api.example.com:443/",
            "https://API.example.com./",
            "https://api.example.com:8443/",
            "https://a.site.example/",
            "https://a.b.site.example/",
            "http://127.0.0.1:8080/x",
            "http://[::1]:8080/x",
            "https://xn--bcher-kva.example/",
        ] {
            assert!(allows(&named, allowed), "{allowed}");
        }
        for other in [
            "http://api.example.com/",
            "https://api.example.com:9443/",
            "https://example.com/",
            "https://x.api.example.com/",
            "https://site.example/",
            "https://asite.example/",
            "https://api.example.com.evil.example/",
            "http://127.0.0.1:8081/",
            "https://127.0.0.1:8080/",
            "http://a.site.example/",
            "ftp://api.example.com/",
        ] {
            assert!(!allows(&named, other), "{other}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let refusal = |origins: &ApiOrigins, url| {
            origins.check(&Url::parse(url).unwrap()).unwrap_err().to_string()
        };
        assert_eq!(
            refusal(&ApiOrigins::default(), "https://api.example.com/"),
            "invalid input: the provider has no API origins, so its tokens go to no URL; set them \
             with `Registration::api_origins`"
        );
        let named = origins(&["https://api.example.com"]);
        assert_eq!(
            refusal(&named, "https://evil.example/x?canary"),
            "invalid input: the origin \"https://evil.example\" is not among the API origins of \
             the provider; if the API is the provider's, add the origin with \
             `Registration::api_origins`"
        );
        assert_eq!(
            refusal(&named, "http://api.example.com/"),
            "invalid input: the token does not go to \"http://api.example.com\", because plain \
             http is not encrypted; use https"
        );
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_reason() {
        for (text, reason) in [
            ("api.example.com", "without a path"),
            ("https://", "without a path"),
            ("https://api.example.com/v1", "without a path"),
            ("https://api.example.com?x", "without a path"),
            ("https://user@api.example.com", "without a path"),
            ("ftp://api.example.com", "without a path"),
            ("https://*.10.0.0.1", "without a path"),
            ("https://a.*.example.com", "without a path"),
            ("*", "without a path"),
            ("http://api.example.com", "not encrypted"),
            ("http://*.example.com", "not encrypted"),
            ("http://10.0.0.1", "not encrypted"),
            ("http://localhost:8080", "write 127.0.0.1"),
        ] {
            let refused = ApiOrigin::parse(text).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
            assert!(refused.to_string().contains(reason), "{text}: {refused}");
        }
    }
}
