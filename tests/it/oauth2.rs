//! Sessions at a standard OAuth 2.0 server, over real HTTP.

use std::time::Duration;

use session_warden::error::{ExchangeOutcome, LostReason, Refusal};
use session_warden::event::EventKind;
use session_warden::provider::Rotation;
use session_warden::provider::oauth2::{AuthorizationCode, OAuth2, Password};
use session_warden::session::{Revocation, State, Verdict};
use session_warden::store::MemoryStore;
use session_warden::testing::{
    Endpoint, ExpiresIn, FakeAuthServer, FakeRotation, Fault, ManualClock,
};
use session_warden::{ErrorKind, PermissionToken};

use crate::fixtures::{OAuth2Fixture, oauth2_fixture, oauth2_fixture_with};
use crate::support::{SECOND, provider_of};

const HOUR: Duration = Duration::from_secs(3600);

/// A server and a session that is signed in, by one clock.
async fn signed_in() -> (FakeAuthServer, OAuth2Fixture) {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let fixture = oauth2_fixture(&server, clock).await;
    let _ = fixture.sign_in().await.unwrap();
    (server, fixture)
}

#[tokio::test]
async fn whatever_expires_in_says_the_token_has_a_sane_life() {
    let day = 24 * HOUR;
    let cases = [
        (ExpiresIn::Missing, None),
        (ExpiresIn::json("0"), Some(SECOND)),
        (ExpiresIn::json("-3600"), Some(SECOND)),
        (ExpiresIn::json("0.25"), Some(SECOND)),
        (ExpiresIn::json("299.999"), Some(Duration::from_millis(299_999))),
        (ExpiresIn::json("1e300"), Some(3650 * day)),
        (ExpiresIn::json("18446744073709551616"), Some(3650 * day)),
        (ExpiresIn::json("\"3600\""), Some(HOUR)),
        (ExpiresIn::json("\"soon\""), None),
        (ExpiresIn::json("null"), None),
        (ExpiresIn::json("[1]"), None),
    ];
    for (said, life) in cases {
        let (server, fixture) = signed_in().await;
        server.set_expires_in(said.clone());
        let token = fixture.session.refresh().await.unwrap();
        let expected = life.map(|life| fixture.wall() + life);
        assert_eq!(token.expires_at(), expected, "{said:?}");
        // In every case it is used at least once, and no call refreshes on its own.
        let again = fixture.session.permission_token().await.unwrap();
        assert_eq!((again.generation(), server.refreshes()), (2, 1), "{said:?}");
    }
}

#[tokio::test]
async fn a_token_of_unknown_life_is_served_until_an_api_rejects_it() {
    let (server, fixture) = signed_in().await;
    server.set_expires_in(ExpiresIn::Missing);
    let token = fixture.session.refresh().await.unwrap();
    fixture.clock.advance(1000 * HOUR).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    assert_eq!(fixture.rejected_with(&token, 401), Verdict::Retry);
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 3);
    assert_eq!(server.refreshes(), 2);
}

#[tokio::test]
async fn tokens_that_live_shorter_than_any_margin_are_refreshed_once_each() {
    for life in [SECOND, 5 * SECOND, 9 * SECOND] {
        let (server, fixture) = signed_in().await;
        server.set_access_lifetime(life);
        fixture.session.refresh().await.unwrap();
        let (before, lives) = (server.refreshes(), 30);
        for _ in 0..lives * 20 {
            for _ in 0..5 {
                let token = fixture.session.permission_token().await.unwrap();
                assert!(token.expires_at().unwrap() > fixture.wall());
            }
            fixture.clock.advance(life / 20).await;
        }
        // Due at half of its life, so never more than two in one life: one for each token.
        let refreshed = server.refreshes() - before;
        assert!(refreshed <= 2 * lives, "{refreshed} refreshes in {lives} lives of {life:?}");
        assert!(refreshed >= lives - 1, "{refreshed} refreshes in {lives} lives of {life:?}");
        assert_eq!((server.presented_twice(), server.reuses_detected()), (0, 0));
    }
}

