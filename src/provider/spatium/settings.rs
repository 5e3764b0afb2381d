//! Settings, most of them for facts that the vendor's documents do not give.

use crate::provider::http_message::HttpResponse;
use http::StatusCode;
use uuid::Uuid;

use super::{MerchantKey, Spatium};
use crate::error::{Error, ErrorKind, Refusal, Result};
use crate::key::SessionKey;
use crate::provider::{ExchangeError, FailureClass, HttpSender, Rotation};

/// How the service's `tokenId` is derived from a session's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenIds {
    /// The `tokenId` is the session's token id. If two tenants share an account at the service,
    /// give their sessions different token ids: two sessions with the same token id would be one
    /// session at the service.
    #[default]
    Verbatim,
    /// The `tokenId` is a UUID of version 5 (RFC 9562 section 5.5), made of tenant and token id. It
    /// is always the same for the same session. Use it if tenants share an account, or if your
    /// token ids are not UUIDs: in the vendor's samples, all ids are UUIDs.
    UuidV5,
}

impl TokenIds {
    pub(super) fn of(self, key: &SessionKey) -> String {
        match self {
            Self::Verbatim => key.token_id().to_owned(),
            Self::UuidV5 => {
                // No part of a key has a control character, so no two keys give the same name.
                let name = format!("{}\0{}", key.tenant().as_str(), key.token_id());
                Uuid::new_v5(&NAMESPACE, name.as_bytes()).hyphenated().to_string()
            }
        }
    }
}

/// A random UUID of this crate. It must not change, because the ids of all sessions would change.
const NAMESPACE: Uuid = Uuid::from_u128(0x5a1c_7d0e_93b4_4f6a_8e21_c05f_77d9_3b46);

/// The statuses that end a session at refresh, unless others are configured.
pub(super) const TERMINAL: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
];

/// Where the service's operations are, below its URL.
#[derive(Clone)]
pub(super) struct Paths {
    pub(super) credentials: String,
    pub(super) issue_by_key: String,
    pub(super) establish: String,
    pub(super) refresh: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            credentials: "/api/security-factor/credentials".to_owned(),
            issue_by_key: "/api/permission/issue-by-key".to_owned(),
            establish: "/api/permission/issue-by-factors".to_owned(),
            refresh: "/api/permission/refresh".to_owned(),
        }
    }
}

/// What the members of requests are called.
#[derive(Clone)]
pub(super) struct Names {
    pub(super) token_id: String,
    pub(super) permissions: String,
    pub(super) security_tokens: String,
    pub(super) merchant_key: String,
    pub(super) refresh_token: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            token_id: "tokenId".to_owned(),
            permissions: "permissions".to_owned(),
            security_tokens: "securityTokens".to_owned(),
            merchant_key: "merchantKey".to_owned(),
            refresh_token: "permissionRefreshToken".to_owned(),
        }
    }
}

