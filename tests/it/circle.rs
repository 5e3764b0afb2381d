//! Sessions at Circle's headless authorization, over real HTTP.

use std::time::Duration;

use session_warden::error::{ExchangeOutcome, LostReason, Refusal};
use session_warden::provider::circle::{
    Circle, CircleRevokeAccessToken, CircleRevokeRefreshToken, Member,
};
use session_warden::session::{Revocation, State, Verdict};
use session_warden::store::Store;
use session_warden::testing::{
    Endpoint, ExpiresIn, FakeAuthServer, FakeDialect, Fault, ManualClock,
};
use session_warden::{ErrorKind, PermissionToken};

use crate::fixtures::ServerFixture;
use crate::support::{SECOND, callers, key, until};

const HOUR: Duration = Duration::from_secs(3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

async fn fixture() -> ServerFixture<Circle> {
    fixture_with(|circle| circle).await
}

async fn fixture_with(set: impl FnOnce(Circle) -> Circle) -> ServerFixture<Circle> {
    let clock = ManualClock::new();
    let builder = FakeAuthServer::builder().dialect(FakeDialect::Circle).clock(clock.clone());
    let server = builder.start().await.unwrap();
    server.set_app_token("app-token");
    server.add_member(77, "ada@example.com", "sso-77");
    let circle = set(Circle::new("app-token").host(server.url()).unwrap());
    let mut started = ServerFixture::start("circle", server, circle, &clock).await;
    started.session = started.supervisor.sessions("circle").unwrap().session(key("member-77"));
    started
}

fn ada() -> Member {
    Member::Email("ada@example.com".to_owned())
}

async fn established() -> ServerFixture<Circle> {
    let fixture = fixture().await;
    fixture.session.ensure(ada()).await.unwrap();
    fixture
}

impl ServerFixture<Circle> {
    async fn token(&self) -> PermissionToken {
        until(&self.clock, self.session.permission_token()).await.unwrap()
    }

    async fn stored(&self) -> std::sync::Arc<session_warden::token::Credentials> {
        let record = self.store.load(self.session.id()).await.unwrap().unwrap().record;
        record.credentials.unwrap()
    }

    fn grants(&self) -> u64 {
        self.server.counts().of(Endpoint::AuthToken).granted
    }
}

/// The machine is suspended for nearly all of it, so that tasks wake up only at its end.
async fn a_month_passes(clock: &ManualClock) {
    clock.suspend(MONTH);
    clock.advance(60 * SECOND).await;
}

#[tokio::test]
async fn a_member_is_served_by_each_of_its_ids_and_known_by_its_number() {
    for member in [Member::Id(77), ada(), Member::SsoId("sso-77".to_owned())] {
        let fixture = fixture().await;
        let token = fixture.session.ensure(member.clone()).await.unwrap();
        assert!(fixture.server.is_active(token.expose_secret()));
        let attributes = fixture.session.attributes().await.unwrap();
        assert_eq!((attributes.community_member_id, attributes.community_id), (77, 5));
        assert_eq!(attributes.member, member);
    }
}

#[tokio::test]
async fn one_who_is_no_member_is_refused_and_never_made_one() {
    let fixture = fixture().await;
    let error = fixture.session.ensure(Member::Id(78)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::UnknownSubject));
    assert_eq!(fixture.grants(), 0);
}

#[tokio::test]
async fn a_wrong_app_token_is_the_clients_fault_and_leaves_sessions_as_they_are() {
    let fixture = established().await;
    fixture.server.set_app_token("another");
    fixture.clock.advance(HOUR + SECOND).await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    let stored = fixture.stored().await;
    let refresh = stored.tokens().refresh_token().unwrap().expose_secret();
    assert!(fixture.server.is_active(refresh));
    fixture.server.set_app_token("app-token");
    fixture.clock.advance(HOUR).await;
    assert_eq!(fixture.token().await.epoch(), 1);
}

#[tokio::test]
async fn a_session_whose_refresh_token_is_over_gets_new_tokens_for_the_same_member() {
    let fixture = established().await;
    a_month_passes(&fixture.clock).await;
    assert_eq!(fixture.token().await.epoch(), 2);
    assert_eq!(fixture.session.attributes().await.unwrap().member, ada());
    // Its expiry was known, so there was no request.
    assert_eq!((fixture.grants(), fixture.server.count(Endpoint::RefreshToken)), (2, 0));
}

#[tokio::test]
async fn a_session_whose_refresh_token_was_revoked_elsewhere_gets_new_tokens() {
    let fixture = established().await;
    fixture.server.kill_all_grants();
    fixture.clock.advance(HOUR + SECOND).await;
    assert_eq!(fixture.token().await.epoch(), 2);
    assert_eq!((fixture.grants(), fixture.server.count(Endpoint::RefreshToken)), (2, 1));
}

