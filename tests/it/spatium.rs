//! Sessions at Spatium's authorization service, over real HTTP.

use std::time::Duration;

use session_warden::error::{ExchangeOutcome, LostReason, Refusal};
use session_warden::key::Tenant;
use session_warden::provider::spatium::{
    CredentialsFactor, MerchantKey, SecurityToken, Spatium, SpatiumCredentials, TokenIds,
};
use session_warden::secret::Secret;
use session_warden::session::{Revocation, State, Verdict};
use session_warden::store::Store;
use session_warden::testing::{
    Endpoint, ExpiresIn, FakeAuthServer, FakeDialect, Fault, ManualClock, StoreCall,
};
use session_warden::{ErrorKind, PermissionToken, Sessions};

use crate::fixtures::ServerFixture;
use crate::support::{LIFE, SECOND, callers, key, until};

async fn service(clock: &ManualClock) -> FakeAuthServer {
    let builder = FakeAuthServer::builder().dialect(FakeDialect::Spatium).clock(clock.clone());
    let builder = builder.access_lifetime(LIFE).refresh_lifetime(Some(30 * 24 * 3600 * SECOND));
    builder.user("ada", "pw").start().await.unwrap()
}

async fn fixture() -> ServerFixture<Spatium> {
    fixture_with(|spatium| spatium).await
}

async fn fixture_with(set: impl FnOnce(Spatium) -> Spatium) -> ServerFixture<Spatium> {
    let clock = ManualClock::new();
    let server = service(&clock).await;
    fixture_at(server, clock, set).await
}

async fn fixture_at(
    server: FakeAuthServer,
    clock: ManualClock,
    set: impl FnOnce(Spatium) -> Spatium,
) -> ServerFixture<Spatium> {
    let url = format!("{}/authorization/v1", server.url());
    let spatium = set(Spatium::new(&url).unwrap().permissions(["read", "secret"]));
    ServerFixture::start("spatium", server, spatium, &clock).await
}

async fn signed_in() -> ServerFixture<Spatium> {
    let fixture = fixture().await;
    let _ = fixture.session.establish(SpatiumCredentials::new("ada", "pw")).await.unwrap();
    fixture
}

impl ServerFixture<Spatium> {
    async fn token(&self) -> PermissionToken {
        self.session.permission_token().await.unwrap()
    }

    fn sessions(&self) -> Sessions<Spatium> {
        self.supervisor.sessions("spatium").unwrap()
    }

    fn factor(&self, user: &str) -> SecurityToken {
        SecurityToken::new(self.server.security_token(user))
    }

    /// The refresh token in the store.
    async fn stored(&self) -> String {
        let record = self.store.load(self.session.id()).await.unwrap().unwrap().record;
        let credentials = record.credentials.unwrap();
        credentials.tokens().refresh_token().unwrap().expose_secret().to_owned()
    }
}

#[tokio::test]
async fn security_tokens_gathered_by_factors_establish_a_session_that_refreshes_itself() {
    let fixture = fixture().await;
    let tenant = Tenant::new("tenant").unwrap();
    let factor = CredentialsFactor::new("ada", "pw");
    let token: SecurityToken = fixture.sessions().call(&tenant, factor).await.unwrap();
    assert!(!Secret::from(token.clone()).expose_secret().is_empty());
    let _ = fixture.session.establish(token).await.unwrap();
    let attributes = fixture.session.attributes().await.unwrap();
    assert_eq!(attributes.permissions, ["read", "secret"]);
    assert_eq!(attributes.account_id.as_deref(), Some("ada"));
    assert!(attributes.merchant_id.is_some());
    assert_eq!(fixture.server.token_ids(), ["device"]);
    for generation in 2..5 {
        fixture.clock.advance(LIFE + SECOND).await;
        let token = fixture.token().await;
        assert_eq!(token.generation(), generation);
        assert!(fixture.server.is_active(token.expose_secret()));
    }
    let counts = fixture.server.counts();
    assert_eq!((counts.refreshes, counts.presented_twice, counts.reuses_detected), (3, 0, 0));
    assert_eq!(fixture.session.attributes().await.unwrap(), attributes);
}

