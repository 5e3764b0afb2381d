use session_warden::provider::Registration;
use session_warden::provider::oauth2::{Grant, OAuth2, Password};
use session_warden::testing::{FakeAuthServer, FakeAuthServerBuilder};

use super::{Dialect, Refreshing, conformance};
use crate::support::provider_of;

struct Standard;

impl Dialect for Standard {
    type Provider = OAuth2;

    fn server() -> FakeAuthServerBuilder {
        FakeAuthServer::builder()
    }

    fn provider(server: &FakeAuthServer) -> Registration<OAuth2> {
        provider_of(server).into()
    }

    fn grant(_: &FakeAuthServer) -> Grant {
        Password::new("ada", "ok").into()
    }
}

impl Refreshing for Standard {
    const WITHOUT_REFRESH_TOKEN: &'static str =
        r#"{"access_token":"kept","token_type":"Bearer","expires_in":900}"#;
}

conformance!(Standard);
