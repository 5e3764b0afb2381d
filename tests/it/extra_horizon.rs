//! Sessions at Extra Horizon, over real HTTP.

use std::time::Duration;

use session_warden::error::{ExchangeOutcome, LostReason, Refusal};
use session_warden::policy::DAMPING;
use session_warden::provider::Provider;
use session_warden::provider::extra_horizon::{
    DeleteRefreshToken, DeleteToken, ExtraHorizonAttributes, ExtraHorizonCode, ExtraHorizonOAuth1,
    ExtraHorizonOAuth2, ExtraHorizonPassword, GenerateSsoToken, ListTokens, MfaAnswer,
    MfaChallenge, OidcLogin, SsoToken,
};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::session::{Adopt, Adopted, Revocation, State, Verdict};
use session_warden::store::MemoryStore;
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{
    Endpoint, ExpiresIn, FakeAuthServer, FakeDialect, Fault, Faults, ManualClock,
};
use session_warden::ticket::Ticket;
use session_warden::token::Tokens;
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, Establishment, PermissionToken, Supervisor};

use crate::fixtures::{Fixture, ServerFixture};
use crate::support::{SECOND, callers, key, until};

const HOUR: Duration = Duration::from_secs(3600);
const LIFE: Duration = Duration::from_secs(300);

async fn server(clock: &ManualClock) -> FakeAuthServer {
    let builder = FakeAuthServer::builder().dialect(FakeDialect::ExtraHorizon);
    let builder = builder.client("ck", "cs&1").client("backend", "s:é").public_client("app");
    builder.clock(clock.clone()).access_lifetime(LIFE).start().await.unwrap()
}

async fn supervise<P: Provider>(provider: P, clock: &ManualClock, ring: KeyRing) -> Supervisor {
    let builder = Supervisor::builder().clock(clock.clone()).store(MemoryStore::new());
    let builder = builder.transport(TransportConfig::default().allow_loopback_http());
    builder.key_ring(ring).provider("exh", provider).start().await.unwrap()
}

async fn exh<P: Provider>(make: impl FnOnce(&str) -> P) -> ServerFixture<P> {
    let clock = ManualClock::new();
    let server = server(&clock).await;
    let provider = make(server.url());
    let set =
        |builder: SupervisorBuilder, _: &Faults| builder.key_ring(KeyRing::generate().unwrap());
    let store = MemoryStore::new();
    let fixture = Fixture::start_at_with("exh", provider, (&store, &clock), set).await;
    ServerFixture { fixture, server }
}

fn one(url: &str) -> ExtraHorizonOAuth1 {
    ExtraHorizonOAuth1::new(url, "ck", "cs&1").unwrap()
}

fn public(url: &str) -> ExtraHorizonOAuth2 {
    ExtraHorizonOAuth2::public(url, "app").unwrap()
}

fn confidential(url: &str) -> ExtraHorizonOAuth2 {
    ExtraHorizonOAuth2::confidential(url, "backend", "s:é").unwrap()
}

fn password() -> ExtraHorizonPassword {
    ExtraHorizonPassword::new("ada@example.com", "ok")
}

fn challenged<P: Provider<Challenge = MfaChallenge>>(given: Establishment<P>) -> MfaChallenge {
    match given {
        Establishment::Challenge(challenge) => challenge,
        Establishment::Active(attributes) => panic!("{attributes:?}"),
    }
}

async fn sign_in<P: Provider>(fixture: &ServerFixture<P>) -> Result<Establishment<P>, Error>
where
    P::Grant: From<ExtraHorizonPassword>,
{
    fixture.session.establish(password()).await
}

