//! A server's endpoints, from its metadata (RFC 8414, OpenID Connect Discovery).

#[cfg(test)]
mod arbitrary_metadata;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::error::{Error, ErrorKind, Result, quoted_url};
use crate::provider::http_message::{HttpRequest, HttpResponse};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, FailureClass};
use crate::provider::{Exchanged, http_message};

/// The endpoints that this provider uses.
#[derive(Clone, PartialEq)]
pub(super) struct Endpoints {
    pub(super) token: Url,
    pub(super) optional: OptionalEndpoints,
    /// Whether every response of the authorization endpoint names the issuer (RFC 9207 section 3).
    pub(super) names_issuer: bool,
}

impl Endpoints {
    /// Whether tokens, codes or browsers would go to a host to which they did not go before.
    pub(super) fn has_moved_from(&self, former: &Self) -> bool {
        let known: Vec<_> = former.all().map(Url::origin).collect();
        let token_has = self.token.origin() != former.token.origin();
        token_has || !self.all().all(|url| known.contains(&url.origin()))
    }

    fn all(&self) -> impl Iterator<Item = &Url> {
        let browsers = self.optional.authorization.iter();
        browsers.chain(self.optional.receiving_tokens()).chain([&self.token])
    }
}

/// Endpoints that a server need not have.
#[derive(Clone, Default, PartialEq)]
pub(super) struct OptionalEndpoints {
    pub(super) authorization: Option<Url>,
    pub(super) introspection: Option<Url>,
    /// No metadata names it.
    pub(super) refresh: Option<Url>,
    pub(super) revocation: Option<Url>,
    pub(super) userinfo: Option<Url>,
}

impl OptionalEndpoints {
    /// The endpoints that receive a session's tokens.
    pub(super) fn receiving_tokens(&self) -> impl Iterator<Item = &Url> {
        let Self { authorization: _, introspection, refresh, revocation, userinfo } = self;
        [introspection, refresh, revocation, userinfo].into_iter().flatten()
    }
}

/// A server's issuer identifier, under which it publishes its metadata.
#[derive(Clone)]
pub(super) struct Issuer {
    /// As it was configured: the metadata must name exactly the same.
    name: String,
    url: Url,
    /// Whether the client has a certificate, and so uses the endpoints for such clients.
    certified: bool,
}

impl Issuer {
    pub(super) fn new(name: &str) -> Result<Self> {
        let url = http_message::base_url(name, "the issuer has a query; remove what follows `?`")?;
        Ok(Self { name: name.to_owned(), url, certified: false })
    }

    /// The same, for a client with a certificate. It uses the endpoints for such clients, if the
    /// metadata names some (RFC 8705 section 5).
    pub(super) fn certified(self) -> Self {
        Self { certified: true, ..self }
    }

    /// As it was configured.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Compared character by character (RFC 9207 section 2.4).
    pub(super) fn matches(&self, name: &str) -> bool {
        self.name == name
    }

    /// Requests the metadata at the URL of RFC 8414, and if it is not found, at the URL of `OpenID`
    /// Connect.
    pub(super) async fn discover(&self, sender: &HttpSender<'_>) -> Exchanged<Endpoints> {
        let mut response = sender.send(get(&self.oauth())?).await.map_err(metadata_failure)?;
        if response.status() == StatusCode::NOT_FOUND {
            response = sender.send(get(&self.openid())?).await.map_err(metadata_failure)?;
        }
        if response.status() != StatusCode::OK {
            return Err(metadata_failure(sender.status_error(&response)).expecting(METADATA));
        }
        self.read(&response)
    }

    /// The endpoints in a response with metadata.
    fn read(&self, response: &HttpResponse) -> Exchanged<Endpoints> {
        let metadata: Metadata = http_message::json_object(response).map_err(|malformed| {
            let class = FailureClass::Misconfigured;
            ExchangeError { class, ..malformed }.expecting(METADATA)
        })?;
        metadata.endpoints(self).map_err(|fault| {
            let failed = ExchangeError::of_response(FailureClass::Misconfigured, response);
            let failed = failed.expecting(METADATA);
            match fault.explanation() {
                Some(words) => failed.about_response(&words),
                None => failed.with_source(fault),
            }
        })
    }

    /// RFC 8414 section 3.1: the well-known path is before the issuer's path.
    fn oauth(&self) -> Url {
        self.at(format!("/.well-known/oauth-authorization-server{}", self.path()))
    }

    /// `OpenID` Connect Discovery 1.0 section 4: the well-known path is after the issuer's path.
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
    authorization_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    /// `OpenID` Connect Discovery 1.0 section 3.
    userinfo_endpoint: Option<String>,
    /// RFC 9207 section 3.
    authorization_response_iss_parameter_supported: Option<bool>,
    /// [`Aliases`]. Of any type, because only clients with a certificate need it.
    mtls_endpoint_aliases: Option<Value>,
}

