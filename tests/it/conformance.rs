//! What every dialect must do, each against a server that speaks it: one suite, run by all.

use std::time::Duration;

use session_warden::error::LostReason;
use session_warden::key::Tenant;
use session_warden::provider::{Provider, Registration};
use session_warden::session::{Revocation, State};
use session_warden::store::MemoryStore;
use session_warden::testing::{
    Chaos, Endpoint, FakeAuthServer, FakeAuthServerBuilder, Fault, ManualClock,
};
use session_warden::transport::TransportConfig;
use session_warden::{ErrorKind, Establishment, Session, SessionKey, Sessions, Supervisor};

use crate::support::{SECOND, callers, until};

mod oauth2;

/// A dialect under test. Its server runs by the test's clock, with tokens that live for
/// [`LIFE`] and refresh tokens that are rotated unless the dialect says otherwise.
pub trait Dialect {
    type Provider: Provider;

    /// Whether the server gives another refresh token with each refresh.
    const ROTATES: bool = true;
    /// Whether the server can be told of a revocation.
    const REVOKES: bool = true;
    /// The answer to a refresh that brings an access token `kept` and no refresh token.
    const WITHOUT_REFRESH_TOKEN: &'static str;

    fn server() -> FakeAuthServerBuilder;
    fn provider(server: &FakeAuthServer) -> Registration<Self::Provider>;
    fn grant(server: &FakeAuthServer) -> <Self::Provider as Provider>::Grant;
}

/// How long the access tokens of a dialect's server live.
pub const LIFE: Duration = Duration::from_secs(900);

/// A session at a server of the dialect.
pub struct Stage<D: Dialect> {
    pub clock: ManualClock,
    pub server: FakeAuthServer,
    pub store: MemoryStore,
    pub supervisor: Supervisor,
    pub session: Session<D::Provider>,
}

impl<D: Dialect> Stage<D> {
    async fn vacant() -> Self {
        let clock = ManualClock::new();
        let server = D::server().clock(clock.clone()).access_lifetime(LIFE).start().await.unwrap();
        let store = MemoryStore::new();
        let supervisor = supervisor::<D>(&server, &store, &clock).await;
        let session = session::<D>(&supervisor);
        Self { clock, server, store, supervisor, session }
    }

    async fn established() -> Self {
        let stage = Self::vacant().await;
        let granted = stage.session.establish(D::grant(&stage.server)).await.unwrap();
        assert!(matches!(granted, Establishment::Active(_)));
        stage
    }

    async fn expired() -> Self {
        let stage = Self::established().await;
        stage.clock.advance(LIFE).await;
        stage
    }

    async fn kind(&self) -> ErrorKind {
        until(&self.clock, self.session.permission_token()).await.unwrap_err().kind()
    }

