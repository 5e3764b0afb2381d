//! The response to a token request.

use crate::provider::oauth2::LifetimeUnit;
use crate::testing::fake_auth_server::authority::Issued;
use crate::testing::fake_auth_server::expires_in::ExpiresIn;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, Layout};
use crate::testing::fake_auth_server::fake_server_shape::FakeServerShape;

/// A response of this shape with these tokens.
pub(super) fn of(shape: &FakeServerShape, issued: Issued, expires_in: &ExpiresIn) -> FakeResponse {
    let scope = issued.scope.map(|scope| scope.replace(' ', &shape.scope_separator));
    let lifetime = match shape.lifetime_unit {
        LifetimeUnit::Seconds => issued.lifetime.as_secs().into(),
        LifetimeUnit::Milliseconds => issued.lifetime.as_millis(),
        LifetimeUnit::Minutes => (issued.lifetime.as_secs() / 60).into(),
    };
    let expires_in = match expires_in {
        ExpiresIn::Honest => &ExpiresIn::Json(lifetime.to_string()),
        ExpiresIn::Missing | ExpiresIn::Json(_) => expires_in,
    };
    let layout = Layout {
        under: shape.response_under.clone(),
        more: shape.response_members.clone(),
        is_form: shape.form_response,
    };
    FakeResponse::tokens(Issued { scope, ..issued }, expires_in).laid_out(layout)
}
