//! Logins on another device (RFC 8628): the part of the provider.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::{ExchangeError, HttpSender, Provider};
use crate::error::Result;
use crate::secret::Secret;

/// A provider whose users can log in on another device than the one that needs the session: they
/// open a URL there, and type a code (RFC 8628). [`OAuth2`](super::oauth2::OAuth2) is one.
///
/// The crate polls the server with [`device_grant`](Self::device_grant) until the user has approved
/// the login. While the user has not, [`Provider::establish`] fails with
/// [`FailureClass::Refused`](super::FailureClass::Refused) and
/// [`LoginPending`](crate::error::Refusal::LoginPending). With the error code `slow_down`, the crate
/// polls less often from then on.
///
/// ```
/// use std::time::Duration;
/// use session_warden::provider::oauth2::{DeviceOptions, OAuth2};
/// use session_warden::provider::{DeviceAuthorization, DeviceCodes, HttpSender};
/// use session_warden::provider::{ClientOperation, ExchangeError};
/// # use session_warden::error::Result;
/// # use bytes::Bytes;
/// # use http::{Request, Response};
///
/// /// Asks for codes without a session, to try the settings of a client.
/// struct TryCodes(DeviceOptions);
///
/// impl ClientOperation<OAuth2> for TryCodes {
///     type Output = Option<Duration>;
///     type RequestInfo = OAuth2;
///
///     fn request(&self, provider: &OAuth2) -> Result<(Request<Bytes>, OAuth2)> {
///         Ok((provider.device_request(&self.0)?, provider.clone()))
///     }
///
///     fn response(
///         &self,
///         sender: &HttpSender<'_>,
///         provider: OAuth2,
///         response: &Response<Bytes>,
///     ) -> Result<Option<Duration>, ExchangeError> {
///         let codes: DeviceCodes = provider.device_codes(sender, response)?;
///         Ok(codes.interval)
///     }
/// }
/// ```
pub trait DeviceAuthorization: Provider {
    /// The options that can differ from login to login. The ticket holds them.
    type DeviceOptions: Default + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The request for the codes of a login (RFC 8628 section 3.1). The crate calls this method after
    /// [`Provider::prepare`].
    ///
    /// # Errors
    ///
    /// `Misconfigured` or `InvalidInput` if the request cannot be built.
    fn device_request(&self, options: &Self::DeviceOptions) -> Result<Request<Bytes>>;

    /// Reads the response to [`device_request`](Self::device_request) (RFC 8628 section 3.2).
    ///
    /// # Errors
    ///
    /// The failure's class.
    fn device_codes(
        &self,
        sender: &HttpSender<'_>,
        response: &Response<Bytes>,
    ) -> Result<DeviceCodes, ExchangeError>;

    /// The grant with which the crate polls for the tokens of a login (RFC 8628 section 3.4).
    fn device_grant(&self, device_code: Secret, options: &Self::DeviceOptions) -> Self::Grant;
}

/// The codes of a login on another device. See the example of [`DeviceAuthorization`].
#[expect(clippy::exhaustive_structs, reason = "made by authors of providers")]
pub struct DeviceCodes {
    /// The code that the crate sends when it polls. No user sees it.
    pub device_code: Secret,
    /// The code that the user types on the other device.
    pub user_code: String,
    /// The URL that the user opens on the other device.
    pub verification_uri: Url,
    /// The same URL with the code in it, for a QR code for example.
    pub verification_uri_complete: Option<Url>,
    /// When the codes expire.
    pub expires_at: SystemTime,
    /// The shortest pause between two polls; None if the server names none.
    pub interval: Option<Duration>,
}

impl fmt::Debug for DeviceCodes {
    /// Without the user's code: whoever has it can have another user approve the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCodes")
            .field("verification_uri", &self.verification_uri.as_str())
            .field("expires_at", &self.expires_at)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
