//! A child process, as its parent controls it.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use session_warden::testing::{CrashPoint, Fate};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::child::{DEED, MARK, NAME, SETUP};
use super::history::History;
use super::orders::{Answer, Handed, Operation, Order, Outcome, Setup, Took, What};
use crate::peer::in_time;

/// A process on the store. It is killed when this is dropped, and when its parent ends.
pub struct Replica {
    child: Child,
    pid: Pid,
    orders: mpsc::UnboundedSender<String>,
    numbered: AtomicU64,
    waiting: Waiting,
    /// The task that writes its orders and reads its replies.
    _tasks: JoinSet<()>,
}

/// The waiters for the reply to each order; none when the process has ended.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

impl Replica {
    /// Starts a process and waits until it takes orders. Its answers go to the history too.
    pub async fn start(setup: &Setup, history: &History) -> Self {
        let mut child = spawn(setup);
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let (orders, lines) = mpsc::unbounded_channel();
        let (ready, begun) = oneshot::channel();
        let waiting = Arc::new(Mutex::new(Some(HashMap::from([(0, ready)]))));
        let mut tasks = JoinSet::new();
        tasks.spawn(write(lines, child.stdin.take().expect("stdin is piped")));
        let stdout = child.stdout.take().expect("stdout is piped");
        tasks.spawn(read(stdout, Arc::clone(&waiting), history.clone()));
        in_time(begun).await.expect("the process is ready: see its stderr above");
        let (pid, numbered) = (pid.expect("the process runs"), AtomicU64::new(1));
        Self { child, pid, orders, numbered, waiting, _tasks: tasks }
    }

    /// Gives an order, at once. Its answer may be awaited or not; there is none if the process
    /// ends first.
    pub fn order(&self, operation: Operation, key: &str) -> Ordered {
        self.give(What::Do(operation, key.to_owned()))
    }

    /// Has it finish a login on another device.
    pub fn finish(&self, key: &str, ticket: &str) -> Ordered {
        self.give(What::Finish { key: key.to_owned(), ticket: ticket.to_owned() })
    }

    /// The result of an operation in a process that keeps running.
    pub async fn ask(&self, operation: Operation, key: &str) -> Outcome {
        self.order(operation, key).answer().await.outcome
    }

    /// The token that an operation gave.
    ///
    /// # Panics
    ///
    /// If it gave none.
    pub async fn token(&self, operation: Operation, key: &str) -> Handed {
        let outcome = self.ask(operation, key).await;
        let Outcome::Token(token) = outcome else { panic!("{operation:?} of {key}: {outcome:?}") };
        token
    }

    /// Repeats an operation for as long as it says `RetryLater`.
    pub async fn insist(&self, operation: Operation, key: &str) -> Outcome {
        let patient = async {
            loop {
                let outcome = self.ask(operation, key).await;
                let Some(wait_ms) = retried_after(&outcome) else { return outcome };
                pause(wait_ms).await;
            }
        };
        in_time(patient).await
    }

    /// The next exchange that gets to `point` ends so, or rests.
    pub async fn arm(&self, point: CrashPoint, fate: Fate) {
        self.give(What::arm(point, fate)).answer().await;
    }

    /// Waits until it has been killed, by itself or by the test.
    pub async fn died(&mut self) {
        let ended = in_time(self.child.wait()).await.expect("it is a child of this process");
        assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()), "{ended}");
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.died().await;
    }

    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until every thread of it is stopped.
    pub async fn stopped(&self) {
        let stopped = async {
            while !self.is_stopped() {
                pause(1).await;
            }
        };
        in_time(stopped).await;
    }

    /// Ends it like a program that has nothing left to do. Returns how long its statements took.
    pub async fn quit(mut self) -> Took {
        let order = self.give(What::Quit);
        let ended = in_time(self.child.wait()).await.expect("it is a child of this process");
        assert!(ended.success(), "{ended}");
        let outcome = order.answer().await.outcome;
        let Outcome::Took(took) = outcome else { panic!("{outcome:?}") };
        took
    }

    /// Lets writes beyond this size of a file fail from now on; `None` lets none fail.
    pub fn limit_files(&self, most_bytes: Option<u64>) {
        let limit = Rlimit { current: most_bytes, maximum: None };
        prlimit(Some(self.pid), Resource::Fsize, limit).expect("it is a child of this process");
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// `kill -9`, while others use it.
    pub fn kill_now(&self) {
        self.signal(Signal::KILL);
    }

    /// All threads, because each stops when it next leaves the kernel.
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_pid()));
        let tasks = tasks.expect("the process lives").flatten();
        let mut states = tasks.map(|task| std::fs::read_to_string(task.path().join("stat")));
        // proc(5): the state comes after the name, which is in parentheses.
        states.all(|stat| stat.is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" T")))
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("it is a child of this process");
    }

    fn give(&self, what: What) -> Ordered {
        let id = self.numbered.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        if let Some(waiting) = &mut *self.waiting.lock().unwrap() {
            waiting.insert(id, answer);
        }
        let order = serde_json::to_string(&Order { id, what }).unwrap();
        // Fails only if the process has ended, and then there is no answer either.
        drop(self.orders.send(order));
        Ordered { answered, early: None }
    }
}

/// An order that was given.
pub struct Ordered {
    answered: oneshot::Receiver<Answer>,
    /// The reply, if it had arrived at the last check.
    early: Option<Answer>,
}

impl Ordered {
    /// # Panics
    ///
    /// If the process ends before.
    pub async fn answer(self) -> Answer {
        self.ended().await.expect("the process lives")
    }

    /// None if the process ended before.
    pub async fn ended(self) -> Option<Answer> {
        match self.early {
            Some(early) => Some(early),
            None => in_time(self.answered).await.ok(),
        }
    }

