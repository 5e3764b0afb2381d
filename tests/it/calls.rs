//! Calls beside the sessions' exchanges, and their effect on the session.

mod bounds;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use session_warden::ErrorKind;
use session_warden::error::LostReason;
use session_warden::event::EventKind;
use session_warden::policy::{Policy, ProviderLimits};
use session_warden::provider::oauth2::{
    Attributes, ClientCredentials, Introspect, OAuth2, RevokeAccessToken, UserInfo,
};
use session_warden::provider::{
    Credential, Effect, ExchangeError, HttpSender, Operation, Registration, Revoked,
};
use session_warden::session::State;
use session_warden::store::{MemoryStore, Phase, Store};
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::{Endpoint, FakeAuthServer, Fault, Faults, ManualClock};
use session_warden::token::Tokens;

use crate::fixtures::OAuth2Fixture;
use crate::support::{SECOND, key, provider_of};

const HOUR: Duration = Duration::from_secs(3600);

/// A request to the API, with its effect on the session. The output is the status.
struct Visit {
    url: String,
    effect: Effect,
    credential: Credential,
}

impl Visit {
    fn new(server: &FakeAuthServer, effect: Effect) -> Self {
        let url = format!("{}/resource", server.url());
        Self { url, effect, credential: Credential::PermissionToken }
    }

    /// With the token that the session has, valid or not.
    fn own(self) -> Self {
        Self { credential: Credential::InRequest, ..self }
    }
}

impl Operation<OAuth2> for Visit {
    type Output = u16;
    type RequestInfo = ();

    fn credential(&self) -> Credential {
        self.credential
    }

    fn request(
        &self,
        _: &OAuth2,
        held: &Tokens<Attributes>,
    ) -> session_warden::error::Result<(Request<Bytes>, ())> {
        let mut request = Request::get(&self.url);
        if self.credential == Credential::InRequest {
            let token = held.access_token().unwrap().expose_secret();
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        Ok((request.body(Bytes::new()).unwrap(), ()))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        (): (),
        answer: &Response<Bytes>,
    ) -> Result<(u16, Effect), ExchangeError> {
        if answer.status().is_success() {
            Ok((answer.status().as_u16(), self.effect))
        } else {
            Err(sender.status_error(answer))
        }
    }
}

/// A client of this server that knows all its endpoints.
fn calling(server: &FakeAuthServer) -> OAuth2 {
    let at = |path: &str| format!("{}/{path}", server.url());
    let client = provider_of(server).introspection_endpoint(&at("introspect")).unwrap();
    client.userinfo_endpoint(&at("userinfo")).unwrap()
}

async fn server(clock: &ManualClock) -> FakeAuthServer {
    FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap()
}

async fn start(
    provider: impl Into<Registration<OAuth2>>,
    clock: &ManualClock,
    store: &MemoryStore,
    policy: Policy,
) -> OAuth2Fixture {
    let set = |builder: SupervisorBuilder, _: &Faults| builder.policy(policy);
    OAuth2Fixture::start_at_with("oauth2", provider, (store, clock), set).await
}

/// A server and a session that is signed in.
async fn signed_in() -> (FakeAuthServer, OAuth2Fixture) {
    signed_in_with(calling, Policy::default()).await
}

async fn signed_in_with<R: Into<Registration<OAuth2>>>(
    provider: impl Fn(&FakeAuthServer) -> R,
    policy: Policy,
) -> (FakeAuthServer, OAuth2Fixture) {
    let clock = ManualClock::new();
    let server = server(&clock).await;
    let fixture = start(provider(&server), &clock, &MemoryStore::new(), policy).await;
    let _ = fixture.sign_in().await.unwrap();
    (server, fixture)
}

impl OAuth2Fixture {
    /// Another process on the same store, whose server is the same.
    async fn restarted(&self, server: &FakeAuthServer) -> Self {
        let report = self.until(self.supervisor.shutdown(10 * SECOND)).await;
        assert!(report.is_clean());
        start(calling(server), &self.clock, &self.store, Policy::default()).await
    }

    async fn generation(&self) -> u64 {
        self.session.permission_token().await.unwrap().generation()
    }

    async fn failure(&self) -> ErrorKind {
        self.session.permission_token().await.unwrap_err().kind()
    }

