//! Logins on another device, over real HTTP.

mod refusals;
mod two_processes;

use std::time::Duration;

use session_warden::clock::Clock;
use session_warden::error::Result;
use session_warden::policy::{DEVICE_POLL_FLOOR, Policy};
use session_warden::provider::oauth2::{Attributes, DeviceOptions, OAuth2};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::session::DeviceLogin;
use session_warden::store::MemoryStore;
use session_warden::testing::{
    Endpoint, FakeAuthServer, FakeLogin, FakeServerShape, Fault, Faults, FaultyStore, ManualClock,
};
use session_warden::ticket::Ticket;
use session_warden::transport::TransportConfig;
use session_warden::{Establishment, Session, Sessions, Supervisor};
use tokio::task::JoinHandle;

use crate::support::{key, until};

const SECOND: Duration = Duration::from_secs(1);

/// A process whose users log in at `server` on another device.
struct DeviceFixture {
    server: FakeAuthServer,
    clock: ManualClock,
    store: MemoryStore,
    faults: Faults,
    supervisor: Supervisor,
    sessions: Sessions<OAuth2>,
}

async fn process(
    server: &FakeAuthServer,
    clock: &ManualClock,
    store: &MemoryStore,
) -> (Supervisor, Faults) {
    let client = OAuth2::discover(server.url(), "client").unwrap();
    let faulty = FaultyStore::new(store.clone());
    let faults = faulty.faults();
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .store(faulty)
        .key_ring(KeyRing::new(1, MasterKey::from([7; 32])))
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("p", client.clone().client_secret_basic("secret").scope("read"))
        .provider("other", client.client_secret_basic("secret"))
        .start()
        .await
        .unwrap();
    (supervisor, faults)
}

impl DeviceFixture {
    async fn new(shape: FakeServerShape) -> Self {
        let (clock, store) = (ManualClock::new(), MemoryStore::new());
        let server = FakeAuthServer::builder().clock(clock.clone()).client("client", "secret");
        let server = server.shape(shape).start().await.unwrap();
        let (supervisor, faults) = process(&server, &clock, &store).await;
        let sessions = supervisor.sessions("p").unwrap();
        Self { server, clock, store, faults, supervisor, sessions }
    }

    /// Another process with the same ring, at the same server and on the same store.
    async fn beside(&self) -> (Supervisor, Sessions<OAuth2>) {
        let (supervisor, _) = process(&self.server, &self.clock, &self.store).await;
        let sessions = supervisor.sessions("p").unwrap();
        (supervisor, sessions)
    }

    fn session(&self) -> Session<OAuth2> {
        self.sessions.session(key("device"))
    }

    async fn begin(&self) -> DeviceLogin {
        self.session().begin_device_login(DeviceOptions::new()).await.unwrap()
    }

    fn polls(&self) -> u64 {
        self.server.count(Endpoint::DeviceCode)
    }

    /// Waits for so many polls, and says how long that took.
    async fn until_polls(&self, polls: u64) -> Duration {
        let began = self.clock.now().boot;
        until(&self.clock, self.server.wait_for_count(Endpoint::DeviceCode, polls)).await;
        self.clock.now().boot.since(began)
    }

    fn approve(&self, login: &DeviceLogin) {
        self.server.answer_device_login(&login.user_code, FakeLogin::approve("ada"));
    }

    /// No poll came too early, so no two polled.
    fn was_polled_in_turn(&self) {
        let errors = self.server.counts().errors;
        assert_eq!(errors.get("slow_down"), None, "{errors:?}");
        assert_eq!(errors.get("invalid_grant"), None, "{errors:?}");
    }
}

type Polling = JoinHandle<Result<(Session<OAuth2>, Establishment<OAuth2>)>>;

fn poll(sessions: &Sessions<OAuth2>, ticket: &Ticket) -> Polling {
    let (sessions, ticket) = (sessions.clone(), ticket.clone());
    tokio::spawn(async move { sessions.finish_device_login(&ticket).await })
}

async fn ended(clock: &ManualClock, polling: Polling) -> Result<(Session<OAuth2>, Attributes)> {
    let (session, established) = until(clock, polling).await.unwrap()?;
    let Establishment::Active(attributes) = established;
    Ok((session, attributes))
}

fn every(interval: Duration) -> FakeServerShape {
    FakeServerShape { device_interval: Some(interval), ..FakeServerShape::default() }
}

#[tokio::test]
async fn a_user_who_approves_on_another_device_has_a_session() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let options = DeviceOptions::new().scope("openid read");
    let login = fixture.session().begin_device_login(options).await.unwrap();
    assert_eq!(login.verification_uri.as_str(), format!("{}/device", fixture.server.url()));
    let complete = login.verification_uri_complete.as_ref().unwrap();
    assert!(complete.as_str().ends_with(&format!("?user_code={}", login.user_code)));
    assert_eq!(login.expires_at, fixture.clock.now().wall + 600 * SECOND);
    assert_eq!(fixture.polls(), 0, "nobody polls before the backend asks for it");

    let polling = poll(&fixture.sessions, &login.ticket);
    let took = fixture.until_polls(3).await;
    assert!((15 * SECOND..25 * SECOND).contains(&took), "without an interval it is 5 s: {took:?}");
    fixture.approve(&login);
    let (session, attributes) = ended(&fixture.clock, polling).await.unwrap();
    assert_eq!(attributes.scope.as_deref(), Some("openid read"));
    let token = session.permission_token().await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()));
    assert_eq!(session.refresh().await.unwrap().generation(), 2);
    assert_eq!(fixture.polls(), 4);
    fixture.was_polled_in_turn();

    // The code would end the session if it came again.
    let again = ended(&fixture.clock, poll(&fixture.sessions, &login.ticket)).await;
    assert_eq!(again.unwrap().0.id(), session.id());
    assert_eq!(fixture.polls(), 4);
}

