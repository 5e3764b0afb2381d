//! Sessions at an iOFFICE site, over real HTTP.

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use session_warden::error::{ExchangeOutcome, LostReason, Refusal};
use session_warden::event::EventKind;
use session_warden::policy::DAMPING;
use session_warden::provider::ioffice::{
    IOffice, IOfficeAttributes, IOfficeCode, IOfficePassword, IOfficeRevokeAccessToken, TokenInfo,
};
use session_warden::session::{Revocation, State, Verdict};
use session_warden::testing::{
    Endpoint, ExpiresIn, FakeAuthServer, FakeDialect, FakeLogin, Fault, ManualClock, StoreCall,
};
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, Establishment, PermissionToken, Sessions, Supervisor};

use crate::fixtures::ServerFixture;
use crate::support::{SECOND, callers, key, until};

const HOUR: Duration = Duration::from_secs(3600);
const CALLBACK: &str = "https://app.example/callback";

impl ServerFixture<IOffice> {
    async fn open(set: impl FnOnce(IOffice) -> IOffice) -> Self {
        let clock = ManualClock::new();
        let server = FakeAuthServer::builder().dialect(FakeDialect::IOffice).clock(clock.clone());
        let server = server.user("ada", "pässword").start().await.unwrap();
        let provider = set(IOffice::new(server.url(), "app", CALLBACK).unwrap());
        let mut started = Self::start("ioffice", server, provider, &clock).await;
        started.session = started.sessions().session(key("ada"));
        started
    }

    fn sessions(&self) -> Sessions<IOffice> {
        self.supervisor.sessions("ioffice").unwrap()
    }

    async fn signed_in() -> Self {
        Self::open(|provider| provider).await.signing_in().await
    }

    async fn signing_in(self) -> Self {
        let Establishment::Active(attributes) = self.sign_in("pässword").await.unwrap();
        assert_eq!(attributes.scope.as_deref(), Some("email"));
        self
    }

    async fn sign_in(&self, password: &str) -> Result<Establishment<IOffice>, Error> {
        self.session.establish(IOfficePassword::new("ada", password)).await
    }

    async fn token(&self) -> Result<PermissionToken, Error> {
        self.session.permission_token().await
    }

    /// Asks the API, which judges the token; gives the session's verdict on that.
    async fn ask(&self, path: &str) -> (u16, Verdict, PermissionToken) {
        let uri = format!("{}/external/api/rest/v2/{path}", self.server.url());
        let (mut parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        let used = self.session.authorize(&mut parts).await.unwrap();
        let (status, verdict) = self.send(parts, &used).await;
        (status, verdict, used)
    }

    async fn send(&self, parts: http::request::Parts, used: &PermissionToken) -> (u16, Verdict) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http::Request::from_parts(parts, "");
        let answer = client.execute(request.try_into().unwrap()).await.unwrap();
        let status = answer.status();
        let (judged, ()) = http::Response::builder().status(status).body(()).unwrap().into_parts();
        (status.as_u16(), self.session.rejected(used, &judged, b""))
    }

    /// A login as a browser does it: where it comes back to, with the fragment.
    async fn browse(&self, url: &str) -> String {
        let client = reqwest::Client::builder().no_proxy();
        let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 302, "{url}");
        answer.headers()["location"].to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn hazard_1_callers_who_find_the_token_expired_at_once_share_one_refresh() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    fixture.clock.advance(HOUR + SECOND).await;
    let asking = callers(200, || {
        let session = fixture.session.clone();
        async move { session.permission_token().await.unwrap().generation() }
    });
    assert!(asking.join_all().await.into_iter().all(|generation| generation == 2));
    assert_eq!((fixture.server.refreshes(), fixture.server.presented_twice()), (1, 0));
}

