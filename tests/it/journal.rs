//! The journal keeps tokens that the store lacks, also when the process is killed.

use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use session_warden::ErrorKind;
use session_warden::error::ExchangeOutcome;
use session_warden::event::EventKind;
use session_warden::journal::Journal;
use session_warden::provider::Rotation;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::{ClaimId, Close, Holder, MemoryStore, Owner, Phase, Statement, Store};
use session_warden::testing::{
    CrashPoint, CrashPoints, Fate, Faults, ManualClock, Reply, Script, ScriptedProvider, StoreCall,
};
use tempfile::TempDir;

use crate::fixtures::{Fixture, kind};
use crate::secret_scan::{SECRET, files_with_secret};
use crate::support::{LIFE, SECOND, session, until};

/// A folder, a store and a clock, which outlive the processes that use them.
struct Machine {
    folder: TempDir,
    store: MemoryStore,
    clock: ManualClock,
}

/// A process on a machine.
struct Process {
    fixture: Fixture<ScriptedProvider>,
    script: Script,
    points: CrashPoints,
}

/// What a process has.
#[derive(Clone, Copy, Debug)]
struct With {
    /// How many entries its journal has; `None` if it has no journal.
    entries: Option<usize>,
    rotation: Rotation,
    key: u32,
    /// What its store fails from the start.
    fails: Option<StoreCall>,
}

const JOURNAL: With = With { entries: Some(4), rotation: Rotation::Strict, key: 1, fails: None };
const NO_JOURNAL: With = With { entries: None, ..JOURNAL };

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, store: MemoryStore::new(), clock: ManualClock::new() }
    }

    async fn process(&self, with: With) -> Process {
        let provider: ScriptedProvider =
            ScriptedProvider::new().lifetime(LIFE).rotation(with.rotation);
        let (script, points) = (provider.script(), CrashPoints::new());
        let set = |builder: session_warden::supervisor::SupervisorBuilder, faults: &Faults| {
            if let Some(call) = with.fails {
                faults.fail_always(call, true);
            }
            let keys = KeyRing::new(with.key, MasterKey::from([7; 32]));
            let builder = builder.key_ring(keys).crash_points(&points);
            match with.entries {
                Some(entries) => builder.journal(self.journal().max_entries(entries)),
                None => builder,
            }
        };
        let at = (&self.store, &self.clock);
        let fixture = Fixture::start_at_with("p", provider, at, set).await;
        Process { fixture, script, points }
    }

    fn journal(&self) -> Journal {
        Journal::open(self.folder.path()).unwrap()
    }

    /// The journal files.
    fn files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    /// Runs a process and kills it: its tasks end wherever they are.
    fn killed<F: Future<Output = ()>>(&self, run: impl FnOnce() -> F) {
        let others = self.files();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run());
        drop(runtime);
        // The lock is free when the thread of the journal has ended.
        for file in self.files().into_iter().filter(|file| !others.contains(file)) {
            while File::open(&file).is_ok_and(|file| file.try_lock().is_err()) {
                std::thread::yield_now();
            }
        }
    }

    /// A process that is killed when it has handed out a token that it could not save.
    fn killed_with_a_token(&self, with: With) {
        self.killed(async || {
            let process = self.process(with).await;
            process.hands_out_an_unsaved_token().await;
        });
    }

    /// Lets a process change the session, and starts another one, which replays the journal and
    /// reports that its tokens are superseded. Returns the phase of the record after that. The call of
    /// the replay fails at first, so that the process runs before the replay is done.
    fn reports_superseded_tokens(&self, call: StoreCall, change: impl AsyncFn(Process)) -> Phase {
        let mut phase = Phase::Vacant;
        self.killed(async || {
            change(self.process(NO_JOURNAL).await).await;
            let mut next = self.process(With { fails: Some(call), ..JOURNAL }).await;
            next.fixture.faults.fail_always(call, false);
            let replayed = async {
                while self.files().len() > 1 {
                    tokio::task::yield_now().await;
                }
            };
            until(&next.fixture.clock, replayed).await;
            phase = next.fixture.record().await.phase;
            // They are valid at the server, which only an event can say.
            assert!(next.fixture.news().contains(&EventKind::TokensSuperseded));
        });
        phase
    }

    /// A process that is killed when it has signed in again and could not save the tokens.
    fn killed_with_a_second_sign_in(&self) {
        self.killed(async || {
            let process = self.process(JOURNAL).await;
            let Fixture { session, faults, .. } = &process.fixture;
            let _ = session.establish(()).await.unwrap();
            faults.fail_always(StoreCall::Commit, true);
            let _ = session.establish(()).await.unwrap();
            assert_eq!(process.fixture.record().await.generation, 1, "the store lacks the second");
        });
    }

    async fn close(&self, process: Process) {
        let (claim, owner) = (ClaimId(1), Owner(1));
        let close = Close { generation: 1, claim, owner, lease: Duration::ZERO };
        let id = process.fixture.session.id().clone();
        self.store.apply(&id, Statement::Close(close)).await.unwrap();
    }
}

