//! Tokens in exchange for access tokens (RFC 8693).

use super::shaped_request::ShapedRequest;
use crate::clock::BootTime;
use crate::testing::fake_auth_server::authority::{Authority, Holder, Issued};
use crate::testing::fake_auth_server::error_code::ErrorCode;

/// An access token for the user of the subject's token, and no refresh token. A token that is not
/// active is an invalid request (RFC 8693 section 2.2.2).
pub(super) fn issue(
    authority: &mut Authority,
    request: &ShapedRequest<'_>,
    client: String,
    now: BootTime,
) -> Result<Issued, ErrorCode> {
    let active = |token: &str| {
        let found = authority.describe(token, now).filter(|found| found.is_access);
        found.ok_or(ErrorCode::InvalidRequest)
    };
    let is_access = |name| request.required(name).map(|kind| kind == ACCESS_TOKEN);
    let user = active(request.required("subject_token")?)?.holder.user.clone();
    if !is_access("subject_token_type")? {
        return Err(ErrorCode::InvalidRequest);
    }
    if let Some(actor) = request.value("actor_token") {
        active(actor)?;
        if !is_access("actor_token_type")? {
            return Err(ErrorCode::InvalidRequest);
        }
    }
    let mut issued = authority.grant(Holder { user, client, scope: request.scope()? }, now);
    issued.pair.refresh = None;
    Ok(issued)
}

/// RFC 8693 section 3.
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