#[tokio::test]
async fn credentials_do_both_steps_and_a_wrong_password_is_told() {
    let fixture = fixture().await;
    let error = fixture.session.establish(SpatiumCredentials::new("ada", "no")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
    assert_eq!(fixture.server.count(Endpoint::IssueByFactors), 0);
    let _ = fixture.session.establish(SpatiumCredentials::new("ada", "pw")).await.unwrap();
    assert_eq!(fixture.token().await.epoch(), 1);
    let tenant = Tenant::new("tenant").unwrap();
    let factor = CredentialsFactor::new("ada", "no");
    let error = fixture.sessions().call(&tenant, factor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
}

#[tokio::test]
async fn to_establish_again_replaces_the_session_and_ends_the_former_refresh_token() {
    let fixture = signed_in().await;
    let former = fixture.stored().await;
    assert!(fixture.server.is_active(&former));
    let _ = fixture.session.establish(fixture.factor("ada")).await.unwrap();
    assert!(!fixture.server.is_active(&former));
    assert_eq!((fixture.token().await.epoch(), fixture.server.grants_revoked()), (2, 1));
    fixture.session.refresh().await.unwrap();
}

#[tokio::test]
async fn a_security_token_that_was_used_is_refused_and_the_session_stays() {
    let fixture = signed_in().await;
    let used = fixture.factor("ada");
    let _ = fixture.session.establish(used.clone()).await.unwrap();
    let error = fixture.session.establish(used).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
    assert_eq!(error.outcome(), Some(ExchangeOutcome::Rejected));
    fixture.session.refresh().await.unwrap();
}

#[tokio::test]
async fn sessions_with_distinct_token_ids_live_side_by_side() {
    let fixture = signed_in().await;
    let other = fixture.sessions().session(key("tablet"));
    let _ = other.establish(fixture.factor("ada")).await.unwrap();
    assert_eq!(fixture.server.token_ids(), ["device", "tablet"]);
    fixture.session.refresh().await.unwrap();
    other.refresh().await.unwrap();
    assert_eq!(fixture.server.grants_revoked(), 0);
}

#[tokio::test]
async fn tenants_with_the_same_token_id_are_apart_if_ids_are_made_of_both() {
    let fixture = fixture_with(|spatium| spatium.token_ids(TokenIds::UuidV5)).await;
    let other = session_warden::SessionKey::new("other", "device").unwrap();
    let other = fixture.sessions().session(other);
    let _ = fixture.session.establish(fixture.factor("ada")).await.unwrap();
    let _ = other.establish(fixture.factor("ada")).await.unwrap();
    fixture.session.refresh().await.unwrap();
    assert_eq!((fixture.server.token_ids().len(), fixture.server.grants_revoked()), (2, 0));
}

#[tokio::test]
async fn a_key_makes_a_session_on_demand_and_again_when_it_is_lost() {
    let fixture = fixture_with(|spatium| {
        spatium.merchant_key(MerchantKey::new("key-1").permissions(["register"]))
    })
    .await;
    fixture.server.add_merchant_key("key-1");
    assert_eq!(fixture.token().await.epoch(), 1);
    assert_eq!(fixture.session.attributes().await.unwrap().permissions, ["register"]);
    assert_eq!(fixture.session.attributes().await.unwrap().account_id, None);
    fixture.server.kill_all_grants();
    fixture.clock.advance(LIFE + SECOND).await;
    assert_eq!(until(&fixture.clock, fixture.session.permission_token()).await.unwrap().epoch(), 2);
    let counts = fixture.server.counts();
    assert_eq!(counts.of(Endpoint::IssueByKey).granted, 2);
    assert_eq!(counts.refresh_token.refused, 1);
}

#[tokio::test]
async fn a_key_that_is_wrong_is_refused_to_whoever_brings_it() {
    let fixture = fixture().await;
    fixture.server.add_merchant_key("key-1");
    let error = fixture.session.ensure(MerchantKey::new("key-2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
    let other = fixture.sessions().session(key("other"));
    assert_eq!(other.ensure(MerchantKey::new("key-1")).await.unwrap().epoch(), 1);
}

#[tokio::test]
async fn a_session_whose_refresh_token_is_over_ends_without_a_request() {
    let fixture = signed_in().await;
    fixture.clock.advance(31 * 24 * 3600 * SECOND).await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::RefreshExpired));
    assert_eq!(fixture.server.count(Endpoint::RefreshToken), 0);
    let _ = fixture.session.establish(fixture.factor("ada")).await.unwrap();
    assert_eq!(fixture.token().await.epoch(), 2);
}

#[tokio::test]
async fn a_refresh_token_that_is_dead_ends_the_session() {
    let fixture = signed_in().await;
    fixture.server.kill_all_grants();
    let error = fixture.session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Rejected));
}

