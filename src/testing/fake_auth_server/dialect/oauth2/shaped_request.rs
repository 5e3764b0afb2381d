//! Reads requests of a shape, and refuses all others.

use std::collections::BTreeMap;

use crate::provider::oauth2::{ClientAuthentication, RequestBody};
use crate::testing::fake_auth_server::error_code::ErrorCode;
use crate::testing::fake_auth_server::fake_server_shape::FakeServerShape;
use crate::testing::fake_auth_server::incoming_request::{ClientAuth, Form, IncomingRequest};

/// The fields of a token, revocation or introspection request.
pub(super) struct ShapedRequest<'a> {
    shape: &'a FakeServerShape,
    request: &'a IncomingRequest,
    form: Form,
}

/// A grant type of RFC 6749, whatever the server's word for it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantType {
    Password,
    ClientCredentials,
    AuthorizationCode,
    /// RFC 8628 section 3.4.
    DeviceCode,
    /// RFC 7523 section 2.1.
    JwtBearer,
    /// RFC 8693 section 2.1.
    TokenExchange,
    RefreshToken,
}

impl<'a> ShapedRequest<'a> {
    pub(super) fn read(
        shape: &'a FakeServerShape,
        request: &'a IncomingRequest,
    ) -> Result<Self, ErrorCode> {
        let form = match shape.request_body {
            RequestBody::Form => request.form()?,
            RequestBody::Json => request.json_fields()?,
            RequestBody::Query => {
                if !request.body.is_empty() {
                    return Err(ErrorCode::InvalidRequest);
                }
                request.query_form()?
            }
        };
        Ok(Self { shape, request, form })
    }

    pub(super) fn into_form(self) -> Form {
        self.form
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.form.value(name)
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, ErrorCode> {
        self.form.required(name)
    }

    /// Whether the request says nothing of a client.
    pub(super) fn names_no_client(&self) -> bool {
        let says = self.client_id().is_some() || self.value("client_assertion").is_some();
        !says && self.request.authorization("basic").is_none()
    }

    /// The client's id among the fields.
    pub(super) fn client_id(&self) -> Option<&str> {
        self.form.value(&self.shape.client_id_parameter)
    }

    pub(super) fn code(&self) -> Result<&str, ErrorCode> {
        self.form.required(&self.shape.code_parameter)
    }

    pub(super) fn grant_type(&self) -> Result<GrantType, ErrorCode> {
        let word = self.form.required("grant_type")?;
        let extension = match word {
            "urn:ietf:params:oauth:grant-type:device_code" => Some(GrantType::DeviceCode),
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => Some(GrantType::JwtBearer),
            "urn:ietf:params:oauth:grant-type:token-exchange" => Some(GrantType::TokenExchange),
            _ => None,
        };
        if let Some(extension) = extension {
            return Ok(extension);
        }
        let own = &self.shape.grant_types;
        let known = [
            (GrantType::Password, &own.password, "password"),
            (GrantType::ClientCredentials, &own.client_credentials, "client_credentials"),
            (GrantType::AuthorizationCode, &own.authorization_code, "authorization_code"),
            (GrantType::RefreshToken, &own.refresh_token, "refresh_token"),
        ];
        let known = known.iter().find(|(_, own, usual)| own.as_deref().unwrap_or(usual) == word);
        known.map(|(kind, ..)| *kind).ok_or(ErrorCode::UnsupportedGrantType)
    }

    /// Refuses a token request of this type that is at the wrong path, or that lacks a parameter or
    /// a header.
    pub(super) fn check(&self, grant_type: GrantType) -> Result<(), ErrorCode> {
        let Self { shape, request, form } = self;
        let refreshes = grant_type == GrantType::RefreshToken;
        let refresh_path = shape.refresh_path.as_deref().filter(|_| refreshes);
        let (parameters, headers, has_scope) = if refreshes {
            (&shape.refresh_parameters, &shape.refresh_headers, shape.scope_in_refresh)
        } else {
            (&shape.token_parameters, &shape.token_headers, shape.scope_in_token_request)
        };
        let fits = request.path == refresh_path.unwrap_or("/token")
            && has_all(form, parameters)
            && headers.iter().all(|(name, value)| request.header(name) == Some(value))
            && has_scope.is_none_or(|has_scope| form.value("scope").is_some() == has_scope);
        if fits { Ok(()) } else { Err(ErrorCode::InvalidRequest) }
    }

    /// The names of the scope with spaces between them.
    pub(super) fn scope(&self) -> Result<Option<String>, ErrorCode> {
        scope(self.shape, &self.form)
    }

    /// The client's id and secret, if they are where the shape has them and nowhere else.
    pub(super) fn client(&self) -> Result<ClientAuth, ErrorCode> {
        let Self { shape, request, form } = self;
        let [id, secret] = [&shape.client_id_parameter, &shape.client_secret_parameter];
        let Some(method) = &shape.client_authentication else {
            return request.client(form, [id, secret]);
        };
        let query = request.query_form()?;
        let in_form = ClientAuth::of(form.value(id), form.value(secret));
        let in_query = ClientAuth::of(query.value(id), query.value(secret));
        let in_query = in_query.filter(|_| shape.request_body != RequestBody::Query);
        let by_basic = request.authorization("basic");
        let by_headers = match method {
            ClientAuthentication::Header(names) => ClientAuth::of(
                request.header(&names.client_id),
                request.header(&names.client_secret),
            ),
            ClientAuthentication::None
            | ClientAuthentication::Basic
            | ClientAuthentication::BasicUnescaped
            | ClientAuthentication::Post
            | ClientAuthentication::Query
            | ClientAuthentication::PrivateKeyJwt(_) => None,
        };
        let places =
            [in_form.is_some(), in_query.is_some(), by_basic.is_some(), by_headers.is_some()];
        if places.into_iter().filter(|used| *used).count() > 1 {
            return Err(ErrorCode::InvalidClient);
        }
        let found = match method {
            ClientAuthentication::Query if shape.request_body != RequestBody::Query => in_query,
            ClientAuthentication::None
            | ClientAuthentication::Post
            | ClientAuthentication::Query => in_form,
            ClientAuthentication::Header(_) => by_headers,
            // Only an assertion authenticates, and this request has none.
            ClientAuthentication::PrivateKeyJwt(_) => None,
            ClientAuthentication::Basic => by_basic.and_then(ClientAuth::from_basic),
            ClientAuthentication::BasicUnescaped => {
                by_basic.and_then(ClientAuth::from_unescaped_basic)
            }
        };
        let has_secret = *method != ClientAuthentication::None;
        let found = found.filter(|client| client.secret.is_some() == has_secret);
        found.ok_or(ErrorCode::InvalidClient)
    }
}

/// Whether the form has each of these parameters with its value.
pub(super) fn has_all(form: &Form, parameters: &BTreeMap<String, String>) -> bool {
    parameters.iter().all(|(name, value)| form.value(name) == Some(value))
}

/// The names of the scope in the form, with spaces between them.
pub(super) fn scope(shape: &FakeServerShape, form: &Form) -> Result<Option<String>, ErrorCode> {
    let separator = shape.scope_separator.as_str();
    match form.value("scope") {
        Some(scope) if separator != " " && scope.contains(' ') => Err(ErrorCode::InvalidRequest),
        scope => Ok(scope.map(|scope| scope.replace(separator, " "))),
    }
}
