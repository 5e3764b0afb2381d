//! Idle sessions leave memory when others need the space, and no state is lost with them.
//!
//! | broken line | test that fails |
//! |---|---|
//! | `session/slot.rs` `read_snapshot`: without `touch` | `the_longest_unused…` |
//! | `supervisor/eviction.rs` `evict`: without `empty` | `a_session_that_a_handle_holds…` |
//! | `session/slot/evictable.rs` `leaves_as`: `Yes` in place of `OnceSuspect` | `a_rejected_token…` |
//! | `session/slot.rs` `reject`: without the branch for an unloaded session | `a_token_that_is_rejected…` |
//! | `session/from_record.rs` `with_credentials`: no `backoff` once its pause is over | `a_back_off_and_its_cause…` |
//! | `session/from_record.rs` `settled`: without `unclassified` | `answers_that_are_not_understood…` |
//!
//! No single broken line lets a session leave memory that has unsaved credentials: its unsaved
//! credentials, its claim and its state each keep it there.

use std::ops::Deref;

use futures_util::{FutureExt, StreamExt};
use session_warden::Session;
use session_warden::error::{ErrorKind, LostReason};
use session_warden::event::EventKind;
use session_warden::policy::Policy;
use session_warden::provider::FailureClass;
use session_warden::session::Invalidation;
use session_warden::store::Store;
use session_warden::testing::{Reply, ScriptedProvider, StoreCall};

use crate::fixtures::{ScriptedFixture, fixture_of};
use crate::support::{LIFE, SECOND, session, until};

/// How many sessions stay in memory.
const MOST: usize = 64;

/// A process that keeps at most [`MOST`] sessions in memory.
struct EvictionFixture(ScriptedFixture);

impl Deref for EvictionFixture {
    type Target = ScriptedFixture;

    fn deref(&self) -> &ScriptedFixture {
        &self.0
    }
}

impl EvictionFixture {
    async fn new() -> Self {
        let provider = ScriptedProvider::new().lifetime(LIFE);
        Self(fixture_of(provider, Policy { max_resident: MOST, ..Policy::default() }).await)
    }

    fn session(&self, number: usize) -> Session<ScriptedProvider> {
        session(&self.supervisor, &format!("device-{number:05}"))
    }

    async fn establish(&self, numbers: impl Iterator<Item = usize>) {
        for number in numbers {
            let _ = self.session(number).establish(()).await.unwrap();
        }
    }

    /// Fills the memory with other sessions, each used later than the present ones.
    async fn crowd(&self) {
        self.clock.advance(SECOND).await;
        self.establish(10_000..10_000 + 2 * MOST).await;
        self.settle().await;
    }

    /// Lets work outside of the runtime's tasks end.
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
    let fixture = EvictionFixture::new().await;
    fixture.establish(0..MOST).await;
    fixture.clock.advance(10 * SECOND).await;
    // These are used.
    for number in 0..MOST / 2 {
        fixture.session(number).permission_token().await.unwrap();
    }
    fixture.clock.advance(10 * SECOND).await;
    fixture.establish(1000..1000 + MOST / 4).await;
    fixture.settle().await;
    assert!(fixture.supervisor.snapshot().sessions <= MOST);
    let (exchanges, loads) = (fixture.supervisor.snapshot().exchanges, fixture.loads());
    for number in 0..MOST / 2 {
        assert!(fixture.session(number).try_permission_token().is_some(), "{number} was used");
    }
    assert_eq!(fixture.loads(), loads);
    for number in MOST / 2..MOST {
        let token =
            until(&fixture.clock, fixture.session(number).permission_token()).await.unwrap();
        assert_eq!((token.epoch(), token.generation()), (1, 1));
    }
    assert!(fixture.loads() > loads, "some had left");
    assert_eq!(
        fixture.supervisor.snapshot().exchanges,
        exchanges,
        "nothing is asked of the server"
    );
}

#[tokio::test]
async fn what_rests_and_is_saved_makes_room_and_the_rest_stays() {
    let fixture = EvictionFixture::new().await;
    fixture.establish(0..10).await;
    fixture.faults.fail_always(StoreCall::Commit, true);
    for number in 20..30 {
        let one = fixture.session(number);
        let _ = until(&fixture.clock, one.establish(())).await.unwrap();
    }
    assert_eq!(fixture.supervisor.snapshot().unsaved, 10);
    fixture.faults.fail_always(StoreCall::Commit, false);
    fixture.faults.fail_next(StoreCall::Commit, 10_000);
    for number in 100..100 + 3 * MOST {
        let _ =
            until(&fixture.clock, fixture.session(number).permission_token()).await.unwrap_err();
    }
    fixture.settle().await;
    assert_eq!(fixture.supervisor.snapshot().unsaved, 10, "the only copies of their tokens");
    for number in 20..30 {
        assert!(fixture.session(number).try_permission_token().is_some());
    }
}

