//! Where a server's endpoints are: told by its metadata (RFC 8414, OpenID Connect Discovery).

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::provider::wire::{self, Wire};
use crate::provider::{ExchangeError, FailureClass};

/// The endpoints that this provider uses.
#[derive(Clone)]
pub(super) struct Endpoints {
    pub(super) token: Url,
    pub(super) revocation: Option<Url>,
}

/// A server's name for itself, under which it publishes its metadata.
#[derive(Clone)]
pub(super) struct Issuer {
    /// As it was given: the metadata must say the very same.
    name: String,
    url: Url,
}

impl Issuer {
    pub(super) fn new(name: &str) -> Result<Self> {
        let url = wire::endpoint(name)?;
        if url.query().is_some() {
            return Err(Error::new(ErrorKind::InvalidInput).about("the issuer has a query"));
        }
        Ok(Self { name: name.to_owned(), url })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Asks for the metadata where RFC 8414 has it, and where `OpenID` Connect has it if there is
    /// none.
    pub(super) async fn discover(&self, wire: &Wire<'_>) -> Result<Endpoints, ExchangeError> {
        let mut answer = wire.send(get(&self.oauth())?).await.map_err(harmless)?;
        if answer.status() == StatusCode::NOT_FOUND {
            answer = wire.send(get(&self.openid())?).await.map_err(harmless)?;
        }
        if answer.status() != StatusCode::OK {
            return Err(harmless(wire.unsuccessful(&answer)));
        }
        let metadata: Metadata = wire::object(&answer).map_err(|malformed| ExchangeError {
            class: FailureClass::Misconfigured,
            ..malformed
        })?;
        metadata.endpoints(&self.name).map_err(|fault| {
            let failed = ExchangeError::new(FailureClass::Misconfigured).with_source(fault);
            failed.with_status(answer.status())
        })
    }

    /// RFC 8414 section 3.1: before the issuer's path.
    fn oauth(&self) -> Url {
        self.at(format!("/.well-known/oauth-authorization-server{}", self.path()))
    }

    /// `OpenID` Connect Discovery 1.0 section 4: behind the issuer's path.
    fn openid(&self) -> Url {
        self.at(format!("{}/.well-known/openid-configuration", self.path()))
    }

    fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    fn at(&self, path: String) -> Url {
        let mut url = self.url.clone();
        url.set_path(&path);
        url
    }
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: String,
    revocation_endpoint: Option<String>,
}

impl Metadata {
    /// RFC 8414 section 3.3: metadata of another issuer must not be used.
    fn endpoints(self, issuer: &str) -> Result<Endpoints> {
        if self.issuer != issuer {
            let words = "the metadata names another issuer";
            return Err(Error::new(ErrorKind::Misconfigured).about(words));
        }
        let revocation = self.revocation_endpoint.as_deref().map(wire::endpoint).transpose()?;
        Ok(Endpoints { token: wire::endpoint(&self.token_endpoint)?, revocation })
    }
}

fn get(url: &Url) -> Result<Request<Bytes>, ExchangeError> {
    Request::get(url.as_str())
        .body(Bytes::new())
        .map_err(|cause| ExchangeError::new(FailureClass::Misconfigured).with_source(cause))
}

/// Nothing is at stake in asking for metadata, so no failure of it puts a session in doubt.
fn harmless(failed: ExchangeError) -> ExchangeError {
    if failed.class != FailureClass::Ambiguous {
        return failed;
    }
    let refused = failed.status.is_some_and(|status| (400..500).contains(&status));
    let class = if refused { FailureClass::Misconfigured } else { FailureClass::NotProcessed };
    ExchangeError { class, ..failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_path_goes_before_the_issuers_path_and_openids_behind_it() {
        let plain = Issuer::new("https://as.example/").unwrap();
        assert_eq!(
            plain.oauth().as_str(),
            "https://as.example/.well-known/oauth-authorization-server"
        );
        assert_eq!(plain.openid().as_str(), "https://as.example/.well-known/openid-configuration");
        let deep = Issuer::new("https://as.example/realms/a/").unwrap();
        assert_eq!(
            deep.oauth().as_str(),
            "https://as.example/.well-known/oauth-authorization-server/realms/a"
        );
        assert_eq!(
            deep.openid().as_str(),
            "https://as.example/realms/a/.well-known/openid-configuration"
        );
    }

    #[test]
    fn an_issuer_is_https_or_a_loopback_address_without_query_or_fragment() {
        for name in ["http://as.example", "https://as.example/?a", "https://as.example/#a", "as"] {
            assert_eq!(Issuer::new(name).err().unwrap().kind(), ErrorKind::InvalidInput, "{name}");
        }
        Issuer::new("http://127.0.0.1:8080/realm").map(drop).unwrap();
    }
}