    /// Whether there is no answer so far.
    pub fn is_open(&mut self) -> bool {
        self.early = self.early.take().or_else(|| self.answered.try_recv().ok());
        self.early.is_none()
    }
}

/// None if it was not `RetryLater`.
fn retried_after(outcome: &Outcome) -> Option<u64> {
    let Outcome::Failed { kind, retry_after_ms, .. } = outcome else { return None };
    (kind == "RetryLater").then(|| retry_after_ms.unwrap_or(0))
}

fn spawn(setup: &Setup) -> Child {
    let program = std::env::current_exe().expect("a test program has a path");
    // A write beyond a limit of the file size then fails, as one on a full disk does, instead of
    // ending the process.
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(program)
        .args([NAME, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(SETUP, serde_json::to_string(setup).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a test program can be started again")
}

async fn write(mut lines: mpsc::UnboundedReceiver<String>, mut stdin: ChildStdin) {
    while let Some(line) = lines.recv().await {
        if stdin.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stdout: ChildStdout, waiting: Waiting, history: History) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(deed) = line.strip_prefix(DEED) {
            history.did(serde_json::from_str(deed).unwrap());
        }
        let Some(answer) = line.strip_prefix(MARK) else { continue };
        let answer: Answer = serde_json::from_str(answer).unwrap();
        history.add(&answer);
        let waiter = waiting.lock().unwrap().as_mut().and_then(|all| all.remove(&answer.order));
        // No caller need wait.
        drop(waiter.map(|waiter| waiter.send(answer)));
    }
    waiting.lock().unwrap().take();
}

/// Waits between two calls to a process, or two checks of its state.
#[expect(clippy::disallowed_methods, reason = "a process outside has no clock of ours")]
pub async fn pause(ms: u64) {
    // Another process cannot wake this one, and runs by the system's clock.
    tokio::time::sleep(Duration::from_millis(ms.clamp(1, 200))).await;
}

/// Waits for as long as processes outside need for something.
pub async fn pause_for(duration: Duration) {
    let mut left = u64::try_from(duration.as_millis()).unwrap();
    while left > 0 {
        pause(left).await;
        left = left.saturating_sub(200);
    }
}

mod tests {
    use super::*;
    use crate::processes::database::StoreKind;
    use crate::processes::orders::Rotates;
    use crate::processes::process_fixture::{KEY, ProcessFixture, is_generation};
    use crate::processes::server::Server;

    on_each_store! {
        a_process_that_is_stopped_answers_when_it_goes_on_and_ends_when_it_is_told,
        a_process_stops_at_a_step_and_not_one_further,
        orders_run_at_once_and_sessions_do_not_wait_for_each_other,
    }

    async fn a_process_that_is_stopped_answers_when_it_goes_on_and_ends_when_it_is_told(
        store: StoreKind,
    ) {
        let fixture = ProcessFixture::new((store, Server::ours(Rotates::Strict).await)).await;
        let process = fixture.established().await;
        process.stop();
        process.stopped().await;
        let mut asked = process.order(Operation::Status, KEY);
        assert!(process.is_stopped() && asked.is_open());
        process.go_on();
        let status = asked.answer().await.outcome;
        let Outcome::Status { state, epoch, generation, saved } = status else {
            panic!("{status:?}")
        };
        assert_eq!((&*state, epoch, generation, saved), ("Active", 1, 1, true));
        let took = process.quit().await;
        assert!(!took.reads.is_empty() && !took.writes.is_empty(), "{took:?}");
    }

    /// The next step is less than a millisecond away.
    async fn a_process_stops_at_a_step_and_not_one_further(store: StoreKind) {
        let fixture = ProcessFixture::new((store, Server::ours(Rotates::Strict).await)).await;
        let process = fixture.established().await;
        let steps = [
            (CrashPoint::BeforeClaim, false, 0, 0),
            (CrashPoint::Claimed, true, 0, 0),
            (CrashPoint::Sent, true, 1, 0),
            (CrashPoint::Received, true, 1, 0),
            (CrashPoint::Committed, false, 1, 1),
            (CrashPoint::Replied, false, 1, 1),
        ];
        for (generation, (point, claimed, asked, stored)) in (1..).zip(steps) {
            let before = fixture.seen().await.asked;
            process.arm(point, Fate::Stop).await;
            let mut refresh = process.order(Operation::Refresh, KEY);
            process.stopped().await;
            let record = fixture.record().await;
            assert_eq!(
                (record.lease.is_some(), record.generation),
                (claimed, generation + stored),
                "{point:?}"
            );
            assert_eq!(fixture.seen().await.asked, before + asked, "{point:?}");
            assert!(refresh.is_open() || point == CrashPoint::Replied, "{point:?}");
            process.go_on();
            let refreshed = refresh.answer().await.outcome;
            assert!(is_generation(&refreshed, generation + 1), "{point:?}: {refreshed:?}");
        }
        fixture.is_good_at(&process, 7).await;
    }

    async fn orders_run_at_once_and_sessions_do_not_wait_for_each_other(store: StoreKind) {
        let fixture = ProcessFixture::new((store, Server::ours(Rotates::Strict).await)).await;
        let process = fixture.process().await;
        let keys: Vec<_> = (0..20).map(|n| format!("device-{n}")).collect();
        let orders: Vec<_> =
            keys.iter().map(|key| process.order(Operation::Establish, key)).collect();
        for order in orders {
            assert!(matches!(order.answer().await.outcome, Outcome::Token(_)));
        }
        let all = fixture.history().answers();
        let overlap = |a: &Answer, b: &Answer| a.order < b.order && b.start < a.end;
        assert!(all.iter().any(|a| all.iter().any(|b| overlap(a, b))), "{all:?}");
    }
}
