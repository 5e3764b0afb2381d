//! Logins through a browser: the authorization request and its response (RFC 6749 section 4.1).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use url::Url;

use super::request::check_names;
use super::settings::{AuthorizationResponse, Pkce};
use super::{AuthorizationCode, Grant, OAuth2};
use crate::error::{Error, ErrorKind, ProviderCode, Refusal, Result, quoted};
use crate::policy::MAX_ATTRIBUTE_BYTES;
use crate::provider::http_message::{self, HttpRequest, HttpResponse, RedirectFields};
use crate::provider::{Exchanged, HttpSender, LoginRequest, RedirectLogin};

/// The parameters of an authorization request: name, value.
type LoginFields<'f> = Vec<(&'f str, Cow<'f, str>)>;

/// The options of one login: they may differ from login to login.
///
/// ```
/// use session_warden::provider::oauth2::LoginOptions;
///
/// let options = LoginOptions::new()
///     .scope("openid offline_access")
///     .prompt("consent")
///     .parameter("ui_locales", "de");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoginOptions {
    scope: Option<String>,
    prompt: Option<String>,
    login_hint: Option<String>,
    parameters: BTreeMap<String, String>,
}

impl LoginOptions {
    /// Options that request the provider's scope, and set nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests this scope, names with spaces between them (RFC 6749 section 3.3), in place of the
    /// provider's.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Whether the server asks the user: `none`, `login`, `consent`, `select_account` (`OpenID`
    /// Connect Core 1.0 section 3.1.2.1).
    #[must_use]
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = Some(prompt.into());
        self
    }

    /// The user whose login you expect (`OpenID` Connect Core 1.0 section 3.1.2.1).
    #[must_use]
    pub fn login_hint(mut self, hint: impl Into<String>) -> Self {
        self.login_hint = Some(hint.into());
        self
    }

    /// Sets another parameter of the authorization request. It replaces an earlier one of the same
    /// name. Pass no secret, because the browser's address bar shows the value. A parameter with an
    /// empty value is left out.
    ///
    /// A login is refused as `InvalidInput` if the name is one that this type or the provider sets,
    /// or one that would replace those (`request`, `request_uri`).
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }
}

impl RedirectLogin for OAuth2 {
    type LoginOptions = LoginOptions;

    /// The request of RFC 6749 section 4.1.1, with a code challenge (RFC 7636 section 4.3) unless
    /// the settings turn it off, and with a nonce if the scope has `openid`.
    fn login_url(&self, login: &LoginRequest<'_>, options: &LoginOptions) -> Result<Url> {
        self.authorization_url(&self.login_fields(login, options)?)
    }

    fn pushed_request(
        &self,
        login: &LoginRequest<'_>,
        options: &LoginOptions,
    ) -> Result<Option<HttpRequest>> {
        self.pushed_login(login, options)
    }

    fn pushed_url(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
    ) -> Exchanged<(Url, SystemTime)> {
        self.pushed_login_url(sender, response)
    }

    /// Reads the response of RFC 6749 section 4.1.2, and checks its issuer by RFC 9207 section 2.4.
    /// If the response names no issuer, pass the whole URL or its path and query: it must match the
    /// redirect URI (RFC 9700 section 4.4.2).
    ///
    /// A response that is refused for its issuer and has an `error` is refused with that code in
    /// [`Error::provider_code`]. Show or log it, but do not act on it: the server that sent it is
    /// not known.
    fn login_grant(
        &self,
        redirect: &str,
        login: &LoginRequest<'_>,
        options: &LoginOptions,
    ) -> Result<Grant> {
        let invalid = |words| Error::new(ErrorKind::InvalidInput).about(words);
        let fields = http_message::redirect_fields(redirect)?;
        fields.check_is_answer()?;
        fields.check_state(login)?;
        let without_issuer = self
            .check_issuer(redirect, &fields)
            .map_err(|refused| with_untrusted_code(refused, &fields))?;
        if let Some(code) = fields.get("error") {
            return Err(refused(code.expose_secret()));
        }
        let Some(code) = fields.get(self.code_parameter()) else {
            return Err(invalid("the redirect has no code; begin the login again"));
        };
        let grant = AuthorizationCode::new(code.clone())
            .redirect_uri(self.login_redirect_uri()?)
            .requested_scope(self.login_scope(options.scope.as_deref()))
            .without_issuer(without_issuer)
            .of_redirect(self.redirect_host(&fields)?, self.kept_parameters(&fields));
        Ok(match self.authorization_request.pkce {
            Pkce::Off => grant,
            Pkce::S256 | Pkce::Plain => grant.code_verifier(login.code_verifier().clone()),
        }
        .into())
    }
}

