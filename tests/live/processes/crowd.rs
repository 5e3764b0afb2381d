//! Many callers in several processes, which are killed and stopped at the same time.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rusqlite::Connection;
use session_warden::store::RecordFilter;
use session_warden::testing::{FakeAuthServer, FakeRotation};
use tempfile::TempDir;

use super::database::{Database, Reader, StoreKind};
use super::front::Front;
use super::history::{Down, History, Reading};
use super::orders::{
    GRACE, Operation, Outcome, Rotates, Seen, Setup, Took, Waits, boot_now, name_of,
};
use super::process_fixture::now;
use super::replica::{Replica, pause};
use crate::secret_scan::SECRET;

/// How many token ids both tenants have, where a test does not say it.
const IDS: usize = 8;

/// So many sessions are also established and revoked while other callers use them.
const RESTLESS: usize = 2;

/// How many callers each process has.
const CALLERS: usize = 6;

/// So that tokens end all the time.
const LIFE: Duration = Duration::from_secs(1);

pub struct Crowd {
    pub server: FakeAuthServer,
    pub history: History,
    pub folder: TempDir,
    ids: usize,
    waits: Waits,
    places: Vec<Place>,
    /// Whether its store fails at times.
    fails: bool,
    reader: Reader,
    _front: Front,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

/// Crowds have the machine one after the other: it is their own statements that are timed.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Where there is always a process; not always the same.
struct Place {
    setup: Setup,
    process: Mutex<Arc<Replica>>,
}

impl Place {
    async fn new(setup: Setup, history: &History) -> Self {
        let process = Mutex::new(Arc::new(Replica::start(&setup, history).await));
        Self { setup, process }
    }

    fn process(&self) -> Arc<Replica> {
        Arc::clone(&self.process.lock().unwrap())
    }
}

/// How a crowd is set up.
pub struct Plan {
    /// With its logs and what else is in files.
    pub folder: TempDir,
    /// The ways to the store, one for each process.
    pub databases: Vec<Database>,
    /// The way of the reader.
    pub reader: Database,
    /// How many token ids both tenants have.
    pub ids: usize,
    pub rotates: Rotates,
    pub waits: Waits,
    /// Token requests take up to so long to get to the server, and as long back.
    pub way: Duration,
    pub logged: bool,
    /// Whether the store fails at times.
    pub fails: bool,
}

impl Plan {
    /// Processes that do the usual on a new store, which does not fail.
    pub async fn new(
        (store, processes): (StoreKind, usize),
        rotates: Rotates,
        (waits, way): (Waits, Duration),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let reader = Database::new(store, folder.path()).await;
        let databases = vec![reader.clone(); processes];
        let (ids, logged, fails) = (IDS, false, false);
        Self { folder, databases, reader, ids, rotates, waits, way, logged, fails }
    }
}

/// Whether this key may be without a session now and then.
pub fn is_restless(key: &str) -> bool {
    (0..RESTLESS).any(|id| key.ends_with(&format!("-{id}")))
}

impl Crowd {
    /// With every session established.
    pub async fn new(plan: Plan) -> Self {
        let turn = TURN.lock().await;
        let Plan { folder, databases, reader, ids, rotates, waits, way, logged, fails } = plan;
        let rotation = match rotates {
            Rotates::Strict => FakeRotation::Strict,
            Rotates::Idempotent => FakeRotation::Idempotent(GRACE),
            Rotates::Fork => FakeRotation::Fork(GRACE),
        };
        let server = FakeAuthServer::builder().rotation(rotation).access_lifetime(LIFE);
        let server = server.token_prefix(SECRET).start().await.expect("a port is free");
        let history = History::default();
        let front = Front::start(server.url(), &history, way).await;
        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let places = databases.into_iter().map(|database| {
            let (issuer, api) = (front.url().to_owned(), format!("{}/resource", server.url()));
            let (rotation, logs) = (rotates, logged.then(|| logs.clone()));
            let (scope, refresh_ends_access_tokens) = (String::new(), false);
            let setup = Setup {
                journal: None,
                journal_hold: Duration::ZERO,
                most_file_bytes: None,
                database,
                issuer,
                api,
                rotation,
                scope,
                refresh_ends_access_tokens,
                waits,
                logs,
            };
            Place::new(setup, &history)
        });
        let (places, reader) = (join_all(places).await, reader.reader().await);
        let (_front, _turn) = (front, turn);
        let crowd =
            Self { server, history, folder, ids, waits, places, fails, reader, _front, _turn };
        let first = crowd.places[0].process();
        let keys = crowd.all_keys();
        join_all(keys.iter().map(|key| first.token(Operation::Establish, key))).await;
        crowd
    }

    /// The keys of both tenants.
    pub fn all_keys(&self) -> Vec<String> {
        let of = |tenant| (0..self.ids).map(move |id| format!("{tenant}/device-{id}"));
        of("a").chain(of("b")).collect()
    }

    /// All call for so long, with a reader beside them.
    pub async fn calls(&self, time: Duration, seed: u64) {
        let until = now() + time;
        let callers = self.places.iter().enumerate().flat_map(|(nth, place)| {
            (0..CALLERS)
                .map(move |caller| (place, fastrand::Rng::with_seed(seed + seeds(nth, caller))))
        });
        let keys = self.all_keys();
        let callers = callers.map(|(place, random)| calls(place, &keys, random, until));
        tokio::join!(join_all(callers), self.reads(until));
    }

    /// The same, while processes are killed and stopped.
    pub async fn storms(&self, time: Duration, seed: u64) {
        let until = now() + time;
        let half = self.places.len() / 2;
        let storm = |places: Range<usize>, nth| {
            self.storm(places, fastrand::Rng::with_seed(seed ^ nth), until)
        };
        let storms = async {
            tokio::join!(storm(0..half, 1 << 40), storm(half..self.places.len(), 1 << 41))
        };
        tokio::join!(self.calls(time, seed), storms);
    }

