//! Readers and the actor go by clocks that do not show the same.

use std::time::Duration;

use session_warden::Supervisor;
use session_warden::clock::{Clock, Coarse, Now, Sleep};
use session_warden::testing::{ManualClock, ScriptedProvider};

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
