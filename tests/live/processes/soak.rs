//! Four processes on PostgreSQL, two of them through PgBouncer, while everything fails at random:
//! processes are killed and stopped, PostgreSQL and PgBouncer are killed and started again, the
//! network is slow, and connections are cut when the database has the statement and the process has
//! no answer.

use std::time::Duration;

use super::crowd::{Crowd, Plan};
use super::database::Database;
use super::history::Down;
use super::orders::{Outcome, Rotates, Waits, boot_now};
use super::process_fixture::now;
use super::rules;
use super::storms::{SEED, seed};
use crate::peer::within;
use crate::postgres::replicas::rest;
use crate::postgres_cluster::{PgBouncer, PoolOptions, PostgresCluster, StoppableProxy};

/// How long one round works. Each has a database and a seed of its own, the next number.
const ROUND: Duration = Duration::from_secs(50);

/// How many rounds there are: 5 take five minutes, and 30 take half an hour. Defaults to 1.
const ROUNDS: &str = "SESSION_WARDEN_ROUNDS";

/// Token ids of each of two tenants: 200 sessions.
const IDS: usize = 100;

/// Short, so that claims end while they work, and longer than the database is away.
const WAITS: Waits = Waits {
    budget: Duration::from_secs(1),
    lease: Duration::from_secs(2),
    hold: Duration::from_secs(9),
};

/// How long a session may be without a caller, who would end a claim that is over.
const UNCALLED: Duration = Duration::from_secs(20);

const WAY: Duration = Duration::from_millis(60);

/// In the statement of each claim and commit of an established session.
const WRITE: &str = "session-warden writes";

/// How long a cut waits for a write.
const WRITES_IN: Duration = Duration::from_secs(2);

/// How much longer than a restart its consequences last, in nanoseconds: the processes connect again.
const AFTER_A_RESTART: u64 = 1_500_000_000;

/// How much longer than a delay or a cut its consequences last, in nanoseconds.
const AFTER_A_CUT: u64 = 150_000_000;

/// What stands between the processes and their records.
struct Network {
    cluster: PostgresCluster,
    pool: PgBouncer,
    /// Before the cluster, and before PgBouncer.
    proxies: [StoppableProxy; 2],
    database: String,
}

impl Network {
    async fn start() -> Self {
        let cluster = PostgresCluster::start().await;
        let database = cluster.new_database().await;
        let options = PoolOptions { default_pool_size: 4, ..PoolOptions::default() };
        let pool = PgBouncer::start(&cluster, &database, options).await;
        let proxies = [
            StoppableProxy::start(cluster.address()).await,
            StoppableProxy::start(pool.address()).await,
        ];
        Self { cluster, pool, proxies, database }
    }

    fn plan(&self) -> Plan {
        let direct = Database::Postgres(self.proxies[0].url(&self.database));
        let pooled = Database::Postgres(self.proxies[1].url(&self.pool.url()));
        Plan {
            folder: tempfile::tempdir().unwrap(),
            databases: vec![direct.clone(), pooled.clone(), direct, pooled],
            reader: Database::Postgres(self.database.clone()),
            ids: IDS,
            rotates: Rotates::Strict,
            waits: WAITS,
            way: WAY,
            logged: false,
            fails: true,
        }
    }

    /// Fails again and again, and is well again when this returns.
    async fn fails(&self, crowd: &Crowd, time: Duration, mut random: fastrand::Rng) -> Failures {
        let (until, mut failures) = (now() + time, Failures::default());
        while now() < until {
            rest(Duration::from_millis(random.u64(500..3000))).await;
            let proxy = &self.proxies[random.usize(..2)];
            let (chosen, from) = (random.u8(0..10), boot_now());
            match chosen {
                0 => {
                    self.cluster.kill_9().await;
                    rest(Duration::from_millis(random.u64(0..500))).await;
                    self.cluster.start_again().await;
                    failures.postgres += 1;
                }
                1 => {
                    self.pool.kill_9().await;
                    rest(Duration::from_millis(random.u64(0..500))).await;
                    self.pool.start_again().await;
                    failures.pgbouncer += 1;
                }
                2..5 => {
                    proxy.stop_copying();
                    rest(Duration::from_millis(random.u64(50..900))).await;
                    proxy.copy_again();
                    failures.delays += 1;
                }
                5..9 => {
                    let cuts = proxy.cuts();
                    proxy.cut_next_answer_after(WRITE);
                    // The callers may have ended.
                    within(WRITES_IN, proxy.until_cuts(cuts + 1)).await;
                    proxy.cut_no_more();
                    failures.cuts += 1;
                }
                _ => {
                    proxy.cut_all();
                    failures.cuts += 1;
                }
            }
            let afterwards = if chosen < 2 { AFTER_A_RESTART } else { AFTER_A_CUT };
            crowd.history.down(Down::of_store(from, boot_now() + afterwards));
        }
        failures
    }
}

/// How often each was done.
#[derive(Debug, Default)]
struct Failures {
    postgres: u32,
    pgbouncer: u32,
    delays: u32,
    cuts: u32,
}

async fn round(seed: u64) {
    println!("{SEED}={seed}");
    let network = Network::start().await;
    let mut crowd = Crowd::new(network.plan()).await;
    let random = fastrand::Rng::with_seed(seed ^ (1 << 42));
    let fails = network.fails(&crowd, ROUND, random);
    let ((), failures) = tokio::join!(crowd.storms(ROUND, seed), fails);
    let settled = crowd.settles().await;
    crowd.ends().await;
    let (book, counts) = (crowd.history.book(), crowd.server.counts());
    let of_processes = || book.downs.iter().filter(|down| !down.is_of_store());
    let killed = of_processes().filter(|down| down.until == u64::MAX).count();
    println!(
        "{} calls, {} refreshes, {killed} killed, {} stopped, {failures:?}, {} tokens sent again, \
         {} grants lost, at most {:?} behind",
        book.answers.len(),
        counts.refreshes,
        of_processes().count() - killed,
        counts.presented_twice,
        counts.reuses_detected,
        Duration::from_nanos(rules::farthest_behind(&book)),
    );
    let mut broken = rules::broken(&book, Waits { hold: WAITS.hold + UNCALLED, ..WAITS });
    for (key, outcome) in settled {
        if !matches!(outcome, Outcome::Token(_)) && !outcome.wants_a_grant() {
            broken.push(format!("{key} does not come to rest: {outcome:?}"));
        }
    }
    let mut words = broken.iter().flat_map(|fault| fault.split([' ', '"', ',']));
    let key = words.find(|word| word.contains("/device"));
    assert!(
        broken.is_empty(),
        "{SEED}={seed}: {} faults:\n{}\n{}",
        broken.len(),
        broken[..broken.len().min(20)].join("\n"),
        key.map_or(String::new(), |key| book.track(key)),
    );
    assert!(killed > 0 && counts.refreshes > 200, "{counts:?}");
}

#[expect(clippy::disallowed_methods, reason = "how a person tells a test")]
fn rounds() -> u64 {
    std::env::var(ROUNDS).map_or(1, |told| told.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: see tests/long/soak"]
async fn whatever_fails_between_processes_and_their_records_all_rules_hold() {
    let first = seed();
    for seed in first..first + rounds() {
        round(seed).await;
    }
}
