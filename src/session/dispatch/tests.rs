#![cfg(feature = "testing")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::policy::Policy;
use crate::provider::Rotation;
use crate::session::machine::State;
use crate::session::mailbox::Mailbox;
use crate::session::message::Work;
use crate::session::tests::core_and_slot;
use crate::testing::ManualClock;

const WAIT: Duration = Duration::from_millis(200);

/// Drops every start, so that callers must always ask again, or keeps it without running it.
#[derive(Default)]
struct Insistent {
    asked: AtomicU64,
    leaves: bool,
    left: Mutex<Vec<Work>>,
}

impl Mailbox for Insistent {
    fn send(&self, _: &Arc<Slot>, message: Message) -> bool {
        if let Message::Start(work) = message {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.leaves {
                self.left.lock().push(work);
            }
        }
        true
    }

    fn connected(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn bench(
    clock: Arc<dyn Clock>,
    wait: Duration,
    leaves: bool,
) -> (Dispatcher, Arc<Slot>, Arc<Insistent>) {
    let host = Arc::new(Insistent { leaves, ..Insistent::default() });
    let asked: Arc<dyn Mailbox> = Arc::<Insistent>::clone(&host);
    let policy = Policy { call_timeout: wait, ..Policy::default() };
    let (context, slot) = core_and_slot(clock, asked, (policy, Rotation::Strict));
    (Dispatcher::new(context, Box::new(())), slot, host)
}

/// A grant for a session that does not exist: an actor must begin its exchange.
fn grant() -> ErasedValue {
    Box::new(())
}

/// Runs on a runtime of one thread, where a busy loop would keep the clock from ending the caller.
#[tokio::test]
async fn a_caller_that_must_always_ask_again_lets_other_tasks_run_and_ends_at_its_deadline() {
    let (dispatcher, slot, host) = bench(Arc::new(SystemClock::new()), WAIT, false);
    let asking = dispatcher.token_newer_than(&slot, 0, Some(&grant));
    let mut rounds = 0_u64;
    let others = async {
        loop {
            tokio::task::yield_now().await;
            rounds += 1;
        }
    };
    let error = tokio::select! {
        biased;
        result = asking => result.unwrap_err(),
        () = others => unreachable!(),
    };
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    let asked = host.asked.load(Ordering::SeqCst);
    assert!((2..=30).contains(&asked), "{asked} times in {WAIT:?}");
    assert!(rounds > asked, "others had {rounds} rounds");
}

#[tokio::test]
async fn a_caller_loads_the_record_before_it_sends_an_actor_a_message() {
    let (dispatcher, slot, host) = bench(Arc::new(ManualClock::new()), WAIT, false);
    let error = dispatcher.token_newer_than(&slot, 0, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    assert!(!slot.with_state(State::is_unloaded));
    assert_eq!(host.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_start_that_no_actor_begins_is_taken_back_and_requested_again_and_does_not_begin_later() {
    let clock = ManualClock::new();
    let hour = Duration::from_secs(3600);
    let (dispatcher, slot, host) = bench(Arc::new(clock.clone()), hour, true);
    let caller = async { dispatcher.token_newer_than(&slot, 0, Some(&grant)).await.map(drop) };
    let world = async {
        for round in 1..=3 {
            clock.advance(Duration::from_secs(1)).await;
            assert!(slot.is_busy());
            assert_eq!(host.asked.load(Ordering::SeqCst), round);
            clock.advance(REPLY_WAIT).await;
        }
        let first = host.left.lock().remove(0);
        first.await;
        assert!(slot.is_busy(), "another exchange runs");
        host.left.lock().clear();
        assert!(!slot.is_busy(), "a dropped start is taken back at once");
    };
    tokio::select! {
        biased;
        result = caller => panic!("{result:?}"),
        () = world => {}
    }
}
