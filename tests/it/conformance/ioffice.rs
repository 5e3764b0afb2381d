use session_warden::provider::Registration;
use session_warden::provider::ioffice::{IOffice, IOfficeGrant, IOfficePassword};
use session_warden::testing::{FakeAuthServer, FakeAuthServerBuilder, FakeDialect};

use super::{Dialect, Refreshing, conformance};

struct Site;

impl Dialect for Site {
    type Provider = IOffice;

    const RESOURCE: &'static str = "/external/api/rest/v2/users/me";

    fn server() -> FakeAuthServerBuilder {
        FakeAuthServer::builder().dialect(FakeDialect::IOffice)
    }

    fn provider(server: &FakeAuthServer) -> Registration<IOffice> {
        IOffice::new(server.url(), "app", "https://app.example/callback").unwrap().into()
    }

    fn grant(_: &FakeAuthServer) -> IOfficeGrant {
        IOfficePassword::new("ada", "ok").into()
    }
}

impl Refreshing for Site {
    const WITHOUT_REFRESH_TOKEN: &'static str = r#"{"access_token":"kept","expires_in":900000}"#;
}

conformance!(Site);