/// The endpoints for clients with a certificate, where they differ (RFC 8705 section 5).
#[derive(Default, Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
}

impl Metadata {
    /// RFC 8414 section 3.3: metadata of another issuer must not be used.
    fn endpoints(self, issuer: &Issuer) -> Result<Endpoints> {
        if !issuer.matches(&self.issuer) {
            return Err(Error::new(ErrorKind::Misconfigured).about(format!(
                "it names the issuer {} in place of {}; configure exactly the issuer that the \
                 server names",
                quoted_url(&self.issuer),
                quoted_url(&issuer.name)
            )));
        }
        let aliases = self.mtls_endpoint_aliases.filter(|_| issuer.certified);
        let aliases = aliases.and_then(|aliases| Aliases::deserialize(aliases).ok());
        let aliases = aliases.unwrap_or_default();
        let endpoint = |text: &str| http_message::endpoint_of(issuer.url(), text);
        let token = aliases.token_endpoint.unwrap_or(self.token_endpoint);
        let revocation = aliases.revocation_endpoint.or(self.revocation_endpoint);
        let introspection = aliases.introspection_endpoint.or(self.introspection_endpoint);
        let revocation = revocation.as_deref().map(endpoint).transpose()?;
        // An unusable endpoint here must not fail a login without a browser. A caller that needs it
        // gets the error that there is none.
        let usable = |name: Option<String>| name.and_then(|name| endpoint(&name).ok());
        let optional = OptionalEndpoints {
            authorization: usable(self.authorization_endpoint),
            introspection: usable(introspection),
            refresh: None,
            revocation,
            userinfo: usable(self.userinfo_endpoint),
        };
        let names_issuer = self.authorization_response_iss_parameter_supported == Some(true);
        Ok(Endpoints { token: endpoint(&token)?, optional, names_issuer })
    }
}

fn get(url: &Url) -> Exchanged<HttpRequest> {
    Request::get(url.as_str())
        .body(Bytes::new())
        .map_err(|cause| ExchangeError::new(FailureClass::Misconfigured).with_source(cause))
}

/// A request for metadata carries no credentials, so no failure of it puts a session in doubt.
fn metadata_failure(failed: ExchangeError) -> ExchangeError {
    match failed.nothing_in_doubt() {
        failed if failed.class == FailureClass::Unclassified => {
            ExchangeError { class: FailureClass::Misconfigured, ..failed }
        }
        failed => failed,
    }
}

const METADATA: &str = "metadata of the configured issuer";

#[cfg(test)]
mod tests {
    use FailureClass as Class;
    use futures_util::future::join;

    use super::*;
    use crate::provider::oauth2::{Attributes, OAuth2};
    use crate::provider::test_bench::Bench;
    use crate::provider::{Provider, Revoked};
    use crate::token::Tokens;
    use crate::transport::peer::Peer;

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
    fn an_https_issuer_names_no_plain_http_endpoint_on_another_machine() {
        let named = |issuer: &str, endpoint: &str| {
            let issuer = Issuer::new(issuer).unwrap();
            http_message::endpoint_of(issuer.url(), endpoint).map(drop)
        };
        let refused = named("https://as.example", "http://as.example/token").unwrap_err();
        assert!(refused.to_string().contains("http://as.example/token"), "{refused}");
        named("https://as.example", "http://127.0.0.1/token").unwrap();
        named("https://as.example", "https://other.example/token").unwrap();
        named("http://keycloak:8080", "http://keycloak:9000/token").unwrap();
        named("http://keycloak:8080", "http://other:8080/token").unwrap_err();
    }

    #[test]
    fn an_issuer_is_an_http_or_https_url_without_query_or_fragment() {
        for name in ["ftp://as.example", "https://as.example/?a", "https://as.example/#a", "as"] {
            assert_eq!(Issuer::new(name).err().unwrap().kind(), ErrorKind::InvalidInput, "{name}");
        }
        Issuer::new("http://127.0.0.1:8080/realm").map(drop).unwrap();
    }

