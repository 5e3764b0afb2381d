//! The endpoint of a request, as errors show it.

use std::fmt::Write;
use std::sync::Arc;

/// An endpoint, cut to what is safe to log. It never has a user name, a password or a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Origin and path, or the path alone.
    text: Arc<str>,
    /// Where the path begins.
    path_at: usize,
}

impl Endpoint {
    /// Longer paths are cut: a server's metadata may name any path.
    pub(crate) const MAX_PATH_BYTES: usize = 128;

    /// The endpoint of a request to this URI.
    pub(crate) fn of(uri: &http::Uri) -> Self {
        let mut text = String::with_capacity(128);
        if let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) {
            text.push_str(scheme);
            text.push_str("://");
            text.extend(safe(host));
            if let Some(port) = uri.port_u16() {
                // Writing to a string does not fail.
                let _ = write!(text, ":{port}");
            }
        }
        Self::with_path(text, uri.path())
    }

    /// An endpoint of which only the path is known.
    pub(crate) fn at_path(path: &str) -> Self {
        Self::with_path(String::new(), path)
    }

    fn with_path(mut text: String, path: &str) -> Self {
        let path_at = text.len();
        let path = path.split(['?', '#']).next().unwrap_or_default();
        text.extend(safe(path).take(Self::MAX_PATH_BYTES));
        Self { text: text.into(), path_at }
    }

    pub(crate) fn path(&self) -> &str {
        self.text.get(self.path_at..).unwrap_or_default()
    }

    /// The whole URL, or the path if no more is known.
    pub(crate) fn url(&self) -> &str {
        &self.text
    }
}

/// The visible ASCII characters.
fn safe(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(char::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_shows_neither_the_user_nor_the_query_of_its_url() {
        let uri = "https://canary:canary@as.example:8443/token?code=canary".parse().unwrap();
        let endpoint = Endpoint::of(&uri);
        assert_eq!(endpoint.url(), "https://as.example:8443/token");
        assert_eq!(endpoint.path(), "/token");
        let bare = Endpoint::at_path("/token?code=canary#canary");
        assert_eq!((bare.url(), bare.path()), ("/token", "/token"));
    }
}
