use session_warden::provider::Registration;
use session_warden::provider::circle::{Circle, Member};
use session_warden::testing::{FakeAuthServer, FakeAuthServerBuilder, FakeDialect};

use super::{Dialect, Refreshing, conformance};

struct Headless;

impl Dialect for Headless {
    type Provider = Circle;

    fn server() -> FakeAuthServerBuilder {
        FakeAuthServer::builder().dialect(FakeDialect::Circle)
    }

    /// A session that obtains new tokens automatically is never lost, which would hide losses.
    fn provider(server: &FakeAuthServer) -> Registration<Circle> {
        Circle::new("app-token").host(server.url()).unwrap().auto_renew(false).into()
    }

    fn grant(_: &FakeAuthServer) -> Member {
        Member::Id(77)
    }
}

/// The one refresh token serves for a month.
impl Refreshing for Headless {
    const ROTATES: bool = false;
    const REPEATS: bool = true;
    const WITHOUT_REFRESH_TOKEN: &'static str =
        r#"{"access_token":"kept","access_token_expires_at":"2025-01-01T00:30:00.000Z"}"#;
}

conformance!(Headless);