impl Spatium {
    /// Requests these permissions with every grant that names none, like the constructor of the
    /// vendor's class. Defaults to none.
    #[must_use]
    pub fn permissions<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.permissions = names.into_iter().map(Into::into).collect();
        self
    }

    /// How the service's `tokenId` is derived from a session's key. Defaults to
    /// [`TokenIds::Verbatim`], as in the vendor's class.
    ///
    /// Choose this before you establish sessions. With another `tokenId`, the service treats a
    /// session as another session.
    #[must_use]
    pub fn token_ids(mut self, token_ids: TokenIds) -> Self {
        self.token_ids = token_ids;
        self
    }

    /// Lets each session obtain new tokens automatically with this key, even if the session was
    /// never established or is lost. Defaults to no key.
    #[must_use]
    pub fn merchant_key(mut self, key: MerchantKey) -> Self {
        self.key = Some(key);
        self
    }

    /// What the service does to a refresh token that was used. Defaults to [`Rotation::Strict`]:
    /// each refresh renews both tokens, and the vendor does not document whether the old tokens
    /// stay valid.
    #[must_use]
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.rotation = rotation;
        self
    }

    /// The path of a refresh, below the service's URL. Defaults to `/api/permission/refresh`, which
    /// is a guess after the documented paths.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `path` is not a path that begins with a slash.
    pub fn refresh_path(mut self, path: &str) -> Result<Self> {
        self.paths.refresh = checked_path(path)?;
        Ok(self)
    }

    /// The path at which the service issues tokens for security tokens, below its URL. Defaults to
    /// `/api/permission/issue-by-factors` ("authorization").
    ///
    /// # Errors
    ///
    /// As [`refresh_path`](Self::refresh_path).
    pub fn establish_path(mut self, path: &str) -> Result<Self> {
        self.paths.establish = checked_path(path)?;
        Ok(self)
    }

    /// The path at which the service issues tokens for a key, below its URL. Defaults to
    /// `/api/permission/issue-by-key` ("examples").
    ///
    /// # Errors
    ///
    /// As [`refresh_path`](Self::refresh_path).
    pub fn issue_by_key_path(mut self, path: &str) -> Result<Self> {
        self.paths.issue_by_key = checked_path(path)?;
        Ok(self)
    }

    /// The path at which the service issues a security token for name and password, below its URL.
    /// Defaults to `/api/security-factor/credentials` (the seed).
    ///
    /// # Errors
    ///
    /// As [`refresh_path`](Self::refresh_path).
    pub fn credentials_path(mut self, path: &str) -> Result<Self> {
        self.paths.credentials = checked_path(path)?;
        Ok(self)
    }

    /// The name of the refresh token in the request of a refresh. Defaults to
    /// `permissionRefreshToken`, its name in responses: the name in requests is not documented.
    #[must_use]
    pub fn refresh_token_field(mut self, name: impl Into<String>) -> Self {
        self.names.refresh_token = name.into();
        self
    }

    /// The name of the session's id in requests. Defaults to `tokenId` ("examples").
    #[must_use]
    pub fn token_id_field(mut self, name: impl Into<String>) -> Self {
        self.names.token_id = name.into();
        self
    }

    /// The name of the list of permissions in requests. Defaults to `permissions` ("examples").
    #[must_use]
    pub fn permissions_field(mut self, name: impl Into<String>) -> Self {
        self.names.permissions = name.into();
        self
    }

    /// The name of the list of security tokens in requests. Defaults to `securityTokens`, the name
    /// of the argument in the vendor's class: the name in requests is not documented.
    #[must_use]
    pub fn security_tokens_field(mut self, name: impl Into<String>) -> Self {
        self.names.security_tokens = name.into();
        self
    }

    /// The name of the key in requests. Defaults to `merchantKey` ("examples").
    #[must_use]
    pub fn merchant_key_field(mut self, name: impl Into<String>) -> Self {
        self.names.merchant_key = name.into();
        self
    }

    /// Whether a refresh sends the session's id beside the refresh token. Defaults to `false`,
    /// because a refresh token "stores all the data necessary to generate a new permission token"
    /// ("authorization").
    #[must_use]
    pub fn refresh_names_session(mut self, names: bool) -> Self {
        self.refresh_names_session = names;
        self
    }

    /// The statuses that mean that a refresh token is no longer valid. Defaults to 400, 401, 403
    /// and 404, because the vendor documents none. A 403, 404 or 405 counts only if its body is a
    /// JSON object: gateways send these statuses too, and a wrong path must not end the session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a status is not 4xx, or is 408, 425 or 429, which mean that
    /// the service did not process the request.
    pub fn terminal_statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Result<Self> {
        let read = |status| {
            let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_client_error);
            status.filter(|status| !NOT_PROCESSED.contains(status))
        };
        let statuses: Option<Vec<_>> = statuses.into_iter().map(read).collect();
        self.terminal = statuses.ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput).about(
                "a session can be ended only by a 4xx status other than 408, 425 and 429; give \
                 such a status",
            )
        })?;
        Ok(self)
    }

    /// The failure that an unsuccessful response to a refresh means.
    pub(super) fn refresh_failure(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
    ) -> ExchangeError {
        let failed = sender.status_error(response).expecting("a token response");
        if self.terminal.contains(&response.status()) && is_from_service(response) {
            return ExchangeError { class: FailureClass::Rejected, ..failed };
        }
        failed
    }
}

/// The failure that an unsuccessful response to a grant means. `unknown` is for a 404.
pub(super) fn grant_failure(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    unknown: Refusal,
) -> ExchangeError {
    let failed = sender.status_error(response).expecting("a token response");
    let refusal = match response.status() {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => Refusal::WrongCredentials,
        StatusCode::FORBIDDEN => Refusal::NotPermitted,
        StatusCode::NOT_FOUND => unknown,
        _ => return failed,
    };
    match is_from_service(response) {
        true => ExchangeError { class: FailureClass::Refused(refusal), ..failed },
        false => failed,
    }
}

/// Whether the response seems to come from the service and not from a gateway.
fn is_from_service(response: &HttpResponse) -> bool {
    !GATEWAYS.contains(&response.status())
        || response.body().trim_ascii_start().first() == Some(&b'{')
            && serde_json::from_slice::<serde::de::IgnoredAny>(response.body()).is_ok()
}

/// Statuses that a gateway sends, or a server without such a path.
const GATEWAYS: [StatusCode; 3] =
    [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];

const NOT_PROCESSED: [StatusCode; 3] =
    [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];

fn checked_path(path: &str) -> Result<String> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\".contains(&byte));
    if path.starts_with('/') && plain {
        return Ok(path.to_owned());
    }
    Err(Error::new(ErrorKind::InvalidInput)
        .about("the path does not begin with a slash; add the slash"))
}