#[tokio::test]
async fn hazard_2_a_rejection_of_a_token_that_was_replaced_refreshes_nothing() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    let old = fixture.token().await.unwrap();
    fixture.session.refresh().await.unwrap();
    for status in [401, 403] {
        let (judged, ()) = http::Response::builder().status(status).body(()).unwrap().into_parts();
        assert_eq!(fixture.session.rejected(&old, &judged, b""), Verdict::Retry);
    }
    assert_eq!(fixture.token().await.unwrap().generation(), 2);
    assert_eq!(fixture.server.refreshes(), 1);
}

#[tokio::test]
async fn hazard_6_a_rotated_refresh_token_is_saved_before_the_new_access_token_is_handed_out() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    fixture.clock.advance(HOUR + SECOND).await;
    fixture.faults.hold(StoreCall::Commit);
    let session = fixture.session.clone();
    let asking = tokio::spawn(async move { session.permission_token().await });
    fixture.faults.held(StoreCall::Commit, 1).await;
    fixture.clock.advance(SECOND).await;
    assert!(!asking.is_finished() && fixture.session.try_permission_token().is_none());
    fixture.faults.release(StoreCall::Commit);
    let token = until(&fixture.clock, asking).await.unwrap().unwrap();
    assert_eq!((token.generation(), fixture.server.refreshes()), (2, 1));
}

#[tokio::test]
async fn hazard_7_a_failure_that_says_nothing_of_the_token_keeps_it() {
    let status = |code| Fault::Status { code, retry_after: Some("7".to_owned()), body: None };
    for (fault, state) in [
        (Fault::StatusAfterCommit(502), State::InDoubt),
        (Fault::DropAfterCommit, State::InDoubt),
        (Fault::CloseBeforeProcessing, State::InDoubt),
        (Fault::OAuthError { status: 500, code: "invalid_grant".to_owned() }, State::InDoubt),
        (status(503), State::Active),
        (status(429), State::Active),
    ] {
        let fixture = ServerFixture::<IOffice>::signed_in().await;
        fixture.server.fail_next(Endpoint::RefreshToken, fault.clone());
        let error = fixture.session.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater, "{fault:?}");
        assert_eq!(fixture.session.status().await.unwrap().state, state, "{fault:?}");
        assert_eq!(fixture.token().await.unwrap().generation(), 1, "{fault:?}");
        assert_eq!(fixture.server.count(Endpoint::RefreshToken), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn hazard_9_a_403_refreshes_once_and_so_does_a_401_unless_it_is_set_otherwise() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    assert_eq!(fixture.ask("users/me").await.1, Verdict::Forward);
    fixture.server.kill_access_tokens();
    let (status, verdict, _) = fixture.ask("users/me").await;
    assert_eq!((status, verdict), (403, Verdict::Retry));
    let (status, verdict, used) = fixture.ask("users/me").await;
    assert_eq!((status, verdict, used.generation()), (200, Verdict::Forward, 2));
    let unauthorized = Fault::Status { code: 401, retry_after: None, body: None };
    fixture.clock.advance(DAMPING).await;
    fixture.server.fail_next(Endpoint::Resource, unauthorized.clone());
    assert_eq!(fixture.ask("users/me").await.1, Verdict::Retry);
    assert_eq!(fixture.ask("users/me").await.2.generation(), 3);

    let only_401 = |provider: IOffice| provider.token_dead_on([StatusCode::UNAUTHORIZED]);
    let fixture = ServerFixture::<IOffice>::open(only_401).await.signing_in().await;
    fixture.server.kill_access_tokens();
    assert_eq!(fixture.ask("users/me").await.1, Verdict::Forward, "a permission that is missing");
    assert_eq!(fixture.token().await.unwrap().generation(), 1);
    fixture.server.fail_next(Endpoint::Resource, unauthorized);
    assert_eq!(fixture.ask("users/me").await.1, Verdict::Retry);
}

#[tokio::test]
async fn hazard_10_a_success_without_an_access_token_is_an_answer_that_was_lost() {
    for fault in [
        Fault::NoAccessToken,
        Fault::Empty200,
        Fault::Html,
        Fault::Malformed,
        Fault::WrongTypes,
        Fault::TornBody,
        Fault::HugeBody,
    ] {
        let mut fixture = ServerFixture::<IOffice>::signed_in().await;
        fixture.server.fail_next(Endpoint::RefreshToken, fault.clone());
        let error = fixture.session.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater, "{fault:?}");
        assert_eq!(fixture.session.status().await.unwrap().state, State::InDoubt, "{fault:?}");
        fixture.clock.advance(HOUR + SECOND).await;
        let error = fixture.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::LostInDoubt), "{fault:?}");
        let lost = EventKind::Lost(LostReason::LostInDoubt);
        let expected = [EventKind::Established, EventKind::InDoubt, lost];
        assert_eq!(fixture.happened().await, expected, "{fault:?}");
        assert_eq!(fixture.server.count(Endpoint::RefreshToken), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn hazard_11_milliseconds_and_seconds_are_not_taken_for_each_other() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    let in_an_hour = Some(fixture.wall() + HOUR);
    assert_eq!(fixture.token().await.unwrap().expires_at(), in_an_hour);
    // Seconds that are read as milliseconds: early, but used at least once, and no storm.
    fixture.server.set_expires_in(ExpiresIn::json("3600"));
    fixture.session.refresh().await.unwrap();
    for _ in 0..50 {
        assert_eq!(fixture.token().await.unwrap().generation(), 2);
    }
    let fixture = ServerFixture::<IOffice>::open(IOffice::expires_in_seconds).await;
    fixture.server.set_expires_in(ExpiresIn::json("3600"));
    let fixture = fixture.signing_in().await;
    assert_eq!(fixture.token().await.unwrap().expires_at(), Some(fixture.wall() + HOUR));
    // Milliseconds that are read as seconds: only a refused call shows the end, and that works.
    fixture.server.set_expires_in(ExpiresIn::json("3600000"));
    fixture.session.refresh().await.unwrap();
    fixture.clock.advance(HOUR + SECOND).await;
    assert_eq!(fixture.ask("users/me").await.1, Verdict::Retry);
    assert_eq!(fixture.ask("users/me").await.0, 200);
    assert_eq!(fixture.server.refreshes(), 2);
}

