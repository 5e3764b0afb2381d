//! What the processes on one store share about a client: a wait that the server asked for, a stop,
//! the probe that ends it, and the limits.

use std::time::Duration;

use session_warden::key::Tenant;
use session_warden::policy::{CLIENT_APART, CLIENTS_POLL, PRESENCE_RENEWAL, ProviderLimits};
use session_warden::provider::{FailureClass, Registration};
use session_warden::store::{ClientChange, ClientKey, MemoryStore, SharedClient, Store};
use session_warden::testing::{ManualClock, Reply, ScriptedProvider, StoreCall};
use session_warden::{Error, ErrorKind, Session};
use tokio::task::JoinHandle;

use crate::fixtures::{Fixture, ScriptedFixture};
use crate::support::{LIFE, SECOND, key, session as session_of, until};

/// The default of `ProviderLimits::probe`.
const PROBE: Duration = Duration::from_secs(60);

/// One process, with a session of its own.
struct Process {
    fixture: ScriptedFixture,
    session: Session<ScriptedProvider>,
}

impl Process {
    async fn start(name: &str, store: &MemoryStore, clock: &ManualClock) -> Self {
        Self::start_with(name, (store, clock), ProviderLimits::default()).await
    }

    async fn start_with(
        name: &str,
        (store, clock): (&MemoryStore, &ManualClock),
        limits: ProviderLimits,
    ) -> Self {
        let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
        let script = provider.script();
        let provider = Registration::new(provider).limits(limits);
        let fixture = Fixture::start_at("p", provider, store, clock).await;
        let session = session_of(&fixture.supervisor, name);
        Self { fixture: ScriptedFixture { fixture, script }, session }
    }

    async fn established(self) -> Self {
        let _ = until(&self.fixture.clock, self.session.establish(())).await.unwrap();
        self
    }

    /// Lets all further refreshes fail.
    fn rejects_the_client(&self) {
        for _ in 0..50 {
            self.fixture.script.refresh(Reply::Fail(FailureClass::InvalidClient));
        }
    }

    /// The error of a refresh that is answered at once.
    async fn refused(&self) -> Error {
        self.session.refresh().await.unwrap_err()
    }

    /// How many refreshes the server got.
    fn refreshes(&self) -> u64 {
        self.fixture.script.refreshes()
    }

    fn refreshing(&self) -> JoinHandle<()> {
        let session = self.session.clone();
        tokio::spawn(async move { drop(session.refresh().await) })
    }

    /// The store cannot be asked about clients, or can again.
    fn cannot_share(&self, away: bool) {
        for call in [StoreCall::Client, StoreCall::Clients] {
            self.fixture.faults.fail_always(call, away);
        }
    }
}

/// Two processes, each with a session that is established.
async fn two() -> (Process, Process, ManualClock, MemoryStore) {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let one = Process::start("one", &store, &clock).await.established().await;
    let other = Process::start("other", &store, &clock).await.established().await;
    (one, other, clock, store)
}

/// Two processes at a server that has just rejected the client of both. Both know it.
async fn stopped() -> (Process, Process, ManualClock, MemoryStore) {
    let (one, other, clock, store) = two().await;
    one.rejects_the_client();
    other.rejects_the_client();
    clock.advance(PRESENCE_RENEWAL / 2).await;
    assert_eq!(one.refused().await.kind(), ErrorKind::Misconfigured);
    // The other one hears of it half a minute later, before the probe is due.
    clock.advance(PROBE - SECOND).await;
    assert_eq!(one.refused().await.retry_after(), Some(SECOND));
    assert_eq!(one.refreshes(), 1);
    (one, other, clock, store)
}

/// What the store has of the one client.
async fn shared(store: &MemoryStore) -> Option<(ClientKey, SharedClient)> {
    let mut clients = store.clients(None, 10).await.unwrap().unwrap().clients;
    assert!(clients.len() <= 1, "{clients:?}");
    clients.pop().map(|listed| (listed.key, listed.client))
}

#[tokio::test]
async fn a_wait_that_a_server_asked_one_process_for_holds_in_all() {
    let (one, other, clock, _store) = two().await;
    let wait = 300 * SECOND;
    one.fixture.script.refresh(Reply::FailFor(FailureClass::Throttled, wait));
    assert_eq!(one.refused().await.kind(), ErrorKind::RetryLater);
    clock.advance(PRESENCE_RENEWAL).await;
    let refused = other.refused().await;
    assert_eq!(refused.kind(), ErrorKind::RetryLater);
    assert_eq!(refused.retry_after(), Some(wait - PRESENCE_RENEWAL));
    assert_eq!(other.refreshes(), 0);
    clock.advance(wait - PRESENCE_RENEWAL).await;
    drop(until(&clock, other.session.refresh()).await.unwrap());
}

#[tokio::test]
async fn a_process_that_starts_knows_what_the_others_know() {
    let (one, _other, clock, store) = two().await;
    one.fixture.script.refresh(Reply::FailFor(FailureClass::Throttled, 300 * SECOND));
    let _ = one.refused().await;
    clock.advance(Duration::ZERO).await;
    let third = Process::start("third", &store, &clock).await;
    let refused = third.session.establish(()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::RetryLater);
    assert_eq!(third.fixture.script.establishes(), 0);
}

