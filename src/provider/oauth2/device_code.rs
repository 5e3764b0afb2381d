//! Logins on another device (RFC 8628).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::request::check_names;
use super::response::object_without_grant;
use super::{DeviceCode, Grant, OAuth2};
use crate::error::{Error, ErrorKind, Refusal, Result};
use crate::provider::http_message::{self, HttpRequest, HttpResponse, lenient};
use crate::provider::{
    DeviceAuthorization, DeviceCodes, ExchangeError, Exchanged, FailureClass, HttpSender,
};
use crate::secret::Secret;

/// The options of one login on another device: they may differ from login to login.
///
/// ```
/// use session_warden::provider::oauth2::DeviceOptions;
///
/// let options = DeviceOptions::new().scope("openid offline_access").parameter("audience", "api");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceOptions {
    scope: Option<String>,
    parameters: BTreeMap<String, String>,
}

impl DeviceOptions {
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

    /// Sets another parameter of the request for the codes. It replaces an earlier one of the same
    /// name. A login is refused as `InvalidInput` if the name is one that the provider sets.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }
}

impl DeviceAuthorization for OAuth2 {
    type DeviceOptions = DeviceOptions;

    fn device_request(&self, options: &DeviceOptions) -> Result<HttpRequest> {
        let Some(endpoint) = self.optional(|known| known.device.as_ref()) else {
            let words = "a login on another device needs an endpoint; set \
                         `device_authorization_endpoint`, because the metadata names none";
            return Err(Error::new(ErrorKind::Misconfigured).about(words));
        };
        let own = self.client_parameters.each_ref().map(String::as_str);
        check_names(options.parameters.keys(), |name| name == "scope" || own.contains(&name))?;
        let scope = self.login_scope(options.scope.as_deref()).map(|scope| self.wire_scope(scope));
        let mut fields = vec![(own[0], self.client_id.as_str())];
        fields.extend(scope.as_deref().map(|scope| ("scope", scope)));
        let more = options.parameters.iter();
        fields.extend(more.map(|(name, value)| (name.as_str(), value.as_str())));
        self.request_of_known_client(&endpoint, fields)
    }

    fn device_codes(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
    ) -> Exchanged<DeviceCodes> {
        let unusable = |words| http_message::unusable(response, words).expecting(CODES);
        let read: Codes = object_without_grant(sender, response, CODES)?;
        let uri = read.verification_uri.or(read.verification_url);
        let url = |text: String| Url::parse(&text).ok();
        let expires_in = read.expires_in.ok_or_else(|| unusable("has no `expires_in`"))?;
        let interval = read.interval.and_then(|it| Duration::try_from_secs_f64(it).ok());
        let user_code = read.user_code.filter(|code| !code.contains(char::is_control));
        Ok(DeviceCodes {
            device_code: read.device_code.ok_or_else(|| unusable("has no `device_code`"))?,
            user_code: user_code.ok_or_else(|| unusable("has no `user_code`"))?,
            verification_uri: uri
                .and_then(url)
                .ok_or_else(|| unusable("has no `verification_uri`"))?,
            verification_uri_complete: read.verification_uri_complete.and_then(url),
            expires_at: sender.expires_in(expires_in),
            interval,
        })
    }

    fn device_grant(&self, device_code: Secret, options: &DeviceOptions) -> Grant {
        let scope = self.login_scope(options.scope.as_deref()).map(str::to_owned);
        DeviceCode::new(device_code).requested_scope(scope).into()
    }
}

/// The failure of a poll: by the codes of RFC 8628 section 3.5, whatever the status is, because Google
/// sends 428 and 429 with them.
pub(super) fn of_poll(failed: ExchangeError) -> ExchangeError {
    let code = failed.code.as_ref().map(|code| code.as_str());
    let refusal = match code {
        Some("authorization_pending" | "slow_down") => Refusal::LoginPending,
        Some("expired_token") => Refusal::GrantExpired,
        _ => return failed,
    };
    ExchangeError { class: FailureClass::Refused(refusal), ..failed }
}

/// The members of RFC 8628 section 3.2, and `verification_url`, which Google has.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Codes {
    #[serde(deserialize_with = "lenient::secret")]
    device_code: Option<Secret>,
    #[serde(deserialize_with = "lenient::text")]
    user_code: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    verification_uri: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    verification_url: Option<String>,
    #[serde(deserialize_with = "lenient::text")]
    verification_uri_complete: Option<String>,
    #[serde(deserialize_with = "lenient::number")]
    expires_in: Option<f64>,
    #[serde(deserialize_with = "lenient::number")]
    interval: Option<f64>,
}

const CODES: &str = "the codes of a login on another device";