#[tokio::test]
async fn who_switches_it_off_signs_in_again() {
    let fixture = fixture_with(|circle| circle.auto_renew(false)).await;
    fixture.session.ensure(ada()).await.unwrap();
    fixture.server.kill_all_grants();
    fixture.clock.advance(HOUR + SECOND).await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Rejected));
    assert_eq!(fixture.grants(), 1);
    assert_eq!(fixture.session.ensure(ada()).await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn what_the_backend_ended_gets_no_new_tokens_automatically() {
    let fixture = established().await;
    let token = fixture.token().await;
    fixture.session.call(CircleRevokeRefreshToken).await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()), "it serves for the rest of its hour");
    fixture.clock.advance(HOUR + SECOND).await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::TokensDeleted));
    assert_eq!(fixture.session.ensure(ada()).await.unwrap().epoch(), 2);

    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::AtServer);
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    assert_eq!((fixture.grants(), fixture.server.count(Endpoint::Revoke)), (2, 2));
    assert_eq!(fixture.server.grants_revoked(), 2);
}

#[tokio::test]
async fn an_access_token_is_revoked_alone_and_the_next_caller_gets_another() {
    let fixture = established().await;
    let token = fixture.token().await;
    fixture.session.call(CircleRevokeAccessToken).await.unwrap();
    assert!(!fixture.server.is_active(token.expose_secret()));
    assert_eq!(fixture.token().await.generation(), 2);
    assert_eq!((fixture.server.refreshes(), fixture.grants()), (1, 1));
}

#[tokio::test]
async fn to_revoke_what_is_gone_already_is_a_success() {
    let fixture = established().await;
    fixture.server.kill_all_grants();
    fixture.session.call(CircleRevokeAccessToken).await.unwrap();
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::AtServer);
    assert_eq!(fixture.server.counts().revoke.refused, 1);
}

#[tokio::test]
async fn hazard_1_many_callers_at_once_make_one_grant_and_one_refresh() {
    let fixture = fixture().await;
    for generation in 1..3 {
        let asking = callers(200, || {
            let session = fixture.session.clone();
            async move { session.ensure(ada()).await.unwrap().generation() }
        });
        assert!(asking.join_all().await.into_iter().all(|asked| asked == generation));
        fixture.clock.advance(HOUR + SECOND).await;
    }
    assert_eq!((fixture.grants(), fixture.server.refreshes()), (1, 1));
}

#[tokio::test]
async fn hazard_2_a_late_401_for_a_token_that_was_replaced_makes_no_refresh() {
    let fixture = established().await;
    let used = fixture.token().await;
    fixture.session.refresh().await.unwrap();
    let unauthorized = http::Response::builder().status(401).body(()).unwrap().into_parts().0;
    let body = br#"{"success":false,"message":"The access token is expired."}"#;
    assert_eq!(fixture.session.rejected(&used, &unauthorized, body), Verdict::Retry);
    assert_eq!((fixture.token().await.generation(), fixture.server.refreshes()), (2, 1));
}

/// The server gives the access token back that there is, until it ends. No caller waits for that
/// more than once in a life, whoever asks how often.
#[tokio::test]
async fn hazard_4_a_refresh_that_gives_the_same_token_and_end_makes_no_loop() {
    let fixture = established().await;
    fixture.server.keep_access_tokens(true);
    let first = fixture.token().await;
    let same = fixture.session.refresh().await.unwrap();
    assert_eq!(same.expose_secret(), first.expose_secret());
    assert_eq!((same.generation(), same.expires_at()), (2, first.expires_at()));
    for second in 0..3600 {
        for _ in 0..5 {
            let token = fixture.session.permission_token().await.unwrap();
            assert!(fixture.server.is_active(token.expose_secret()), "{second}");
        }
        fixture.clock.advance(SECOND).await;
    }
    let refreshes = fixture.server.refreshes();
    assert!(refreshes <= 20, "{refreshes} refreshes in an hour");
    assert_ne!(fixture.token().await.expose_secret(), first.expose_secret());
    assert_eq!(fixture.grants(), 1);
}

#[tokio::test]
async fn hazard_5_a_refresh_keeps_the_refresh_token_and_its_end() {
    let fixture = established().await;
    let before = fixture.stored().await;
    for generation in 2..6 {
        fixture.clock.advance(HOUR + SECOND).await;
        assert_eq!(fixture.token().await.generation(), generation);
    }
    let (before, after) = (before.tokens(), fixture.stored().await);
    let after = after.tokens();
    let text = |tokens: &session_warden::token::Tokens<std::sync::Arc<str>>| {
        tokens.refresh_token().unwrap().expose_secret().to_owned()
    };
    assert_eq!(text(before), text(after));
    assert_eq!(before.refresh_expires_at(), after.refresh_expires_at());
    let start = std::time::SystemTime::UNIX_EPOCH + ManualClock::START_WALL;
    assert_eq!(after.refresh_expires_at(), Some(start + MONTH));
    assert_eq!(before.attributes(), after.attributes());
}

