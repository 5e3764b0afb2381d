//! The authorization endpoint: a login without a user who types.

use http::StatusCode;
use url::Url;

use super::OAuth2Server;
use super::shaped_request::{has_all, scope};
use crate::provider::oauth2::Pkce;
use crate::testing::fake_auth_server::authority::{Code, s256};
use crate::testing::fake_auth_server::dialect::RequestContext;
use crate::testing::fake_auth_server::error_code::ErrorCode;
use crate::testing::fake_auth_server::fake_login::FakeLogin;
use crate::testing::fake_auth_server::fake_response::FakeResponse;
use crate::testing::fake_auth_server::fake_server_shape::FakeServerShape;
use crate::testing::fake_auth_server::incoming_request::Form;

impl OAuth2Server {
    /// RFC 6749 section 4.1.1. Every redirect URI is accepted, but no unknown client.
    pub(super) fn authorize(
        &mut self,
        context: &mut RequestContext<'_>,
    ) -> Result<FakeResponse, ErrorCode> {
        let RequestContext { server, request, now } = context;
        let (shape, form) = (&self.shape, request.form()?);
        let client = form.required(&shape.client_id_parameter)?.to_owned();
        if !server.accounts.knows(&client) {
            return Err(ErrorCode::InvalidClient);
        }
        if shape.requires_pushed && form.value("request_uri").is_none() {
            return Err(ErrorCode::InvalidRequest);
        }
        let form = self.pushed.of(form, &client, &shape.client_id_parameter, now.boot)?;
        let redirect_uri = form.required("redirect_uri")?;
        let mut back = Url::parse(redirect_uri).map_err(|_| ErrorCode::InvalidRequest)?;
        // From here on the browser goes back to the client, with a code or with an error.
        let login = check(shape, &form).and_then(|request| Ok((user(&server.login)?, request)));
        let (name, value) = match &login {
            Ok((user, Accepted { challenge, scope })) => {
                let code = Code {
                    user: user.clone(),
                    client: Some(client),
                    redirect_uri: redirect_uri.to_owned(),
                    challenge: challenge.clone(),
                    scope: scope.clone(),
                    redeemed: None,
                };
                (shape.callback_code_parameter.as_str(), server.authority.mint_code(code))
            }
            Err(error) => ("error", error.clone()),
        };
        let state = form.value("state").map(|state| ("state", state));
        // RFC 9207 section 2.
        let issuer = shape.callback_issuer.then_some(("iss", &*server.issuer));
        let more = shape.callback_parameters.iter();
        let more = more.map(|(name, value)| (name.as_str(), value.as_str()));
        let fields = [(name, value.as_str())].into_iter().chain(state).chain(issuer).chain(more);
        back.query_pairs_mut().extend_pairs(fields);
        Ok(FakeResponse::redirect(back.into(), login.err()))
    }

    /// A page that reads its parameters from the fragment. A client that sends them in the query is
    /// refused.
    pub(super) fn authorization_page(
        &mut self,
        context: &mut RequestContext<'_>,
    ) -> Result<FakeResponse, ErrorCode> {
        match context.request.query {
            None => Ok(FakeResponse::empty(StatusCode::OK)),
            Some(_) => Err(ErrorCode::InvalidRequest),
        }
    }
}

/// What a code must remember of an authorization request.
struct Accepted {
    /// By the method S256.
    challenge: Option<String>,
    scope: Option<String>,
}

/// Reads an authorization request, or gives the error that the browser takes back (RFC 6749 section
/// 4.1.2.1).
fn check(shape: &FakeServerShape, form: &Form) -> Result<Accepted, String> {
    let invalid = || ErrorCode::InvalidRequest.text().to_owned();
    if form.value("response_type") != Some("code") {
        return Err("unsupported_response_type".to_owned());
    }
    if !has_all(form, &shape.authorization_parameters) {
        return Err(invalid());
    }
    let scope = scope(shape, form).map_err(|error| error.text().to_owned())?;
    let challenge = form.value("code_challenge");
    // RFC 7636 section 4.3: a challenge without a method is plain.
    let challenge = match (shape.pkce, challenge, form.value("code_challenge_method")) {
        (None | Some(Pkce::Off), None, None) => None,
        (None | Some(Pkce::S256), Some(challenge), Some("S256")) => Some(challenge.to_owned()),
        (Some(Pkce::Plain), Some(verifier), None | Some("plain")) => Some(s256(verifier)),
        _ => return Err(invalid()),
    };
    Ok(Accepted { challenge, scope })
}

/// The user who logs in, or the error that the browser takes back.
fn user(login: &FakeLogin) -> Result<String, String> {
    match login {
        FakeLogin::Approve(user) => Ok(user.clone()),
        FakeLogin::Deny(code) => Err(code.clone()),
    }
}
