//! Logins on another device, for which several processes poll, one of which is killed or stopped.

use std::time::Duration;

use session_warden::Supervisor;
use session_warden::key::SessionKey;
use session_warden::provider::oauth2::{DeviceOptions, OAuth2};
use session_warden::session::DeviceLogin;
use session_warden::testing::{
    CrashPoint, Endpoint, FakeAuthServer, FakeLogin, FakeServerShape, Fate,
};
use session_warden::transport::TransportConfig;

use super::database::StoreKind;
use super::orders::{Operation, Outcome, PROVIDER, Rotates, TENANT, keys};
use super::process_fixture::{KEY, ProcessFixture};
use super::replica::Replica;
use super::server::Server;
use crate::oidc_peer::{CLIENT_ID, CLIENT_SECRET};
use crate::peer::in_time;

on_each_store! {
    of_three_processes_one_polls_and_all_get_the_session,
    killed_at_each_step_of_a_poll_the_next_process_polls_on,
    stopped_in_a_poll_a_process_does_not_poll_beside_its_successor,
    killed_after_the_tokens_were_saved_the_next_process_does_not_poll,
    killed_after_the_tokens_were_in_the_journal_nobody_polls_until_they_are_saved,
    killed_before_the_tokens_were_kept_the_login_ends,
}

struct DeviceFixture {
    fixture: ProcessFixture,
    login: DeviceLogin,
}

impl DeviceFixture {
    async fn new(store: StoreKind) -> Self {
        let server = Server::ours(Rotates::Strict).await;
        let Server::Ours(fake, _) = &server else { unreachable!() };
        let device_interval = Some(Duration::from_secs(1));
        fake.set_shape(FakeServerShape { device_interval, ..FakeServerShape::default() });
        let login = begin(fake).await;
        Self { fixture: ProcessFixture::new((store, server)).await, login }
    }

    fn server(&self) -> &FakeAuthServer {
        let Server::Ours(server, _) = self.fixture.server() else { unreachable!() };
        server
    }

    fn polls(&self) -> u64 {
        self.server().count(Endpoint::DeviceCode)
    }

    async fn until_polls(&self, polls: u64) {
        in_time(self.server().wait_for_count(Endpoint::DeviceCode, polls)).await;
    }

    fn approve(&self) {
        self.server().answer_device_login(&self.login.user_code, FakeLogin::approve("ada"));
    }

    fn finish(&self, process: &Replica) -> super::replica::Ordered {
        process.finish(KEY, self.login.ticket.as_str())
    }

    /// No poll came too soon, and no code after it was spent.
    fn was_polled_in_turn(&self) {
        let errors = self.server().counts().errors;
        assert_eq!(errors.get("slow_down"), None, "two polled: {errors:?}");
        assert_eq!(errors.get("invalid_grant"), None, "a code came twice: {errors:?}");
    }

    async fn is_good_at(&self, process: &Replica) {
        let token = process.token(Operation::Use, KEY).await;
        assert_eq!((token.epoch, token.generation, token.works), (1, 1, Some(true)));
        let next = process.token(Operation::Refresh, KEY).await;
        assert_eq!((next.epoch, next.generation), (1, 2));
        assert_eq!(self.server().grants_revoked(), 0);
    }
}

/// A login that began in this process, which has the keys of the others.
async fn begin(server: &FakeAuthServer) -> DeviceLogin {
    let provider = OAuth2::discover(&server.issuer(), CLIENT_ID).unwrap();
    let supervisor = Supervisor::builder()
        .key_ring(keys())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider(PROVIDER, provider.client_secret_basic(CLIENT_SECRET))
        .start()
        .await
        .unwrap();
    let key = SessionKey::new(TENANT, KEY).unwrap();
    let session = supervisor.sessions::<OAuth2>(PROVIDER).unwrap().session(key);
    session.begin_device_login(DeviceOptions::new()).await.unwrap()
}

async fn of_three_processes_one_polls_and_all_get_the_session(store: StoreKind) {
    let device = DeviceFixture::new(store).await;
    let mut processes = Vec::new();
    for _ in 0..3 {
        processes.push(device.fixture.process().await);
    }
    let finished: Vec<_> = processes.iter().map(|process| device.finish(process)).collect();
    device.until_polls(4).await;
    device.approve();
    for finished in finished {
        assert_eq!(finished.answer().await.outcome, Outcome::Done);
    }
    device.was_polled_in_turn();
    device.is_good_at(&processes[2]).await;
}