    async fn state(&self) -> State {
        self.session.status().await.unwrap().state
    }
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

pub async fn an_established_session_has_a_token_that_the_server_takes<D: Dialect>() {
    let stage = Stage::<D>::established().await;
    let token = stage.session.permission_token().await.unwrap();
    assert!(stage.server.is_active(token.expose_secret()));
    assert_eq!(stage.state().await, State::Active);
    assert_eq!(stage.session.id().key().tenant(), &Tenant::new("tenant").unwrap());
}

pub async fn of_a_hundred_callers_at_expiry_one_refreshes_and_all_get_its_token<D: Dialect>() {
    let stage = Stage::<D>::expired().await;
    let session = stage.session.clone();
    let asking = callers(100, || {
        let session = session.clone();
        async move { session.permission_token().await.unwrap().generation() }
    });
    for generation in until(&stage.clock, asking.join_all()).await {
        assert_eq!(generation, 2);
    }
    assert_eq!(stage.server.refreshes(), 1);
}

pub async fn the_newest_refresh_token_is_kept<D: Dialect>() {
    let stage = Stage::<D>::established().await;
    for generation in 2..6 {
        stage.clock.advance(LIFE).await;
        let token = until(&stage.clock, stage.session.permission_token()).await.unwrap();
        assert_eq!(token.generation(), generation);
        assert!(stage.server.is_active(token.expose_secret()));
    }
    let seen_again = if D::ROTATES { 0 } else { 1 };
    assert_eq!((stage.server.refreshes(), stage.server.presented_twice()), (4, seen_again));
    assert_eq!(stage.server.reuses_detected(), 0);
}

pub async fn an_answer_without_a_refresh_token_keeps_the_old_one<D: Dialect>() {
    let stage = Stage::<D>::expired().await;
    let answer = D::WITHOUT_REFRESH_TOKEN.into();
    stage.server.fail_next(Endpoint::RefreshToken, Fault::BodyAfterCommit(answer));
    let token = until(&stage.clock, stage.session.permission_token()).await.unwrap();
    assert_eq!(token.expose_secret(), "kept");
    let _ = until(&stage.clock, stage.session.refresh()).await;
    assert_eq!(stage.server.presented_twice(), 1, "the one that was there before");
}

pub async fn a_rejected_refresh_loses_the_session_with_one_request<D: Dialect>() {
    let stage = Stage::<D>::expired().await;
    stage.server.kill_all_grants();
    let lost = ErrorKind::SignInAgain(LostReason::Rejected);
    for _ in 0..3 {
        assert_eq!(stage.kind().await, lost);
    }
    assert_eq!(stage.server.count(Endpoint::RefreshToken), 1);
    assert_eq!(stage.state().await, State::Lost);
}

pub async fn a_server_that_fails_takes_no_living_token_away<D: Dialect>() {
    let stage = Stage::<D>::established().await;
    stage.clock.advance(LIFE - 10 * SECOND).await;
    let fault = Fault::Status { code: 500, retry_after: None, body: None };
    stage.server.fail_next(Endpoint::RefreshToken, fault);
    let refreshed = until(&stage.clock, stage.session.refresh()).await;
    assert_eq!(refreshed.unwrap_err().kind(), ErrorKind::RetryLater);
    stage.session.permission_token().await.unwrap();
}

pub async fn an_answer_that_is_nonsense_leaves_the_session_in_doubt<D: Dialect>() {
    for fault in [Fault::Malformed, Fault::Html, Fault::Empty200, Fault::NoAccessToken] {
        let stage = Stage::<D>::established().await;
        stage.server.fail_next(Endpoint::RefreshToken, fault.clone());
        let refreshed = until(&stage.clock, stage.session.refresh()).await;
        assert_eq!(refreshed.unwrap_err().kind(), ErrorKind::RetryLater, "{fault:?}");
        assert_eq!(stage.state().await, State::InDoubt, "{fault:?}");
        stage.session.permission_token().await.unwrap();
    }
}

pub async fn a_revoked_session_is_over_here_and_at_the_server<D: Dialect>() {
    let stage = Stage::<D>::established().await;
    let ended = until(&stage.clock, stage.session.revoke()).await.unwrap();
    let expected = if D::REVOKES { Revocation::AtServer } else { Revocation::LocalOnly };
    assert_eq!(ended, expected);
    assert_eq!(stage.kind().await, ErrorKind::NotEstablished);
    assert_eq!(stage.state().await, State::Closed);
}

pub async fn a_refresh_outlives_its_actor_and_its_supervisor_actor<D: Dialect>() {
    let stage = Stage::<D>::expired().await;
    stage.server.fail_next(Endpoint::RefreshToken, Fault::HoldUntilReleased);
    let session = stage.session.clone();
    let asking = tokio::spawn(async move { session.permission_token().await });
    stage.server.held(1).await;
    let chaos = Chaos::of(&stage.supervisor);
    assert!(chaos.kill_session(stage.session.id()));
    assert!(chaos.kill_supervisor());
    stage.clock.advance(SECOND).await;
    stage.server.release();
    assert_eq!(asking.await.unwrap().unwrap().generation(), 2);
    assert_eq!((stage.server.refreshes(), stage.server.reuses_detected()), (1, 0));
}

pub async fn a_restart_finds_the_session_and_goes_on_with_it<D: Dialect>() {
    let stage = Stage::<D>::established().await;
    assert!(stage.supervisor.shutdown(SECOND).await.is_clean());
    let supervisor = supervisor::<D>(&stage.server, &stage.store, &stage.clock).await;
    let session = session::<D>(&supervisor);
    assert_eq!(session.permission_token().await.unwrap().generation(), 1);
    let token = until(&stage.clock, session.refresh()).await.unwrap();
    assert_eq!(token.generation(), 2);
    assert!(stage.server.is_active(token.expose_secret()));
}

/// The whole suite for a dialect, a test each.
macro_rules! conformance {
    ($dialect:ty) => {
        $crate::conformance::conformance! { $dialect:
            an_established_session_has_a_token_that_the_server_takes,
            of_a_hundred_callers_at_expiry_one_refreshes_and_all_get_its_token,
            the_newest_refresh_token_is_kept,
            an_answer_without_a_refresh_token_keeps_the_old_one,
            a_rejected_refresh_loses_the_session_with_one_request,
            a_server_that_fails_takes_no_living_token_away,
            an_answer_that_is_nonsense_leaves_the_session_in_doubt,
            a_revoked_session_is_over_here_and_at_the_server,
            a_refresh_outlives_its_actor_and_its_supervisor_actor,
            a_restart_finds_the_session_and_goes_on_with_it,
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
