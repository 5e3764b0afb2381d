//! Records of ended sessions, which a supervisor removes after `Policy::keep_ended`.

use std::time::Duration;

use async_trait::async_trait;
use session_warden::Supervisor;
use session_warden::error::LostReason;
use session_warden::key::{ProviderName, SessionId};
use session_warden::policy::{ENDED_EVERY, ENDED_PAGE, ENDED_PAUSE, Policy};
use session_warden::session::State;
use session_warden::store::{
    Done, Due, DuePage, Intent, Listed, Lose, MemoryStore, Outcome, RecordFilter, Statement, Store,
    StoreError, Stored,
};
use session_warden::testing::{FaultyStore, ManualClock, ScriptedProvider, StoreCall};

use crate::fixtures::Fixture;
use crate::store_statements::{done, exchange, id};
use crate::support::SECOND;

/// A short time, so that the test is short.
const KEEP: Duration = Duration::from_secs(3 * 3600);

type Scripted = Fixture<ScriptedProvider>;

async fn start(store: &MemoryStore, clock: &ManualClock) -> Scripted {
    let policy = Policy { keep_ended: KEEP, ..Policy::default() };
    let provider = ScriptedProvider::new();
    Fixture::start_at_with("p", provider, (store, clock), |builder, _| builder.policy(policy)).await
}

/// Lets the passes of so much time run.
async fn pass(clock: &ManualClock, time: Duration) {
    clock.advance(time).await;
    for _ in 0..8 {
        clock.advance(ENDED_PAUSE).await;
    }
}

#[tokio::test]
async fn an_ended_session_leaves_the_store_and_memory_after_the_time_that_it_is_kept() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let fixture = start(&store, &clock).await;
    let _ = fixture.until(fixture.session.establish(())).await.unwrap();
    let _ = fixture.until(fixture.session.revoke()).await.unwrap();
    let ended = fixture.record().await;
    assert!(ended.ended_at.is_some(), "{ended:?}");
    pass(&clock, KEEP - ENDED_EVERY).await;
    assert_eq!((store.len(), fixture.state().await), (1, State::Closed));
    pass(&clock, 2 * ENDED_EVERY).await;
    assert!(store.is_empty());
    assert_ne!(fixture.state().await, State::Closed, "the handle shows what the store has");
    let _ = fixture.until(fixture.session.establish(())).await.unwrap();
    let record = fixture.record().await;
    assert!(record.epoch > ended.epoch && record.generation > ended.generation, "{record:?}");
}

#[tokio::test]
async fn a_session_that_is_active_stays_however_old_it_is() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let fixture = start(&store, &clock).await;
    let _ = fixture.until(fixture.session.establish(())).await.unwrap();
    pass(&clock, 4 * KEEP).await;
    pass(&clock, 2 * ENDED_EVERY).await;
    assert_eq!((store.len(), fixture.record().await.ended_at), (1, None));
}

#[tokio::test]
async fn more_than_a_page_goes_in_pages_with_pauses_although_the_store_fails_in_between() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let fixture = start(&store, &clock).await;
    for number in 0..=ENDED_PAGE {
        let id = id(&format!("device-{number}"));
        let Done { epoch, generation, .. } =
            exchange(&store, &id, Intent::Establish, "x").await.unwrap();
        let lose = Lose { epoch, generation, reason: LostReason::Revoked };
        done(store.apply(&id, Statement::Lose(lose)).await);
    }
    clock.advance(KEEP).await;
    let asked = fixture.faults.count(StoreCall::EndedPage);
    fixture.faults.hold(StoreCall::EndedPage);
    fixture.faults.fail_next(StoreCall::EndedPage, 1);
    // In steps that are shorter than the time that the store has for its answer.
    while fixture.faults.count(StoreCall::EndedPage) == asked {
        clock.advance(4 * SECOND).await;
    }
    assert_eq!(store.len(), ENDED_PAGE + 1);
    fixture.faults.release(StoreCall::EndedPage);
    clock.advance(Duration::ZERO).await;
    assert_eq!(store.len(), ENDED_PAGE + 1, "the page failed");
    clock.advance(Policy::default().store_timeout).await;
    clock.advance(ENDED_PAUSE).await;
    assert_eq!(store.len(), 1, "a page is gone");
    clock.advance(ENDED_PAUSE).await;
    assert!(store.is_empty());
    let asked = fixture.faults.count(StoreCall::EndedPage);
    clock.advance(ENDED_EVERY - SECOND).await;
    assert_eq!(fixture.faults.count(StoreCall::EndedPage), asked, "nothing is asked meanwhile");
}

#[tokio::test]
async fn several_supervisors_on_one_store_remove_ended_sessions_once_and_all_learn_of_it() {
    let (store, clock) = (MemoryStore::new(), ManualClock::new());
    let (one, other) = (start(&store, &clock).await, start(&store, &clock).await);
    let _ = one.until(one.session.establish(())).await.unwrap();
    let _ = one.until(one.session.revoke()).await.unwrap();
    assert_eq!(other.state().await, State::Closed);
    pass(&clock, KEEP + ENDED_EVERY).await;
    assert!(store.is_empty());
    for fixture in [&one, &other] {
        assert_ne!(fixture.state().await, State::Closed);
        assert!(fixture.faults.count(StoreCall::EndedPage) > 0);
    }
}

/// A store that keeps ended sessions, as the trait does by default.
struct Keeping(MemoryStore);

#[async_trait]
impl Store for Keeping {
    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        self.0.load(id).await
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        self.0.apply(id, statement).await
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.0.due(provider, within, after, limit).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.0.list(filter, after, limit).await
    }
}

#[tokio::test]
async fn a_store_that_keeps_ended_sessions_is_asked_once() {
    let clock = ManualClock::new();
    let store = FaultyStore::new(Keeping(MemoryStore::new()));
    let faults = store.faults();
    let _supervisor =
        Supervisor::builder().clock(clock.clone()).store(store).start().await.unwrap();
    for _ in 0..4 {
        pass(&clock, ENDED_EVERY).await;
    }
    assert_eq!(faults.count(StoreCall::EndedPage), 1);
}

#[tokio::test]
async fn a_policy_that_keeps_ended_sessions_for_less_than_an_hour_is_refused() {
    for (keep_ended, fits) in [(ENDED_EVERY - SECOND, false), (ENDED_EVERY, true)] {
        let policy = Policy { keep_ended, ..Policy::default() };
        assert_eq!(Supervisor::builder().policy(policy).start().await.is_ok(), fits);
    }
}