async fn killed_at_each_step_of_a_poll_the_next_process_polls_on(store: StoreKind) {
    for point in [CrashPoint::BeforeClaim, CrashPoint::Claimed, CrashPoint::Sent] {
        let device = DeviceFixture::new(store).await;
        let mut first = device.fixture.process().await;
        let second = device.fixture.process().await;
        let unfinished = device.finish(&first);
        device.until_polls(1).await;
        let finished = device.finish(&second);
        first.arm(point, Fate::Kill).await;
        first.died().await;
        assert!(unfinished.ended().await.is_none());
        device.until_polls(device.polls() + 1).await;
        device.approve();
        assert_eq!(finished.answer().await.outcome, Outcome::Done, "{point:?}");
        device.was_polled_in_turn();
        device.is_good_at(&second).await;
    }
}

async fn stopped_in_a_poll_a_process_does_not_poll_beside_its_successor(store: StoreKind) {
    let device = DeviceFixture::new(store).await;
    let (first, second) = (device.fixture.process().await, device.fixture.process().await);
    let first_finished = device.finish(&first);
    device.until_polls(1).await;
    first.arm(CrashPoint::Claimed, Fate::Stop).await;
    first.stopped().await;
    let second_finished = device.finish(&second);
    device.until_polls(device.polls() + 2).await;
    first.go_on();
    device.until_polls(device.polls() + 2).await;
    device.approve();
    for finished in [first_finished, second_finished] {
        assert_eq!(finished.answer().await.outcome, Outcome::Done);
    }
    device.was_polled_in_turn();
    device.is_good_at(&first).await;
}

async fn killed_after_the_tokens_were_saved_the_next_process_does_not_poll(store: StoreKind) {
    let device = DeviceFixture::new(store).await;
    let mut first = device.fixture.process().await;
    first.arm(CrashPoint::Committed, Fate::Kill).await;
    device.approve();
    let unfinished = device.finish(&first);
    first.died().await;
    assert!(unfinished.ended().await.is_none());
    let second = device.fixture.process().await;
    assert_eq!(device.finish(&second).answer().await.outcome, Outcome::Done);
    assert_eq!(device.polls(), 1);
    device.was_polled_in_turn();
    device.is_good_at(&second).await;
}

async fn killed_after_the_tokens_were_in_the_journal_nobody_polls_until_they_are_saved(
    store: StoreKind,
) {
    let device = DeviceFixture::new(store).await;
    let mut first = device.fixture.process_on("a").await;
    let second = device.fixture.process_on("b").await;
    first.arm(CrashPoint::Journaled, Fate::Kill).await;
    device.approve();
    let unfinished = device.finish(&first);
    first.died().await;
    assert!(unfinished.ended().await.is_none());
    // The login's lease and the claim's are over before the second one wants to poll.
    let mut finished = device.finish(&second);
    super::replica::pause_for(super::orders::LEASE * 3).await;
    assert!(finished.is_open());
    assert_eq!(device.polls(), 1);
    let successor = device.fixture.process_on("a").await;
    assert_eq!(finished.answer().await.outcome, Outcome::Done);
    assert_eq!(device.polls(), 1);
    device.was_polled_in_turn();
    device.is_good_at(&successor).await;
}

/// The server gives tokens once. Without a journal, a killed process takes them with it.
async fn killed_before_the_tokens_were_kept_the_login_ends(store: StoreKind) {
    let device = DeviceFixture::new(store).await;
    let mut first = device.fixture.process().await;
    first.arm(CrashPoint::Received, Fate::Kill).await;
    device.approve();
    let unfinished = device.finish(&first);
    first.died().await;
    assert!(unfinished.ended().await.is_none());
    let second = device.fixture.process().await;
    let outcome = device.finish(&second).answer().await.outcome;
    assert_eq!(outcome.failure(), Some("Refused(GrantExpired)"), "{outcome:?}");
    let token = second.token(Operation::Establish, KEY).await;
    assert_eq!(token.epoch, 1);
}
