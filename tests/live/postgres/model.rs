//! Random statements on PostgreSQL, on a file, on memory and on the model of all stores.
//!
//! Several stores use one database in turn, so that most of what each remembers is old. The
//! database shows the time of the test's clock.
#![expect(clippy::disallowed_methods, reason = "it takes as many walks as its caller says")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use session_warden::clock::{BootTime, Clock, Now, Sleep};
use session_warden::key::SessionId;
use session_warden::store::postgres::PostgresStore;
use session_warden::store::{Outcome, Statement, Store};
use session_warden::testing::ManualClock;
use tokio_postgres::Client;

use crate::postgres_cluster::{ClusterOptions, PostgresCluster, StoppableProxy, connect};
use crate::store_model::{Database, File, HANDLES, Run, walks};
use crate::store_statements::ring;

/// How many walks a test takes. With `MODEL_WALKS`, so many instead.
const WALKS: u32 = 64;

/// The clock of the test as a database shows it: its boot time and its monotonic time are the time
/// since 1970.
#[derive(Clone)]
struct Since1970(ManualClock);

impl Clock for Since1970 {
    fn now(&self) -> Now {
        let wall = self.0.now().wall;
        let since = since_1970(wall);
        Now::new(wall, BootTime::new(since), since)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration)
    }
}

fn since_1970(wall: SystemTime) -> Duration {
    wall.duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// The tables of one walk.
struct Tables {
    proxy: StoppableProxy,
    /// Through the proxy.
    url: String,
    schema: String,
    clock: ManualClock,
    /// Writes the time.
    client: Client,
    handles: Vec<PostgresStore>,
    /// Sees the tables when all others may have old records in mind.
    observer: PostgresStore,
    /// How many answers were lost, in all walks.
    lost: Rc<Cell<u64>>,
}

impl Tables {
    async fn new(
        schema: String,
        (cluster, database): (&PostgresCluster, &str),
        clock: &ManualClock,
        lost: &Rc<Cell<u64>>,
    ) -> Self {
        let proxy = StoppableProxy::start(cluster.address()).await;
        let (client, url) = (connect(database).await.unwrap(), proxy.url(database));
        let observer = open(database, &schema, clock).await;
        let own_time = format!(
            "CREATE TABLE {schema}.test_time (now bigint NOT NULL);
             INSERT INTO {schema}.test_time VALUES (0);
             CREATE OR REPLACE FUNCTION {schema}.now() RETURNS bigint LANGUAGE sql VOLATILE
                 AS 'SELECT now FROM {schema}.test_time'"
        );
        client.batch_execute(&own_time).await.unwrap();
        let mut handles = Vec::new();
        for _ in 0..HANDLES {
            handles.push(open(&url, &schema, clock).await);
        }
        let (clock, lost) = (clock.clone(), Rc::clone(lost));
        let tables = Self { proxy, url, schema, clock, client, handles, observer, lost };
        tables.time_has_passed().await;
        tables
    }
}

async fn open(url: &str, schema: &str, clock: &ManualClock) -> PostgresStore {
    let builder = PostgresStore::builder(url).schema(schema).key_ring(ring(1));
    builder.clock(Since1970(clock.clone())).open().await.unwrap()
}

#[async_trait(?Send)]
impl Database for Tables {
    fn handle(&self, number: usize) -> &dyn Store {
        &self.handles[number]
    }

    fn observers(&self) -> Vec<&dyn Store> {
        vec![&self.observer]
    }

    /// An answer is lost on its way to the store, which must find out what became of the write.
    async fn apply(
        &self,
        handle: usize,
        (id, statement): (&SessionId, Statement),
        is_lost: bool,
    ) -> Outcome {
        let cuts = self.proxy.cuts();
        if is_lost {
            // All that write have it, and no read has.
            self.proxy.cut_next_answer_after("session-warden writes");
        }
        let outcome = self.handles[handle].apply(id, statement).await.unwrap();
        if is_lost {
            self.lost.set(self.lost.get() + 1);
            assert!(self.proxy.cuts() > cuts, "no answer was lost");
        }
        outcome
    }

    async fn time_has_passed(&self) {
        let now = since_1970(self.clock.now().wall).as_nanos();
        let update = format!("UPDATE {}.test_time SET now = {now}", self.schema);
        self.client.batch_execute(&update).await.unwrap();
    }

    /// Its claims go on: another machine cannot know that their process has ended.
    async fn reopen(&mut self, handle: usize, _: bool) {
        self.handles[handle] = open(&self.url, &self.schema, &self.clock).await;
    }
}

#[test]
fn postgres_a_file_memory_and_the_model_agree_on_any_statements_of_several_processes() {
    let cases = std::env::var("MODEL_WALKS").ok().and_then(|walks| walks.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(WALKS),
        failure_persistence: None,
        max_shrink_iters: 500,
        rng_seed: RngSeed::Fixed(1),
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let (cluster, database) = runtime.block_on(async {
        // A test of outcomes, for which no disk counts.
        let options = ClusterOptions { fsync: false, ..ClusterOptions::default() };
        let cluster = PostgresCluster::start_with(options).await;
        let database = cluster.new_database().await;
        (cluster, database)
    });
    let (walked, lost) = (Cell::new(0), Rc::default());
    let result = TestRunner::new(config).run(&walks(), |walk| {
        walked.set(walked.get() + 1);
        runtime.block_on(async {
            let (clock, schema) = (ManualClock::new(), format!("walk_{}", walked.get()));
            let tables = Tables::new(schema, (&cluster, &database), &clock, &lost).await;
            let file = File::new(Since1970(clock.clone()));
            let shown = Arc::new(Since1970(clock.clone()));
            Run::new(clock, shown, vec![Box::new(tables), Box::new(file)]).walk(&walk).await;
        });
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(lost.get() > 0, "no answer was lost");
}
