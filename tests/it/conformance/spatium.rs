use session_warden::provider::Registration;
use session_warden::provider::spatium::{SecurityToken, Spatium, SpatiumGrant};
use session_warden::testing::{FakeAuthServer, FakeAuthServerBuilder, FakeDialect};

use super::{Dialect, Refreshing, conformance};

struct Service;

impl Dialect for Service {
    type Provider = Spatium;

    /// The vendor documents no way to end a session.
    const REVOKES: bool = false;

    fn server() -> FakeAuthServerBuilder {
        FakeAuthServer::builder().dialect(FakeDialect::Spatium)
    }

    fn provider(server: &FakeAuthServer) -> Registration<Spatium> {
        Spatium::new(server.url()).unwrap().permissions(["read"]).into()
    }

    fn grant(server: &FakeAuthServer) -> SpatiumGrant {
        SecurityToken::new(server.security_token("ada")).into()
    }
}

impl Refreshing for Service {
    /// Without a request's id it is taken for the answer to the request. The end is that of two
    /// lives since the clock's start.
    const WITHOUT_REFRESH_TOKEN: &'static str =
        r#"{"data":{"permissionToken":{"permissionToken":"kept","expiresAt":1735691400}}}"#;
}

conformance!(Service);
