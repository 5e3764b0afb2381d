//! Calls that panic, too many calls, late calls, and calls that need no session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use session_warden::Session;
use session_warden::error::{ExchangeOutcome, Result};
use session_warden::key::{PauseScope, Tenant};
use session_warden::provider::ClientOperation;
use session_warden::supervisor::Sessions;
use session_warden::testing::{FakeProvider, Script};

use super::*;

/// Panics in the given method.
#[derive(Clone, Copy)]
enum Panics {
    InRequest,
    InResponse,
}

impl Operation<OAuth2> for Panics {
    type Output = ();
    type RequestInfo = ();

    fn credential(&self) -> Credential {
        Credential::InRequest
    }

    fn request(
        &self,
        provider: &OAuth2,
        held: &Tokens<Attributes>,
    ) -> Result<(Request<Bytes>, ())> {
        match self {
            Self::InRequest => panic!("the request panics"),
            Self::InResponse => Introspect::access_token().request(provider, held),
        }
    }

    fn response(
        &self,
        _: &HttpSender<'_>,
        (): (),
        _: &Response<Bytes>,
    ) -> std::result::Result<((), Effect), ExchangeError> {
        panic!("the response panics")
    }
}

/// Asks for the server's metadata, which needs no session.
struct Metadata {
    url: String,
    panics: bool,
    /// Whether it was asked for a request.
    asked: Arc<AtomicBool>,
}

impl Metadata {
    fn new(server: &FakeAuthServer) -> Self {
        let url = format!("{}/.well-known/oauth-authorization-server", server.url());
        Self { url, panics: false, asked: Arc::default() }
    }
}

impl ClientOperation<OAuth2> for Metadata {
    type Output = String;
    type RequestInfo = ();

    fn request(&self, _: &OAuth2) -> Result<(Request<Bytes>, ())> {
        self.asked.store(true, Ordering::Relaxed);
        assert!(!self.panics, "the request panics");
        Ok((Request::get(&self.url).body(Bytes::new()).unwrap(), ()))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        (): (),
        answer: &Response<Bytes>,
    ) -> std::result::Result<String, ExchangeError> {
        assert!(sender.session().is_none());
        if !answer.status().is_success() {
            return Err(sender.status_error(answer));
        }
        let members: serde_json::Value =
            session_warden::provider::http_message::json_object(answer)?;
        Ok(members["issuer"].as_str().unwrap().to_owned())
    }
}

impl OAuth2Fixture {
    fn all(&self) -> Sessions<OAuth2> {
        self.supervisor.sessions("oauth2").unwrap()
    }

    /// A call that is at the server, and stays there.
    async fn held_call(
        &self,
        server: &FakeAuthServer,
    ) -> tokio::task::JoinHandle<std::result::Result<u16, session_warden::Error>> {
        server.fail_next(Endpoint::Resource, Fault::HoldUntilReleased);
        let (session, visit) = (self.session.clone(), Visit::new(server, Effect::AccessTokenDead));
        let calling = tokio::spawn(async move { session.call(visit).await });
        server.held(1).await;
        calling
    }
}

fn tenant() -> Tenant {
    Tenant::new("tenant").unwrap()
}

/// Calls wait longer than for an answer.
fn patient() -> Policy {
    Policy { call_timeout: 120 * SECOND, ..Policy::default() }
}

/// One exchange at a time, which waits for two seconds for its turn.
fn narrow(server: &FakeAuthServer) -> Registration<OAuth2> {
    let limits =
        ProviderLimits { exchanges: 1, admission_timeout: 2 * SECOND, ..ProviderLimits::default() };
    Registration::new(calling(server)).limits(limits)
}

#[tokio::test]
async fn a_call_whose_own_code_panics_fails_and_holds_nothing_back() {
    let (server, fixture) = signed_in_with(narrow, Policy::default()).await;
    for panics in [Panics::InRequest, Panics::InResponse] {
        let error = fixture.session.call(panics).await.unwrap_err();
        let seen = (error.kind(), error.session());
        assert_eq!(seen, (ErrorKind::Misconfigured, Some(fixture.session.id())));
    }
    assert_eq!(server.count(Endpoint::Introspect), 1);
    let panics = Metadata { panics: true, ..Metadata::new(&server) };
    let error = fixture.all().call(&tenant(), panics).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    // There is one permit only, and it is free.
    assert_eq!(fixture.session.refresh().await.unwrap().generation(), 2);
    assert!(fixture.until(fixture.supervisor.shutdown(SECOND)).await.is_clean());
}

