//! The database fails over to a standby that has not got the last commits.

use std::time::Duration;

use session_warden::ErrorKind;
use session_warden::event::EventKind;
use session_warden::key::{PauseScope, Tenant};
use session_warden::testing::FakeAuthServer;
use tokio_stream::StreamExt as _;

use super::restarts::survives;
use crate::peer::in_time;
use crate::postgres::replicas::{Replica, rest};
use crate::postgres_cluster::{PostgresCluster, StoppableProxy, name_of};
use crate::processes::storms::{SEED, seed};

/// How long replicas take to wait, to write again and to count, with a margin.
const HANDLED: Duration = Duration::from_secs(13);

/// How many failovers there are, each of about 18 s. Defaults to 1.
const ROUNDS: &str = "SESSION_WARDEN_ROUNDS";

/// How far the standby is behind.
const BEHIND: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_that_loses_the_last_commits_under_load_no_token_is_sent_twice() {
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    let events = survives(&url, async {
        rest(BEHIND).await;
        cluster.copy_data().await;
        rest(BEHIND).await;
        cluster.fail_over_to_copy().await;
        rest(HANDLED).await;
    })
    .await;
    for events in events {
        let [EventKind::StoreFailedOver { restored, lost: 0 }] = events[..] else {
            panic!("{events:?}")
        };
        assert!(restored > 0, "each replica has committed after the copy");
    }
}