#[tokio::test]
async fn the_service_cannot_be_told_of_an_end() {
    let fixture = signed_in().await;
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::LocalOnly);
}

#[tokio::test]
async fn the_answer_to_another_request_is_not_taken_and_not_forgotten() {
    let fixture = signed_in().await;
    fixture.server.confuse_requests(true);
    let error = fixture.session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert_eq!(fixture.session.status().await.unwrap().state, State::InDoubt);
    assert_eq!(fixture.token().await.generation(), 1);
}

#[tokio::test]
async fn clocks_that_disagree_by_an_hour_do_no_harm() {
    for seconds in [-3600, 3600] {
        let (clock, theirs) = (ManualClock::new(), ManualClock::new());
        theirs.step_wall(seconds);
        let fixture = fixture_at(service(&theirs).await, clock, |spatium| spatium).await;
        let _ = fixture.session.establish(SpatiumCredentials::new("ada", "pw")).await.unwrap();
        for _ in 0..20 {
            assert_eq!(fixture.token().await.generation(), 1);
        }
        let ours = session_warden::clock::Clock::now(&fixture.clock).wall;
        assert_eq!(fixture.token().await.expires_at(), Some(ours + LIFE));
        assert_eq!(fixture.server.refreshes(), 0);
    }
}

#[tokio::test]
async fn hazard_1_many_callers_of_an_expired_token_make_one_refresh() {
    let fixture = signed_in().await;
    fixture.clock.advance(LIFE + SECOND).await;
    let asking = callers(200, || {
        let session = fixture.session.clone();
        async move { session.permission_token().await.unwrap().generation() }
    });
    assert!(asking.join_all().await.into_iter().all(|generation| generation == 2));
    assert_eq!((fixture.server.refreshes(), fixture.server.presented_twice()), (1, 0));
}

#[tokio::test]
async fn hazard_2_a_late_401_for_a_token_that_was_replaced_makes_no_refresh() {
    let fixture = signed_in().await;
    let used = fixture.token().await;
    fixture.session.refresh().await.unwrap();
    let unauthorized = http::Response::builder().status(401).body(()).unwrap().into_parts().0;
    assert_eq!(fixture.session.rejected(&used, &unauthorized, b""), Verdict::Retry);
    assert_eq!((fixture.token().await.generation(), fixture.server.refreshes()), (2, 1));
    let forbidden = http::Response::builder().status(403).body(()).unwrap().into_parts().0;
    let current = fixture.token().await;
    assert_eq!(fixture.session.rejected(&current, &forbidden, b""), Verdict::Forward);
    assert_eq!((fixture.token().await.generation(), fixture.server.refreshes()), (2, 1));
}

