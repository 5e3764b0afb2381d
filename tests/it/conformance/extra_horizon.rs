use session_warden::ErrorKind;
use session_warden::error::LostReason;
use session_warden::provider::Registration;
use session_warden::provider::extra_horizon::{
    ExtraHorizonOAuth1, ExtraHorizonOAuth1Grant, ExtraHorizonOAuth2, ExtraHorizonOAuth2Grant,
    ExtraHorizonPassword,
};
use session_warden::session::{State, Verdict};
use session_warden::testing::{FakeAuthServer, FakeAuthServerBuilder, FakeDialect};

use super::{Called, Dialect, Refreshing, call, conformance, expired};
use crate::fixtures::kind;

const RESOURCE: &str = "/users/v1/me?eq(name,a%20b)&limit(5)";

const WITHOUT_REFRESH_TOKEN: &str =
    r#"{"access_token":"kept","token_type":"bearer","expires_in":899.999}"#;

fn server() -> FakeAuthServerBuilder {
    let builder = FakeAuthServer::builder().dialect(FakeDialect::ExtraHorizon);
    builder.client("consumer", "secret").client("backend", "secret").public_client("app")
}

fn password() -> ExtraHorizonPassword {
    ExtraHorizonPassword::new("ada@example.com", "ok")
}

mod public {
    use super::*;

    struct Public;

    impl Dialect for Public {
        type Provider = ExtraHorizonOAuth2;

        const RESOURCE: &'static str = RESOURCE;
        /// The server does not return the ids of the records that would have to be deleted.
        const REVOKES: bool = false;

        fn server() -> FakeAuthServerBuilder {
            server()
        }

        fn provider(server: &FakeAuthServer) -> Registration<ExtraHorizonOAuth2> {
            ExtraHorizonOAuth2::public(server.url(), "app").unwrap().into()
        }

        fn grant(_: &FakeAuthServer) -> ExtraHorizonOAuth2Grant {
            password().into()
        }
    }

    impl Refreshing for Public {
        const WITHOUT_REFRESH_TOKEN: &'static str = WITHOUT_REFRESH_TOKEN;
    }

    conformance!(Public);
}

mod confidential {
    use super::*;

    struct Confidential;

    impl Dialect for Confidential {
        type Provider = ExtraHorizonOAuth2;

        const RESOURCE: &'static str = RESOURCE;
        /// As for a public client.
        const REVOKES: bool = false;

        fn server() -> FakeAuthServerBuilder {
            server()
        }

        fn provider(server: &FakeAuthServer) -> Registration<ExtraHorizonOAuth2> {
            ExtraHorizonOAuth2::confidential(server.url(), "backend", "secret").unwrap().into()
        }

        fn grant(_: &FakeAuthServer) -> ExtraHorizonOAuth2Grant {
            password().into()
        }
    }

    /// A refresh token serves again, although each answer brings another, which is then used.
    impl Refreshing for Confidential {
        const REPEATS: bool = true;
        const WITHOUT_REFRESH_TOKEN: &'static str = WITHOUT_REFRESH_TOKEN;
    }

    conformance!(Confidential);
}

/// Tokens that are neither refreshed nor end by themselves.
mod oauth1 {
    use super::*;

    struct Signed;

    impl Dialect for Signed {
        type Provider = ExtraHorizonOAuth1;

        const RESOURCE: &'static str = RESOURCE;

        fn server() -> FakeAuthServerBuilder {
            server()
        }

        fn provider(server: &FakeAuthServer) -> Registration<ExtraHorizonOAuth1> {
            ExtraHorizonOAuth1::new(server.url(), "consumer", "secret").unwrap().into()
        }

        fn grant(_: &FakeAuthServer) -> ExtraHorizonOAuth1Grant {
            password().into()
        }
    }

    conformance!(Signed, without refresh);

    /// The number 108.
    #[tokio::test]
    async fn a_token_that_the_server_took_back_loses_the_session() {
        let fixture = expired::<Signed>().await;
        assert_eq!(
            call::<Signed>(&fixture.server, &fixture.session).await.parts.status,
            200,
            "it has no end"
        );
        fixture.server.kill_all_grants();
        let Called { token, parts, body } = call::<Signed>(&fixture.server, &fixture.session).await;
        assert!(body.starts_with(br#"{"code":108"#));
        assert_eq!(fixture.session.rejected(&token, &parts, &body), Verdict::Forward);
        assert_eq!(kind(fixture.token().await), ErrorKind::SignInAgain(LostReason::Revoked));
        assert_eq!(fixture.state().await, State::Lost);
    }
}
