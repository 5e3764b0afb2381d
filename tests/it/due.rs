//! Due sessions: callers notice them, clocks that differ, and many at once.

use std::time::Duration;

use session_warden::Supervisor;
use session_warden::clock::{Clock, Coarse, Now, Sleep};
use session_warden::policy::CHECKS_AT_ONCE;
use session_warden::session::Adopt;
use session_warden::store::MemoryStore;
use session_warden::testing::{ManualClock, ScriptedProvider, StoreCall};
use session_warden::token::Tokens;

use crate::fixtures::ScriptedFixture;
use crate::support::{SECOND, session};

/// A clock whose coarse reading is ahead, as that of the operating system is.
struct Ahead(ManualClock);

impl Clock for Ahead {
    fn now(&self) -> Now {
        self.0.now()
    }

    fn coarse(&self) -> Coarse {
        let coarse = self.0.coarse();
        Coarse::new(coarse.wall, coarse.monotonic + Duration::from_millis(25))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration)
    }
}

#[tokio::test]
async fn readers_who_see_a_due_token_early_have_it_refreshed_when_it_is_due() {
    let clock = ManualClock::new();
    let provider = ScriptedProvider::new().lifetime(20 * SECOND);
    let script = provider.script();
    let supervisor = Supervisor::builder()
        .clock(Ahead(clock.clone()))
        .provider("p", provider)
        .start()
        .await
        .unwrap();
    let session = session(&supervisor, "device");
    let _ = session.establish(()).await.unwrap();
    // Due at half of its life.
    clock.advance(Duration::from_millis(9_900)).await;
    for _ in 0..40 {
        assert!(session.try_permission_token().is_some());
        clock.advance(Duration::from_millis(5)).await;
    }
    assert_eq!(script.refreshes(), 1);
}

#[tokio::test]
async fn a_caller_is_served_before_all_who_are_due_at_a_start_are_looked_at() {
    let former = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    let due = former.clock.now().wall + 1000 * SECOND;
    for number in 0..2_000 {
        let session = session(&former.supervisor, &format!("due-{number}"));
        session
            .adopt(Tokens::new(()).with_refresh_token("refresh", Some(due)), Adopt::IfVacant)
            .await
            .unwrap();
    }
    let devices = ["device", "device-1", "device-2", "device-3"];
    for device in devices {
        let _ = session(&former.supervisor, device).establish(()).await.unwrap();
    }
    assert!(former.supervisor.shutdown(SECOND).await.is_clean());
    former.clock.advance(600 * SECOND).await;

    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    let looked_at = || fixture.faults.count(StoreCall::Load);
    for device in devices {
        while looked_at() < 10 {
            tokio::task::yield_now().await;
        }
        let before = looked_at();
        session(&fixture.supervisor, device).permission_token().await.unwrap();
        let meanwhile = looked_at() - before;
        assert!(meanwhile <= 2 * CHECKS_AT_ONCE as u64, "{meanwhile}");
    }
    while looked_at() < 2_000 {
        tokio::task::yield_now().await;
    }
}
