//! A process that is stopped while it writes large batches.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use session_warden::store::postgres::PostgresStore;
use session_warden::store::{Outcome, Owner, Reschedule, Statement, Store};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::peer::in_time;
use crate::postgres::replicas::rest;
use crate::postgres::statements::{establish, id, open};
use crate::postgres_cluster::PostgresCluster;

/// The sessions of a batch.
const SESSIONS: usize = 1_000;

const STOPS: u64 = 20;

/// Which no statement of another process may take, with a wait for the stopped one.
const BAR: Duration = Duration::from_secs(1);

/// The name of [`write_batches`] for the test program.
const NAME: &str = "postgres::faults::stopped_writer::write_batches";

/// Holds the URL for [`write_batches`].
const URL: &str = "SESSION_WARDEN_WRITES_AT";

/// Writes the record of a session, if nobody else has since it was read.
async fn write(store: &PostgresStore, number: usize) -> bool {
    let id = id(number);
    let found = store.load(&id).await.unwrap().expect("it was established");
    let due_in = Some(Duration::from_secs(3600));
    let reschedule = Reschedule { version: found.record.version, announced: false, due_in };
    let written = store.apply(&id, Statement::Reschedule(reschedule)).await.unwrap();
    matches!(written, Outcome::Done(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that another test starts and stops"]
async fn write_batches() {
    #[expect(clippy::disallowed_methods, reason = "how a parent tells its child")]
    let url = std::env::var(URL).expect("this is no test: another test starts it");
    // A stopped process does not see that its standard input has ended.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let store = open(&url).await;
    loop {
        join_all((0..SESSIONS).map(|number| write(&store, number))).await;
        println!("\n@");
    }
}

#[expect(clippy::disallowed_methods, reason = "a database has no clock of ours")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_stopped_in_a_batch_keeps_no_other_waiting() {
    let cluster = PostgresCluster::shared().await;
    let url = cluster.new_database().await;
    let store = open(&url).await;
    let ids: Vec<_> = (0..SESSIONS).map(id).collect();
    in_time(join_all(ids.iter().map(|id| establish(&store, id, Owner(1))))).await;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", NAME]).env(URL, &url);
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut batch = async || {
        in_time(async {
            while lines.next_line().await.unwrap().expect("the process goes on") != "@" {}
        })
        .await;
    };
    batch().await;
    let (seed, mut longest, mut written, mut asked) = (7, Duration::ZERO, 0, 0);
    let mut random = fastrand::Rng::with_seed(seed);
    for stop in 0..STOPS {
        rest(Duration::from_millis(random.u64(5..250))).await;
        kill_process(pid, Signal::STOP).unwrap();
        for _ in 0..10 {
            let numbers: Vec<_> = (0..20).map(|_| random.usize(..SESSIONS)).collect();
            let begun = now();
            let all = join_all(numbers.iter().map(|number| write(&store, *number)));
            written += in_time(all).await.into_iter().filter(|done| *done).count();
            asked += numbers.len();
            longest = longest.max(begun.elapsed());
        }
        kill_process(pid, Signal::CONT).unwrap();
        assert!(longest < BAR, "seed {seed}, stop {stop}: {longest:?}");
    }
    println!("{STOPS} stops, {written} of {asked} written, {longest:?} at most");
    assert!(written * 2 > asked, "the others wrote too: {written} of {asked}");
    // It was stopped in the middle of its work, and goes on.
    batch().await;
    batch().await;
    in_time(child.kill()).await.unwrap();
}
