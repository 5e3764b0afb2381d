//! The cost of a valid token, compared with the reply of an actor and with a cache, in one run.
//!
//! `cargo bench --bench token_hot` prints a table: the median of the rounds of each case, and how
//! often it allocated. Every round runs every case, so that all cases have the same noise.

#![expect(clippy::disallowed_methods, reason = "real time is what is measured")]
#![expect(clippy::expect_used, reason = "without its setting there is nothing to measure")]

use std::cell::RefCell;
use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call};
use session_warden::testing::ScriptedProvider;
use session_warden::{PermissionToken, Session, SessionKey, Sessions, Supervisor};
use tokio::runtime::{Builder, Runtime};

const SESSIONS: usize = 10_000;
const ROUNDS: usize = 401;
/// Short, so that most rounds end before another process gets the processor.
const ROUND: Duration = Duration::from_micros(200);

/// One way to a token.
struct Case<'a> {
    name: &'static str,
    /// Goes this way so often, and returns how long that took.
    run: Box<dyn Fn(usize) -> Duration + 'a>,
}

/// Sessions with fresh tokens, and the same tokens in caches and behind an actor.
struct Setting {
    runtime: Runtime,
    /// In the order of the calls, which is not the order in which they were made.
    keys: Vec<SessionKey>,
    sessions: Sessions<ScriptedProvider>,
    held: Session<ScriptedProvider>,
    cache: moka::sync::Cache<SessionKey, PermissionToken>,
    future_cache: moka::future::Cache<SessionKey, PermissionToken>,
    near: ActorRef<Ask>,
    far: ActorRef<Ask>,
    _workers: Runtime,
}

struct Ask(RpcReplyPort<PermissionToken>);

struct Holder;

impl Actor for Holder {
    type Msg = Ask;
    type State = PermissionToken;
    type Arguments = PermissionToken;

    async fn pre_start(
        &self,
        _: ActorRef<Ask>,
        token: PermissionToken,
    ) -> Result<PermissionToken, ActorProcessingErr> {
        Ok(token)
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask(reply): Ask,
        token: &mut PermissionToken,
    ) -> Result<(), ActorProcessingErr> {
        reply.send(token.clone())?;
        Ok(())
    }
}

impl Setting {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let workers = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let workers = workers.expect("a runtime");
        let key = |n: usize| SessionKey::new(format!("tenant-{}", n % 8), format!("device-{n}"));
        let mut keys: Vec<_> = (0..SESSIONS).map(|n| key(n).expect("a key")).collect();
        let cache = moka::sync::Cache::new(2 * SESSIONS as u64);
        let future_cache = moka::future::Cache::new(2 * SESSIONS as u64);
        let (sessions, held) = runtime.block_on(async {
            let provider: ScriptedProvider = ScriptedProvider::new();
            let supervisor = Supervisor::builder().provider("p", provider).start();
            let supervisor = supervisor.await.expect("a supervisor");
            let sessions = supervisor.sessions::<ScriptedProvider>("p").expect("its sessions");
            for key in &keys {
                let session = sessions.session(key.clone());
                let _ = session.establish(()).await.expect("a session");
                let token = session.try_permission_token().expect("a fresh token");
                cache.insert(key.clone(), token.clone());
                future_cache.insert(key.clone(), token).await;
            }
            let held = sessions.session(keys[0].clone());
            (sessions, held)
        });
        fastrand::Rng::with_seed(7).shuffle(&mut keys);
        let token = held.try_permission_token().expect("a fresh token");
        let near = runtime.block_on(Actor::spawn(None, Holder, token.clone()));
        let far = workers.block_on(Actor::spawn(None, Holder, token));
        let (near, far) = (near.expect("an actor").0, far.expect("an actor").0);
        let _workers = workers;
        Self { runtime, keys, sessions, held, cache, future_cache, near, far, _workers }
    }

    fn cases(&self) -> Vec<Case<'_>> {
        let Self { keys: all, sessions, held, cache, future_cache, .. } = self;
        let one = &all[..1];
        let session = |key: &SessionKey| sessions.session(key.clone());
        let look = |token: &PermissionToken| token.generation();
        vec![
            each("held, with_token", one, move |_| held.with_token(look)),
            each("held, try_permission_token", one, |_| held.try_permission_token()),
            self.each_awaited("held, permission_token", one, |_| held.permission_token()),
            each("one key, with_token", one, move |key| session(key).with_token(look)),
            each("one key, try_permission_token", one, move |key| {
                session(key).try_permission_token()
            }),
            each("one key, moka::sync", one, |key| cache.get(key)),
            each("all keys, with_token", all, move |key| session(key).with_token(look)),
            each("all keys, try_permission_token", all, move |key| {
                session(key).try_permission_token()
            }),
            self.each_awaited("all keys, permission_token", all, move |key| {
                let session = session(key);
                async move { session.permission_token().await }
            }),
            each("all keys, moka::sync", all, |key| cache.get(key)),
            self.each_awaited("all keys, moka::future", all, |key| future_cache.get(key)),
            self.each_awaited("ractor call!, same thread", one, |_| async {
                call!(self.near, Ask)
            }),
            self.each_awaited("ractor call!, other thread", one, |_| async {
                call!(self.far, Ask)
            }),
        ]
    }

    fn each_awaited<'a, F>(
        &'a self,
        name: &'static str,
        keys: &'a [SessionKey],
        read: impl Fn(&'a SessionKey) -> F + 'a,
    ) -> Case<'a>
    where
        F: Future + 'a,
    {
        let walk = RefCell::new(walk(keys));
        let run = move |times| {
            let keys = &mut *walk.borrow_mut();
            self.runtime.block_on(async {
                let start = Instant::now();
                for key in keys.take(times) {
                    black_box(read(key).await);
                }
                start.elapsed()
            })
        };
        Case { name, run: Box::new(run) }
    }
}