#[tokio::test]
async fn calls_wait_for_their_turn_like_all_exchanges_and_no_longer() {
    let (server, fixture) = signed_in_with(narrow, Policy::default()).await;
    let calling = fixture.held_call(&server).await;
    for visit in [Visit::new(&server, Effect::None), Visit::new(&server, Effect::None).own()] {
        let error = fixture.until(fixture.session.call(visit)).await.unwrap_err();
        let seen = (error.kind(), error.outcome());
        assert_eq!(seen, (ErrorKind::Capacity, Some(ExchangeOutcome::NotSent)));
    }
    let metadata = Metadata::new(&server);
    let error = fixture.until(fixture.all().call(&tenant(), metadata)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert_eq!((server.count(Endpoint::Resource), server.count(Endpoint::Discovery)), (1, 0));
    server.release();
    assert_eq!(calling.await.unwrap().unwrap(), 200);
}

#[tokio::test]
async fn a_pause_holds_for_calls_that_wait_for_their_turn() {
    let (server, fixture) = signed_in_with(narrow, Policy::default()).await;
    let calling = fixture.held_call(&server).await;
    let (session, visit) = (fixture.session.clone(), Visit::new(&server, Effect::None));
    let (all, metadata) = (fixture.all(), Metadata::new(&server));
    let waiting = [
        tokio::spawn(async move { session.call(visit.own()).await.map(drop) }),
        tokio::spawn(async move { all.call(&tenant(), metadata).await.map(drop) }),
    ];
    fixture.clock.advance(Duration::ZERO).await;
    let scope = PauseScope::Provider(fixture.session.id().provider().clone());
    assert!(fixture.supervisor.pause(&scope).await.unwrap());
    server.release();
    assert_eq!(calling.await.unwrap().unwrap(), 200, "it was sent before the pause");
    for refused in waiting {
        let error = refused.await.unwrap().unwrap_err();
        let seen = (error.kind(), error.outcome());
        assert_eq!(seen, (ErrorKind::RetryLater, Some(ExchangeOutcome::NotSent)));
        assert!(error.to_string().contains("has paused the session"), "{error}");
    }
    assert_eq!((server.count(Endpoint::Resource), server.count(Endpoint::Discovery)), (1, 0));
}

#[tokio::test]
async fn a_caller_too_many_is_turned_away_before_anything_is_sent() {
    let policy = Policy { max_waiters: 1, ..Policy::default() };
    let (server, fixture) = signed_in_with(calling, policy).await;
    let calling = fixture.held_call(&server).await;
    // The first one is out; the token is fresh, so that nothing but the call's own place is full.
    let error = fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    server.release();
    calling.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_told_so_and_its_answer_is_lost_at_the_answer_timeout() {
    let (server, fixture) = signed_in_with(calling, patient()).await;
    let calling = fixture.held_call(&server).await;
    fixture.clock.advance(Policy::default().answer_timeout).await;
    let error = calling.await.unwrap().unwrap_err();
    let seen = (error.kind(), error.outcome());
    assert_eq!(seen, (ErrorKind::RetryLater, Some(ExchangeOutcome::Ambiguous)));
    assert_eq!((fixture.generation().await, server.refreshes()), (1, 0));

    let wait = Policy { call_timeout: 2 * SECOND, ..Policy::default() };
    let (server, fixture) = signed_in_with(super::calling, wait).await;
    let calling = fixture.held_call(&server).await;
    fixture.clock.advance(2 * SECOND).await;
    assert_eq!(calling.await.unwrap().unwrap_err().kind(), ErrorKind::Deadline);
    // The call goes on, and its effect is kept.
    server.release();
    assert!(fixture.until(fixture.supervisor.shutdown(SECOND)).await.is_clean());
    assert!(fixture.session.try_permission_token().is_none());
}

#[tokio::test]
async fn a_shutdown_waits_for_calls_and_takes_no_more() {
    let (server, fixture) = signed_in().await;
    let calling = fixture.held_call(&server).await;
    let supervisor = fixture.supervisor.clone();
    let stopping = tokio::spawn(async move { supervisor.shutdown(10 * SECOND).await });
    fixture.clock.advance(SECOND).await;
    assert!(!stopping.is_finished());
    let (all, tenant) = (fixture.all(), tenant());
    let late = fixture.session.call(Visit::new(&server, Effect::None)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ShuttingDown);
    let late = all.call(&tenant, Metadata::new(&server)).await.unwrap_err();
    assert_eq!((late.kind(), server.count(Endpoint::Discovery)), (ErrorKind::ShuttingDown, 0));
    server.release();
    assert_eq!(calling.await.unwrap().unwrap(), 200);
    assert!(stopping.await.unwrap().is_clean());
    assert_eq!(server.count(Endpoint::Resource), 1);
}

#[tokio::test]
async fn what_stands_in_for_a_provider_has_none_of_its_calls() {
    let clock = ManualClock::new();
    let server = server(&clock).await;
    let fake = FakeProvider::<OAuth2>::new(Attributes::default());
    let script: Script = fake.script();
    let fixture = start(fake, &clock, &MemoryStore::new(), Policy::default()).await;
    let _ = fixture.sign_in().await.unwrap();
    let session: &Session<OAuth2> = &fixture.session;
    for visit in [Visit::new(&server, Effect::None), Visit::new(&server, Effect::None).own()] {
        assert_eq!(session.call(visit).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let metadata = Metadata::new(&server);
    let asked = Arc::clone(&metadata.asked);
    let error = fixture.all().call(&tenant(), metadata).await.unwrap_err();
    assert_eq!((error.kind(), asked.load(Ordering::Relaxed)), (ErrorKind::InvalidInput, false));
    assert_eq!((script.establishes(), script.refreshes()), (1, 0));
    assert_eq!(server.counts().connections, 0);
}

#[tokio::test]
async fn a_call_of_the_client_needs_no_session_and_leaves_none_behind() {
    let clock = ManualClock::new();
    let server = server(&clock).await;
    let fixture = start(calling(&server), &clock, &MemoryStore::new(), Policy::default()).await;
    let issuer = fixture.all().call(&tenant(), Metadata::new(&server)).await.unwrap();
    assert_eq!(issuer, server.issuer());
    assert_eq!(fixture.supervisor.snapshot().sessions, 0);
}

#[tokio::test]
async fn a_call_of_the_client_that_is_told_to_slow_down_slows_the_provider_down() {
    let (server, fixture) = signed_in().await;
    let busy = Fault::Status { code: 429, retry_after: Some("30".to_owned()), body: None };
    server.fail_next(Endpoint::Discovery, busy);
    let error = fixture.all().call(&tenant(), Metadata::new(&server)).await.unwrap_err();
    let seen = (error.kind(), error.outcome(), error.retry_after());
    let expected = (ErrorKind::RetryLater, Some(ExchangeOutcome::NotProcessed), Some(30 * SECOND));
    assert_eq!(seen, expected);
    fixture.session.refresh().await.unwrap_err();
    fixture.all().call(&tenant(), Metadata::new(&server)).await.unwrap_err();
    assert_eq!((server.refreshes(), server.count(Endpoint::Discovery)), (0, 1));
    fixture.clock.advance(30 * SECOND).await;
    fixture.session.refresh().await.unwrap();
    fixture.all().call(&tenant(), Metadata::new(&server)).await.unwrap();
}

#[tokio::test]
async fn a_call_of_the_client_whose_answer_does_not_come_is_ambiguous() {
    let (server, fixture) = signed_in_with(calling, patient()).await;
    server.fail_next(Endpoint::Discovery, Fault::HoldUntilReleased);
    let (all, metadata) = (fixture.all(), Metadata::new(&server));
    let calling = tokio::spawn(async move { all.call(&tenant(), metadata).await });
    server.held(1).await;
    fixture.clock.advance(Policy::default().answer_timeout).await;
    let error = calling.await.unwrap().unwrap_err();
    let seen = (error.kind(), error.outcome());
    assert_eq!(seen, (ErrorKind::RetryLater, Some(ExchangeOutcome::Ambiguous)));
}