    /// The metadata of the server at `issuer`, with endpoints there.
    fn metadata(issuer: &str) -> String {
        format!(
            r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/t","revocation_endpoint":"{issuer}/r",
                "grant_types_supported":["password"]}}"#
        )
    }

    #[tokio::test]
    async fn metadata_is_asked_for_once_and_where_openid_has_it_if_it_is_not_found() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let issuer = peer.url("/realm");
        let client = OAuth2::discover(&issuer, "c").unwrap();
        assert_eq!(client.authority_url().as_str(), issuer);
        let sender = bench.sender();
        let serve = async {
            let first = peer.json(404, "").await;
            assert!(
                first.starts_with("GET /.well-known/oauth-authorization-server/realm "),
                "{first}"
            );
            let second = peer.json(200, &metadata(&issuer)).await;
            assert!(second.starts_with("GET /realm/.well-known/openid-configuration "), "{second}");
        };
        join(client.prepare(&sender), serve).await.0.unwrap();
        client.prepare(&sender).await.unwrap();

        let held = Tokens::new(Attributes::default()).with_refresh_token("rt-0", None);
        let issued = r#"{"access_token":"at-1"}"#;
        let (_, seen) = join(
            client.refresh(&sender, held.refresh_token().unwrap(), &held),
            peer.json(200, issued),
        )
        .await;
        assert!(seen.starts_with("POST /realm/t "), "{seen}");
        let (revoked, seen) = join(client.revoke(&sender, &held), peer.json(200, "")).await;
        assert_eq!(revoked.unwrap(), Revoked::AtServer);
        assert!(seen.starts_with("POST /realm/r "), "{seen}");
    }

    /// RFC 8705 section 5.
    #[test]
    fn a_client_with_a_certificate_uses_the_endpoints_for_such_clients() {
        let (plain, certified) =
            (Issuer::new("https://as.example"), Issuer::new("https://as.example"));
        let (plain, certified) = (plain.unwrap(), certified.unwrap().certified());
        let endpoints = |issuer: &Issuer, aliases: &str| {
            let metadata = metadata("https://as.example");
            let metadata = metadata.trim_end().trim_end_matches('}');
            let text = format!(r#"{metadata},"mtls_endpoint_aliases":{aliases}}}"#);
            let metadata: Metadata = serde_json::from_str(&text).unwrap();
            let endpoints = metadata.endpoints(issuer).ok().unwrap();
            [Some(endpoints.token), endpoints.optional.revocation, endpoints.optional.introspection]
                .map(|url| url.map(String::from).unwrap_or_default())
        };
        let aliases = r#"{"token_endpoint":"https://mtls.as.example/t",
            "introspection_endpoint":"https://mtls.as.example/i"}"#;
        let usual = ["https://as.example/t", "https://as.example/r", ""];
        assert_eq!(endpoints(&plain, aliases), usual);
        let own =
            ["https://mtls.as.example/t", "https://as.example/r", "https://mtls.as.example/i"];
        assert_eq!(endpoints(&certified, aliases), own);
        for unusable in ["null", "7", "{}"] {
            assert_eq!(endpoints(&certified, unusable), usual, "{unusable}");
        }
    }

    #[tokio::test]
    async fn metadata_that_cannot_be_used_is_not_kept_and_puts_nothing_in_doubt() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let issuer = peer.url("");
        let client = OAuth2::discover(&issuer, "c").unwrap();
        let good = metadata(&issuer);
        for (status, body, class) in [
            (200, metadata("https://other.example"), Class::Misconfigured),
            (200, metadata(&format!("{issuer}/")), Class::Misconfigured),
            (200, good.replace("http:", "ftp:"), Class::Misconfigured),
            (200, good.replace(&format!("{issuer}/t"), "http://as.example/"), Class::Misconfigured),
            (200, format!(r#"{{"issuer":"{issuer}"}}"#), Class::Misconfigured),
            (200, "canary".to_owned(), Class::Misconfigured),
            (204, String::new(), Class::NotProcessed),
            (302, String::new(), Class::Misconfigured),
            (401, String::new(), Class::Misconfigured),
            (429, String::new(), Class::Throttled),
            (500, String::new(), Class::NotProcessed),
        ] {
            let sender = bench.sender();
            let (prepared, _) = join(client.prepare(&sender), peer.json(status, &body)).await;
            let failed = prepared.unwrap_err();
            assert_eq!(failed.class(), class, "{status} {body}");
            let path = "/.well-known/oauth-authorization-server";
            assert_eq!((failed.status(), failed.path()), (Some(status), Some(path)));
            assert!(!format!("{failed:?}").contains("canary"));
            let named = format!("answered {status} at {issuer}{path}, where metadata of the");
            let text = failed.into_error().to_string();
            assert_eq!(text.contains(&named), class == Class::Misconfigured, "{text}");
        }
        let sender = bench.sender();
        let (prepared, _) = join(client.prepare(&sender), peer.answer("HTTP/1.1 20")).await;
        assert_eq!(prepared.unwrap_err().class(), Class::NotProcessed);
        let sender = bench.sender();
        join(client.prepare(&sender), peer.json(200, &good)).await.0.unwrap();
    }
}