/// The refresh token is static, so a retry is safe, and no caller notices a lost response.
#[tokio::test]
async fn hazard_7_a_refresh_that_fails_keeps_the_tokens_and_is_tried_again() {
    for fault in [
        Fault::CloseBeforeProcessing,
        Fault::DropAfterCommit,
        Fault::Status { code: 500, retry_after: None, body: None },
        Fault::TornBody,
        Fault::StatusAfterCommit(502),
    ] {
        let fixture = established().await;
        fixture.server.fail_next(Endpoint::RefreshToken, fault.clone());
        fixture.clock.advance(HOUR + SECOND).await;
        if matches!(fault, Fault::OAuthError { .. }) {
            // An answer, so that nothing is in doubt and nothing is tried at once.
            let told = until(&fixture.clock, fixture.session.permission_token()).await.unwrap_err();
            assert_eq!(told.kind(), ErrorKind::RetryLater);
            fixture.clock.advance(told.retry_after().unwrap()).await;
        }
        let token = fixture.token().await;
        assert_eq!((token.generation(), token.epoch()), (2, 1), "{fault:?}");
        assert_eq!(fixture.session.status().await.unwrap().state, State::Active, "{fault:?}");
        assert_eq!(fixture.grants(), 1, "{fault:?}");
    }
    // An answer, so not at once.
    let fixture = established().await;
    let code = "The access token generation failed.".to_owned();
    fixture.server.fail_next(Endpoint::RefreshToken, Fault::OAuthError { status: 422, code });
    fixture.clock.advance(HOUR + SECOND).await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    fixture.clock.advance(error.retry_after().unwrap()).await;
    assert_eq!(fixture.token().await.generation(), 2);
    assert_eq!(fixture.grants(), 1);
}

#[tokio::test]
async fn hazard_10_a_200_without_an_access_token_is_an_error() {
    let unauthorized = br#"{"status":"unauthorized","message":"Your account could not be ..."}"#;
    for (fault, kind) in [
        (Fault::BodyAfterCommit(unauthorized.to_vec()), ErrorKind::Misconfigured),
        (Fault::NoAccessToken, ErrorKind::RetryLater),
        (Fault::WrongTypes, ErrorKind::RetryLater),
        (Fault::Empty200, ErrorKind::RetryLater),
        (Fault::Html, ErrorKind::RetryLater),
    ] {
        let fixture = fixture().await;
        fixture.server.fail_always(Endpoint::AuthToken, Some(fault.clone()));
        let error = fixture.session.establish(ada()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}");
        if kind == ErrorKind::RetryLater {
            assert_eq!(error.outcome(), Some(ExchangeOutcome::Ambiguous), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn hazard_11_ends_are_times_of_day_and_where_they_are_missing_those_of_the_token() {
    let start = std::time::SystemTime::UNIX_EPOCH + ManualClock::START_WALL;
    for (said, life) in [
        (ExpiresIn::Honest, HOUR),
        (ExpiresIn::Missing, HOUR),
        (ExpiresIn::json("\"2025-01-01T00:01:00.500Z\""), Duration::from_millis(60_500)),
        (ExpiresIn::json("\"2025-01-01T02:01:00+02:00\""), 60 * SECOND),
        (ExpiresIn::json("\"1999-01-01T00:00:00Z\""), SECOND),
        (ExpiresIn::json("3600"), HOUR),
    ] {
        let fixture = fixture().await;
        fixture.server.set_expires_in(said.clone());
        let token = fixture.session.ensure(ada()).await.unwrap();
        assert_eq!(token.expires_at(), Some(start + life), "{said:?}");
    }
}

/// 1. A session is made for a member. 2. The app token becomes that of another community, which
/// has a member of the same number and address. 3. The session is refreshed, and later renewed
/// anew. 4. The app token is put right.
#[tokio::test]
async fn a_member_of_the_same_number_in_another_community_is_never_served_and_nothing_is_lost() {
    let fixture = established().await;
    let first = fixture.token().await;
    fixture.server.set_community(6);
    let error = fixture.session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("another community"), "{error}");
    assert_eq!(fixture.token().await.expose_secret(), first.expose_secret());
    assert_eq!(fixture.session.status().await.unwrap().state, State::Active);

    // The refresh token is over, and the session would obtain new tokens.
    a_month_passes(&fixture.clock).await;
    let error = until(&fixture.clock, fixture.session.permission_token()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("another community"), "{error}");
    let attributes = fixture.session.attributes().await.unwrap();
    assert_eq!((attributes.community_id, attributes.community_member_id), (5, 77));

    fixture.server.set_community(5);
    fixture.clock.advance(HOUR).await;
    assert_eq!(fixture.token().await.epoch(), 2);
    assert_eq!(fixture.session.attributes().await.unwrap().community_id, 5);
}

/// The address now belongs to another member.
#[tokio::test]
async fn an_address_that_another_member_has_now_renews_no_session_and_a_callers_grant_may_use_it() {
    let fixture = established().await;
    let other = Member::Email("ada@other.example".to_owned());
    fixture.server.add_member(78, "ada@other.example", "sso-78");
    a_month_passes(&fixture.clock).await;
    let error = until(&fixture.clock, fixture.session.ensure(other.clone())).await.unwrap_err();
    assert!(error.to_string().contains("another member"), "{error}");
    fixture.clock.advance(HOUR).await;
    let _ = fixture.session.establish(other).await.unwrap();
    assert_eq!(fixture.session.attributes().await.unwrap().community_member_id, 78);
}