#[tokio::test]
async fn a_code_with_its_verifier_makes_a_session_and_a_wrong_verifier_does_not() {
    let (server, fixture) = signed_in().await;
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let redirect = "https://backend.example/callback";
    let code = || server.authorization_code("ada", redirect, Some(challenge));
    let wrong = AuthorizationCode::new(code()).redirect_uri(redirect).code_verifier("x".repeat(43));
    let error = fixture.session.establish(wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::GrantExpired));
    let right = AuthorizationCode::new(code()).redirect_uri(redirect).code_verifier(verifier);
    let _ = fixture.session.establish(right).await.unwrap();
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn a_wrong_password_is_told_and_leaves_the_session_as_it_was() {
    let (_server, fixture) = signed_in().await;
    let error = fixture.session.establish(Password::new("ada", "wrong")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
    assert_eq!(error.provider_code(), Some("invalid_grant"));
    assert_eq!(error.outcome(), Some(ExchangeOutcome::Rejected));
    assert_eq!(error.session(), Some(fixture.session.id()));
    fixture.session.refresh().await.unwrap();
}

#[tokio::test]
async fn a_client_credentials_session_mints_itself_on_first_use_and_again_when_needed() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let provider = provider_of(&server).client_credentials();
    let fixture = oauth2_fixture_with(provider, clock, MemoryStore::new()).await;
    let asking = crate::support::callers(100, || {
        let session = fixture.session.clone();
        async move { session.permission_token().await.unwrap().generation() }
    });
    assert!(asking.join_all().await.into_iter().all(|generation| generation == 1));
    assert_eq!(server.count(Endpoint::ClientCredentials), 1);
    fixture.clock.advance(HOUR + SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    let rejected = fixture.session.permission_token().await.unwrap();
    fixture.session.invalidate(&rejected);
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 3);
    assert_eq!(server.count(Endpoint::Token), 3);
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let clock = ManualClock::new();
    let builder = FakeAuthServer::builder().clock(clock.clone()).rotation(FakeRotation::None);
    let server = builder.start().await.unwrap();
    let fixture = oauth2_fixture(&server, clock).await;
    let _ = fixture.sign_in().await.unwrap();
    for generation in 2..6 {
        assert_eq!(fixture.session.refresh().await.unwrap().generation(), generation);
    }
    assert_eq!(server.refreshes(), 4);
}

/// Each answer after which the refresh token may be spent: the session is in doubt, serves its
/// token, sends nothing until it is time, and is lost only by the rejection of the one retry.
#[tokio::test]
async fn a_lost_answer_of_a_strict_server_ends_in_one_retry_and_one_event() {
    let lost = [
        Fault::DropAfterCommit,
        Fault::Malformed,
        Fault::WrongTypes,
        Fault::Html,
        Fault::Empty200,
        Fault::TornBody,
        Fault::HugeBody,
        Fault::StatusAfterCommit(502),
    ];
    for fault in lost {
        let (server, mut fixture) = signed_in().await;
        server.fail_next(Endpoint::RefreshToken, fault.clone());
        let error = fixture.session.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater, "{fault:?}");
        assert_eq!(fixture.session.status().await.unwrap().state, State::InDoubt, "{fault:?}");
        for _ in 0..100 {
            assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 1);
        }
        fixture.clock.advance(HOUR + SECOND).await;
        for _ in 0..100 {
            let error = fixture.session.permission_token().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::LostInDoubt), "{fault:?}");
        }
        assert_eq!(server.count(Endpoint::RefreshToken), 2, "{fault:?}");
        let lost = EventKind::Lost(LostReason::LostInDoubt);
        let happened = fixture.happened().await;
        assert_eq!(happened, [EventKind::Established, EventKind::InDoubt, lost], "{fault:?}");
    }
}

/// The same if the server accepts the old token for a while: no caller notices.
#[tokio::test]
async fn a_lost_answer_inside_a_servers_grace_is_asked_for_again_at_once() {
    let grace = 30 * SECOND;
    let kinds = [
        (FakeRotation::Idempotent(grace), Rotation::Idempotent(grace)),
        (FakeRotation::Fork(grace), Rotation::Fork(grace)),
        (FakeRotation::NewestOnly(grace), Rotation::NewestOnly(grace)),
        (FakeRotation::None, Rotation::Static),
    ];
    for (server_kind, kind) in kinds {
        let clock = ManualClock::new();
        let builder = FakeAuthServer::builder().clock(clock.clone()).rotation(server_kind);
        let server = builder.start().await.unwrap();
        let provider = provider_of(&server).rotation(kind);
        let fixture = oauth2_fixture_with(provider, clock, MemoryStore::new()).await;
        let _ = fixture.sign_in().await.unwrap();
        fixture.clock.advance(HOUR + SECOND).await;
        server.fail_next(Endpoint::RefreshToken, Fault::DropAfterCommit);
        let asking = crate::support::callers(50, || {
            let session = fixture.session.clone();
            async move { session.permission_token().await.unwrap().generation() }
        });
        for generation in fixture.until(asking.join_all()).await {
            assert_eq!(generation, 2, "{kind:?}");
        }
        assert_eq!(server.count(Endpoint::RefreshToken), 2, "{kind:?}");
        fixture.session.refresh().await.unwrap();
        assert_eq!(server.reuses_detected(), 0, "{kind:?}");
    }
}