impl Process {
    /// The session's second token.
    async fn hands_out_an_unsaved_token(&self) {
        let Fixture { session, faults, clock, .. } = &self.fixture;
        let _ = session.establish(()).await.unwrap();
        clock.advance(LIFE).await;
        faults.fail_always(StoreCall::Commit, true);
        let token = session.permission_token().await.unwrap();
        assert_eq!((token.generation(), self.script.refreshes()), (2, 1));
        assert_eq!(self.fixture.record().await.generation, 1, "the store lacks it");
    }

    async fn generation(&self) -> u64 {
        self.fixture.token().await.unwrap().generation()
    }
}

#[test]
fn what_a_killed_process_could_not_save_the_next_one_saves_before_it_asks_the_server() {
    let machine = Machine::new();
    machine.killed_with_a_token(JOURNAL);
    assert_eq!(machine.files().len(), 1);
    machine.killed(async || {
        let next = machine.process(JOURNAL).await;
        let record = next.fixture.record().await;
        assert_eq!((record.generation, record.lease), (2, None), "it was saved at the start");
        assert_eq!((next.generation().await, next.script.refreshes()), (2, 0));
        assert_eq!(next.fixture.faults.count(StoreCall::Commit), 1);
        assert_eq!(machine.files().len(), 1, "the next one's own");
        // Its refresh token is good.
        next.fixture.clock.advance(LIFE).await;
        assert_eq!((next.generation().await, next.script.refreshes()), (3, 1));
    });
    assert_eq!(machine.files().len(), 1, "a killed process removes nothing");
}

#[test]
fn without_a_journal_the_token_is_lost() {
    let machine = Machine::new();
    machine.killed_with_a_token(NO_JOURNAL);
    machine.killed(async || {
        let next = machine.process(JOURNAL).await;
        assert_eq!(next.fixture.record().await.generation, 1);
    });
}

#[test]
fn the_session_of_a_journal_is_held_back_until_the_hold_is_over() {
    let machine = Machine::new();
    machine.killed_with_a_token(JOURNAL);
    machine.killed(async || {
        let other = machine.process(NO_JOURNAL).await;
        let lease = other.fixture.record().await.lease.unwrap();
        assert_eq!((lease.holder, lease.journal), (Holder::Alive, true));
        // The claim is as old as the last renewal: 20 s of the lease, and 120 s.
        other.fixture.clock.advance(139 * SECOND).await;
        assert_eq!(kind(other.fixture.token().await), ErrorKind::RetryLater);
        assert_eq!(other.script.refreshes(), 0);
        other.fixture.clock.advance(2 * SECOND).await;
        assert_eq!((other.generation().await, other.script.refreshes()), (2, 1));
    });
}

#[test]
fn the_hold_ends_when_another_process_has_replayed_the_journal() {
    let machine = Machine::new();
    machine.killed_with_a_token(JOURNAL);
    machine.killed(async || {
        let other = machine.process(NO_JOURNAL).await;
        other.fixture.clock.advance(60 * SECOND).await;
        assert_eq!(kind(other.fixture.token().await), ErrorKind::RetryLater);
        let next = machine.process(JOURNAL).await;
        assert_eq!((next.generation().await, next.script.refreshes()), (2, 0));
        other.fixture.clock.advance(SECOND).await;
        assert_eq!((other.generation().await, other.script.refreshes()), (2, 0));
    });
}

/// The journal shows that its process has ended, and that there was no answer.
#[test]
fn a_claim_without_an_entry_is_free_soon_after_the_journal_was_replayed() {
    let machine = Machine::new();
    machine.killed(async || {
        let process = machine.process(JOURNAL).await;
        let _ = process.fixture.session.establish(()).await.unwrap();
        process.fixture.clock.advance(LIFE).await;
        process.script.refresh(Reply::Hang);
        let asked = process.fixture.session.clone();
        drop(tokio::spawn(async move { asked.permission_token().await.map(drop) }));
        process.script.held(1).await;
    });
    machine.killed(async || {
        let next = machine.process(JOURNAL).await;
        let lease = next.fixture.record().await.lease.unwrap();
        assert_eq!((lease.holder, lease.journal), (Holder::Dead, false));
        // Twice the time in which a request is sent.
        next.fixture.clock.advance(19 * SECOND).await;
        assert_eq!(kind(next.fixture.token().await), ErrorKind::RetryLater);
        next.fixture.clock.advance(2 * SECOND).await;
        assert_eq!((next.generation().await, next.script.refreshes()), (2, 1));
    });
}

