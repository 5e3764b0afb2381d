//! One suite for all dialects, each against a server of that dialect.

use std::time::Duration;

use bytes::Bytes;
use session_warden::error::LostReason;
use session_warden::key::Tenant;
use session_warden::provider::{Provider, Registration};
use session_warden::session::{Revocation, State, Verdict};
use session_warden::store::MemoryStore;
use session_warden::testing::{
    Chaos, Endpoint, FakeAuthServer, FakeAuthServerBuilder, Fault, ManualClock,
};
use session_warden::transport::TransportConfig;
use session_warden::{
    ErrorKind, Establishment, PermissionToken, Session, SessionKey, Sessions, Supervisor,
};

use crate::fixtures::{ServerFixture, kind};
use crate::support::{SECOND, callers, until};

mod circle;
mod extra_horizon;
mod ioffice;
mod oauth2;
mod spatium;

/// A dialect under test. Its server runs by the test's clock.
pub trait Dialect {
    type Provider: Provider;

    /// Where the server's API says 200 to a request with a token that serves.
    const RESOURCE: &'static str = "/resource";
    /// Whether the server has a request to revoke.
    const REVOKES: bool = true;

    fn server() -> FakeAuthServerBuilder;
    fn provider(server: &FakeAuthServer) -> Registration<Self::Provider>;
    fn grant(server: &FakeAuthServer) -> <Self::Provider as Provider>::Grant;
}

/// A dialect whose tokens live for [`LIFE`], with refresh tokens that are rotated unless the
/// dialect says otherwise.
pub trait Refreshing: Dialect {
    /// Whether the server gives another refresh token with each refresh.
    const ROTATES: bool = true;
    /// Whether a refresh token that was used serves again, so that a refresh whose outcome is not
    /// known is repeated at once, and neither the caller nor the session is left in doubt.
    const REPEATS: bool = false;
    /// The answer to a refresh that brings an access token `kept` and no refresh token.
    const WITHOUT_REFRESH_TOKEN: &'static str;
}

/// The lifetime of the access tokens of a dialect's server.
pub const LIFE: Duration = Duration::from_secs(900);

/// A session at a server of the dialect, which is not established.
async fn vacant<D: Dialect>() -> ServerFixture<D::Provider> {
    let clock = ManualClock::new();
    let server = D::server().clock(clock.clone()).access_lifetime(LIFE).start().await.unwrap();
    let provider = D::provider(&server);
    ServerFixture::start("p", server, provider, &clock).await
}

async fn established<D: Dialect>() -> ServerFixture<D::Provider> {
    let fixture = vacant::<D>().await;
    let granted = fixture.session.establish(D::grant(&fixture.server)).await.unwrap();
    assert!(matches!(granted, Establishment::Active(_)));
    fixture
}

async fn expired<D: Dialect>() -> ServerFixture<D::Provider> {
    let fixture = established::<D>().await;
    fixture.clock.advance(LIFE).await;
    fixture
}

async fn supervisor<D: Dialect>(
    server: &FakeAuthServer,
    store: &MemoryStore,
    clock: &ManualClock,
) -> Supervisor {
    let transport = TransportConfig::default().allow_loopback_http();
    Supervisor::builder()
        .clock(clock.clone())
        .store(store.clone())
        .transport(transport)
        .provider("p", D::provider(server))
        .start()
        .await
        .unwrap()
}

fn session<D: Dialect>(supervisor: &Supervisor) -> Session<D::Provider> {
    let sessions: Sessions<D::Provider> = supervisor.sessions("p").unwrap();
    sessions.session(SessionKey::new("tenant", "device").unwrap())
}

/// A request with a token, and the API's response.
struct Called {
    token: PermissionToken,
    parts: http::response::Parts,
    body: Bytes,
}

async fn call<D: Dialect>(server: &FakeAuthServer, session: &Session<D::Provider>) -> Called {
    let uri = format!("{}{}", server.url(), D::RESOURCE);
    let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
    let token = session.authorize(&mut parts).await.unwrap();
    let request = http::Request::from_parts(parts, "").try_into().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer: http::Response<reqwest::Body> = client.execute(request).await.unwrap().into();
    let (parts, body) = answer.into_parts();
    let body = reqwest::Response::from(http::Response::new(body));
    Called { token, parts, body: body.bytes().await.unwrap() }
}

pub async fn an_established_session_has_a_token_that_the_server_takes<D: Dialect>() {
    let fixture = established::<D>().await;
    let token = fixture.session.permission_token().await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()));
    assert_eq!(call::<D>(&fixture.server, &fixture.session).await.parts.status, 200);
    assert_eq!(fixture.state().await, State::Active);
    assert_eq!(fixture.session.id().key().tenant(), &Tenant::new("tenant").unwrap());
}

pub async fn of_a_hundred_callers_at_expiry_one_refreshes_and_all_get_its_token<D: Refreshing>() {
    let fixture = expired::<D>().await;
    let session = fixture.session.clone();
    let asking = callers(100, || {
        let session = session.clone();
        async move { session.permission_token().await.unwrap().generation() }
    });
    for generation in until(&fixture.clock, asking.join_all()).await {
        assert_eq!(generation, 2);
    }
    assert_eq!(fixture.server.refreshes(), 1);
}

