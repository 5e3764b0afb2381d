//! What can be set of an application, oAuth1 or oAuth2.

use http::StatusCode;

/// Whether the service's number says that the token is unknown or has expired, and statuses under
/// which it is believed: by default 400, 401 and 403, as the SDK does. Only 401 is documented.
#[derive(Clone, Debug)]
pub(super) struct DeadStatuses(Vec<StatusCode>);

impl Default for DeadStatuses {
    fn default() -> Self {
        Self(vec![StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN])
    }
}

impl DeadStatuses {
    /// Numbers that are no status are left out: no response has them.
    pub(super) fn new(statuses: impl IntoIterator<Item = u16>) -> Self {
        let statuses = statuses.into_iter();
        Self(statuses.filter_map(|status| StatusCode::from_u16(status).ok()).collect())
    }

    pub(super) fn contains(&self, status: StatusCode) -> bool {
        self.0.contains(&status)
    }
}
