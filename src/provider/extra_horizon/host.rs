//! The host of a cluster, and its URLs.

use url::Url;

use crate::error::Result;
use crate::provider::http_message;

/// A cluster of Extra Horizon.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Without a slash at its end.
    base: String,
    authority: Url,
}

impl Host {
    /// Takes a host in any form that the SDK accepts, and changes it as the SDK does: it removes
    /// one slash at the end, the scheme, `api.` and `apx.`, and puts `https://api.` before the
    /// rest. A host with `localhost`, or plain http to a loopback address, stays as it is.
    pub(super) fn new(host: &str) -> Result<Self> {
        let host = host.strip_suffix('/').unwrap_or(host);
        let base = if host.contains("localhost") || is_loopback_http(host) {
            host.to_owned()
        } else {
            let bare = host.strip_prefix("https://").or_else(|| host.strip_prefix("http://"));
            let bare = bare.unwrap_or(host);
            let bare = bare.strip_prefix("api.").unwrap_or(bare);
            let bare = bare.strip_prefix("apx.").unwrap_or(bare).trim();
            if bare.is_empty() {
                return Err(super::unusable("the host is empty"));
            }
            format!("https://api.{bare}")
        };
        let mut authority = http_message::endpoint(&base)?;
        if authority.query().is_some() {
            return Err(super::unusable("the host has a query"));
        }
        let base = authority.as_str().trim_end_matches('/').to_owned();
        let path = authority.path().trim_end_matches('/').to_owned();
        authority.set_path(&path);
        Ok(Self { base, authority })
    }

    /// A URL of the cluster. `path` begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// As [`url`](Self::url), with one more segment, which is escaped and stays in its place.
    pub(super) fn url_below(&self, path: &str, segment: &str) -> Result<String> {
        http_message::url_below(&self.url(path), segment)
    }

    pub(super) fn authority(&self) -> &Url {
        &self.authority
    }
}

fn is_loopback_http(host: &str) -> bool {
    let url = host.starts_with("http://").then(|| Url::parse(host).ok()).flatten();
    match url.as_ref().and_then(Url::host) {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_rewritten_as_the_sdk_does() {
        let api = "https://api.dev.acme.extrahorizon.io";
        for text in [
            "dev.acme.extrahorizon.io",
            "dev.acme.extrahorizon.io/",
            "api.dev.acme.extrahorizon.io",
            "apx.dev.acme.extrahorizon.io",
            "api.apx.dev.acme.extrahorizon.io",
            "http://dev.acme.extrahorizon.io",
            "https://api.dev.acme.extrahorizon.io/",
            "https://apx.dev.acme.extrahorizon.io",
        ] {
            let host = Host::new(text).unwrap();
            assert_eq!(host.url("/auth/v2"), format!("{api}/auth/v2"), "{text}");
            assert_eq!(host.authority().as_str(), format!("{api}/"), "{text}");
        }
        // The SDK removes each prefix once and in this order, and so does this crate.
        let twice = Host::new("apx.api.x.io").unwrap();
        assert_eq!(twice.url(""), "https://api.api.x.io");
    }

    #[test]
    fn what_is_on_this_machine_is_used_as_written() {
        for (text, base) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://localhost:8443/exh/", "https://localhost:8443/exh"),
        ] {
            let host = Host::new(text).unwrap();
            assert_eq!(host.url(""), base);
            assert_eq!(host.authority().as_str().trim_end_matches('/'), base);
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in
            ["", "/", " ", "http://10.0.0.1", "localhost", "a b", "x.io?a=b", "u:p@x.io", "x.io#f"]
        {
            let error = Host::new(host).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::InvalidInput, "{host:?}");
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        let host = Host::new("x.io").unwrap();
        let url = host.url_below("/tokens", "../a?b#c/é").unwrap();
        assert_eq!(url, "https://api.x.io/tokens/..%2Fa%3Fb%23c%2F%C3%A9");
        for other in ["", ".", ".."] {
            let error = host.url_below("/tokens", other).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::InvalidInput, "{other:?}");
        }
    }
}