/// A signed GET with a query, as an application makes it.
async fn call_api<P: Provider>(
    fixture: &ServerFixture<P>,
) -> (PermissionToken, http::response::Parts, Vec<u8>) {
    let uri = format!("{}/users/v1/me?eq(name,a%20b)&limit(5)&x=%27", fixture.server.url());
    let request = http::Request::get(uri).body(Vec::<u8>::new()).unwrap();
    let (mut parts, body) = request.into_parts();
    let token = fixture.session.authorize(&mut parts).await.unwrap();
    let request = reqwest::Request::try_from(http::Request::from_parts(parts, body)).unwrap();
    let answer = reqwest::Client::new().execute(request).await.unwrap();
    let answer: http::Response<reqwest::Body> = answer.into();
    let (parts, body) = answer.into_parts();
    let body = http_body_bytes(body).await;
    (token, parts, body)
}

async fn http_body_bytes(body: reqwest::Body) -> Vec<u8> {
    let answer = http::Response::new(body);
    reqwest::Response::from(answer).bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn an_oauth1_session_signs_requests_and_never_expires() {
    let fixture = exh(one).await;
    let Establishment::Active(attributes) = sign_in(&fixture).await.unwrap() else { panic!() };
    assert_eq!(attributes.token_id.unwrap().len(), 24);
    for _ in 0..3 {
        let (token, parts, body) = call_api(&fixture).await;
        assert_eq!(parts.status, 200, "{}", String::from_utf8_lossy(&body));
        assert!(token.header().is_none() && token.expires_at().is_none());
        fixture.clock.advance(1000 * HOUR).await;
    }
    assert_eq!(fixture.server.counts().token.requests, 1);
}

#[tokio::test]
async fn an_oauth1_token_that_exists_already_is_adopted_and_signs() {
    let mut fixture = exh(one).await;
    let Establishment::Active(had) = sign_in(&fixture).await.unwrap() else { panic!() };
    let former = fixture.session.export_secrets().await.unwrap();
    let (token, secret) = (former.access_token().unwrap(), former.token_secret().unwrap());
    let attributes =
        ExtraHorizonAttributes::new(had.user_id.unwrap()).token_id(had.token_id.unwrap());
    let adopting = Tokens::new(attributes.clone()).with_access_token(token.clone(), None);
    let adopting = adopting.with_token_secret(secret.clone());
    fixture.session = fixture.supervisor.sessions("exh").unwrap().session(key("adopted"));
    assert_eq!(fixture.session.adopt(adopting, Adopt::IfVacant).await.unwrap(), Adopted::Yes);
    let (_, parts, body) = call_api(&fixture).await;
    assert_eq!(parts.status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(fixture.session.attributes().await.unwrap(), attributes);
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::AtServer);
    assert!(!fixture.server.is_active(token.expose_secret()));
}

#[tokio::test]
async fn an_oauth1_token_that_was_deleted_elsewhere_ends_the_session() {
    let fixture = exh(one).await;
    let _ = sign_in(&fixture).await.unwrap();
    fixture.server.revoke_user("ada@example.com");
    let (token, parts, body) = call_api(&fixture).await;
    assert_eq!((parts.status.as_u16(), &body[..11]), (401, &b"{\"code\":108"[..]));
    assert_eq!(fixture.session.rejected(&token, &parts, &body), Verdict::Forward);
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Revoked));
    let _ = sign_in(&fixture).await.unwrap();
    assert_eq!(call_api(&fixture).await.1.status, 200);
    fixture.server.revoke_user("ada@example.com");
    let error = fixture.session.call(ListTokens::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Revoked));
}

#[tokio::test]
async fn hazard_8_an_oauth1_retry_is_signed_anew_and_a_clock_that_is_off_is_told_as_such() {
    let fixture = exh(one).await;
    let _ = sign_in(&fixture).await.unwrap();
    // Each is a request of its own to the server, which refuses a nonce that it has seen.
    for _ in 0..20 {
        assert_eq!(call_api(&fixture).await.1.status, 200);
    }
    assert!(!fixture.server.counts().errors.contains_key("110"));
    for skew in [-3600_i64, 3600] {
        let clock = ManualClock::new();
        clock.step_wall(skew);
        let ring = KeyRing::generate().unwrap();
        let supervisor = supervise(one(fixture.server.url()), &clock, ring).await;
        let session =
            supervisor.sessions::<ExtraHorizonOAuth1>("exh").unwrap().session(key("other"));
        let error = session.establish(password()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused(Refusal::ClockSkew));
        assert_eq!(error.provider_code(), Some("109"));
    }
}