#[test]
fn at_a_server_with_a_grace_nobody_waits_for_a_journal() {
    let machine = Machine::new();
    let rotation = Rotation::Idempotent(60 * SECOND);
    machine.killed_with_a_token(With { rotation, ..JOURNAL });
    machine.killed(async || {
        let other = machine.process(With { rotation, ..NO_JOURNAL }).await;
        other.fixture.clock.advance(21 * SECOND).await;
        assert_eq!((other.generation().await, other.script.refreshes()), (2, 1));
        // The journal is replayed too late, and changes nothing.
        let next = machine.process(With { rotation, ..JOURNAL }).await;
        assert_eq!((next.generation().await, next.script.refreshes()), (2, 0));
        assert_eq!(machine.files().len(), 1, "what counts no more is removed");
    });
}

#[test]
fn a_process_that_runs_already_replays_the_journal_of_one_that_dies_beside_it() {
    let machine = Machine::new();
    let beside_runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let beside = beside_runtime.block_on(machine.process(JOURNAL));
    machine.killed(async || {
        let process = machine.process(JOURNAL).await;
        let _ = process.fixture.session.establish(()).await.unwrap();
    });
    // It has the first token in memory.
    assert_eq!(beside_runtime.block_on(beside.generation()), 1);
    machine.killed(async || {
        let process = machine.process(JOURNAL).await;
        process.fixture.faults.fail_always(StoreCall::Commit, true);
        assert_eq!(process.fixture.session.refresh().await.unwrap().generation(), 2);
    });
    beside_runtime.block_on(async {
        beside.fixture.clock.advance(30 * SECOND).await;
        let replayed = async {
            while beside.fixture.record().await.generation == 1 {
                tokio::task::yield_now().await;
            }
        };
        until(&beside.fixture.clock, replayed).await;
        let token = until(&beside.fixture.clock, async {
            loop {
                let token = beside.fixture.session.permission_token().await.unwrap();
                if token.generation() == 2 {
                    return token;
                }
            }
        });
        assert_eq!((token.await.generation(), beside.script.refreshes()), (2, 0));
    });
}

#[test]
fn a_store_that_is_away_at_the_start_gets_the_tokens_when_it_is_back() {
    let machine = Machine::new();
    machine.killed_with_a_token(JOURNAL);
    machine.killed(async || {
        let next = machine.process(With { fails: Some(StoreCall::Commit), ..JOURNAL }).await;
        assert_eq!(next.fixture.record().await.generation, 1);
        assert_eq!(kind(next.fixture.token().await), ErrorKind::RetryLater);
        next.fixture.faults.fail_always(StoreCall::Commit, false);
        let saved = async {
            while next.fixture.record().await.generation == 1 {
                tokio::task::yield_now().await;
            }
        };
        until(&next.fixture.clock, saved).await;
        next.fixture.clock.advance(SECOND).await;
        assert_eq!((next.generation().await, next.script.refreshes()), (2, 0));
    });
}

#[test]
fn an_entry_whose_key_is_missing_stays_until_the_key_is_back() {
    let machine = Machine::new();
    machine.killed_with_a_token(JOURNAL);
    machine.killed(async || {
        let next = machine.process(With { key: 2, ..JOURNAL }).await;
        assert_eq!(next.fixture.record().await.generation, 1);
        let lease = next.fixture.record().await.lease.unwrap();
        assert!(lease.journal, "nobody says that it was replayed");
        assert_eq!(machine.files().len(), 2);
    });
    machine.killed(async || {
        let next = machine.process(JOURNAL).await;
        assert_eq!((next.generation().await, next.script.refreshes()), (2, 0));
    });
}

#[test]
fn tokens_of_a_session_that_was_closed_meanwhile_stay_out_of_the_store() {
    let machine = Machine::new();
    machine.killed_with_a_token(JOURNAL);
    let close = async |process| machine.close(process).await;
    assert_eq!(machine.reports_superseded_tokens(StoreCall::Commit, close), Phase::Closed);
}

#[test]
fn the_tokens_of_a_sign_in_stay_out_of_a_session_that_was_closed_meanwhile() {
    let machine = Machine::new();
    machine.killed_with_a_second_sign_in();
    let close = async |process| machine.close(process).await;
    assert_eq!(machine.reports_superseded_tokens(StoreCall::Load, close), Phase::Closed);
}

#[test]
fn the_tokens_of_a_sign_in_after_which_another_process_signed_in_are_reported() {
    let machine = Machine::new();
    machine.killed_with_a_second_sign_in();
    let sign_in = async |process: Process| {
        let _ = process.fixture.until(process.fixture.session.establish(())).await.unwrap();
    };
    assert_eq!(machine.reports_superseded_tokens(StoreCall::Load, sign_in), Phase::Active);
}