#[tokio::test]
async fn the_server_says_how_often_it_is_polled_and_slow_down_holds_for_good() {
    let fixture = DeviceFixture::new(every(10 * SECOND)).await;
    let login = fixture.begin().await;
    let _polling = poll(&fixture.sessions, &login.ticket);
    let took = fixture.until_polls(1).await;
    assert!((10 * SECOND..14 * SECOND).contains(&took), "{took:?}");
    let slow_down = Fault::OAuthError { status: 400, code: "slow_down".to_owned() };
    fixture.server.fail_next_n(Endpoint::DeviceCode, 2, slow_down);
    for (polls, seconds) in [(2, 10), (3, 15), (4, 20), (5, 20), (6, 20)] {
        let took = fixture.until_polls(polls).await;
        let expected = seconds * SECOND;
        // The time of a request goes on as fast as this test lets it.
        assert!((expected - SECOND..expected + 5 * SECOND).contains(&took), "{polls}: {took:?}");
    }
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn a_server_that_names_no_pause_at_all_is_polled_once_a_second() {
    let fixture = DeviceFixture::new(every(Duration::ZERO)).await;
    let login = fixture.begin().await;
    let _polling = poll(&fixture.sessions, &login.ticket);
    for polls in 1..4 {
        let took = fixture.until_polls(polls).await;
        assert!(took >= DEVICE_POLL_FLOOR - Duration::from_millis(200), "{polls}: {took:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_polled_less_and_less_often_and_loses_no_login() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    let polling = poll(&fixture.sessions, &login.ticket);
    fixture.until_polls(1).await;
    fixture.server.fail_always(Endpoint::DeviceCode, Some(Fault::CloseBeforeProcessing));
    for (polls, at_least) in [(2, 4), (3, 9), (4, 19), (5, 39), (6, 59)] {
        let took = fixture.until_polls(polls).await;
        assert!(took > at_least * SECOND, "{polls}: {took:?}");
    }
    fixture.server.fail_always(Endpoint::DeviceCode, None);
    fixture.approve(&login);
    ended(&fixture.clock, polling).await.unwrap();
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn a_session_is_refreshed_while_the_user_takes_time() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let first = fixture.begin().await;
    fixture.approve(&first);
    let polling = poll(&fixture.sessions, &first.ticket);
    let (session, _) = ended(&fixture.clock, polling).await.unwrap();

    let second = fixture.begin().await;
    let polling = poll(&fixture.sessions, &second.ticket);
    fixture.until_polls(2).await;
    let refreshed = until(&fixture.clock, session.refresh()).await.unwrap();
    assert_eq!((refreshed.epoch(), refreshed.generation()), (1, 2));
    fixture.approve(&second);
    let (session, _) = ended(&fixture.clock, polling).await.unwrap();
    assert_eq!(session.permission_token().await.unwrap().epoch(), 2);
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn a_caller_that_is_dropped_loses_nothing_and_may_call_again() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    let polling = poll(&fixture.sessions, &login.ticket);
    fixture.until_polls(1).await;
    fixture.server.fail_next(Endpoint::DeviceCode, Fault::HoldBeforeProcessing);
    fixture.until_polls(2).await;
    polling.abort();
    assert!(polling.await.unwrap_err().is_cancelled());
    // The user approves while the poll of the dropped caller is still open.
    fixture.approve(&login);
    fixture.server.release();
    let polling = poll(&fixture.sessions, &login.ticket);
    let (session, _) = ended(&fixture.clock, polling).await.unwrap();
    let token = session.permission_token().await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()));
    assert_eq!((token.epoch(), fixture.polls()), (1, 2), "the tokens of that poll were kept");
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn a_login_that_another_grant_has_made_needless_is_not_polled_further() {
    use session_warden::provider::oauth2::Password;
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    let polling = poll(&fixture.sessions, &login.ticket);
    fixture.until_polls(1).await;
    let _ = fixture.session().establish(Password::new("ada", "ok")).await.unwrap();
    ended(&fixture.clock, polling).await.unwrap();
    assert_eq!(fixture.polls(), 1);
}

#[tokio::test]
async fn a_login_lasts_no_longer_than_an_hour_whatever_the_server_says() {
    let shape = FakeServerShape { device_lifetime: 100_000 * SECOND, ..FakeServerShape::default() };
    let fixture = DeviceFixture::new(shape).await;
    let login = fixture.begin().await;
    assert_eq!(login.expires_at, fixture.clock.now().wall + 3600 * SECOND);
    assert!(Policy::default().login_ttl < 3600 * SECOND);
}