#[tokio::test]
async fn a_wrong_consumer_is_the_configurations_fault_and_a_wrong_password_the_users() {
    let fixture = exh(one).await;
    let error =
        fixture.session.establish(ExtraHorizonPassword::new("ada", "wrong")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
    assert_eq!(error.provider_code(), Some("106"));
    assert_eq!(error.outcome(), Some(ExchangeOutcome::Rejected));
    for (consumer, secret, code) in [("nobody", "cs&1", "107"), ("ck", "wrong", "109")] {
        let provider = ExtraHorizonOAuth1::new(fixture.server.url(), consumer, secret).unwrap();
        let supervisor = supervise(provider, &fixture.clock, KeyRing::generate().unwrap()).await;
        let session =
            supervisor.sessions::<ExtraHorizonOAuth1>("exh").unwrap().session(key("device"));
        let error = session.establish(password()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!(error.provider_code(), Some(code));
    }
}

#[tokio::test]
async fn ten_wrong_passwords_freeze_and_fifty_lock() {
    let fixture = exh(public).await;
    let wrong = || ExtraHorizonPassword::new("ada@example.com", "wrong");
    for failure in 1..=50 {
        let error = fixture.session.establish(wrong()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials), "{failure}");
        if failure % 10 == 0 && failure < 50 {
            let error = sign_in(&fixture).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused(Refusal::Locked));
            assert_eq!(error.retry_after(), Some(60 * SECOND));
            fixture.clock.advance(60 * SECOND).await;
        }
    }
    let error = sign_in(&fixture).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::LockedForGood));
}

/// In both dialects: wrong, too soon, another process, right, and used up.
async fn second_factor<P>(make: fn(&str) -> P)
where
    P: Provider<Challenge = MfaChallenge, Attributes = ExtraHorizonAttributes>,
    P::Grant: From<ExtraHorizonPassword> + From<MfaAnswer>,
{
    let clock = ManualClock::new();
    let server = server(&clock).await;
    server.set_second_factor("ada@example.com", Some("123456"));
    let ring = || KeyRing::new(1, MasterKey::from([1; 32]));
    let first = supervise(make(server.url()), &clock, ring()).await;
    let second = supervise(make(server.url()), &clock, ring()).await;
    let session = |of: &Supervisor| of.sessions::<P>("exh").unwrap().session(key("device"));
    let challenge = challenged(session(&first).establish(password()).await.unwrap());
    assert_eq!(session(&first).status().await.unwrap().state, State::Challenged);
    let method = challenge.methods()[0].id.clone();
    // As a browser brings it back.
    let text = challenge.ticket().as_str().to_owned();
    let answer = |code: &str| MfaAnswer::new(Ticket::parse(text.as_str()).unwrap(), &*method, code);
    let kind = |told: Result<Establishment<P>, Error>| told.unwrap_err().kind();
    let wrong = session(&second).establish(answer("000000")).await;
    assert_eq!(kind(wrong), ErrorKind::Refused(Refusal::WrongCode));
    let soon = session(&second).establish(answer("123456")).await.unwrap_err();
    assert_eq!(soon.kind(), ErrorKind::Refused(Refusal::CodeTooSoon));
    assert_eq!(soon.retry_after(), Some(SECOND));
    clock.advance(SECOND).await;
    let Establishment::Active(_) = session(&second).establish(answer("123456")).await.unwrap()
    else {
        panic!()
    };
    session(&second).permission_token().await.unwrap();
    let used = session(&second).establish(answer("123456")).await;
    assert_eq!(kind(used), ErrorKind::Refused(Refusal::ChallengeExpired));
    let other = first.sessions::<P>("exh").unwrap().session(key("other"));
    assert_eq!(kind(other.establish(answer("1")).await), ErrorKind::InvalidInput);
    clock.advance(600 * SECOND).await;
    let sent = server.count(Endpoint::SecondFactor);
    let late = session(&first).establish(answer("123456")).await;
    assert_eq!(kind(late), ErrorKind::Refused(Refusal::ChallengeExpired));
    assert_eq!(server.count(Endpoint::SecondFactor), sent, "a ticket that is over is not sent");
}