#[tokio::test]
async fn a_stop_in_one_process_stops_all_and_its_row_has_no_secret() {
    let (one, other, clock, store) = stopped().await;
    clock.advance(SECOND / 2).await;
    for _ in 0..3 {
        let refused = other.refused().await;
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    }
    assert_eq!((one.refreshes(), other.refreshes()), (1, 0));
    let (key, client) = shared(&store).await.unwrap();
    assert_eq!((key.provider.as_str(), key.tenant), ("p", None));
    assert!(key.client.len() == 32 && key.client.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let stop = client.stop.unwrap();
    assert_eq!(stop.tenant.as_ref().map(Tenant::as_str), Some("tenant"));
}

#[tokio::test]
async fn in_each_interval_one_process_of_all_probes() {
    let (one, other, clock, _store) = stopped().await;
    clock.advance(SECOND).await;
    let before = one.refreshes() + other.refreshes();
    for interval in 1..=5_u64 {
        for _ in 0..PROBE.as_secs() {
            for process in [&other, &one] {
                assert_eq!(process.refused().await.kind(), ErrorKind::Misconfigured);
            }
            clock.advance(SECOND).await;
        }
        assert_eq!(one.refreshes() + other.refreshes(), before + interval);
    }
}

#[tokio::test]
async fn of_two_processes_that_want_to_probe_at_once_one_does() {
    let (one, other, clock, _store) = stopped().await;
    clock.advance(SECOND).await;
    let before = one.refreshes() + other.refreshes();
    for process in [&one, &other] {
        process.fixture.faults.hold(StoreCall::Client);
    }
    let tasks = [one.refreshing(), other.refreshing()];
    for process in [&one, &other] {
        process.fixture.faults.held(StoreCall::Client, 1).await;
    }
    for process in [&one, &other] {
        process.fixture.faults.release(StoreCall::Client);
    }
    for task in tasks {
        until(&clock, task).await.unwrap();
    }
    assert_eq!(one.refreshes() + other.refreshes(), before + 1);
}

#[tokio::test]
async fn if_the_process_that_probes_dies_another_probes_after_the_interval() {
    let (one, other, clock, _store) = stopped().await;
    clock.advance(SECOND).await;
    one.fixture.script.clear();
    one.fixture.script.refresh(Reply::Hang);
    let probe = one.refreshing();
    one.fixture.script.held(1).await;
    for _ in 1..PROBE.as_secs() {
        clock.advance(SECOND).await;
        let _ = other.refused().await;
    }
    assert_eq!((one.refreshes(), other.refreshes()), (2, 0));
    clock.advance(2 * SECOND).await;
    let _ = other.refused().await;
    assert_eq!((one.refreshes(), other.refreshes()), (2, 1));
    probe.abort();
}

#[tokio::test]
async fn when_one_process_is_accepted_the_stop_ends_in_all() {
    let (one, other, clock, store) = stopped().await;
    clock.advance(SECOND).await;
    other.fixture.script.clear();
    drop(other.session.refresh().await.unwrap());
    one.fixture.script.clear();
    clock.advance(CLIENTS_POLL).await;
    assert_eq!(shared(&store).await, None);
    drop(one.session.refresh().await.unwrap());
    assert_eq!((one.refreshes(), other.refreshes()), (2, 1));
}

#[tokio::test]
async fn a_client_that_was_replaced_keeps_out_of_the_stops_of_others_for_a_while() {
    let (one, other, clock, store) = stopped().await;
    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let sessions = other.fixture.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    sessions.replace(provider).await.unwrap();
    // The other process still has the former secret, and probes with it.
    for _ in 0..CLIENT_APART.as_secs() / 2 {
        clock.advance(SECOND).await;
        let _ = one.refused().await;
    }
    assert!(one.refreshes() > 2);
    drop(other.session.refresh().await.unwrap());
    assert!(shared(&store).await.is_some(), "it does not end that stop either");
    // In the end it takes part in the stop again. It is asked just after a probe of the other
    // process, because it would be the probe itself if one were due.
    let window = CLIENT_APART.as_secs() / 2 + 5;
    let (mut probes, mut passed) = (one.refreshes(), 0);
    while passed < window || one.refreshes() == probes {
        assert!(passed < 2 * window, "the other process probes");
        probes = one.refreshes();
        clock.advance(SECOND).await;
        let _ = one.refused().await;
        passed += 1;
    }
    assert_eq!(other.refused().await.kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_stop_of_another_tenant_does_not_stop_the_only_tenant_of_a_process() {
    let (one, other, clock, store) = two().await;
    one.rejects_the_client();
    clock.advance(PRESENCE_RENEWAL / 2).await;
    let _ = one.refused().await;
    clock.advance(Duration::ZERO).await;
    let third = Process::start("third", &store, &clock).await;
    let sessions = third.fixture.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let foreign = sessions.session(session_warden::SessionKey::new("foreign", "third").unwrap());
    let _ = foreign.establish(()).await.unwrap();
    drop(foreign.refresh().await.unwrap());
    clock.advance(PRESENCE_RENEWAL / 2 + SECOND).await;
    let _ = other.refused().await;
    assert_eq!(other.refreshes(), 0);
}

/// So many exchanges of one process run now that it begins 6.
async fn running(process: &Process, clock: &ManualClock) -> u64 {
    let script = &process.fixture.script;
    let sessions = process.fixture.supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let before = script.establishes();
    let mut tasks = Vec::new();
    for n in 0..6 {
        script.establish(Reply::Hold);
        let session = sessions.session(key(&format!("{}-{n}", fastrand::u64(..))));
        tasks.push(tokio::spawn(async move { drop(session.establish(()).await) }));
    }
    clock.advance(Duration::ZERO).await;
    let running = script.establishes() - before;
    while tasks.iter().any(|task| !task.is_finished()) {
        script.release();
        clock.advance(Duration::from_millis(1)).await;
    }
    running
}

#[tokio::test]
async fn the_limits_are_divided_by_the_processes_and_given_back_when_one_retires() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let limits = ProviderLimits { exchanges: 6, ..ProviderLimits::default() };
    let start = async |name| Process::start_with(name, (&store, &clock), limits.clone()).await;
    let one = start("one").await;
    assert_eq!(running(&one, &clock).await, 6);
    let other = start("other").await;
    assert_eq!(running(&other, &clock).await, 3, "it counts those that were there before");
    let third = start("third").await;
    clock.advance(PRESENCE_RENEWAL).await;
    for process in [&one, &other, &third] {
        assert_eq!(running(process, &clock).await, 2);
    }
    assert!(until(&clock, third.fixture.supervisor.shutdown(SECOND)).await.is_clean());
    clock.advance(PRESENCE_RENEWAL).await;
    for process in [&one, &other] {
        assert_eq!(running(process, &clock).await, 3);
    }
    assert!(until(&clock, other.fixture.supervisor.shutdown(SECOND)).await.is_clean());
    clock.advance(PRESENCE_RENEWAL).await;
    assert_eq!(running(&one, &clock).await, 6);
}

#[tokio::test]
async fn while_the_store_is_away_each_process_keeps_to_its_own_rules() {
    let (one, other, clock, store) = two().await;
    one.cannot_share(true);
    one.rejects_the_client();
    let _ = one.refused().await;
    let begun = clock.clone();
    for probes in 1..=3 {
        for _ in 0..PROBE.as_secs() {
            assert_eq!(one.refused().await.kind(), ErrorKind::Misconfigured);
            begun.advance(SECOND).await;
        }
        assert_eq!(one.refreshes(), probes);
    }
    assert_eq!(shared(&store).await, None);
    assert!(other.session.refresh().await.is_ok(), "it has not heard of it");
    // When the store is back, it hears what happened.
    one.cannot_share(false);
    clock.advance(CLIENTS_POLL).await;
    assert!(shared(&store).await.is_some_and(|(_, client)| client.stop.is_some()));
}

#[tokio::test]
async fn a_change_whose_outcome_is_lost_is_written_again_and_does_no_harm() {
    let (one, other, clock, store) = two().await;
    one.rejects_the_client();
    // The second change is the rejection, after a read.
    one.fixture.faults.hold(StoreCall::Client);
    let refreshing = one.refreshing();
    one.fixture.faults.held(StoreCall::Client, 1).await;
    one.fixture.faults.release(StoreCall::Client);
    one.fixture.faults.hold(StoreCall::Client);
    one.fixture.faults.held(StoreCall::Client, 2).await;
    one.fixture.faults.fail_after_writing(StoreCall::Client, 1);
    one.fixture.faults.release(StoreCall::Client);
    clock.advance(Duration::ZERO).await;
    refreshing.await.unwrap();
    let (key, client) = shared(&store).await.unwrap();
    assert_eq!((client.version, client.stop.is_some()), (1, true));
    // It is sent again after another process was accepted.
    let accepted = store.client(&key, ClientChange::Accept { stop: 1 }).await.unwrap().unwrap();
    assert!(accepted.done);
    clock.advance(2 * CLIENTS_POLL).await;
    assert_eq!(shared(&store).await, None);
    one.fixture.script.clear();
    // Its session keeps to the wait that its caller was told.
    clock.advance(PROBE).await;
    drop(one.session.refresh().await.unwrap());
    drop(other.session.refresh().await.unwrap());
}

#[tokio::test]
async fn a_store_without_a_client_that_is_held_back_is_read_once_a_minute() {
    let (one, _other, clock, _store) = two().await;
    let before = one.fixture.faults.count(StoreCall::Clients);
    clock.advance(10 * PRESENCE_RENEWAL).await;
    assert_eq!(one.fixture.faults.count(StoreCall::Clients), before + 10);
    for _ in 0..100 {
        drop(one.session.refresh().await.unwrap());
    }
    assert_eq!(one.fixture.faults.count(StoreCall::Client), 0, "a success writes nothing");
}