    async fn lost(&self) -> Option<LostReason> {
        self.session.status().await.unwrap().lost
    }
}

#[tokio::test]
async fn a_call_carries_a_token_that_is_good_and_gets_no_other_for_it() {
    let (server, fixture) = signed_in().await;
    assert_eq!(fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap(), 200);
    assert_eq!(server.refreshes(), 0);
    fixture.clock.advance(HOUR).await;
    assert_eq!(fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap(), 200);
    let resource = server.counts().resource;
    assert_eq!((resource.requests, resource.granted, server.refreshes()), (2, 2, 1));
}

#[tokio::test]
async fn a_token_that_the_server_killed_is_replaced_once_and_the_call_made_once_more() {
    let (server, fixture) = signed_in().await;
    server.kill_access_tokens();
    assert_eq!(fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap(), 200);
    let resource = server.counts().resource;
    assert_eq!((resource.requests, resource.refused, server.refreshes()), (2, 1, 1));
    assert_eq!(fixture.generation().await, 2);
}

#[tokio::test]
async fn a_server_that_calls_every_token_dead_is_asked_twice_and_not_three_times() {
    let (server, fixture) = signed_in().await;
    let dead = Fault::Status { code: 401, retry_after: None, body: None };
    server.fail_always(Endpoint::Resource, Some(dead));
    let error = fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.session()),
        (ErrorKind::RetryLater, Some(fixture.session.id()))
    );
    assert_eq!((server.count(Endpoint::Resource), server.refreshes()), (2, 1));
}

