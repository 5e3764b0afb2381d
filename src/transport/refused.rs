//! Why a request may not go to an address, and what to do.

use url::{Host, Url};

use crate::error::bare_url;

/// Why a request may not go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("a malformed URL")]
    Malformed,
    #[error("neither https nor an allowed plain http")]
    NotHttps,
    #[error("a user name or a password in the URL")]
    UserInfo,
    #[error("a host that is not among the allowed ones")]
    NotAllowed,
    #[error("a port that is not among the allowed ones")]
    Port,
    #[error("an address that is not public")]
    NotPublic,
}

impl Refused {
    /// What is wrong with this URL, and what to do. The URL's user name, password and query are
    /// left out.
    pub(crate) fn advice(self, url: &str) -> String {
        let parsed = Url::parse(url).ok();
        let shown = shown(parsed.as_ref());
        match self {
            Self::Malformed => format!("the transport refuses {shown}; write a URL with a host"),
            Self::UserInfo => format!(
                "the transport refuses {shown} because it holds a user name or a password, which \
                 would appear in logs; remove them"
            ),
            Self::NotAllowed => format!(
                "the transport refuses {shown} because its host is not in \
                 `TransportConfig::allow_hosts`; correct the URL, or add the host"
            ),
            Self::Port => format!(
                "the transport refuses {shown} because of its port; correct the URL, or allow the \
                 port with `TransportConfig::allow_ports`"
            ),
            Self::NotPublic => format!(
                "the transport refuses {shown} because its address is not public; correct the URL, \
                 or allow such addresses with `TransportConfig::tenants_reach_internal_addresses` \
                 (providers of tenants) or without `public_addresses_only` (your own)"
            ),
            Self::NotHttps => not_https(&shown, parsed.as_ref()),
        }
    }
}

fn not_https(shown: &str, url: Option<&Url>) -> String {
    if url.is_some_and(|url| url.scheme() != "http") {
        return format!("the transport refuses {shown}; write an https URL");
    }
    let loopback = match url.and_then(Url::host) {
        Some(Host::Domain(name)) if is_localhost(name) => {
            return format!(
                "the transport refuses {shown} because a resolver may give any address for \
                 localhost; write 127.0.0.1, and allow it with \
                 `TransportConfig::allow_loopback_http`"
            );
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    let setting = if loopback {
        "allow it with `TransportConfig::allow_loopback_http`"
    } else {
        "in development allow the host with `TransportConfig::allow_http_hosts`"
    };
    format!(
        "the transport refuses {shown} because plain http is not encrypted; use https, or {setting}"
    )
}

/// `localhost` and the names below it (RFC 6761 section 6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// The URL without what may be secret.
fn shown(url: Option<&Url>) -> String {
    match url {
        Some(url) if url.has_host() => bare_url(url.clone()).into(),
        Some(_) | None => "a URL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_setting_that_allows_the_address() {
        for (refused, url, setting) in [
            (Refused::NotHttps, "http://localhost:8080/token", "write 127.0.0.1"),
            (Refused::NotHttps, "http://sso.localhost./token", "write 127.0.0.1"),
            (Refused::NotHttps, "http://127.0.0.1:8080/token", "allow_loopback_http"),
            (Refused::NotHttps, "http://[::1]/token", "allow_loopback_http"),
            (Refused::NotHttps, "http://keycloak:8080/token", "allow_http_hosts"),
            (Refused::NotHttps, "http://10.0.0.1/token", "allow_http_hosts"),
            (Refused::NotHttps, "ftp://as.example/token", "write an https URL"),
            (Refused::NotAllowed, "https://as.example/token", "allow_hosts"),
            (Refused::Port, "https://as.example:22/token", "allow_ports"),
            (Refused::NotPublic, "https://10.0.0.1/token", "tenants_reach_internal_addresses"),
        ] {
            let advice = refused.advice(url);
            assert!(advice.contains(setting) && advice.contains(url), "{advice}");
        }
    }

    #[test]
    fn neither_user_nor_query_of_a_url_is_in_the_text() {
        let advice = Refused::UserInfo.advice("https://u:canary@as.example/a?b=canary#canary");
        assert!(advice.starts_with("the transport refuses https://as.example/a because"));
        assert!(!advice.contains("canary"));
        assert!(!Refused::Malformed.advice("canary").contains("canary"));
    }
}
