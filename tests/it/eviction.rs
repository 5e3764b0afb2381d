//! Idle sessions leave memory when others need the room, and nothing is forgotten with them.
//!
//! | broken line | test that fails |
//! |---|---|
//! | `slot.rs` `glance`: without `touch` | `the_longest_unused…` |
//! | `supervisor/eviction.rs` `evict`: without `empty` | `a_session_that_a_handle_holds…` |
//! | `slot/eviction.rs` `leaves`: `Yes` in place of `OnceSuspect` | `a_rejected_token…` |
//! | `slot.rs` `reject`: without the branch for what is unread | `a_token_that_is_rejected…` |
//! | `restore.rs` `with_credentials`: no trouble once its pause is over | `a_back_off_and_its_cause…` |
//! | `restore.rs` `settled`: without `unclassified` | `answers_that_are_not_understood…` |
//!
//! No single broken line lets a session leave whose tokens are not saved: its debt, its claim and
//! its state each keep it.

use futures_util::{FutureExt, StreamExt};
use session_warden::error::{ErrorKind, LostReason};
use session_warden::event::EventKind;
use session_warden::policy::Policy;
use session_warden::provider::FailureClass;
use session_warden::session::Invalidation;
use session_warden::store::{MemoryStore, Store};
use session_warden::testing::{
    Faults, FaultyStore, ManualClock, Reply, Script, ScriptedProvider, StoreCall,
};
use session_warden::{Session, Supervisor};

use crate::support::{LIFE, SECOND, session, until};

/// How many sessions stay in memory.
const MOST: usize = 64;

struct Bench {
    clock: ManualClock,
    store: MemoryStore,
    faults: Faults,
    script: Script,
    supervisor: Supervisor,
}

impl Bench {
    async fn new() -> Self {
        let (clock, store) = (ManualClock::new(), MemoryStore::new());
        let faulty = FaultyStore::new(store.clone());
        let provider = ScriptedProvider::new().lifetime(LIFE);
        let (faults, script) = (faulty.faults(), provider.script());
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .store(faulty)
            .policy(Policy { max_resident: MOST, ..Policy::default() })
            .provider("p", provider)
            .start()
            .await
            .unwrap();
        Self { clock, store, faults, script, supervisor }
    }

    fn session(&self, number: usize) -> Session<ScriptedProvider> {
        session(&self.supervisor, &format!("device-{number:05}"))
    }

    async fn establish(&self, numbers: impl Iterator<Item = usize>) {
        for number in numbers {
            let _ = self.session(number).establish(()).await.unwrap();
        }
    }

    /// Fills the memory with others, of which each is used later than what is there now.
    async fn crowd(&self) {
        self.clock.advance(SECOND).await;
        self.establish(10_000..10_000 + 2 * MOST).await;
        self.settle().await;
    }

    /// Lets what is apart from the runtime's own tasks come to its end.
    async fn settle(&self) {
        for _ in 0..10_000 {
            if self.supervisor.snapshot().sessions <= MOST {
                break;
            }
            self.clock.advance(SECOND / 10).await;
        }
    }

    fn loads(&self) -> u64 {
        self.faults.count(StoreCall::Load)
    }
}

#[tokio::test]
async fn the_longest_unused_sessions_leave_and_come_back_with_the_next_call() {
    let bench = Bench::new().await;
    bench.establish(0..MOST).await;
    bench.clock.advance(10 * SECOND).await;
    // These are used.
    for number in 0..MOST / 2 {
        bench.session(number).permission_token().await.unwrap();
    }
    bench.clock.advance(10 * SECOND).await;
    bench.establish(1000..1000 + MOST / 4).await;
    bench.settle().await;
    assert!(bench.supervisor.snapshot().sessions <= MOST);
    let (exchanges, loads) = (bench.supervisor.snapshot().exchanges, bench.loads());
    for number in 0..MOST / 2 {
        assert!(bench.session(number).try_permission_token().is_some(), "{number} was used");
    }
    assert_eq!(bench.loads(), loads);
    for number in MOST / 2..MOST {
        let token = until(&bench.clock, bench.session(number).permission_token()).await.unwrap();
        assert_eq!((token.epoch(), token.generation()), (1, 1));
    }
    assert!(bench.loads() > loads, "some had left");
    assert_eq!(bench.supervisor.snapshot().exchanges, exchanges, "nothing is asked of the server");
}

#[tokio::test]
async fn what_rests_and_is_saved_makes_room_and_the_rest_stays() {
    let bench = Bench::new().await;
    bench.establish(0..10).await;
    bench.faults.fail_always(StoreCall::Commit, true);
    for number in 20..30 {
        let one = bench.session(number);
        let _ = until(&bench.clock, one.establish(())).await.unwrap();
    }
    assert_eq!(bench.supervisor.snapshot().unsaved, 10);
    bench.faults.fail_always(StoreCall::Commit, false);
    bench.faults.fail_next(StoreCall::Commit, 10_000);
    for number in 100..100 + 3 * MOST {
        let _ = until(&bench.clock, bench.session(number).permission_token()).await.unwrap_err();
    }
    bench.settle().await;
    assert_eq!(bench.supervisor.snapshot().unsaved, 10, "the only copies of their tokens");
    for number in 20..30 {
        assert!(bench.session(number).try_permission_token().is_some());
    }
}

