//! Makes a client from settings.

use super::OAuth2;
use super::jwt_bearer::JwtBearer;
use super::settings::{ClientAuthentication, OAuth2Settings, RefreshDue};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::RefreshPolicy;
use crate::provider::{Registration, Rotation};

impl OAuth2 {
    /// The client with these settings. See the example of [`OAuth2Settings`].
    ///
    /// It ignores [`due`](OAuth2Settings::due), which
    /// [`registration`](OAuth2Settings::registration) applies.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] with the name of the field whose value cannot be used.
    pub fn from_settings(settings: OAuth2Settings) -> Result<Self> {
        let client = match (&settings.token_endpoint, &settings.issuer) {
            (Some(url), _) => Self::new(url, &settings.client_id).map_err(in_field(
                match &*settings.client_id {
                    "" => "client_id",
                    _ => "token_endpoint",
                },
            ))?,
            (None, Some(issuer)) => {
                Self::discover(issuer, &settings.client_id).map_err(in_field("issuer"))?
            }
            (None, None) => {
                let words = "the settings have neither `token_endpoint` nor `issuer`; add one";
                return Err(refused(words));
            }
        };
        client.with_identity(&settings)?.with_endpoints(&settings)?.with_requests(settings)
    }

    /// With the settings of the client and of the server's rules.
    fn with_identity(mut self, settings: &OAuth2Settings) -> Result<Self> {
        self = self.authenticated(settings)?;
        if let Some(issuer) = &settings.issuer {
            self = self.issuer(issuer).map_err(in_field("issuer"))?;
        }
        self.issuer_is_required = settings.require_issuer;
        self.pushes_logins = settings.push_authorization_requests;
        self.scope.clone_from(&settings.scope);
        if let Some(separator) = &settings.scope_separator {
            self.scope_separator.clone_from(separator);
        }
        self.rotation = settings.rotation.unwrap_or(Rotation::Strict);
        self.revocation_reach = settings.revocation_reach;
        self.ends_access_tokens = settings.refresh_ends_access_tokens;
        self.auto_renew = settings.client_credentials;
        self.service_account = service_account(settings)?;
        self.refresh_lifetime = settings.refresh_lifetime;
        self = self.api_origins(&settings.api_origins).map_err(in_field("api_origins"))?;
        self.request_body = settings.request_body;
        let [id, secret] = &mut self.client_parameters;
        for (name, own) in
            [(id, &settings.client_id_parameter), (secret, &settings.client_secret_parameter)]
        {
            if let Some(own) = own {
                name.clone_from(own);
            }
        }
        Ok(self)
    }

    fn authenticated(self, settings: &OAuth2Settings) -> Result<Self> {
        let OAuth2Settings {
            client_secret: secret,
            client_key: key,
            client_certificate: chain,
            client_authentication: method,
            ..
        } = settings;
        let client = match (chain, key) {
            (Some(chain), Some(key)) => self.client_certificate(chain, key.clone())?,
            (Some(_), None) => {
                return Err(refused("`client_certificate` needs its key; add `client_key`"));
            }
            (None, Some(_))
                if !matches!(method, Some(ClientAuthentication::PrivateKeyJwt(_)))
                    && !signs_grants(settings) =>
            {
                return Err(refused(
                    "nothing uses `client_key`; add `client_certificate`, or the method \
                     `private_key_jwt` as `client_authentication`",
                ));
            }
            (None, _) => self,
        };
        let field = in_field("client_authentication");
        match (method, secret, key) {
            (None | Some(ClientAuthentication::None), None, _) => Ok(client),
            (None, Some(secret), _) => Ok(client.client_secret_basic(secret.clone())),
            (Some(method @ ClientAuthentication::PrivateKeyJwt(_)), None, Some(key)) => {
                client.client_authentication(method.clone(), key.clone())
            }
            (Some(ClientAuthentication::PrivateKeyJwt(_)), Some(_), _) => Err(field(refused(
                "the method `private_key_jwt` uses no secret; remove `client_secret`",
            ))),
            (Some(ClientAuthentication::PrivateKeyJwt(_)), None, None) => {
                Err(field(refused("the method `private_key_jwt` needs a key; add `client_key`")))
            }
            (Some(method), Some(secret), _) => {
                client.client_authentication(method.clone(), secret.clone()).map_err(field)
            }
            (Some(_), None, _) => {
                Err(field(refused("the method needs a secret; add `client_secret`")))
            }
        }
    }