pub async fn the_newest_refresh_token_is_kept<D: Refreshing>() {
    let fixture = established::<D>().await;
    for generation in 2..6 {
        fixture.clock.advance(LIFE).await;
        let token = until(&fixture.clock, fixture.session.permission_token()).await.unwrap();
        assert_eq!(token.generation(), generation);
        assert!(fixture.server.is_active(token.expose_secret()));
    }
    let seen_again = if D::ROTATES { 0 } else { 1 };
    assert_eq!((fixture.server.refreshes(), fixture.server.presented_twice()), (4, seen_again));
    assert_eq!(fixture.server.reuses_detected(), 0);
}

pub async fn an_answer_without_a_refresh_token_keeps_the_old_one<D: Refreshing>() {
    let fixture = expired::<D>().await;
    let answer = D::WITHOUT_REFRESH_TOKEN.into();
    fixture.server.fail_next(Endpoint::RefreshToken, Fault::BodyAfterCommit(answer));
    let token = until(&fixture.clock, fixture.session.permission_token()).await.unwrap();
    assert_eq!(token.expose_secret(), "kept");
    let _ = until(&fixture.clock, fixture.session.refresh()).await;
    assert_eq!(fixture.server.presented_twice(), 1, "the one that was there before");
}

pub async fn a_rejected_refresh_loses_the_session_with_one_request<D: Refreshing>() {
    let fixture = expired::<D>().await;
    fixture.server.kill_all_grants();
    let lost = ErrorKind::SignInAgain(LostReason::Rejected);
    for _ in 0..3 {
        assert_eq!(kind(fixture.token().await), lost);
    }
    assert_eq!(fixture.server.count(Endpoint::RefreshToken), 1);
    assert_eq!(fixture.state().await, State::Lost);
}

pub async fn a_server_that_fails_takes_no_living_token_away<D: Refreshing>() {
    let fixture = established::<D>().await;
    fixture.clock.advance(LIFE - 10 * SECOND).await;
    let fault = Fault::Status { code: 500, retry_after: None, body: None };
    fixture.server.fail_always(Endpoint::RefreshToken, Some(fault));
    let refreshed = until(&fixture.clock, fixture.session.refresh()).await;
    assert_eq!(refreshed.unwrap_err().kind(), ErrorKind::RetryLater);
    fixture.session.permission_token().await.unwrap();
}

pub async fn an_answer_that_is_nonsense_leaves_the_session_in_doubt<D: Refreshing>() {
    for fault in [Fault::Malformed, Fault::Html, Fault::Empty200] {
        let fixture = established::<D>().await;
        fixture.server.fail_always(Endpoint::RefreshToken, Some(fault.clone()));
        let refreshed = until(&fixture.clock, fixture.session.refresh()).await;
        assert_eq!(refreshed.unwrap_err().kind(), ErrorKind::RetryLater, "{fault:?}");
        assert_eq!(fixture.state().await, State::InDoubt, "{fault:?}");
        fixture.session.permission_token().await.unwrap();
    }
}

pub async fn a_refresh_whose_answer_is_lost_is_repeated_only_where_that_is_safe<D: Refreshing>() {
    let fixture = established::<D>().await;
    fixture.server.fail_next(Endpoint::RefreshToken, Fault::DropAfterCommit);
    let refreshed = until(&fixture.clock, fixture.session.refresh()).await;
    let (state, requests) = match refreshed {
        Ok(token) if D::REPEATS && token.generation() == 2 => (State::Active, 2),
        Err(error) if !D::REPEATS && error.kind() == ErrorKind::RetryLater => (State::InDoubt, 1),
        other => panic!("{other:?}"),
    };
    assert_eq!(fixture.state().await, state);
    assert_eq!(fixture.server.count(Endpoint::RefreshToken), requests);
    assert_eq!(fixture.server.reuses_detected(), 0);
}

pub async fn a_revoked_session_is_over_here_and_at_the_server<D: Dialect>() {
    let fixture = established::<D>().await;
    let ended = until(&fixture.clock, fixture.session.revoke()).await.unwrap();
    let expected = if D::REVOKES { Revocation::AtServer } else { Revocation::LocalOnly };
    assert_eq!(ended, expected);
    assert_eq!(kind(fixture.token().await), ErrorKind::NotEstablished);
    assert_eq!(fixture.state().await, State::Closed);
}

pub async fn a_refresh_outlives_its_actor_and_its_supervisor_actor<D: Refreshing>() {
    let fixture = expired::<D>().await;
    fixture.server.fail_next(Endpoint::RefreshToken, Fault::HoldUntilReleased);
    let session = fixture.session.clone();
    let asking = tokio::spawn(async move { session.permission_token().await });
    fixture.server.held(1).await;
    let chaos = Chaos::of(&fixture.supervisor);
    assert!(chaos.kill_session(fixture.session.id()));
    assert!(chaos.kill_supervisor());
    fixture.clock.advance(SECOND).await;
    fixture.server.release();
    assert_eq!(asking.await.unwrap().unwrap().generation(), 2);
    assert_eq!((fixture.server.refreshes(), fixture.server.reuses_detected()), (1, 0));
}