#[tokio::test]
async fn a_session_that_a_handle_holds_is_emptied_and_read_again() {
    let fixture = EvictionFixture::new().await;
    fixture.establish(0..1).await;
    let held = fixture.session(0);
    // From now on the handle has the slot.
    assert!(held.try_permission_token().is_some());
    fixture.crowd().await;
    assert!(held.try_permission_token().is_none(), "it was emptied");
    let loads = fixture.loads();
    let token = until(&fixture.clock, held.permission_token()).await.unwrap();
    assert_eq!((token.generation(), fixture.loads() - loads), (1, 1));
    assert!(
        fixture.session(0).try_permission_token().is_some(),
        "there is one slot for all handles"
    );
}

#[tokio::test]
async fn a_rejected_token_is_not_served_after_its_session_left() {
    let fixture = EvictionFixture::new().await;
    fixture.establish(0..1).await;
    let token = fixture.session(0).permission_token().await.unwrap();
    assert_eq!(fixture.session(0).invalidate(&token), Invalidation::Refresh);
    fixture.crowd().await;
    let id = fixture.session(0).id().clone();
    let suspect = async || fixture.store.load(&id).await.unwrap().unwrap().record.suspect;
    for _ in 0..10_000 {
        if !suspect().await {
            fixture.clock.advance(SECOND / 10).await;
        }
    }
    assert!(suspect().await, "the record says it before the session leaves");
    // Now it can leave: it was used before those that come.
    fixture.clock.advance(SECOND).await;
    fixture.establish(20_000..20_000 + 2 * MOST).await;
    fixture.settle().await;
    let loads = fixture.loads();
    let next = until(&fixture.clock, fixture.session(0).permission_token()).await.unwrap();
    assert_eq!(next.generation(), 2);
    assert!(fixture.loads() > loads, "it had left");
}

#[tokio::test]
async fn a_token_that_is_rejected_while_its_session_is_not_in_memory_is_not_served_again() {
    let fixture = EvictionFixture::new().await;
    fixture.establish(0..2).await;
    let token = fixture.session(0).permission_token().await.unwrap();
    let newer = until(&fixture.clock, fixture.session(1).refresh()).await.unwrap();
    fixture.crowd().await;
    assert_eq!(fixture.session(0).invalidate(&token), Invalidation::Refresh);
    let next = until(&fixture.clock, fixture.session(0).permission_token()).await.unwrap();
    assert_eq!(next.generation(), 2);
    // A report of a token that is not the session's newest changes nothing.
    assert_eq!(fixture.session(1).invalidate(&token), Invalidation::Refresh);
    let same = until(&fixture.clock, fixture.session(1).permission_token()).await.unwrap();
    assert_eq!(same.generation(), newer.generation());
}

#[tokio::test]
async fn a_back_off_and_its_cause_outlast_the_memory() {
    let fixture = EvictionFixture::new().await;
    fixture.establish(0..1).await;
    fixture.clock.advance(LIFE + SECOND).await;
    for _ in 0..6 {
        fixture.script.refresh(Reply::FailFor(FailureClass::NotProcessed, 40 * SECOND));
        fixture.clock.advance(41 * SECOND).await;
        until(&fixture.clock, fixture.session(0).permission_token()).await.unwrap_err();
    }
    fixture.crowd().await;
    let (sent, loads) = (fixture.script.refreshes(), fixture.loads());
    let failed = until(&fixture.clock, fixture.session(0).permission_token()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::RetryLater);
    assert!(failed.retry_after().is_some_and(|left| left > 20 * SECOND), "{failed:?}");
    assert_eq!(fixture.script.refreshes(), sent, "nothing is sent meanwhile");
    assert!(fixture.loads() > loads, "it had left");
    // The next failure goes on from there, also where the pause was over before it left.
    fixture.clock.advance(41 * SECOND).await;
    fixture.establish(20_000..20_000 + 2 * MOST).await;
    fixture.settle().await;
    fixture.script.refresh(Reply::Fail(FailureClass::NotProcessed));
    let failed = until(&fixture.clock, fixture.session(0).permission_token()).await.unwrap_err();
    assert!(failed.retry_after().is_some_and(|left| left > 3 * SECOND), "{failed:?}");
}

#[tokio::test]
async fn answers_that_are_not_understood_are_counted_on_after_the_session_left() {
    let fixture = EvictionFixture::new().await;
    fixture.establish(0..1).await;
    let mut events = fixture.supervisor.subscribe();
    fixture.clock.advance(LIFE + SECOND).await;
    for tries in 0..3 {
        fixture.script.refresh(Reply::Fail(FailureClass::Unclassified));
        until(&fixture.clock, fixture.session(0).permission_token()).await.unwrap_err();
        if tries < 2 {
            fixture.crowd().await;
            fixture.clock.advance(40 * SECOND).await;
        }
    }
    let mut kinds = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        kinds.push(event.kind);
    }
    assert!(kinds.contains(&EventKind::Lost(LostReason::Unclassified)), "{kinds:?}");
}
