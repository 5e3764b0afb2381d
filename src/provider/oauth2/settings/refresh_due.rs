//! When an access token is due.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::serde_forms::is_default;
use crate::provider::serde_seconds;

/// When an access token is due for a refresh. A field that is not set keeps the default of
/// [`RefreshPolicy`](crate::policy::RefreshPolicy).
///
/// ```
/// use std::time::Duration;
///
/// use session_warden::provider::oauth2::{OAuth2Settings, RefreshDue};
///
/// let settings = OAuth2Settings {
///     token_endpoint: Some("https://login.example.com/token".to_owned()),
///     client_id: "backend".to_owned(),
///     due: Some(RefreshDue {
///         at_least: Some(Duration::from_secs(120)),
///         ..RefreshDue::default()
///     }),
///     ..OAuth2Settings::default()
/// };
/// let registration = settings.registration()?;
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct RefreshDue {
    /// The part of the lifetime after which the token is due: a number between 0 and 1.
    #[serde(skip_serializing_if = "is_default")]
    pub fraction: Option<f64>,
    /// The token becomes due this long before it expires, or earlier. In seconds.
    #[serde(skip_serializing_if = "is_default", with = "serde_seconds::optional")]
    pub at_least: Option<Duration>,
    /// The token does not become due earlier than this before it expires. Without this field, it is
    /// the default or `at_least`, whichever is longer. In seconds.
    #[serde(skip_serializing_if = "is_default", with = "serde_seconds::optional")]
    pub at_most: Option<Duration>,
}