#[tokio::test]
async fn many_calls_that_find_the_same_token_dead_share_one_refresh() {
    let (server, fixture) = signed_in().await;
    server.kill_access_tokens();
    let url = format!("{}/resource", server.url());
    let calls = crate::support::callers(50, || {
        let (session, url) = (fixture.session.clone(), url.clone());
        let visit = Visit { url, effect: Effect::None, credential: Credential::PermissionToken };
        async move { session.call(visit).await.unwrap() }
    });
    assert!(calls.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!((server.refreshes(), server.presented_twice()), (1, 0));
}

#[tokio::test]
async fn a_call_without_an_effect_and_one_that_fails_change_nothing() {
    let (server, mut fixture) = signed_in().await;
    fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap();
    let broken = Fault::Status { code: 500, retry_after: None, body: None };
    server.fail_next(Endpoint::Resource, broken);
    fixture.session.call(Visit::new(&server, Effect::SessionDead)).await.unwrap_err();
    assert_eq!((fixture.generation().await, server.refreshes()), (1, 0));
    assert_eq!(fixture.happened().await, [EventKind::Established]);
}

#[tokio::test]
async fn an_access_token_that_a_call_ended_is_not_handed_out_again() {
    let (server, fixture) = signed_in().await;
    fixture.session.call(Visit::new(&server, Effect::AccessTokenDead)).await.unwrap();
    assert!(fixture.session.try_permission_token().is_none());
    assert_eq!((fixture.generation().await, server.refreshes()), (2, 1));
    assert_eq!(fixture.lost().await, None);
}

#[tokio::test]
async fn a_session_whose_refresh_token_a_call_ended_ends_with_its_access_token() {
    let (server, mut fixture) = signed_in().await;
    fixture.session.call(Visit::new(&server, Effect::RefreshTokenDead)).await.unwrap();
    let lost = LostReason::TokensDeleted;
    assert_eq!((fixture.generation().await, fixture.lost().await), (1, Some(lost)));
    assert_eq!(fixture.happened().await, [EventKind::Established, EventKind::Lost(lost)]);
    let again = fixture.restarted(&server).await;
    assert_eq!((again.generation().await, again.lost().await), (1, Some(lost)));
    again.clock.advance(HOUR).await;
    assert_eq!(again.failure().await, ErrorKind::SignInAgain(lost));
    let record = again.store.load(again.session.id()).await.unwrap().unwrap().record;
    assert_eq!((record.phase, record.lost), (Phase::Lost, Some(lost)));
    assert_eq!(server.count(Endpoint::RefreshToken), 0, "what is known to be dead is not sent");
    let _ = again.sign_in().await.unwrap();
    assert_eq!(again.session.permission_token().await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn a_session_that_a_call_ended_serves_no_token_any_more_also_after_a_restart() {
    let (server, mut fixture) = signed_in().await;
    fixture.session.call(Visit::new(&server, Effect::SessionDead)).await.unwrap();
    let lost = LostReason::SessionDeleted;
    assert_eq!(fixture.failure().await, ErrorKind::SignInAgain(lost));
    assert_eq!(fixture.happened().await, [EventKind::Established, EventKind::Lost(lost)]);
    let again = fixture.restarted(&server).await;
    assert_eq!(again.failure().await, ErrorKind::SignInAgain(lost));
    assert!(again.session.try_permission_token().is_none());
    let record = again.store.load(again.session.id()).await.unwrap().unwrap().record;
    assert_eq!((record.phase, record.lost), (Phase::Lost, Some(lost)));
    assert_eq!(server.count(Endpoint::RefreshToken), 0);
}

/// First the refresh token, then all of it: the second call is not lost on a session that is
/// lost already.
#[tokio::test]
async fn a_session_that_ends_with_its_access_token_can_still_be_ended_at_once() {
    let (server, fixture) = signed_in().await;
    fixture.session.call(Visit::new(&server, Effect::RefreshTokenDead)).await.unwrap();
    assert_eq!(fixture.generation().await, 1);
    fixture.session.call(Visit::new(&server, Effect::SessionDead)).await.unwrap();
    let lost = ErrorKind::SignInAgain(LostReason::SessionDeleted);
    assert_eq!(fixture.failure().await, lost);
    assert_eq!(fixture.restarted(&server).await.failure().await, lost);
}

/// A session that the backend ended starts again only by an explicit grant: not by `renewal_grant`,
/// and not by `renew_with`.
#[tokio::test]
async fn what_a_call_ended_is_not_renewed_but_ensured_or_established() {
    let renewing = |server: &FakeAuthServer| calling(server).client_credentials();
    for effect in [Effect::RefreshTokenDead, Effect::SessionDead] {
        let (server, fixture) = signed_in_with(renewing, Policy::default()).await;
        fixture.session.call(Visit::new(&server, effect)).await.unwrap();
        fixture.clock.advance(HOUR).await;
        for _ in 0..3 {
            assert!(matches!(fixture.failure().await, ErrorKind::SignInAgain(_)), "{effect:?}");
        }
        assert_eq!(server.count(Endpoint::Token), 1, "{effect:?}");
        let token = fixture.session.ensure(ClientCredentials::new()).await.unwrap();
        assert_eq!((token.epoch(), server.count(Endpoint::ClientCredentials)), (2, 1));
        // From then on it is one of those that obtain new tokens automatically.
        fixture.clock.advance(HOUR).await;
        assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 3);
    }
    for effect in [Effect::RefreshTokenDead, Effect::SessionDead] {
        let kept = |server: &FakeAuthServer| {
            let registration = Registration::new(calling(server));
            registration.renew_with(async |_, reason| panic!("asked for what is lost: {reason}"))
        };
        let (server, fixture) = signed_in_with(kept, Policy::default()).await;
        fixture.session.call(Visit::new(&server, effect)).await.unwrap();
        fixture.clock.advance(HOUR).await;
        assert!(matches!(fixture.failure().await, ErrorKind::SignInAgain(_)), "{effect:?}");
    }
}

/// 1. A call is out. 2. Its caller goes. 3. The answer comes.
#[tokio::test]
async fn what_a_call_did_is_known_although_its_caller_has_gone() {
    for (effect, lost) in [
        (Effect::AccessTokenDead, None),
        (Effect::RefreshTokenDead, Some(LostReason::TokensDeleted)),
        (Effect::SessionDead, Some(LostReason::SessionDeleted)),
    ] {
        let (server, fixture) = signed_in().await;
        server.fail_next(Endpoint::Resource, Fault::HoldUntilReleased);
        let (session, visit) = (fixture.session.clone(), Visit::new(&server, effect));
        let calling = tokio::spawn(async move { session.call(visit).await });
        server.held(1).await;
        calling.abort();
        assert!(calling.await.unwrap_err().is_cancelled());
        server.release();
        // The new process begins when the call of the old one has ended.
        let again = fixture.restarted(&server).await;
        assert_eq!(again.lost().await, lost);
        let served = fixture.session.try_permission_token().is_some();
        assert_eq!(served, effect == Effect::RefreshTokenDead, "{effect:?}");
    }
}

/// 1. A call is out that ends the session's tokens. 2. The session is refreshed. 3. The answer
/// comes: it is of tokens that are not the session's any more.
#[tokio::test]
async fn what_a_call_did_to_former_tokens_does_not_touch_their_successors() {
    for effect in [Effect::AccessTokenDead, Effect::RefreshTokenDead, Effect::SessionDead] {
        let (server, fixture) = signed_in().await;
        server.fail_next(Endpoint::Resource, Fault::HoldUntilReleased);
        let (session, visit) = (fixture.session.clone(), Visit::new(&server, effect));
        let calling = tokio::spawn(async move { session.call(visit).await });
        server.held(1).await;
        assert_eq!(fixture.session.refresh().await.unwrap().generation(), 2);
        server.release();
        assert_eq!(calling.await.unwrap().unwrap(), 200);
        assert_eq!((fixture.generation().await, fixture.lost().await), (2, None), "{effect:?}");
    }
}

#[tokio::test]
async fn an_introspection_tells_of_the_token_and_one_that_is_dead_is_replaced() {
    let (server, fixture) = signed_in().await;
    let told = fixture.session.call(Introspect::access_token()).await.unwrap();
    assert_eq!((told.active, told.client_id.as_deref()), (true, Some("client")));
    assert_eq!(told.username.or(told.sub).as_deref(), Some("ada"));
    assert!(fixture.session.call(Introspect::refresh_token()).await.unwrap().active);
    assert_eq!(fixture.generation().await, 1);
    server.kill_access_tokens();
    assert!(!fixture.session.call(Introspect::access_token()).await.unwrap().active);
    assert_eq!((fixture.generation().await, server.refreshes()), (2, 1));
    server.kill_all_grants();
    // Only the next refresh shows whether the refresh token is valid.
    assert!(!fixture.session.call(Introspect::refresh_token()).await.unwrap().active);
    assert_eq!((fixture.lost().await, server.count(Endpoint::Introspect)), (None, 4));
}

#[tokio::test]
async fn user_info_is_the_users_and_is_asked_for_with_a_token_that_is_good() {
    let (server, fixture) = signed_in().await;
    server.kill_access_tokens();
    let claims = fixture.session.call(UserInfo).await.unwrap();
    assert_eq!(claims["sub"], "ada");
    assert_eq!((server.count(Endpoint::UserInfo), server.refreshes()), (2, 1));
}

#[tokio::test]
async fn an_access_token_is_revoked_at_the_server_and_the_session_lives_on() {
    let (server, fixture) = signed_in().await;
    let used = fixture.session.permission_token().await.unwrap();
    assert_eq!(fixture.session.call(RevokeAccessToken).await.unwrap(), Revoked::AtServer);
    assert!(!server.is_active(used.expose_secret()));
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation(), server.live_grants()), (1, 2, 1));
    assert!(server.is_active(token.expose_secret()));
}