/// An answer is lost, the retry is put off by the server, and the grace is over by a second.
#[tokio::test]
async fn a_grace_that_was_missed_by_a_second_costs_one_retry_and_then_the_session() {
    let (clock, grace) = (ManualClock::new(), 30 * SECOND);
    let rotation = FakeRotation::Idempotent(grace);
    let builder = FakeAuthServer::builder().clock(clock.clone()).rotation(rotation);
    let server = builder.start().await.unwrap();
    let provider = provider_of(&server).rotation(Rotation::Idempotent(grace));
    let mut fixture = oauth2_fixture_with(provider, clock, MemoryStore::new()).await;
    let _ = fixture.sign_in().await.unwrap();
    fixture.clock.advance(HOUR + SECOND).await;
    server.fail_next(Endpoint::RefreshToken, Fault::DropAfterCommit);
    let late = Fault::Status { code: 503, retry_after: Some("31".to_owned()), body: None };
    server.fail_next(Endpoint::RefreshToken, late);
    let early = fixture.until(fixture.session.permission_token()).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::RetryLater);
    assert_eq!(server.count(Endpoint::RefreshToken), 2);
    for _ in 0..100 {
        fixture.clock.advance(SECOND).await;
        drop(fixture.until(fixture.session.permission_token()).await);
    }
    fixture.clock.advance(24 * HOUR).await;
    let lost = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::SignInAgain(LostReason::LostInDoubt));
    assert_eq!(server.count(Endpoint::RefreshToken), 3, "one retry after the grace");
    let happened = fixture.happened().await;
    let lost = happened.iter().filter(|kind| matches!(kind, EventKind::Lost(_))).count();
    assert_eq!(lost, 1, "{happened:?}");
}

#[tokio::test]
async fn answers_that_processed_nothing_leave_the_session_and_wait_as_long_as_the_server_says() {
    let status = |code, retry_after: Option<&str>| Fault::Status {
        code,
        retry_after: retry_after.map(str::to_owned),
        body: None,
    };
    let oauth = |status, code: &str| Fault::OAuthError { status, code: code.to_owned() };
    let cases = [
        (status(429, Some("7")), 7 * SECOND),
        (status(503, Some("20")), 20 * SECOND),
        (status(503, Some("999999999")), 600 * SECOND),
        (status(408, None), SECOND),
        (oauth(400, "temporarily_unavailable"), SECOND),
        (oauth(400, "invalid_request"), SECOND),
    ];
    for (fault, wait) in cases {
        let (server, fixture) = signed_in().await;
        fixture.clock.advance(HOUR + SECOND).await;
        server.fail_next(Endpoint::RefreshToken, fault.clone());
        let error = fixture.session.permission_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater, "{fault:?}");
        let told = error.retry_after().unwrap();
        assert!(told <= wait && told >= wait / 10, "{fault:?}: {told:?}");
        assert_eq!(
            fixture.session.permission_token().await.unwrap_err().kind(),
            ErrorKind::RetryLater
        );
        assert_eq!(server.count(Endpoint::RefreshToken), 1, "{fault:?}");
        fixture.clock.advance(told).await;
        fixture.session.permission_token().await.unwrap();
        assert_eq!(server.presented_twice(), 1, "the same token, unharmed: {fault:?}");
        assert_eq!(server.reuses_detected(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (server, fixture) = signed_in().await;
    let elsewhere = FakeAuthServer::start().await.unwrap();
    let target = format!("{}/token", elsewhere.url());
    server.fail_next(Endpoint::RefreshToken, Fault::RedirectTo(target));
    let error = fixture.session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert_eq!(error.status(), Some(307), "it says what led there");
    assert_eq!(fixture.session.status().await.unwrap().state, State::Active);
    assert_eq!(elsewhere.counts().connections, 0);
}

/// A client that the server rejects is one alarm and a probe a minute, not a request for each of
/// its sessions; when it is mended they all go on.
#[tokio::test]
async fn a_rejected_client_is_asked_rarely_and_no_session_is_lost() {
    let (server, mut fixture) = signed_in().await;
    server.set_client_secret("client", "another");
    fixture.clock.advance(HOUR + SECOND).await;
    fixture.happened().await;
    let before = server.count(Endpoint::Token);
    for _ in 0..10 {
        for _ in 0..20 {
            let error = fixture.session.permission_token().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
        }
        fixture.clock.advance(60 * SECOND).await;
    }
    let asked = server.count(Endpoint::Token) - before;
    assert!((2..=10).contains(&asked), "{asked} requests in 10 minutes");
    let alarms = fixture.happened().await;
    assert!(matches!(alarms[..], [EventKind::ProviderRejecting(_)]), "{alarms:?}");
    server.set_client_secret("client", "secret");
    fixture.clock.advance(600 * SECOND).await;
    fixture.session.permission_token().await.unwrap();
}

/// One caller's wrong scope says nothing of the client.
#[tokio::test]
async fn a_grant_with_a_fault_of_its_own_does_not_stop_the_other_sessions() {
    let (server, mut fixture) = signed_in().await;
    let odd = |code: &str| Fault::OAuthError { status: 400, code: code.to_owned() };
    for code in ["invalid_scope", "unsupported_grant_type", "unauthorized_client"] {
        server.fail_next(Endpoint::Password, odd(code));
        let error = fixture.sign_in().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{code}");
        fixture.session.refresh().await.unwrap();
    }
    assert!(!matches!(fixture.happened().await[..], [.., EventKind::ProviderRejecting(_)]));
    server.fail_next(Endpoint::Password, odd("invalid_client"));
    fixture.sign_in().await.unwrap_err();
    let stopped = fixture.session.refresh().await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Misconfigured);
    assert!(matches!(fixture.happened().await[..], [.., EventKind::ProviderRejecting(_)]));
}

/// 1. A logout that the server could not be told. 2. A new login. The server hears of the first
/// before it is asked for the second, so that a late revocation cannot hit the new session.
#[tokio::test]
async fn a_queued_revocation_is_told_before_the_next_sign_in() {
    let (server, fixture) = signed_in().await;
    let old = fixture.session.permission_token().await.unwrap();
    let down = Fault::Status { code: 503, retry_after: Some("30".to_owned()), body: None };
    server.fail_next(Endpoint::Revoke, down);
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::Queued);
    let _ = fixture.sign_in().await.unwrap();
    assert!(!server.is_active(old.expose_secret()));
    fixture.clock.advance(HOUR / 2).await;
    let new = fixture.session.permission_token().await.unwrap();
    assert!(server.is_active(new.expose_secret()));
    assert_eq!(server.count(Endpoint::Revoke), 2);
}