impl OAuth2 {
    /// The parameters of the authorization request (RFC 6749 section 4.1.1).
    pub(super) fn login_fields<'f>(
        &'f self,
        login: &'f LoginRequest<'_>,
        options: &'f LoginOptions,
    ) -> Result<LoginFields<'f>> {
        let parameters = || options.parameters.iter();
        if parameters().any(|(name, _)| name.is_empty() || RESERVED.contains(&name.as_str())) {
            let words = "a parameter of the login has no name, or a name that the crate sets \
                         itself; remove it";
            return Err(Error::new(ErrorKind::InvalidInput).about(words));
        }
        let scope = self.login_scope(options.scope.as_deref()).unwrap_or_default();
        let (method, challenge) = self.code_challenge(login);
        let [client_id, _] = &self.client_parameters;
        let mut fields = vec![
            ("response_type", "code".into()),
            (client_id.as_str(), self.client_id.as_str().into()),
            ("redirect_uri", self.login_redirect_uri()?.into()),
            ("scope", self.wire_scope(scope).into()),
            ("state", login.state().expose_secret().into()),
            ("code_challenge", challenge.into()),
            ("code_challenge_method", method.into()),
        ];
        fields.extend(self.more_fields(login, options, scope));
        fields.retain(|(_, value)| !value.is_empty());
        Ok(fields)
    }

    /// The authorization endpoint with these parameters.
    pub(super) fn authorization_url(&self, fields: &[(&str, Cow<'_, str>)]) -> Result<Url> {
        let Some(endpoint) = self.optional(|known| known.authorization.as_ref()) else {
            let words = "a login needs an authorization endpoint; set `authorization_endpoint`, \
                         because the metadata names none";
            return Err(Error::new(ErrorKind::Misconfigured).about(words));
        };
        // RFC 6749 section 3.1: the endpoint's query is kept, and no parameter is there twice.
        if endpoint.query_pairs().any(|(own, _)| fields.iter().any(|(name, _)| own == *name)) {
            let words = "the authorization endpoint's query has a parameter that the login sets; \
                         remove it from the URL";
            return Err(Error::new(ErrorKind::Misconfigured).about(words));
        }
        Ok(with_fields(endpoint, fields))
    }

    /// The method and the text of the code challenge; both empty without one.
    fn code_challenge(&self, login: &LoginRequest<'_>) -> (&'static str, String) {
        match self.authorization_request.pkce {
            Pkce::S256 => ("S256", login.code_challenge()),
            Pkce::Plain => ("plain", login.code_verifier().expose_secret().to_owned()),
            Pkce::Off => ("", String::new()),
        }
    }

    /// The parameters that the standard does not require. Those of the options take precedence over
    /// those of the settings.
    fn more_fields<'f>(
        &'f self,
        login: &LoginRequest<'_>,
        options: &'f LoginOptions,
        scope: &str,
    ) -> BTreeMap<&'f str, Cow<'f, str>> {
        let texts = |more: &'f BTreeMap<String, String>| {
            more.iter().map(|(name, value)| (name.as_str(), Cow::from(value.as_str())))
        };
        let mut fields = BTreeMap::new();
        // Some servers refuse a request with `openid` and without a nonce (OpenID Connect Core 1.0
        // section 3.1.2.1).
        if scope.split_ascii_whitespace().any(|name| name == "openid") {
            fields.insert("nonce", Cow::from(login.nonce()));
        }
        fields.extend(texts(&self.authorization_request.parameters));
        let named = [("prompt", &options.prompt), ("login_hint", &options.login_hint)];
        for (name, value) in named {
            fields.extend(value.as_deref().map(|value| (name, Cow::from(value))));
        }
        fields.extend(texts(&options.parameters));
        fields
    }

    fn code_parameter(&self) -> &str {
        self.authorization_response.code_parameter.as_deref().unwrap_or("code")
    }

    /// The host that the redirect names for the session.
    fn redirect_host(&self, fields: &RedirectFields) -> Result<Option<String>> {
        let Some(settings) = &self.session_host else { return Ok(None) };
        let Some(parameter) = &settings.callback_parameter else { return Ok(None) };
        let named = fields.get(parameter);
        named.map(|named| self.allowed_host(settings, named.expose_secret())).transpose()
    }

    /// The parameters of the redirect that the session keeps.
    fn kept_parameters(&self, fields: &RedirectFields) -> BTreeMap<String, String> {
        let kept = self.authorization_response.attributes.iter();
        kept.filter_map(|(attribute, parameter)| {
            let value = fields.get(parameter)?.expose_secret();
            (value.len() <= MAX_ATTRIBUTE_BYTES).then(|| (attribute.clone(), value.to_owned()))
        })
        .collect()
    }

    /// Checks a URI to which browsers come back.
    pub(super) fn check_redirect_uri(&self, uri: &str) -> Result<()> {
        let mut response = RESPONSE_PARAMETERS.to_vec();
        response.push(self.code_parameter());
        http_message::check_redirect_uri(uri, &response)
    }

    /// The scope of a login whose options have this one.
    pub(super) fn login_scope<'s>(&'s self, own: Option<&'s str>) -> Option<&'s str> {
        own.or(self.scope.as_deref()).filter(|scope| !scope.is_empty())
    }

    fn login_redirect_uri(&self) -> Result<&str> {
        let missing = || {
            Error::new(ErrorKind::Misconfigured)
                .about("a login needs a redirect URI; set `redirect_uri`")
        };
        self.redirect_uri.as_deref().ok_or_else(missing)
    }

    /// Whether the response names no issuer at a time when it is not known whether it must.
    fn check_issuer(&self, redirect: &str, fields: &RedirectFields) -> Result<bool> {
        match (fields.get("iss"), &self.issuer) {
            (Some(named), Some(issuer)) if issuer.matches(named.expose_secret()) => Ok(false),
            (Some(_), Some(_)) => Err(of_another_server()),
            (Some(_), None) => Err(Error::new(ErrorKind::Misconfigured).about(
                "the response to the login names its issuer, but no issuer is configured to \
                 compare it with; set `OAuth2::issuer`",
            )),
            (None, _) => {
                self.check_place(redirect, fields)?;
                self.issuer_may_be_missing()
            }
        }
    }

    /// Without an issuer, only the URL to which the browser came shows which server sent it.
    fn check_place(&self, redirect: &str, fields: &RedirectFields) -> Result<()> {
        match http_message::reached_redirect_uri(self.login_redirect_uri()?, redirect, fields) {
            Some(true) => Ok(()),
            Some(false) => Err(of_another_server()),
            None => Err(Error::new(ErrorKind::InvalidInput).about(
                "the response to the login names no issuer; pass the whole URL that the browser \
                 came to",
            )),
        }
    }

    /// For a response without an issuer: an error if the issuer is required, true if that is not
    /// known yet.
    fn issuer_may_be_missing(&self) -> Result<bool> {
        match self.known().map(|known| known.names_issuer) {
            _ if self.issuer_is_required => Err(of_another_server()),
            Some(true) => Err(of_another_server()),
            Some(false) => Ok(false),
            // Another process may have begun the login. `establish` knows the metadata and checks
            // again.
            None => Ok(true),
        }
    }
}

