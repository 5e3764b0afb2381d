//! Logins through a browser, which comes back with the code in the fragment of the redirect.

use url::Url;

use super::{IOffice, IOfficeCode, IOfficeGrant};
use crate::error::{Error, ErrorKind, ProviderCode, Refusal, Result};
use crate::provider::{LoginRequest, RedirectLogin, http_message};
use crate::secret::Secret;

impl RedirectLogin for IOffice {
    type LoginOptions = ();

    /// The URL of `login.html` with all of its five parameters. There is no PKCE.
    fn login_url(&self, login: &LoginRequest<'_>, (): &()) -> Result<Url> {
        let mut url = self.at("/login.html");
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &self.scope),
            ("state", login.state().expose_secret()),
        ]);
        Ok(url)
    }

    /// Reads the fragment `#code=<code>&appCode=<app code>&state=<state>`, the whole URL, or the
    /// form that the page [`FRAGMENT_RELAY_HTML`](super::FRAGMENT_RELAY_HTML) posts.
    fn login_grant(
        &self,
        redirect: &str,
        login: &LoginRequest<'_>,
        (): &(),
    ) -> Result<IOfficeGrant> {
        let fields = http_message::redirect_fields(redirect)?;
        fields.check_is_answer()?;
        if !self.state_may_be_missing || fields.contains("state") {
            fields.check_state(login)?;
        }
        // The server never names itself. Only a whole URL shows where the browser came to.
        if http_message::reached_redirect_uri(&self.redirect_uri, redirect, &fields) == Some(false)
        {
            let words =
                "the browser did not come to the configured redirect URI; begin the login again";
            let mismatch = ErrorKind::Refused(Refusal::LoginStateMismatch);
            return Err(Error::new(mismatch).about(words));
        }
        if let Some(code) = fields.get("error") {
            return Err(refused(code.expose_secret()));
        }
        let Some(code) = fields.get("code") else {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about("the redirect has no code; begin the login again"));
        };
        let code = IOfficeCode::new(code.clone()).scope(&*self.scope);
        Ok(match fields.get("appCode").map(Secret::expose_secret) {
            Some(app_code) => code.app_code(app_code).into(),
            None => code.into(),
        })
    }
}

/// The error that a redirect with `error` means. The document has no codes; these are the
/// standard's (RFC 6749 section 4.1.2.1).
fn refused(code: &str) -> Error {
    let kind = match code {
        "access_denied" => ErrorKind::Refused(Refusal::NotPermitted),
        "temporarily_unavailable" | "server_error" => ErrorKind::RetryLater,
        _ => ErrorKind::Refused(Refusal::Other),
    };
    Error::new(kind)
        .with_code(ProviderCode::new(code))
        .about("the server ended the login with an error; see `Error::provider_code`")
}

/// Parameters of the response.
pub(super) const RESPONSE_PARAMETERS: &[&str] = &["code", "appCode", "state", "error"];
