//! Settings that oAuth1 and oAuth2 applications share.

use http::StatusCode;

/// The statuses under which the service's number for an unknown or expired token counts: by default
/// 400, 401 and 403, as in the SDK. Only 401 is documented.
#[derive(Clone, Debug)]
pub(super) struct DeadStatuses(Vec<StatusCode>);

impl Default for DeadStatuses {
    fn default() -> Self {
        Self(vec![StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN])
    }
}

impl DeadStatuses {
    /// Numbers that are not a status are left out, because no response has them.
    pub(super) fn new(statuses: impl IntoIterator<Item = u16>) -> Self {
        let statuses = statuses.into_iter();
        Self(statuses.filter_map(|status| StatusCode::from_u16(status).ok()).collect())
    }

    pub(super) fn contains(&self, status: StatusCode) -> bool {
        self.0.contains(&status)
    }
}