#[tokio::test]
async fn a_password_makes_a_session_by_two_requests_and_a_wrong_one_leaves_the_old() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    let counts = fixture.server.counts();
    assert_eq!(counts.of(Endpoint::SecurityFactor).granted, 1);
    assert_eq!(counts.of(Endpoint::AuthorizationCode).granted, 1);
    let error = fixture.sign_in("wrong").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
    assert_eq!(error.outcome(), Some(ExchangeOutcome::Rejected));
    fixture.session.refresh().await.unwrap();
    // A word that no header carries is not sent.
    let error = fixture.sign_in("a\nb").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.outcome(), Some(ExchangeOutcome::NotSent));
    assert_eq!(fixture.server.count(Endpoint::SecurityFactor), 2);
}

/// The first answer of a sign-in can be lost without harm; the second may have been tokens.
#[tokio::test]
async fn a_sign_in_whose_answer_is_lost_leaves_the_former_session_and_may_be_repeated() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    fixture.server.fail_next(Endpoint::SecurityFactor, Fault::DropAfterCommit);
    let error = fixture.sign_in("pässword").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    assert_eq!(error.outcome(), Some(ExchangeOutcome::NotProcessed));
    assert_eq!(fixture.token().await.unwrap().generation(), 1);
    assert_eq!(fixture.server.refreshes(), 0, "nothing casts doubt on the former session");

    fixture.server.fail_next(Endpoint::AuthorizationCode, Fault::DropAfterCommit);
    let error = fixture.sign_in("pässword").await.unwrap_err();
    assert_eq!(error.outcome(), Some(ExchangeOutcome::Ambiguous));
    fixture.token().await.unwrap();
    assert_eq!(fixture.server.refreshes(), 1, "the former session is tried before its next use");
    let _ = fixture.sign_in("pässword").await.unwrap();
    assert_eq!(fixture.token().await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn a_login_through_a_browser_comes_back_with_a_fragment_and_its_state() {
    let fixture = ServerFixture::<IOffice>::open(|provider| provider.scope("rooms").unwrap()).await;
    let login = fixture.sessions().begin_login(key("ada"), ()).await.unwrap();
    let back = fixture.browse(login.url.as_str()).await;
    assert!(back.starts_with(&format!("{CALLBACK}#code=")) && back.contains("state="), "{back}");
    let (session, Establishment::Active(attributes)) =
        fixture.sessions().finish_login(&login.ticket, &back).await.unwrap();
    let IOfficeAttributes { scope, app_code, .. } = attributes;
    assert_eq!((scope.as_deref(), app_code.as_deref()), (Some("rooms"), Some("fake-app")));
    assert_eq!(session.attributes().await.unwrap().app_code.as_deref(), Some("fake-app"));
    session.refresh().await.unwrap();
    assert_eq!(session.attributes().await.unwrap().app_code.as_deref(), Some("fake-app"));

    // The ticket can be used once, and a denial is reported.
    let error = fixture.sessions().finish_login(&login.ticket, &back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::ChallengeExpired));
    fixture.server.set_login(FakeLogin::deny("access_denied"));
    let login = fixture.sessions().begin_login(key("ada"), ()).await.unwrap();
    let back = fixture.browse(login.url.as_str()).await;
    let error = fixture.sessions().finish_login(&login.ticket, &back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::NotPermitted));
}