/// Reads with each of the keys in turn.
fn each<'a, R>(
    name: &'static str,
    keys: &'a [SessionKey],
    read: impl Fn(&'a SessionKey) -> R + 'a,
) -> Case<'a> {
    let walk = RefCell::new(walk(keys));
    let run = move |times| {
        let keys = &mut *walk.borrow_mut();
        let start = Instant::now();
        for key in keys.take(times) {
            black_box(read(key));
        }
        start.elapsed()
    };
    Case { name, run: Box::new(run) }
}

/// The keys in a circle, from a random start: if every case started at the same key, each would
/// find the entries of the case before in the processor's cache.
fn walk(keys: &[SessionKey]) -> impl Iterator<Item = &SessionKey> {
    keys.iter().cycle().skip(fastrand::usize(..keys.len()))
}

/// The median of each case, in nanoseconds.
fn medians(cases: &[Case<'_>]) -> Vec<f64> {
    let times = |case: &Case<'_>| {
        let once = (case.run)(1000).as_nanos() / 1000;
        usize::try_from(ROUND.as_nanos() / once.max(1)).unwrap_or(1).max(1)
    };
    let times: Vec<_> = cases.iter().map(times).collect();
    let mut seen = vec![Vec::with_capacity(ROUNDS); cases.len()];
    for _ in 0..ROUNDS {
        for ((case, &times), seen) in cases.iter().zip(&times).zip(&mut seen) {
            seen.push((case.run)(times).as_secs_f64() * 1e9 / times as f64);
        }
    }
    let median = |mut seen: Vec<f64>| {
        seen.sort_by(f64::total_cmp);
        seen[ROUNDS / 2]
    };
    seen.into_iter().map(median).collect()
}

fn main() {
    let setting = Setting::new();
    let cases = setting.cases();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for Case { name, run } in &cases {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| run(usize::try_from(times).unwrap_or(usize::MAX)));
        });
    }
    criterion.final_summary();

    let medians = medians(&cases);
    println!("\n{:<31} {:>9} {:>8} {:>12}", "a fresh token", "ns", "ratio", "allocations");
    for (Case { name, run }, median) in cases.iter().zip(&medians) {
        let counted = allocation_counter::measure(|| _ = run(1000));
        let allocations = counted.count_total as f64 / 1000.0;
        let ratio = median / medians[0];
        println!("{name:<31} {median:>9.1} {ratio:>8.1} {allocations:>12.1}");
    }
}