#[tokio::test]
async fn a_revocation_reaches_the_server_now_or_later() {
    let (server, fixture) = signed_in().await;
    let token = fixture.session.permission_token().await.unwrap();
    let down = Fault::Status { code: 503, retry_after: Some("30".to_owned()), body: None };
    server.fail_next(Endpoint::Revoke, down);
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::Queued);
    assert_eq!(
        fixture.session.permission_token().await.unwrap_err().kind(),
        ErrorKind::NotEstablished
    );
    assert!(server.is_active(token.expose_secret()));
    fixture.clock.advance(31 * SECOND).await;
    crate::support::until(&fixture.clock, server.wait_for_count(Endpoint::Revoke, 2)).await;
    fixture.clock.advance(SECOND).await;
    assert!(!server.is_active(token.expose_secret()));
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::LocalOnly);
}

#[tokio::test]
async fn a_request_gets_a_sensitive_header_and_a_rejection_is_read_by_the_provider() {
    let (server, fixture) = signed_in().await;
    let (mut parts, ()) = http::Request::get("https://api.example/").body(()).unwrap().into_parts();
    let used = fixture.session.authorize(&mut parts).await.unwrap();
    let header = &parts.headers[http::header::AUTHORIZATION];
    assert!(header.is_sensitive());
    assert_eq!(header.to_str().unwrap(), format!("Bearer {}", used.expose_secret()));
    assert_eq!(fixture.rejected_with(&used, 200), Verdict::Forward);
    assert_eq!(fixture.rejected_with(&used, 403), Verdict::Forward);
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 1);
    assert_eq!(fixture.rejected_with(&used, 401), Verdict::Retry);
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    assert_eq!(server.refreshes(), 1);
}

#[tokio::test]
async fn metadata_with_another_issuer_is_refused() {
    let clock = ManualClock::new();
    let builder = FakeAuthServer::builder().clock(clock.clone());
    let server = builder.issuer("https://evil.example").start().await.unwrap();
    let provider = OAuth2::discover(server.url(), "client").unwrap();
    let fixture = oauth2_fixture_with(provider, clock, MemoryStore::new()).await;
    assert_eq!(fixture.sign_in().await.unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(server.count(Endpoint::Token), 0);
}

#[tokio::test]
async fn metadata_is_found_and_read_once() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let provider = OAuth2::discover(server.url(), "client").unwrap();
    let fixture = oauth2_fixture_with(provider, clock, MemoryStore::new()).await;
    let down = Fault::Status { code: 500, retry_after: None, body: None };
    server.fail_next(Endpoint::Discovery, down);
    let error = fixture.sign_in().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::RetryLater, Some(ExchangeOutcome::NotSent))
    );
    let _ = fixture.sign_in().await.unwrap();
    fixture.session.refresh().await.unwrap();
    fixture.session.revoke().await.unwrap();
    assert_eq!(server.count(Endpoint::Discovery), 2);
}

impl OAuth2Fixture {
    fn rejected_with(&self, used: &PermissionToken, status: u16) -> Verdict {
        let (parts, ()) = http::Response::builder().status(status).body(()).unwrap().into_parts();
        self.session.rejected(used, &parts, b"")
    }
}