    /// Reads every record until then.
    async fn reads(&self, until: Instant) {
        while now() < until {
            self.looks().await;
            // To read many takes long.
            pause(40.max(self.ids as u64 * 2)).await;
        }
    }

    pub async fn looks(&self) {
        let store = self.reader.store();
        let listed = store.list(&RecordFilter::default(), None, 256).await;
        if listed.is_err() && self.fails {
            return;
        }
        let listed = listed.expect("it can be read");
        let ids: Vec<_> = listed.into_iter().map(|listed| listed.id).collect();
        // A list shows no tokens.
        let start = boot_now();
        let read = store.load_many(&ids).await;
        let end = boot_now();
        for (id, found) in ids.iter().zip(read) {
            if found.is_err() && self.fails {
                continue;
            }
            let Some(found) = found.expect("it can be read") else { continue };
            let (key, seen) = (name_of(id), Seen::of(&found.record));
            self.history.read(Reading { start, end, key, seen });
        }
    }

    async fn storm(&self, places: Range<usize>, mut random: fastrand::Rng, until: Instant) {
        while now() < until {
            rest(random.u64(150..700)).await;
            let place = &self.places[random.usize(places.clone())];
            let process = place.process();
            match random.u8(0..10) {
                0..4 => self.kill(place).await,
                4..7 => self.stop(&process, random.u64(150..600)).await,
                7..9 => {
                    let lease = self.waits.lease.as_millis() as u64;
                    self.stop(&process, lease + random.u64(100..900)).await;
                }
                _ => {
                    let from = boot_now();
                    process.stop();
                    process.stopped().await;
                    let has_lock = self.is_locked().await;
                    rest(random.u64(100..500)).await;
                    let (pid, until) = (process.pid(), u64::MAX);
                    self.kill(place).await;
                    // The system has taken the lock from it.
                    self.history.down(Down { pid, from, until: boot_now(), has_lock });
                    self.history.down(Down { pid, from, until, has_lock: false });
                }
            }
        }
    }

    /// Kills the process of a place, and starts another.
    async fn kill(&self, place: &Place) {
        let (process, from) = (place.process(), boot_now());
        process.kill_now();
        let down = Down { pid: process.pid(), from, until: u64::MAX, has_lock: false };
        self.history.down(down);
        self.looks().await;
        let next = Replica::start(&place.setup, &self.history).await;
        *place.process.lock().unwrap() = Arc::new(next);
    }

    async fn stop(&self, process: &Replica, ms: u64) {
        let from = boot_now();
        process.stop();
        process.stopped().await;
        let has_lock = self.is_locked().await;
        rest(ms).await;
        process.go_on();
        let (pid, until) = (process.pid(), boot_now());
        self.history.down(Down { pid, from, until, has_lock });
    }

    /// Whether a process has the lock of the file for writing, and keeps it. PostgreSQL has none.
    async fn is_locked(&self) -> bool {
        let Some(file) = self.places[0].setup.database.file() else { return false };
        let file = Connection::open(file).unwrap();
        file.busy_timeout(Duration::ZERO).unwrap();
        for _ in 0..150 {
            if file.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
                return false;
            }
            pause(1).await;
        }
        true
    }

    /// Asks for every session until each has a token or is known to be lost.
    pub async fn settles(&self) -> Vec<(String, Outcome)> {
        let process = self.places[0].process();
        let settle = async |key: String| {
            let outcome = process.insist(Operation::Token, &key).await;
            (key, outcome)
        };
        let ((), outcomes) = tokio::join!(
            self.reads(now() + Duration::from_millis(100)),
            join_all(self.all_keys().into_iter().map(settle))
        );
        self.looks().await;
        outcomes
    }

    /// After this the files may be read as files: to do so beside a connection of the same process
    /// would take its locks from it.
    pub async fn reads_no_more(&self) {
        self.reader.close().await;
    }

    /// Ends all processes; how long their statements took.
    pub async fn ends(&mut self) -> Vec<Took> {
        let mut took = Vec::new();
        for place in std::mem::take(&mut self.places) {
            let process =
                Arc::into_inner(place.process.into_inner().unwrap()).expect("nobody calls");
            took.push(process.quit().await);
        }
        took
    }

    pub fn pids(&self) -> Vec<u32> {
        self.places.iter().map(|place| place.process().pid()).collect()
    }

    pub fn waits(&self) -> Waits {
        self.waits
    }
}

/// So that no two callers do the same.
fn seeds(place: usize, caller: usize) -> u64 {
    (place * CALLERS + caller) as u64
}

/// Calls again and again, until then.
async fn calls(place: &Place, keys: &[String], mut random: fastrand::Rng, until: Instant) {
    while now() < until {
        let key = &keys[random.usize(..keys.len())];
        let operation = match random.u8(0..100) {
            0..60 => Operation::Token,
            60..75 => Operation::Refresh,
            75..93 => Operation::Invalidate,
            93..96 => Operation::Establish,
            96..98 if is_restless(key) => Operation::Revoke,
            _ => Operation::Status,
        };
        let process = place.process();
        let answer = process.order(operation, key).ended().await;
        if answer.is_some_and(|answer| answer.outcome.wants_a_grant()) {
            process.order(Operation::Establish, key).ended().await;
        }
        drop(process);
        pause(random.u64(20..80)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a process outside has no clock of ours")]
async fn rest(ms: u64) {
    // The processes run by the system's clock, and are killed and stopped at random times.
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