/// The commit is held: whoever waits for the new token has not got it, and the store has the old
/// refresh token. The commit is let go: the store has the new one, and then the caller has it.
#[tokio::test]
async fn hazard_6_the_new_refresh_token_is_saved_before_the_new_token_is_handed_out() {
    let fixture = signed_in().await;
    let former = fixture.stored().await;
    fixture.faults.hold(StoreCall::Commit);
    let session = fixture.session.clone();
    let refreshing = tokio::spawn(async move { session.refresh().await });
    fixture.faults.held(StoreCall::Commit, 1).await;
    assert_eq!(fixture.server.refreshes(), 1);
    assert!(!refreshing.is_finished());
    assert_eq!(fixture.token().await.generation(), 1);
    assert_eq!(fixture.stored().await, former);
    fixture.faults.release(StoreCall::Commit);
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2);
    assert!(fixture.server.is_active(&fixture.stored().await));
}

/// Not processed or in doubt, the tokens are kept, and no token is presented twice while the old
/// access token serves.
#[tokio::test]
async fn hazard_7_a_refresh_that_fails_keeps_the_tokens() {
    let unavailable = Fault::Status { code: 503, retry_after: Some("5".to_owned()), body: None };
    for (fault, state) in [
        (unavailable, State::Active),
        (Fault::Status { code: 500, retry_after: None, body: None }, State::InDoubt),
        (Fault::OAuthError { status: 500, code: "oops".to_owned() }, State::InDoubt),
        (Fault::CloseBeforeProcessing, State::InDoubt),
        (Fault::DropAfterCommit, State::InDoubt),
        (Fault::StatusAfterCommit(502), State::InDoubt),
        (Fault::TornBody, State::InDoubt),
        (Fault::HugeBody, State::InDoubt),
        (Fault::Html, State::InDoubt),
    ] {
        let fixture = signed_in().await;
        fixture.server.fail_next(Endpoint::RefreshToken, fault.clone());
        let error = fixture.session.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater, "{fault:?}");
        assert_eq!(fixture.session.status().await.unwrap().state, state, "{fault:?}");
        for _ in 0..50 {
            assert_eq!(fixture.token().await.generation(), 1, "{fault:?}");
        }
        assert_eq!(fixture.server.presented_twice(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn hazard_10_a_200_without_a_permission_token_is_an_error() {
    let faults =
        [Fault::NoAccessToken, Fault::Empty200, Fault::WrongTypes, Fault::Malformed, Fault::Html];
    for fault in faults {
        let fixture = fixture().await;
        fixture.server.fail_next(Endpoint::IssueByFactors, fault.clone());
        let error = fixture.session.establish(fixture.factor("ada")).await.unwrap_err();
        assert_eq!(error.outcome(), Some(ExchangeOutcome::Ambiguous), "{fault:?}");
        let vacant = fixture.session.permission_token().await.unwrap_err();
        assert_eq!(vacant.kind(), ErrorKind::NotEstablished, "{fault:?}");
    }
}

#[tokio::test]
async fn hazard_11_ends_are_unix_seconds_and_where_they_are_missing_those_of_the_token() {
    let start = ManualClock::START_WALL;
    for (said, life) in [
        (ExpiresIn::Honest, LIFE),
        (ExpiresIn::Missing, LIFE),
        (ExpiresIn::json("null"), LIFE),
        (ExpiresIn::json((start.as_secs() + 60).to_string()), 60 * SECOND),
        (ExpiresIn::json(format!("{}.5", start.as_secs() + 60)), Duration::from_millis(60_500)),
        (ExpiresIn::json("0"), SECOND),
        (ExpiresIn::json("-5"), LIFE),
    ] {
        let fixture = fixture().await;
        fixture.server.set_expires_in(said.clone());
        let _ = fixture.session.establish(fixture.factor("ada")).await.unwrap();
        let ends = std::time::SystemTime::UNIX_EPOCH + start + life;
        assert_eq!(fixture.token().await.expires_at(), Some(ends), "{said:?}");
    }
}