#[tokio::test]
async fn a_session_that_a_handle_holds_is_emptied_and_read_again() {
    let bench = Bench::new().await;
    bench.establish(0..1).await;
    let held = bench.session(0);
    // From now on the handle has the slot.
    assert!(held.try_permission_token().is_some());
    bench.crowd().await;
    assert!(held.try_permission_token().is_none(), "it was emptied");
    let loads = bench.loads();
    let token = until(&bench.clock, held.permission_token()).await.unwrap();
    assert_eq!((token.generation(), bench.loads() - loads), (1, 1));
    assert!(bench.session(0).try_permission_token().is_some(), "there is one slot for all handles");
}

#[tokio::test]
async fn a_rejected_token_is_not_served_after_its_session_left() {
    let bench = Bench::new().await;
    bench.establish(0..1).await;
    let token = bench.session(0).permission_token().await.unwrap();
    assert_eq!(bench.session(0).invalidate(&token), Invalidation::Refresh);
    bench.crowd().await;
    let id = bench.session(0).id().clone();
    let suspect = async || bench.store.load(&id).await.unwrap().unwrap().record.suspect;
    for _ in 0..10_000 {
        if !suspect().await {
            bench.clock.advance(SECOND / 10).await;
        }
    }
    assert!(suspect().await, "the record says it before the session leaves");
    // Now it can leave.
    bench.establish(20_000..20_000 + 2 * MOST).await;
    bench.settle().await;
    let loads = bench.loads();
    let next = until(&bench.clock, bench.session(0).permission_token()).await.unwrap();
    assert_eq!(next.generation(), 2);
    assert!(bench.loads() > loads, "it had left");
}

#[tokio::test]
async fn a_token_that_is_rejected_while_its_session_is_not_in_memory_is_not_served_again() {
    let bench = Bench::new().await;
    bench.establish(0..2).await;
    let token = bench.session(0).permission_token().await.unwrap();
    let newer = until(&bench.clock, bench.session(1).refresh()).await.unwrap();
    bench.crowd().await;
    assert_eq!(bench.session(0).invalidate(&token), Invalidation::Refresh);
    let next = until(&bench.clock, bench.session(0).permission_token()).await.unwrap();
    assert_eq!(next.generation(), 2);
    // A report of a token that is not the session's newest changes nothing.
    assert_eq!(bench.session(1).invalidate(&token), Invalidation::Refresh);
    let same = until(&bench.clock, bench.session(1).permission_token()).await.unwrap();
    assert_eq!(same.generation(), newer.generation());
}

#[tokio::test]
async fn a_back_off_and_its_cause_outlast_the_memory() {
    let bench = Bench::new().await;
    bench.establish(0..1).await;
    bench.clock.advance(LIFE + SECOND).await;
    for _ in 0..6 {
        bench.script.refresh(Reply::FailFor(FailureClass::NotProcessed, 40 * SECOND));
        bench.clock.advance(41 * SECOND).await;
        until(&bench.clock, bench.session(0).permission_token()).await.unwrap_err();
    }
    bench.crowd().await;
    let (sent, loads) = (bench.script.refreshes(), bench.loads());
    let failed = until(&bench.clock, bench.session(0).permission_token()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::RetryLater);
    assert!(failed.retry_after().is_some_and(|left| left > 20 * SECOND), "{failed:?}");
    assert_eq!(bench.script.refreshes(), sent, "nothing is sent meanwhile");
    assert!(bench.loads() > loads, "it had left");
    // The next failure goes on from there, also where the pause was over before it left.
    bench.clock.advance(41 * SECOND).await;
    bench.establish(20_000..20_000 + 2 * MOST).await;
    bench.settle().await;
    bench.script.refresh(Reply::Fail(FailureClass::NotProcessed));
    let failed = until(&bench.clock, bench.session(0).permission_token()).await.unwrap_err();
    assert!(failed.retry_after().is_some_and(|left| left > 3 * SECOND), "{failed:?}");
}

#[tokio::test]
async fn answers_that_are_not_understood_are_counted_on_after_the_session_left() {
    let bench = Bench::new().await;
    bench.establish(0..1).await;
    let mut events = bench.supervisor.subscribe();
    bench.clock.advance(LIFE + SECOND).await;
    for tries in 0..3 {
        bench.script.refresh(Reply::Fail(FailureClass::Unclassified));
        until(&bench.clock, bench.session(0).permission_token()).await.unwrap_err();
        if tries < 2 {
            bench.crowd().await;
            bench.clock.advance(40 * SECOND).await;
        }
    }
    let mut kinds = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        kinds.push(event.kind);
    }
    assert!(kinds.contains(&EventKind::Lost(LostReason::Unclassified)), "{kinds:?}");
}