/// Without the state that it came back with.
fn stateless(back: &str) -> String {
    back.split_once("&state=").unwrap().0.to_owned()
}

/// 1. A user's login is under way. 2. A stranger logs in, and has the user's browser open the
/// address that the stranger's own came back to, with and without its state. 3. The user goes on.
#[tokio::test]
async fn a_strangers_code_does_not_end_a_users_login_and_the_ticket_stays_good() {
    let fixture = ServerFixture::<IOffice>::open(|provider| provider).await;
    let login = fixture.sessions().begin_login(key("ada"), ()).await.unwrap();
    let strangers = fixture.sessions().begin_login(key("eve"), ()).await.unwrap();
    let forged = fixture.browse(strangers.url.as_str()).await;
    for forged in [stateless(&forged), format!("{}&state=", stateless(&forged)), forged] {
        let error = fixture.sessions().finish_login(&login.ticket, &forged).await.unwrap_err();
        let mismatch = ErrorKind::Refused(Refusal::LoginStateMismatch);
        assert_eq!(error.kind(), mismatch, "{forged}");
    }
    assert_eq!(fixture.server.count(Endpoint::AuthorizationCode), 0);
    let back = fixture.browse(login.url.as_str()).await;
    fixture.sessions().finish_login(&login.ticket, &back).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_site_that_sends_no_state_back_needs_the_setting_that_names_the_price() {
    let fixture =
        ServerFixture::<IOffice>::open(IOffice::allow_login_csrf_where_state_is_missing).await;
    let login = fixture.sessions().begin_login(key("ada"), ()).await.unwrap();
    let back = stateless(&fixture.browse(login.url.as_str()).await);
    fixture.sessions().finish_login(&login.ticket, &back).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_code_serves_once_and_for_five_minutes() {
    let fixture = ServerFixture::<IOffice>::open(|provider| provider).await;
    let code = fixture.server.authorization_code("ada", CALLBACK, None);
    let _ =
        fixture.session.establish(IOfficeCode::new(code.clone()).app_code("a-1")).await.unwrap();
    assert_eq!(fixture.session.attributes().await.unwrap().app_code.as_deref(), Some("a-1"));
    let error = fixture.session.establish(IOfficeCode::new(code)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::GrantExpired));
    let login = fixture.sessions().begin_login(key("ada"), ()).await.unwrap();
    let back = fixture.browse(login.url.as_str()).await;
    fixture.clock.advance(301 * SECOND).await;
    let error = fixture.sessions().finish_login(&login.ticket, &back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::GrantExpired));
}