fn of_another_server() -> Error {
    let words = "the response comes from another server than the one that the login began at; \
                 begin the login again";
    Error::new(ErrorKind::Refused(Refusal::LoginStateMismatch)).about(words)
}

/// Checks the names of parameters that the settings add to the authorization request.
pub(super) fn check_parameters(parameters: &BTreeMap<String, String>) -> Result<()> {
    const FREE: &[&str] = &["prompt", "login_hint", "request", "request_uri"];
    check_names(parameters.keys(), |name| RESERVED.contains(&name) && !FREE.contains(&name))
}

/// Checks the names of parameters that are kept of the redirect.
pub(super) fn check_response(response: &AuthorizationResponse) -> Result<()> {
    let code = response.code_parameter.as_deref().unwrap_or("code");
    let secret = |name: &&String| [code, "code", "state"].contains(&name.as_str());
    let Some(name) = response.attributes.values().find(secret) else { return Ok(()) };
    Err(Error::new(ErrorKind::InvalidInput).about(format!(
        "the parameter {} of the redirect is a secret and cannot be an attribute; remove it",
        quoted(name)
    )))
}

/// The endpoint with these parameters after its query, or after its fragment if it has one.
fn with_fields(mut endpoint: Url, fields: &[(&str, Cow<'_, str>)]) -> Url {
    let Some(fragment) = endpoint.fragment().map(str::to_owned) else {
        endpoint.query_pairs_mut().extend_pairs(fields);
        return endpoint;
    };
    let joint = if fragment.contains('?') { '&' } else { '?' };
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    endpoint.set_fragment(Some(&format!("{fragment}{joint}{query}")));
    endpoint
}

/// The refusal of a response, with the error code in it, if there is one. The code is shown, but it
/// decides nothing: anyone can send a browser to the redirect URI with a code.
fn with_untrusted_code(refusal: Error, fields: &RedirectFields) -> Error {
    let Some(code) = fields.get("error") else { return refusal };
    let refusal = refusal.with_code(ProviderCode::new(code.expose_secret()));
    if refusal.kind() != ErrorKind::Refused(Refusal::LoginStateMismatch) {
        return refusal;
    }
    refusal.about(match fields.get("iss") {
        Some(_) => {
            "the response to the login reports an error, but it names another server than the one \
             that the login began at, so its error code is shown (`Error::provider_code`) but not \
             trusted; begin the login again"
        }
        None => {
            "the response to the login reports an error, but the server did not name itself in it, \
             so its error code is shown (`Error::provider_code`) but not trusted; begin the login \
             again"
        }
    })
}

/// The error that an error response means (RFC 6749 section 4.1.2.1, `OpenID` Connect Core 1.0
/// section 3.1.2.6).
fn refused(code: &str) -> Error {
    let kind = match code {
        "access_denied" => ErrorKind::Refused(Refusal::NotPermitted),
        // Possible results of `prompt=none`: the server must ask the user.
        "login_required"
        | "interaction_required"
        | "consent_required"
        | "account_selection_required" => ErrorKind::Refused(Refusal::Other),
        "temporarily_unavailable" | "server_error" => ErrorKind::RetryLater,
        _ => ErrorKind::Misconfigured,
    };
    Error::new(kind)
        .with_code(ProviderCode::new(code))
        .about("the server ended the login with an error; see `Error::provider_code`")
}

/// Parameters of the response.
const RESPONSE_PARAMETERS: &[&str] = &["code", "state", "iss", "error"];

/// Parameters of the request that are set elsewhere, that replace others (RFC 9101 section 5), or
/// that have no place in a browser.
const RESERVED: &[&str] = &[
    "response_type",
    "client_id",
    "client_secret",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "prompt",
    "login_hint",
    "request",
    "request_uri",
];