#[tokio::test]
async fn a_second_factor_is_answered_at_another_process_in_oauth1() {
    second_factor(one).await;
}

#[tokio::test]
async fn a_second_factor_is_answered_at_another_process_in_oauth2() {
    second_factor(public).await;
    second_factor(confidential).await;
}

#[tokio::test]
async fn an_sso_token_of_one_session_establishes_another_once() {
    let fixture = exh(one).await;
    let _ = sign_in(&fixture).await.unwrap();
    let sso = fixture.session.call(GenerateSsoToken).await.unwrap();
    let other =
        fixture.supervisor.sessions::<ExtraHorizonOAuth1>("exh").unwrap().session(key("other"));
    let Establishment::Active(attributes) = other.establish(sso.clone()).await.unwrap() else {
        panic!()
    };
    // The session has adopted the token that it got.
    assert_eq!(attributes.user_id, fixture.session.attributes().await.unwrap().user_id);
    assert_eq!(other.call(ListTokens::new()).await.unwrap().records.len(), 2);
    let used = other.establish(sso).await.unwrap_err();
    assert_eq!(used.kind(), ErrorKind::Refused(Refusal::GrantExpired));
    let late = fixture.session.call(GenerateSsoToken).await.unwrap();
    fixture.clock.advance(HOUR).await;
    let late = other.establish(SsoToken::new(late.token().clone())).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Refused(Refusal::GrantExpired));
}

#[tokio::test]
async fn deleting_ones_own_oauth1_token_ends_the_session_and_anothers_does_not() {
    let fixture = exh(one).await;
    let _ = sign_in(&fixture).await.unwrap();
    let first = fixture.session.attributes().await.unwrap().token_id.unwrap();
    let _ = sign_in(&fixture).await.unwrap();
    let page = fixture.session.call(ListTokens::new()).await.unwrap();
    let own: Vec<_> = page.records.iter().filter(|record| record.is_own).collect();
    assert_eq!((page.records.len(), own.len()), (2, 1));
    assert_eq!(fixture.session.call(DeleteToken::new(first)).await.unwrap(), 1);
    assert_eq!(call_api(&fixture).await.1.status, 200);
    assert_eq!(fixture.session.call(DeleteToken::of(own[0])).await.unwrap(), 1);
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::SessionDeleted));
}

#[tokio::test]
async fn revoking_deletes_an_oauth1_token_and_is_local_in_oauth2() {
    let fixture = exh(one).await;
    let _ = sign_in(&fixture).await.unwrap();
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::AtServer);
    assert!(!fixture.server.is_active(token.expose_secret()));
    let fixture = exh(public).await;
    let _ = sign_in(&fixture).await.unwrap();
    assert_eq!(fixture.session.revoke().await.unwrap(), Revocation::LocalOnly);
}

#[tokio::test]
async fn hazard_1_two_callers_that_find_the_token_expired_share_one_refresh() {
    let fixture = exh(public).await;
    let _ = sign_in(&fixture).await.unwrap();
    fixture.clock.advance(LIFE + SECOND).await;
    let asking = callers(100, || {
        let session = fixture.session.clone();
        async move { session.permission_token().await.unwrap().generation() }
    });
    let got = until(&fixture.clock, asking.join_all()).await;
    assert!(got.into_iter().all(|generation| generation == 2));
    assert_eq!(fixture.server.count(Endpoint::RefreshToken), 1);
    assert_eq!((fixture.server.presented_twice(), fixture.server.reuses_detected()), (0, 0));
}