pub async fn a_restart_finds_the_session_and_goes_on_with_it<D: Refreshing>() {
    let fixture = established::<D>().await;
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
    let supervisor = supervisor::<D>(&fixture.server, &fixture.store, &fixture.clock).await;
    let session = session::<D>(&supervisor);
    assert_eq!(session.permission_token().await.unwrap().generation(), 1);
    let token = until(&fixture.clock, session.refresh()).await.unwrap();
    assert_eq!(token.generation(), 2);
    assert!(fixture.server.is_active(token.expose_secret()));
}

pub async fn a_token_that_the_server_took_back_is_replaced_by_one_refresh<D: Refreshing>() {
    let fixture = established::<D>().await;
    fixture.server.kill_access_tokens();
    let Called { token, parts, body } = call::<D>(&fixture.server, &fixture.session).await;
    assert_ne!(parts.status, 200);
    for _ in 0..3 {
        assert_eq!(fixture.session.rejected(&token, &parts, &body), Verdict::Retry);
        let served = call::<D>(&fixture.server, &fixture.session).await;
        assert_eq!((served.parts.status.as_u16(), served.token.generation()), (200, 2));
    }
    assert_eq!(fixture.server.refreshes(), 1);
}

pub async fn an_establish_outlives_its_actor_and_its_supervisor_actor<D: Dialect>() {
    let fixture = vacant::<D>().await;
    fixture.server.fail_next(Endpoint::Token, Fault::HoldUntilReleased);
    let (session, grant) = (fixture.session.clone(), D::grant(&fixture.server));
    let asking = tokio::spawn(async move { session.establish(grant).await });
    fixture.server.held(1).await;
    let chaos = Chaos::of(&fixture.supervisor);
    assert!(chaos.kill_session(fixture.session.id()));
    assert!(chaos.kill_supervisor());
    fixture.clock.advance(SECOND).await;
    fixture.server.release();
    assert!(matches!(asking.await.unwrap().unwrap(), Establishment::Active(_)));
    assert_eq!(call::<D>(&fixture.server, &fixture.session).await.parts.status, 200);
    assert_eq!(fixture.server.count(Endpoint::Token), 1);
}

pub async fn an_establish_that_fails_at_the_server_leaves_the_former_session<D: Dialect>() {
    let fixture = established::<D>().await;
    let fault = Fault::Status { code: 500, retry_after: None, body: None };
    fixture.server.fail_next(Endpoint::Token, fault);
    let grant = D::grant(&fixture.server);
    let failed = until(&fixture.clock, fixture.session.establish(grant)).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::RetryLater);
    let served = call::<D>(&fixture.server, &fixture.session).await;
    assert_eq!((served.parts.status.as_u16(), served.token.epoch()), (200, 1));
}

pub async fn a_restart_finds_the_session_as_it_was<D: Dialect>() {
    let fixture = established::<D>().await;
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
    let supervisor = supervisor::<D>(&fixture.server, &fixture.store, &fixture.clock).await;
    let served = call::<D>(&fixture.server, &session::<D>(&supervisor)).await;
    assert_eq!((served.parts.status.as_u16(), served.token.generation()), (200, 1));
    assert_eq!(fixture.server.count(Endpoint::Token), 1);
}

/// The whole suite for a dialect, a test each; or what of it needs no refresh; or these cases.
macro_rules! conformance {
    ($dialect:ty) => {
        $crate::conformance::conformance! { $dialect, without refresh }
        $crate::conformance::conformance! { $dialect:
            of_a_hundred_callers_at_expiry_one_refreshes_and_all_get_its_token,
            the_newest_refresh_token_is_kept,
            an_answer_without_a_refresh_token_keeps_the_old_one,
            a_rejected_refresh_loses_the_session_with_one_request,
            a_server_that_fails_takes_no_living_token_away,
            an_answer_that_is_nonsense_leaves_the_session_in_doubt,
            a_refresh_whose_answer_is_lost_is_repeated_only_where_that_is_safe,
            a_token_that_the_server_took_back_is_replaced_by_one_refresh,
            a_refresh_outlives_its_actor_and_its_supervisor_actor,
            a_restart_finds_the_session_and_goes_on_with_it,
        }
    };
    ($dialect:ty, without refresh) => {
        $crate::conformance::conformance! { $dialect:
            an_established_session_has_a_token_that_the_server_takes,
            a_revoked_session_is_over_here_and_at_the_server,
            an_establish_outlives_its_actor_and_its_supervisor_actor,
            an_establish_that_fails_at_the_server_leaves_the_former_session,
            a_restart_finds_the_session_as_it_was,
        }
    };
    ($dialect:ty: $($case:ident,)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::conformance::$case::<$dialect>().await;
            }
        )*
    };
}
pub(crate) use conformance;
