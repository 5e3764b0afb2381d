//! What a user's browser meets: a login that needs nobody to type.

use url::Url;

use super::authority::Code;
use super::reply::{Refusal, Reply, members};
use super::request::{Call, Form};
use super::shared::State;
use crate::clock::Now;

/// What becomes of a login at `GET /authorize`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeLogin {
    /// This user logs in and consents.
    Approve(String),
    /// The browser is sent back with this `error`: `access_denied`, `login_required` ...
    Deny(String),
}

impl FakeLogin {
    /// This user logs in and consents.
    pub fn approve(user: impl Into<String>) -> Self {
        Self::Approve(user.into())
    }

    /// The browser is sent back with this `error`.
    pub fn deny(code: impl Into<String>) -> Self {
        Self::Deny(code.into())
    }
}

impl Default for FakeLogin {
    fn default() -> Self {
        Self::approve("alice")
    }
}

impl State {
    /// RFC 6749 section 4.1.1. Every redirect URI is taken, but for no unknown client.
    pub(super) fn authorize(&mut self, call: &Call) -> Result<Reply, Refusal> {
        let form = call.form()?;
        let client = form.required("client_id")?;
        if !self.registry.knows(client) {
            return Err(Refusal::InvalidClient);
        }
        let redirect_uri = form.required("redirect_uri")?;
        let mut back = Url::parse(redirect_uri).map_err(|_| Refusal::InvalidRequest)?;
        // From here on the browser goes back, whatever happens.
        let verdict = self.verdict(&form);
        let (name, value) = match &verdict {
            Ok(user) => {
                let code = Code {
                    user: user.clone(),
                    client: Some(client.to_owned()),
                    redirect_uri: redirect_uri.to_owned(),
                    challenge: form.value("code_challenge").map(str::to_owned),
                    scope: form.value("scope").map(str::to_owned),
                    redeemed: None,
                };
                ("code", self.authority.mint_code(code))
            }
            Err(error) => ("error", error.clone()),
        };
        let state = form.value("state").map(|state| ("state", state));
        // RFC 9207 section 2.
        let fields =
            [(name, value.as_str())].into_iter().chain(state).chain([("iss", &*self.issuer)]);
        back.query_pairs_mut().extend_pairs(fields);
        Ok(Reply::sent_back(back.into(), verdict.err()))
    }

    /// Who logs in, or the error that the browser takes back (RFC 6749 section 4.1.2.1).
    fn verdict(&self, form: &Form) -> Result<String, String> {
        if form.value("response_type") != Some("code") {
            return Err("unsupported_response_type".to_owned());
        }
        let method = form.value("code_challenge_method");
        let asked = form.value("code_challenge").is_some();
        // RFC 7636 section 4.3: a challenge without a method is plain.
        if asked && method != Some("S256") || !asked && method.is_some() {
            return Err("invalid_request".to_owned());
        }
        match &self.login {
            FakeLogin::Approve(user) => Ok(user.clone()),
            FakeLogin::Deny(code) => Err(code.clone()),
        }
    }

    /// `OpenID` Connect Core 1.0 section 5.3, whatever the scope.
    pub(super) fn userinfo(&self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        let holder = self.bearer(call, now)?;
        let sub = holder.user.as_deref().unwrap_or(&holder.client);
        Ok(Reply::ok(members([("sub", sub.into())])))
    }
}