#[tokio::test]
async fn without_a_free_entry_nothing_is_sent_and_valid_tokens_are_served() {
    let machine = Machine::new();
    let process = machine.process(With { entries: Some(1), ..JOURNAL }).await;
    let Fixture { supervisor, session: first, faults, .. } = &process.fixture;
    let second = session(supervisor, "second");
    for session in [first, &second] {
        let _ = session.establish(()).await.unwrap();
    }
    faults.fail_always(StoreCall::Commit, true);
    assert_eq!(first.refresh().await.unwrap().generation(), 2);
    // The entry of the first session is in use until the store has its token.
    let claims = faults.count(StoreCall::Claim);
    let refused = second.refresh().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::RetryLater);
    assert_eq!(refused.outcome(), Some(ExchangeOutcome::NotSent));
    assert!(refused.to_string().contains("journal"), "{refused}");
    assert_eq!((faults.count(StoreCall::Claim), process.script.refreshes()), (claims, 1));
    assert_eq!(second.permission_token().await.unwrap().generation(), 1);
    faults.fail_always(StoreCall::Commit, false);
    process.fixture.clock.advance(30 * SECOND).await;
    assert_eq!(second.refresh().await.unwrap().generation(), 2);
}

#[tokio::test]
async fn an_exchange_that_panics_after_its_entry_was_written_has_its_tokens_saved() {
    let machine = Machine::new();
    let process = machine.process(JOURNAL).await;
    let session = &process.fixture.session;
    let _ = session.establish(()).await.unwrap();
    process.points.arm(CrashPoint::Journaled, Fate::Panic);
    assert_eq!(session.refresh().await.unwrap().generation(), 2);
    assert_eq!(process.fixture.supervisor.snapshot().journaled, 1);
    process.fixture.clock.advance(30 * SECOND).await;
    assert_eq!((process.fixture.record().await.generation, process.script.refreshes()), (2, 1));
    assert_eq!(process.fixture.supervisor.snapshot().journaled, 0);
}

#[tokio::test]
async fn no_token_is_in_clear_in_the_journal() {
    let machine = Machine::new();
    let process = machine.process(JOURNAL).await;
    let Fixture { supervisor, session, faults, .. } = &process.fixture;
    let _ = session.establish(()).await.unwrap();
    process.script.refresh(Reply::IssueAs(format!("{SECRET}0123456789"), Some(LIFE)));
    faults.fail_always(StoreCall::Commit, true);
    assert!(session.refresh().await.unwrap().expose_secret().contains(SECRET));
    assert_eq!(supervisor.snapshot().journaled, 1);
    assert_eq!(files_with_secret(machine.folder.path()), [""; 0]);
}

#[tokio::test]
async fn tokens_that_are_larger_than_an_entry_are_saved_without_the_journal() {
    let machine = Machine::new();
    let process = machine.process(JOURNAL).await;
    let Fixture { supervisor, session, faults, .. } = &process.fixture;
    let _ = session.establish(()).await.unwrap();
    process.script.refresh(Reply::IssueAs("a".repeat(100_000), Some(LIFE)));
    assert_eq!(session.refresh().await.unwrap().generation(), 2);
    assert_eq!(process.fixture.record().await.generation, 2);
    process.script.refresh(Reply::IssueAs("b".repeat(100_000), Some(LIFE)));
    faults.fail_always(StoreCall::Commit, true);
    assert_eq!(session.refresh().await.unwrap().generation(), 3);
    let stopped = supervisor.shutdown(SECOND);
    let report = until(&process.fixture.clock, stopped).await;
    assert_eq!((report.unsaved.len(), report.journaled), (1, 0));
}

#[tokio::test]
async fn a_shutdown_says_how_many_tokens_it_leaves_in_the_journal() {
    let machine = Machine::new();
    let process = machine.process(JOURNAL).await;
    process.hands_out_an_unsaved_token().await;
    let report = until(&process.fixture.clock, process.fixture.supervisor.shutdown(SECOND)).await;
    assert_eq!((report.unsaved.len(), report.journaled, report.is_clean()), (0, 1, false));
    let lease = process.fixture.record().await.lease.unwrap();
    assert_eq!((lease.holder, lease.journal), (Holder::Alive, true), "others wait for its journal");
}

#[tokio::test]
async fn a_supervisor_that_saved_everything_leaves_no_file_and_nothing_to_wait_for() {
    let machine = Machine::new();
    let process = machine.process(JOURNAL).await;
    let _ = process.fixture.session.establish(()).await.unwrap();
    let _ = process.fixture.session.refresh().await.unwrap();
    let report = process.fixture.supervisor.shutdown(SECOND).await;
    assert!(report.is_clean());
    drop(process);
    while !machine.files().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_journal_needs_keys_that_outlive_the_process() {
    let machine = Machine::new();
    let builder = session_warden::Supervisor::builder().journal(machine.journal());
    let refused = builder.start().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
}
