//! A server's endpoints, from its metadata (RFC 8414, OpenID Connect Discovery).

#[cfg(test)]
mod arbitrary_metadata;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::error::{Error, ErrorKind, Result, quoted_url};
use crate::policy::METADATA_WAIT;
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
    /// Whether the server refuses an authorization request that was not pushed (RFC 9126 section 5).
    pub(super) requires_pushed: bool,
}

impl Endpoints {
    /// Whether tokens, codes or browsers would go to a host to which they did not go before.
    pub(super) fn has_moved_from(&self, former: &Discovered) -> bool {
        let Discovered { endpoints: former, is_partial } = former;
        let known: Vec<_> = former.all().map(Url::origin).collect();
        let is_elsewhere = |(new, old): (Option<&Url>, Option<&Url>)| {
            // The document that was not read then may name this one.
            let was_unread = *is_partial && old.is_none();
            new.is_some_and(|new| !was_unread && !known.contains(&new.origin()))
        };
        let mut pairs = self.optional.members().into_iter().zip(former.optional.members());
        self.token.origin() != former.token.origin() || pairs.any(is_elsewhere)
    }

    /// These endpoints, and those of `former` that are missing here.
    pub(super) fn filled_from(&self, former: &Self) -> Self {
        Self {
            token: self.token.clone(),
            optional: self.optional.clone().filled_from(former.optional.clone()),
            names_issuer: self.names_issuer || former.names_issuer,
            requires_pushed: self.requires_pushed || former.requires_pushed,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Url> {
        self.optional.members().into_iter().flatten().chain([&self.token])
    }
}

/// Endpoints that a server need not have.
#[derive(Clone, Default, PartialEq)]
pub(super) struct OptionalEndpoints {
    pub(super) authorization: Option<Url>,
    pub(super) introspection: Option<Url>,
    /// Gives the codes of logins on another device (RFC 8628 section 3.1).
    pub(super) device: Option<Url>,
    pub(super) pushed: Option<Url>,
    /// No metadata names it.
    pub(super) refresh: Option<Url>,
    pub(super) revocation: Option<Url>,
    pub(super) userinfo: Option<Url>,
}

impl OptionalEndpoints {
    fn members(&self) -> [Option<&Url>; 6] {
        let Self { authorization, introspection, device, pushed, refresh: _, revocation, userinfo } =
            self;
        [authorization, introspection, revocation, userinfo, pushed, device].map(Option::as_ref)
    }

    /// Whether none is missing that most servers have.
    fn has_usual(&self) -> bool {
        let Self { authorization, introspection, revocation, userinfo, .. } = self;
        [authorization, introspection, revocation, userinfo].into_iter().all(Option::is_some)
    }

    /// The endpoints that receive a session's tokens.
    pub(super) fn receiving_tokens(&self) -> impl Iterator<Item = &Url> {
        let Self { introspection, refresh, revocation, userinfo, .. } = self;
        [introspection, refresh, revocation, userinfo].into_iter().flatten()
    }

    /// These endpoints, and those of `other` that are missing here.
    fn filled_from(self, other: Self) -> Self {
        Self {
            authorization: self.authorization.or(other.authorization),
            introspection: self.introspection.or(other.introspection),
            device: self.device.or(other.device),
            pushed: self.pushed.or(other.pushed),
            refresh: self.refresh.or(other.refresh),
            revocation: self.revocation.or(other.revocation),
            userinfo: self.userinfo.or(other.userinfo),
        }
    }
}

/// The result of a discovery.
#[derive(Clone)]
pub(super) struct Discovered {
    pub(super) endpoints: Arc<Endpoints>,
    /// Whether one of the two documents could not be read for now, so that members of it may be
    /// missing.
    pub(super) is_partial: bool,
}

/// The members of one usable document.
struct Document {
    token: Url,
    optional: OptionalEndpoints,
    names_issuer: Option<bool>,
    requires_pushed: Option<bool>,
}

impl Document {
    /// Whether the other document has nothing to add that most servers have. So a server without
    /// pushed requests is not asked for both documents each time.
    fn is_complete(&self) -> bool {
        self.optional.has_usual() && self.names_issuer.is_some()
    }

    fn filled_from(self, other: Self) -> Self {
        Self {
            token: self.token,
            optional: self.optional.filled_from(other.optional),
            names_issuer: self.names_issuer.or(other.names_issuer),
            requires_pushed: self.requires_pushed.or(other.requires_pushed),
        }
    }

    fn discovered(self, is_partial: bool) -> Discovered {
        let Self { token, optional, names_issuer, requires_pushed } = self;
        let endpoints = Endpoints {
            token,
            optional,
            names_issuer: names_issuer == Some(true),
            requires_pushed: requires_pushed == Some(true),
        };
        Discovered { endpoints: Arc::new(endpoints), is_partial }
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

    /// Reads the document of RFC 8414 and, unless that one has every member that this provider
    /// uses, the document of `OpenID` Connect. The second document only fills what is missing in the
    /// first. So this sends at most two requests.
    ///
    /// The second request follows every answer to the first one except 429, which asks for fewer
    /// requests. It does not follow a failure without an answer, because both documents are at the
    /// same server.
    pub(super) async fn discover(&self, sender: &HttpSender<'_>) -> Exchanged<Discovered> {
        match self.document(sender, self.oauth()).await {
            Ok(first) if first.is_complete() => Ok(first.discovered(false)),
            Ok(first) => {
                // The first document is enough for most exchanges, so they do not wait for long.
                let second = self.document(sender, self.openid());
                Ok(match sender.timeout(METADATA_WAIT, second).await {
                    Some(Ok(second)) => first.filled_from(second).discovered(false),
                    Some(Err(failed)) => first.discovered(!is_final(&failed)),
                    None => first.discovered(true),
                })
            }
            Err(failed) if failed.status().is_none() => Err(failed),
            Err(failed) if failed.class == FailureClass::Throttled => Err(failed),
            Err(failed) => match self.document(sender, self.openid()).await {
                Ok(second) => {
                    let is_partial = !is_final(&failed) && !second.is_complete();
                    Ok(second.discovered(is_partial))
                }
                Err(also_failed) => Err(of_both(failed, also_failed)),
            },
        }
    }

    /// The document at one of the two URLs.
    async fn document(&self, sender: &HttpSender<'_>, url: Url) -> Exchanged<Document> {
        let response = sender.send(get(&url)?).await.map_err(metadata_failure)?;
        if response.status() != StatusCode::OK {
            return Err(metadata_failure(sender.status_error(&response)).expecting(METADATA));
        }
        self.read(&response)
    }

    /// The document in a response with metadata.
    fn read(&self, response: &HttpResponse) -> Exchanged<Document> {
        let metadata: Metadata = http_message::json_object(response).map_err(|malformed| {
            let class = FailureClass::Misconfigured;
            ExchangeError { class, ..malformed }.expecting(METADATA)
        })?;
        metadata.document(self).map_err(|fault| {
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
    /// RFC 9126 section 5.
    pushed_authorization_request_endpoint: Option<String>,
    require_pushed_authorization_requests: Option<bool>,
    /// RFC 8628 section 4.
    device_authorization_endpoint: Option<String>,
    /// [`Aliases`]. Of any type, because only clients with a certificate need it.
    mtls_endpoint_aliases: Option<Value>,
}

/// The endpoints for clients with a certificate, where they differ (RFC 8705 section 5).
#[derive(Default, Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    pushed_authorization_request_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
}

impl Metadata {
    /// RFC 8414 section 3.3: metadata of another issuer must not be used.
    fn document(self, issuer: &Issuer) -> Result<Document> {
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
        let device = aliases.device_authorization_endpoint;
        let device = device.or(self.device_authorization_endpoint);
        let pushed = aliases.pushed_authorization_request_endpoint;
        let pushed = pushed.or(self.pushed_authorization_request_endpoint);
        let revocation = revocation.as_deref().map(endpoint).transpose()?;
        // An unusable endpoint here must not fail a login without a browser. A caller that needs it
        // gets the error that there is none.
        let usable = |name: Option<String>| name.and_then(|name| endpoint(&name).ok());
        let optional = OptionalEndpoints {
            authorization: usable(self.authorization_endpoint),
            introspection: usable(introspection),
            device: usable(device),
            pushed: usable(pushed),
            refresh: None,
            revocation,
            userinfo: usable(self.userinfo_endpoint),
        };
        let names_issuer = self.authorization_response_iss_parameter_supported;
        let requires_pushed = self.require_pushed_authorization_requests;
        Ok(Document { token: endpoint(&token)?, optional, names_issuer, requires_pushed })
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

/// Whether the server's answer will be the same in a minute: that it has no document there, or one
/// that cannot be used.
fn is_final(failed: &ExchangeError) -> bool {
    failed.class == FailureClass::Misconfigured
}

/// The failure that says the most, if both documents failed. A failure that passes goes first,
/// because the document behind it may be good. Then a document that cannot be used, because its
/// text says what is wrong with it. Otherwise the server has neither document, and the text names
/// both answers.
fn of_both(first: ExchangeError, second: ExchangeError) -> ExchangeError {
    let has_document = |failed: &ExchangeError| failed.status() == Some(200);
    match (is_final(&first), is_final(&second)) {
        (false, _) => first,
        (true, false) => second,
        (true, true) if has_document(&first) => first,
        (true, true) if has_document(&second) => second,
        (true, true) => second.after(&first),
    }
}

const METADATA: &str = "metadata of the configured issuer";