    fn with_endpoints(self, settings: &OAuth2Settings) -> Result<Self> {
        type Setter = fn(OAuth2, &str) -> Result<OAuth2>;
        let setters: [(&'static str, &Option<String>, Setter); 8] = [
            ("refresh_endpoint", &settings.refresh_endpoint, Self::refresh_endpoint),
            ("revocation_endpoint", &settings.revocation_endpoint, Self::revocation_endpoint),
            (
                "authorization_endpoint",
                &settings.authorization_endpoint,
                Self::authorization_endpoint,
            ),
            (
                "pushed_authorization_request_endpoint",
                &settings.pushed_authorization_request_endpoint,
                Self::pushed_authorization_request_endpoint,
            ),
            (
                "device_authorization_endpoint",
                &settings.device_authorization_endpoint,
                Self::device_authorization_endpoint,
            ),
            (
                "introspection_endpoint",
                &settings.introspection_endpoint,
                Self::introspection_endpoint,
            ),
            ("userinfo_endpoint", &settings.userinfo_endpoint, Self::userinfo_endpoint),
            ("redirect_uri", &settings.redirect_uri, Self::redirect_uri),
        ];
        setters.into_iter().try_fold(self, |client, (field, text, set)| match text {
            Some(text) => set(client, text).map_err(in_field(field)),
            None => Ok(client),
        })
    }

    fn with_requests(self, settings: OAuth2Settings) -> Result<Self> {
        let client = self
            .token_request(settings.token_request)
            .map_err(in_field("token_request"))?
            .refresh_request(settings.refresh_request)
            .map_err(in_field("refresh_request"))?
            .authorization_request(settings.authorization_request)
            .map_err(in_field("authorization_request"))?
            .authorization_response(settings.authorization_response)
            .map_err(in_field("authorization_response"))?
            .token_response(settings.token_response)
            .map_err(in_field("token_response"))?;
        let client = settings.error_rules.into_iter().fold(client, Self::error_rule);
        let client = settings.token_dead_on.into_iter().fold(client, Self::token_dead_on);
        match settings.session_host {
            Some(host) => client.session_host(host).map_err(in_field("session_host")),
            None => Ok(client),
        }
    }
}

impl OAuth2Settings {
    /// The client with these settings, and when its tokens are due. See the example of
    /// [`RefreshDue`].
    ///
    /// # Errors
    ///
    /// As [`OAuth2::from_settings`]. The start of the supervisor refuses a [`due`](Self::due) that
    /// cannot be used.
    pub fn registration(mut self) -> Result<Registration<OAuth2>> {
        let due = self.due.take().unwrap_or_default();
        let RefreshDue { fraction, at_least, at_most } = due;
        let usual = RefreshPolicy::default();
        let policy = RefreshPolicy {
            fraction: fraction.unwrap_or(usual.fraction),
            at_least: at_least.unwrap_or(usual.at_least),
            at_most: at_most.unwrap_or_else(|| usual.at_most.max(at_least.unwrap_or_default())),
            ..usual
        };
        Ok(Registration::new(OAuth2::from_settings(self)?).refresh(policy))
    }
}

/// Whether the client's own key signs the JWTs that are grants.
fn signs_grants(settings: &OAuth2Settings) -> bool {
    settings.jwt_bearer.is_some() && settings.jwt_bearer_key.is_none()
}

/// The grant with which sessions obtain their tokens by themselves.
fn service_account(settings: &OAuth2Settings) -> Result<Option<JwtBearer>> {
    let field = in_field("jwt_bearer");
    let key = settings.jwt_bearer_key.as_ref();
    let Some(assertion) = &settings.jwt_bearer else {
        let words = "nothing uses `jwt_bearer_key`; add `jwt_bearer`";
        return if key.is_some() { Err(refused(words)) } else { Ok(None) };
    };
    if settings.client_credentials {
        return Err(field(refused("a session has one such grant; remove `client_credentials`")));
    }
    let missing = || field(refused("it needs a key; add `jwt_bearer_key`"));
    let key = key.or(settings.client_key.as_ref()).ok_or_else(missing)?;
    JwtBearer::new(assertion.clone(), key.clone()).map(Some).map_err(&field)
}

fn refused(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput).about(words)
}

/// The error with the name of the field before its text.
fn in_field(field: &'static str) -> impl Fn(Error) -> Error {
    move |error| {
        let words = error.explanation().unwrap_or_default();
        Error::new(error.kind()).about(format!("`{field}`: {words}")).with_source(error)
    }
}