#[tokio::test]
async fn the_server_is_asked_about_the_token_and_can_be_told_to_end_it_alone() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    assert!(fixture.session.call(TokenInfo).await.unwrap());
    fixture.server.kill_access_tokens();
    assert!(!fixture.session.call(TokenInfo).await.unwrap());
    let second = fixture.token().await.unwrap();
    assert_eq!(second.generation(), 2, "a token that does not serve is not handed out again");
    fixture.session.call(IOfficeRevokeAccessToken).await.unwrap();
    assert!(!fixture.server.is_active(second.expose_secret()));
    assert_eq!(fixture.token().await.unwrap().generation(), 3);
    assert_eq!(fixture.server.count(Endpoint::Revoke), 1);
}

#[tokio::test]
async fn a_revocation_ends_both_tokens_now_or_later() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    let token = fixture.token().await.unwrap();
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::AtServer);
    assert!(!fixture.server.is_active(token.expose_secret()) && fixture.server.live_grants() == 0);
    assert_eq!(fixture.server.count(Endpoint::Revoke), 2);
    assert_eq!(fixture.token().await.unwrap_err().kind(), ErrorKind::NotEstablished);

    let fixture = fixture.signing_in().await;
    let down = Fault::Status { code: 503, retry_after: Some("30".to_owned()), body: None };
    fixture.server.fail_next(Endpoint::Revoke, down);
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::Queued);
    fixture.clock.advance(31 * SECOND).await;
    until(&fixture.clock, fixture.server.wait_for_count(Endpoint::Revoke, 5)).await;
    assert_eq!(fixture.server.live_grants(), 0);
}

#[tokio::test]
async fn another_method_of_revocation_is_what_is_sent() {
    let fixture =
        ServerFixture::<IOffice>::open(|provider| provider.revoke_method(Method::POST)).await;
    let fixture = fixture.signing_in().await;
    // This server knows only GET.
    let error = fixture.session.call(IOfficeRevokeAccessToken).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert_eq!(fixture.server.count(Endpoint::Revoke), 0);
}

#[tokio::test]
async fn a_token_in_the_query_is_put_there_by_authorize_and_by_nothing_else() {
    let fixture = ServerFixture::<IOffice>::open(IOffice::token_in_query).await.signing_in().await;
    let token = fixture.token().await.unwrap();
    assert!(token.header().is_none());
    let (status, verdict, _) = fixture.ask("users/me?fields=name").await;
    assert_eq!((status, verdict), (200, Verdict::Forward));
}

#[tokio::test]
async fn a_rejected_refresh_token_is_final_and_costs_one_request() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    fixture.server.revoke_user("ada");
    fixture.clock.advance(HOUR + SECOND).await;
    for _ in 0..10 {
        let error = fixture.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Rejected));
    }
    assert_eq!(fixture.server.count(Endpoint::RefreshToken), 1);
}

#[tokio::test]
async fn a_server_that_does_not_know_the_client_stops_it_and_loses_no_session() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().dialect(FakeDialect::IOffice).clock(clock.clone());
    let server = server.client("app", "secret").start().await.unwrap();
    let name = HeaderName::from_static("x-client-secret");
    let provider = IOffice::new(server.url(), "app", CALLBACK).unwrap();
    let provider = provider.client_secret_header(name, "secret").unwrap();
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("ioffice", provider)
        .start()
        .await
        .unwrap();
    let session = supervisor.sessions::<IOffice>("ioffice").unwrap().session(key("ada"));
    let _ = session.establish(IOfficePassword::new("ada", "ok")).await.unwrap();
    server.set_client_secret("app", "other");
    let error = session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    server.set_client_secret("app", "secret");
    clock.advance(600 * SECOND).await;
    session.refresh().await.unwrap();
}

#[tokio::test]
async fn shutting_down_leaves_nothing_behind() {
    let fixture = ServerFixture::<IOffice>::signed_in().await;
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
}
