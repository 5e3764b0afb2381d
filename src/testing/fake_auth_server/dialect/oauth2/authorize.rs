//! The authorization endpoint: a login without a user who types.

use url::Url;

use crate::testing::fake_auth_server::authority::Code;
use crate::testing::fake_auth_server::dialect::RequestContext;
use crate::testing::fake_auth_server::error_code::ErrorCode;
use crate::testing::fake_auth_server::fake_login::FakeLogin;
use crate::testing::fake_auth_server::fake_response::FakeResponse;
use crate::testing::fake_auth_server::incoming_request::Form;

/// RFC 6749 section 4.1.1. Every redirect URI is accepted, but no unknown client.
pub(super) fn authorize(context: &mut RequestContext<'_>) -> Result<FakeResponse, ErrorCode> {
    let RequestContext { server, request, .. } = context;
    let form = request.form()?;
    let client = form.required("client_id")?;
    if !server.accounts.knows(client) {
        return Err(ErrorCode::InvalidClient);
    }
    let redirect_uri = form.required("redirect_uri")?;
    let mut back = Url::parse(redirect_uri).map_err(|_| ErrorCode::InvalidRequest)?;
    // From here on the browser goes back to the client, with a code or with an error.
    let login = login(&server.login, &form);
    let (name, value) = match &login {
        Ok(user) => {
            let code = Code {
                user: user.clone(),
                client: Some(client.to_owned()),
                redirect_uri: redirect_uri.to_owned(),
                challenge: form.value("code_challenge").map(str::to_owned),
                scope: form.value("scope").map(str::to_owned),
                redeemed: None,
            };
            ("code", server.authority.mint_code(code))
        }
        Err(error) => ("error", error.clone()),
    };
    let state = form.value("state").map(|state| ("state", state));
    // RFC 9207 section 2.
    let fields =
        [(name, value.as_str())].into_iter().chain(state).chain([("iss", &*server.issuer)]);
    back.query_pairs_mut().extend_pairs(fields);
    Ok(FakeResponse::redirect(back.into(), login.err()))
}

/// The user who logs in, or the error that the browser takes back (RFC 6749 section 4.1.2.1).
fn login(login: &FakeLogin, form: &Form) -> Result<String, String> {
    if form.value("response_type") != Some("code") {
        return Err("unsupported_response_type".to_owned());
    }
    let method = form.value("code_challenge_method");
    let has_challenge = form.value("code_challenge").is_some();
    // RFC 7636 section 4.3: a challenge without a method is plain.
    if has_challenge && method != Some("S256") || !has_challenge && method.is_some() {
        return Err("invalid_request".to_owned());
    }
    match login {
        FakeLogin::Approve(user) => Ok(user.clone()),
        FakeLogin::Deny(code) => Err(code.clone()),
    }
}
