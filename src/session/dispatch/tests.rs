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

/// Its actors drop what they are to begin, so that callers always have to ask again, or leave it
/// lying.
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

/// A grant for a session that is not there, which has to be begun by an actor.
fn grant() -> ErasedValue {
    Box::new(())
}

/// On a runtime of one thread, on which a caller that spins would keep the clock from ending it.
#[tokio::test]
async fn a_caller_who_is_told_to_ask_again_and_again_lets_others_run_and_ends_by_its_deadline() {
    let (dispatcher, slot, host) = bench(Arc::new(SystemClock::new()), WAIT, false);
    let asking = dispatcher.token_newer_than(&slot, 0, Some(&grant));
    let mut turns = 0_u64;
    let others = async {
        loop {
            tokio::task::yield_now().await;
            turns += 1;
        }
    };
    let error = tokio::select! {
        biased;
        told = asking => told.unwrap_err(),
        () = others => unreachable!(),
    };
    assert_eq!(error.kind(), ErrorKind::RetryLater);
    let asked = host.asked.load(Ordering::SeqCst);
    assert!((2..=30).contains(&asked), "{asked} times in {WAIT:?}");
    assert!(turns > asked, "others had {turns} turns");
}

#[tokio::test]
async fn a_caller_reads_the_record_before_anything_is_asked_of_an_actor() {
    let (dispatcher, slot, host) = bench(Arc::new(ManualClock::new()), WAIT, false);
    let error = dispatcher.token_newer_than(&slot, 0, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    assert!(!slot.with_state(State::is_unloaded));
    assert_eq!(host.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_no_actor_begins_is_given_up_and_asked_for_again_and_does_not_begin_later() {
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
        assert!(slot.is_busy(), "it is another's turn");
        host.left.lock().clear();
        assert!(!slot.is_busy(), "what is dropped is given back at once");
    };
    tokio::select! {
        biased;
        told = caller => panic!("{told:?}"),
        () = world => {}
    }
}