#[expect(clippy::disallowed_methods, reason = "how a person tells a test")]
fn rounds() -> u32 {
    std::env::var(ROUNDS).map_or(1, |told| told.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: see tests/long/failovers"]
async fn after_failovers_at_random_times_no_token_was_sent_twice() {
    let (seed, rounds) = (seed(), rounds());
    println!("{SEED}={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    let events = survives(&url, async {
        for _ in 0..rounds {
            rest(Duration::from_millis(random.u64(500..3000))).await;
            cluster.copy_data().await;
            rest(Duration::from_millis(random.u64(0..3000))).await;
            if random.u8(0..3) == 0 {
                cluster.kill_9().await;
                cluster.start_again().await;
                rest(Duration::from_millis(random.u64(0..1000))).await;
            }
            cluster.fail_over_to_copy().await;
            rest(HANDLED).await;
        }
    })
    .await;
    for events in events {
        let handled = events
            .iter()
            .filter(|event| matches!(event, EventKind::StoreFailedOver { lost: 0, .. }));
        assert_eq!((handled.count(), events.len()), (rounds as usize, rounds as usize));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_an_ended_replica_knew_is_counted_and_its_sessions_need_a_new_grant() {
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    let server = FakeAuthServer::start().await.unwrap();
    let (stays, ends) = (Replica::start(&url, &server).await, Replica::start(&url, &server).await);
    for name in ["a", "b", "c"] {
        ends.establish(name).await;
    }
    cluster.copy_data().await;
    for name in ["a", "b"] {
        assert_eq!(ends.refresh(name).await, 2);
    }
    // It has read of the refreshes in the feed of changes, and has loaded none of the sessions.
    rest(Duration::from_secs(1)).await;
    let _ = ends.supervisor.shutdown(Duration::from_secs(5)).await;
    drop(ends);
    let mut events = stays.supervisor.subscribe();

    cluster.fail_over_to_copy().await;
    let kind = in_time(async { events.next().await.unwrap().kind }).await;
    assert_eq!(kind, EventKind::StoreFailedOver { restored: 0, lost: 2 });
    for name in ["a", "b"] {
        let error = stays.session(name).refresh().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SignInAgain(_)), "{name}: {error:?}");
    }
    assert_eq!(stays.refresh("c").await, 2);
    assert_eq!((server.presented_twice(), server.reuses_detected()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_out_after_a_failover_stays_signed_out_although_a_replica_has_newer_tokens() {
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    let proxy = StoppableProxy::start(cluster.address()).await;
    let server = FakeAuthServer::start().await.unwrap();
    let apart = Replica::start(&proxy.url(&url), &server).await;
    apart.establish("a").await;
    cluster.copy_data().await;
    assert_eq!(apart.refresh("a").await, 2);
    let mut events = apart.supervisor.subscribe();
    proxy.stop_copying();
    cluster.fail_over_to_copy().await;
    // It finds the record from before the refresh.
    let other = Replica::start(&url, &server).await;
    other.session("a").revoke().await.unwrap();

    proxy.copy_again();
    in_time(async {
        while !matches!(events.next().await.unwrap().kind, EventKind::StoreFailedOver { .. }) {}
    })
    .await;
    for replica in [&apart, &other] {
        let error = replica.session("a").refresh().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotEstablished, "{error:?}");
    }
    in_time(async {
        while server.live_grants() > 0 {
            rest(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_failovers_end_no_pause_and_lose_no_token() {
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    let server = FakeAuthServer::start().await.unwrap();
    let (one, other) = (Replica::start(&url, &server).await, Replica::start(&url, &server).await);
    one.establish("a").await;
    for (failover, generation) in [(1, 2), (2, 3)] {
        cluster.copy_data().await;
        if failover == 1 {
            assert_eq!(one.refresh("a").await, generation);
        }
        let scope = PauseScope::Tenant(Tenant::new(format!("tenant-{failover}")).unwrap());
        assert!(one.supervisor.pause(&scope).await.unwrap());
        let mut events = one.supervisor.subscribe();
        cluster.fail_over_to_copy().await;
        let kind = in_time(async { events.next().await.unwrap().kind }).await;
        let EventKind::StoreFailedOver { lost: 0, .. } = kind else { panic!("{kind:?}") };
        assert_eq!(other.supervisor.paused().await.unwrap().len(), failover);
    }
    assert_eq!(other.refresh("a").await, 3);
    assert_eq!((server.refreshes(), server.presented_twice()), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_shortly_after_a_failover_claims_nothing_at_first() {
    let cluster = PostgresCluster::start().await;
    let url = cluster.new_database().await;
    let server = FakeAuthServer::start().await.unwrap();
    let first = Replica::start(&url, &server).await;
    first.establish("a").await;
    cluster.copy_data().await;
    assert_eq!(first.refresh("a").await, 2);
    cluster.fail_over_to_copy().await;
    // The second one finds the record before the first one has written it again.
    let second = Replica::start(&url, &server).await;
    let (from_first, from_second) =
        in_time(async { tokio::join!(first.refresh("a"), second.refresh("a")) }).await;
    // One of them may find what the first one has written again, instead of a refresh of its own.
    let (older, newer) = (from_first.min(from_second), from_first.max(from_second));
    assert!(older >= 2 && newer >= 3, "{from_first} {from_second}");
    assert_eq!(server.presented_twice(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_database_servers_the_one_that_accepts_writes_is_used() {
    let (standby, primary) = (PostgresCluster::start().await, PostgresCluster::start().await);
    let urls = [standby.new_database().await, primary.new_database().await];
    let name = name_of(&urls[1]);
    assert_eq!(name_of(&urls[0]), name, "each is the first of its server");
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    standby.sql("postgres", &read_only).await;
    let [other, address] = [&standby, &primary].map(|server| server.address().to_string());
    let both = urls[1].replace(&address, &format!("{other},{address}"));

    let server = FakeAuthServer::start().await.unwrap();
    let replica = Replica::start(&both, &server).await;
    replica.establish("a").await;
    assert_eq!(replica.refresh("a").await, 2);
    let sessions = primary.sql(name, "SELECT token_id FROM session_warden.session").await;
    assert_eq!(sessions, [[Some("a".to_owned())]]);
    let tables =
        standby.sql(name, "SELECT 1 FROM pg_namespace WHERE nspname LIKE 'session%'").await;
    assert!(tables.is_empty(), "it made none at the standby");
}