#[tokio::test]
async fn a_session_that_never_was_has_nothing_to_call_with() {
    let clock = ManualClock::new();
    let server = server(&clock).await;
    let fixture = start(calling(&server), &clock, &MemoryStore::new(), Policy::default()).await;
    for visit in [Visit::new(&server, Effect::None), Visit::new(&server, Effect::None).own()] {
        let error = fixture.session.call(visit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotEstablished);
    }
    assert_eq!(server.count(Endpoint::Resource), 0);
}

#[tokio::test]
async fn nothing_is_sent_of_a_session_that_another_authority_issued() {
    let (_issuer, fixture) = signed_in().await;
    let elsewhere = server(&fixture.clock).await;
    let moved = start(calling(&elsewhere), &fixture.clock, &fixture.store, Policy::default()).await;
    for visit in [Visit::new(&elsewhere, Effect::None), Visit::new(&elsewhere, Effect::None).own()]
    {
        let error = moved.session.call(visit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    }
    let asked = moved.session.call(Introspect::refresh_token()).await.unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::Misconfigured);
    moved.session.call(RevokeAccessToken).await.unwrap_err();
    moved.session.call(UserInfo).await.unwrap_err();
    assert_eq!(elsewhere.counts().connections, 0);
}

/// A 429 of one call delays all sessions of the provider.
#[tokio::test]
async fn a_call_that_is_told_to_slow_down_slows_the_provider_down() {
    let (server, fixture) = signed_in().await;
    let busy = Fault::Status { code: 429, retry_after: Some("30".to_owned()), body: None };
    server.fail_next(Endpoint::Resource, busy);
    let error = fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RetryLater, Some(30 * SECOND)));
    let before = (server.count(Endpoint::Token), server.count(Endpoint::Resource));
    let other: session_warden::Session<OAuth2> =
        fixture.supervisor.sessions("oauth2").unwrap().session(key("other"));
    let password = session_warden::provider::oauth2::Password::new("bob", "ok");
    assert_eq!(other.establish(password).await.unwrap_err().kind(), ErrorKind::RetryLater);
    fixture.session.refresh().await.unwrap_err();
    fixture.session.call(UserInfo).await.unwrap_err();
    assert_eq!((server.count(Endpoint::Token), server.count(Endpoint::Resource)), before);
    fixture.clock.advance(30 * SECOND).await;
    fixture.session.refresh().await.unwrap();
    fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap();
}

/// A client that the server rejects is probed once a minute. A call that succeeds without the
/// client's secret says nothing of it, and does not take the place of a probe.
#[tokio::test]
async fn calls_do_not_take_the_probe_of_a_client_that_the_server_takes_again() {
    let (server, fixture) = signed_in().await;
    server.set_client_secret("client", "another");
    assert_eq!(fixture.session.refresh().await.unwrap_err().kind(), ErrorKind::Misconfigured);
    let shut = fixture.session.call(UserInfo).await.unwrap_err();
    assert_eq!((shut.kind(), server.count(Endpoint::UserInfo)), (ErrorKind::Misconfigured, 0));
    server.set_client_secret("client", "secret");
    fixture.clock.advance(ProviderLimits::default().probe).await;
    fixture.session.call(UserInfo).await.unwrap();
    assert_eq!(fixture.session.refresh().await.unwrap().generation(), 2);
    assert_eq!(fixture.session.status().await.unwrap().state, State::Active);
}