#[tokio::test]
async fn hazard_2_a_rejection_of_a_token_that_was_replaced_refreshes_nothing() {
    let fixture = exh(public).await;
    let _ = sign_in(&fixture).await.unwrap();
    fixture.server.kill_access_tokens();
    let (old, parts, body) = call_api(&fixture).await;
    assert_eq!((parts.status.as_u16(), &body[..11]), (401, &b"{\"code\":117"[..]));
    for _ in 0..10 {
        assert_eq!(fixture.session.rejected(&old, &parts, &body), Verdict::Retry);
        assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    }
    assert_eq!((fixture.server.refreshes(), call_api(&fixture).await.1.status.as_u16()), (1, 200));
}

#[tokio::test]
async fn hazard_3_a_life_of_299_999_seconds_is_read_and_one_of_5_does_not_refresh_per_request() {
    let fixture = exh(public).await;
    let _ = sign_in(&fixture).await.unwrap();
    let token = fixture.session.permission_token().await.unwrap();
    let ends = session_warden::clock::Clock::now(&fixture.clock).wall + LIFE;
    assert_eq!(token.expires_at(), Some(ends - Duration::from_millis(1)));
    fixture.server.set_expires_in(ExpiresIn::json("5"));
    fixture.session.refresh().await.unwrap();
    for _ in 0..100 {
        fixture.session.permission_token().await.unwrap();
    }
    assert_eq!(fixture.server.refreshes(), 1);
}

#[tokio::test]
async fn a_confidential_clients_lost_answer_is_asked_for_again_with_the_same_token() {
    let fixture = exh(confidential).await;
    let _ = sign_in(&fixture).await.unwrap();
    fixture.clock.advance(LIFE + SECOND).await;
    fixture.server.fail_next(Endpoint::RefreshToken, Fault::DropAfterCommit);
    let session = fixture.session.clone();
    let token = until(&fixture.clock, session.permission_token()).await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()));
    assert_eq!(fixture.server.count(Endpoint::RefreshToken), 2);
    assert_eq!(fixture.server.reuses_detected(), 0);
}

