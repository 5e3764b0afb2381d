//! What the unit tests of providers share: a clock that stands still, and a sender.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::HttpSender;
use super::http_sender::Budget;
use super::resources::Resources;
use crate::clock::{BootTime, Clock, Coarse, Now, Sleep};
use crate::key::{ProviderName, SessionId, SessionKey};

/// The wall clock of a [`StillClock`] at its start: 2027-01-15T08:00:00Z.
pub(crate) const START: Duration = Duration::from_secs(1_800_000_000);

/// A clock that moves only when a test advances it.
pub(crate) struct StillClock(watch::Sender<Duration>);

impl StillClock {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Duration::ZERO))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.send_modify(|passed| *passed += by);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Now {
        let passed = *self.0.borrow();
        Now::new(SystemTime::UNIX_EPOCH + START + passed, BootTime::new(passed), passed)
    }

    fn coarse(&self) -> Coarse {
        let passed = *self.0.borrow();
        Coarse::new(START + passed, passed)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut passed = self.0.subscribe();
        let until = *passed.borrow() + duration;
        Box::pin(async move {
            let _ = passed.wait_for(|passed| *passed >= until).await;
        })
    }
}

/// All that a sender borrows.
pub(crate) struct Bench {
    pub(crate) clock: Arc<StillClock>,
    resources: Resources,
    session: SessionId,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let key = SessionKey::new("tenant", "device").unwrap();
        let clock = Arc::new(StillClock::new());
        let resources = Resources::of_a_test(Arc::<StillClock>::clone(&clock));
        Self {
            clock,
            resources,
            session: SessionId::new(ProviderName::new("provider").unwrap(), key),
        }
    }

    /// A sender with a budget of 10 s, 5 s of them kept from repeats.
    pub(crate) fn sender(&self) -> HttpSender<'_> {
        let budget = Budget {
            ends: self.clock.now().boot.after(Duration::from_secs(10)),
            send_until: None,
            answer: Duration::from_secs(60),
            min_repeat_time: Duration::from_secs(5),
            longest_retry_after: Duration::from_secs(600),
            challenge: Duration::from_secs(600),
        };
        let clock: Arc<dyn Clock> = Arc::<StillClock>::clone(&self.clock);
        let issuer = ("https://provider.invalid", "client");
        HttpSender::new(&self.resources, clock, Some(&self.session), issuer, budget)
    }

    /// A wall clock time, so many seconds after the start.
    pub(crate) fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + START + Duration::from_secs(seconds)
    }
}