#[tokio::test]
async fn hazard_7_a_public_clients_lost_answer_leaves_the_session_in_doubt_with_its_tokens() {
    for fault in [Fault::DropAfterCommit, Fault::StatusAfterCommit(502), Fault::NoAccessToken] {
        let fixture = exh(public).await;
        let _ = sign_in(&fixture).await.unwrap();
        fixture.server.fail_next(Endpoint::RefreshToken, fault.clone());
        let error = fixture.session.refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater, "{fault:?}");
        assert_eq!(fixture.session.status().await.unwrap().state, State::InDoubt, "{fault:?}");
        assert_eq!(call_api(&fixture).await.1.status, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn hazard_10_a_200_without_a_token_is_an_error_in_both_dialects() {
    let faults = [Fault::NoAccessToken, Fault::Empty200, Fault::WrongTypes, Fault::Html];
    for fault in faults {
        let (first, second) = (exh(one).await, exh(public).await);
        first.server.fail_next(Endpoint::Password, fault.clone());
        second.server.fail_next(Endpoint::Password, fault.clone());
        for told in [sign_in(&first).await.map(drop), sign_in(&second).await.map(drop)] {
            let error = told.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RetryLater, "{fault:?}");
            assert_eq!(error.outcome(), Some(ExchangeOutcome::Ambiguous), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_at_refresh_loses_the_session_and_a_wrong_client_keeps_it() {
    let fixture = exh(public).await;
    let _ = sign_in(&fixture).await.unwrap();
    let client = Fault::OAuthError { status: 401, code: "invalid_client".to_owned() };
    fixture.server.fail_next(Endpoint::RefreshToken, client);
    let error = fixture.session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert_eq!(fixture.session.status().await.unwrap().state, State::Active);
    fixture.clock.advance(HOUR).await;
    fixture.server.kill_all_grants();
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Rejected));
}

/// `403 + 129` and `401 + 10`.
#[tokio::test]
async fn hazard_9_a_second_factor_and_a_missing_permission_refresh_nothing() {
    let fixture = exh(public).await;
    let _ = sign_in(&fixture).await.unwrap();
    for (status, number) in [(403, 129), (401, 10), (401, 104)] {
        let body = format!(r#"{{"code":{number},"name":"N","message":"m"}}"#);
        let fault = Fault::Status { code: status, retry_after: None, body: Some(body) };
        fixture.server.fail_next(Endpoint::Resource, fault.clone());
        let (token, parts, body) = call_api(&fixture).await;
        assert_eq!(fixture.session.rejected(&token, &parts, &body), Verdict::Forward);
        fixture.server.fail_next(Endpoint::ListTokens, fault);
        let error = fixture.session.call(ListTokens::new()).await.unwrap_err();
        assert_eq!(error.provider_code(), Some(number.to_string().as_str()));
        if number == 10 {
            assert_eq!(error.kind(), ErrorKind::Refused(Refusal::NotPermitted));
        }
    }
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 1);
    assert_eq!(fixture.server.count(Endpoint::RefreshToken), 0);
}

#[tokio::test]
async fn an_operation_whose_token_is_dead_is_made_once_more_with_another() {
    for status in [400, 401, 403] {
        let fixture = exh(public).await;
        let _ = sign_in(&fixture).await.unwrap();
        let body = r#"{"code":118,"name":"ACCESS_TOKEN_EXPIRED_EXCEPTION","message":"m"}"#;
        let dead = Fault::Status { code: status, retry_after: None, body: Some(body.to_owned()) };
        fixture.server.fail_next(Endpoint::ListTokens, dead.clone());
        let page = fixture.session.call(ListTokens::new()).await.unwrap();
        assert!(page.into_iter().any(|record| record.is_own));
        assert_eq!(fixture.server.refreshes(), 1);
        for (refreshes, rejections) in [(1, 1), (2, 2)] {
            fixture.server.fail_next_n(Endpoint::ListTokens, rejections, dead.clone());
            let error = fixture.session.call(ListTokens::new()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RetryLater);
            assert_eq!(fixture.server.refreshes(), refreshes, "first it is damped");
            fixture.clock.advance(DAMPING).await;
        }
    }
}

#[tokio::test]
async fn deleting_ones_own_oauth2_tokens_is_known_by_their_records() {
    let fixture = exh(public).await;
    let _ = sign_in(&fixture).await.unwrap();
    let page = fixture.session.call(ListTokens::new().filter("limit(50)")).await.unwrap();
    let own = page.records.iter().find(|record| record.is_own).unwrap().clone();
    let sent = fixture.session.permission_token().await.unwrap();
    assert_eq!(fixture.session.call(DeleteToken::of(&own)).await.unwrap(), 1);
    assert!(!fixture.server.is_active(sent.expose_secret()));
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    let page = fixture.session.call(ListTokens::new()).await.unwrap();
    let own = page.records.iter().find(|record| record.is_own).unwrap().clone();
    let refresh = DeleteRefreshToken::of(&own).unwrap();
    assert_eq!(fixture.session.call(refresh).await.unwrap(), 1);
    let error = fixture.session.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::TokensDeleted));
    assert_eq!(fixture.server.refreshes(), 1);
}

#[tokio::test]
async fn codes_serve_once_with_and_without_their_extras() {
    let fixture = exh(confidential).await;
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let code = |challenge| fixture.server.authorization_code("ada", "https://a/cb", challenge);
    let bare = ExtraHorizonCode::new(code(None));
    let _ = fixture.session.establish(bare.clone()).await.unwrap();
    let used = fixture.session.establish(bare).await.unwrap_err();
    assert_eq!(used.kind(), ErrorKind::Refused(Refusal::GrantExpired));
    let full = ExtraHorizonCode::new(code(Some(challenge))).redirect_uri("https://a/cb");
    let _ = fixture.session.establish(full.code_verifier(verifier)).await.unwrap();
    let _ = fixture.session.establish(OidcLogin::new("google", code(None))).await.unwrap();
    let wrong = fixture.session.establish(OidcLogin::new("google", "wrong")).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Refused(Refusal::GrantExpired));
    assert_eq!(wrong.provider_code(), Some("139"));
}
