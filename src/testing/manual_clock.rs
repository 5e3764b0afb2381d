//! A clock that a test moves.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use crate::clock::{BootTime, Clock, Coarse, Now, Sleep};

/// A [`Clock`] in which time stands still until [`advance`](Self::advance) moves it.
///
/// Clones show the same time.
///
/// Sleepers wait for monotonic time, as tokio's timers do: a change of the wall clock
/// ([`set_wall`](Self::set_wall), [`step_wall`](Self::step_wall)) and a suspension of the machine
/// ([`suspend`](Self::suspend)) wake no sleeper.
///
/// The three readings start at different values, so that a test notices when they are mixed up.
///
/// ```
/// use std::time::Duration;
///
/// use session_warden::clock::Clock;
/// use session_warden::testing::ManualClock;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = ManualClock::new();
/// let sleeper = tokio::spawn({
///     let clock = clock.clone();
///     async move {
///         clock.sleep(Duration::from_secs(60)).await;
///         clock.sleep(Duration::from_secs(60)).await;
///         clock.now().monotonic
///     }
/// });
///
/// let start = clock.now().monotonic;
/// clock.advance(Duration::from_secs(3600)).await;
/// // Both sleeps ended at their own time, not at the end of the hour.
/// assert_eq!(sleeper.await? - start, Duration::from_secs(120));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ManualClock {
    state: Arc<Mutex<ClockState>>,
}

impl ManualClock {
    /// What the wall clock shows at first, since the epoch: 2025-01-01T00:00:00Z.
    pub const START_WALL: Duration = Duration::from_secs(1_735_689_600);

    /// What the boot clock shows at first: an uptime of a day.
    pub const START_BOOT: Duration = Duration::from_secs(86_400);

    /// What the monotonic clock shows at first: of the day, an hour was spent in suspend.
    pub const START_MONOTONIC: Duration = Duration::from_secs(82_800);

    /// A clock at its start.
    #[must_use]
    pub fn new() -> Self {
        let state = ClockState {
            wall: Self::START_WALL,
            boot: Self::START_BOOT,
            monotonic: Self::START_MONOTONIC,
            sleepers: BTreeMap::new(),
            next_sleeper: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Moves all three readings, and wakes the sleepers whose time has come.
    ///
    /// Time stops at the deadline of each sleeper in turn, and the runtime gets the chance to run
    /// the woken tasks before it goes on; what these sleep then is counted from that deadline.
    /// On a runtime with one thread that is enough for all that does not wait for another machine
    /// or thread; on several threads the woken tasks may see a later time than their deadline.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, time stays where it has got to.
    pub async fn advance(&self, duration: Duration) {
        // A task spawned just before has not been polled yet, and so does not sleep yet.
        settle().await;
        let target = self.lock().monotonic.saturating_add(duration);
        loop {
            let (woken, arrived) = self.lock().step_towards(target);
            // Woken without the lock: a waker may poll at once, and poll reads the clock.
            woken.into_iter().for_each(Waker::wake);
            settle().await;
            if arrived {
                return;
            }
        }
    }

    /// Sets the wall clock alone, as an operator or NTP does.
    ///
    /// A time before 1970 reads as 1970.
    pub fn set_wall(&self, wall: SystemTime) {
        self.lock().wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    }

    /// Moves the wall clock alone: back if `seconds` is negative.
    ///
    /// A time before 1970 reads as 1970.
    pub fn step_wall(&self, seconds: i64) {
        let mut state = self.lock();
        let step = Duration::from_secs(seconds.unsigned_abs());
        state.wall = if seconds < 0 {
            state.wall.saturating_sub(step)
        } else {
            state.wall.saturating_add(step)
        };
    }

    /// The machine sleeps: wall and boot time pass, monotonic time does not.
    ///
    /// No sleeper wakes. A sleeper that was due during the suspension sleeps on for the monotonic
    /// time it had left, as it does with tokio's timers on Linux. A task that needs boot time
    /// must read it when it wakes.
    pub fn suspend(&self, duration: Duration) {
        let mut state = self.lock();
        state.wall = state.wall.saturating_add(duration);
        state.boot = state.boot.saturating_add(duration);
    }

    /// How many sleeps have begun and neither ended nor been dropped.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    fn lock(&self) -> MutexGuard<'_, ClockState> {
        // No code of others runs under the lock, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("ManualClock")
            .field("wall", &state.wall)
            .field("boot", &state.boot)
            .field("monotonic", &state.monotonic)
            .field("sleepers", &state.sleepers.len())
            .finish()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let state = self.lock();
        let wall = SystemTime::UNIX_EPOCH.checked_add(state.wall);
        Now::new(wall.unwrap_or(SystemTime::UNIX_EPOCH), BootTime::new(state.boot), state.monotonic)
    }

    fn coarse(&self) -> Coarse {
        let state = self.lock();
        Coarse::new(state.wall, state.monotonic)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut state = self.lock();
        let deadline = state.monotonic.saturating_add(duration);
        let key = (deadline, state.next_sleeper);
        if !duration.is_zero() {
            state.next_sleeper += 1;
            state.sleepers.insert(key, None);
        }
        Box::pin(ManualSleep { clock: self.clone(), key })
    }
}

/// What the clock shows, and the sleepers. All times since the start of their own scale.
struct ClockState {
    wall: Duration,
    boot: Duration,
    monotonic: Duration,
    /// Without a waker until the sleep is first polled.
    sleepers: BTreeMap<SleeperKey, Option<Waker>>,
    next_sleeper: u64,
}

impl ClockState {
    /// Goes to the next deadline, or to `target` if none comes before it (then `true`).
    fn step_towards(&mut self, target: Duration) -> (Vec<Waker>, bool) {
        let next = self.sleepers.keys().next().map_or(target, |(deadline, _)| *deadline);
        let step = next.min(target).saturating_sub(self.monotonic);
        self.wall = self.wall.saturating_add(step);
        self.boot = self.boot.saturating_add(step);
        self.monotonic = self.monotonic.saturating_add(step);
        let mut woken = Vec::new();
        while let Some(entry) = self.sleepers.first_entry()
            && entry.key().0 <= self.monotonic
        {
            woken.extend(entry.remove());
        }
        (woken, self.monotonic >= target)
    }
}

/// Deadline, then the order of falling asleep: two sleepers may share a deadline.
type SleeperKey = (Duration, u64);

struct ManualSleep {
    clock: ManualClock,
    key: SleeperKey,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock();
        if state.monotonic >= self.key.0 {
            return Poll::Ready(());
        }
        state.sleepers.insert(self.key, Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        self.clock.lock().sleepers.remove(&self.key);
    }
}

/// Lets every other task run, and those which they wake.
async fn settle() {
    for _ in 0..SETTLE_YIELDS {
        tokio::task::yield_now().await;
    }
}

/// Each yield lets a chain of tasks that wake one another get at least one link further. An
/// exchange over the loopback takes 4 (measured), a message through a few actors one for each;
/// 32 leaves room, and costs a tenth of a millisecond.
const SETTLE_YIELDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn monotonic(clock: &ManualClock) -> Duration {
        clock.now().monotonic - ManualClock::START_MONOTONIC
    }

    #[tokio::test]
    async fn sleepers_wake_in_the_order_of_their_deadlines_and_each_at_its_own() {
        let clock = ManualClock::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for seconds in [3, 1, 2, 1] {
            let (clock, order) = (clock.clone(), Arc::clone(&order));
            tasks.spawn(async move {
                clock.sleep(SECOND * seconds).await;
                order.lock().unwrap().push((seconds, monotonic(&clock)));
            });
        }
        clock.advance(SECOND * 10).await;
        let expected: Vec<_> = [1, 1, 2, 3].map(|seconds| (seconds, SECOND * seconds)).into();
        assert_eq!(*order.lock().unwrap(), expected);
        assert_eq!(monotonic(&clock), SECOND * 10);
        assert_eq!(clock.sleepers(), 0);
    }

    async fn tick(clock: ManualClock, ticks: Arc<Mutex<u32>>) {
        loop {
            clock.sleep(SECOND).await;
            *ticks.lock().unwrap() += 1;
        }
    }

    #[tokio::test]
    async fn a_ticker_ticks_once_a_period_during_one_long_advance() {
        let clock = ManualClock::new();
        let ticks = Arc::new(Mutex::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(tick(clock.clone(), Arc::clone(&ticks)));
        clock.advance(SECOND * 100 + SECOND / 2).await;
        assert_eq!(*ticks.lock().unwrap(), 100);
        assert_eq!(clock.sleepers(), 1);
    }

    #[tokio::test]
    async fn a_dropped_sleep_is_no_sleeper_and_a_sleep_of_zero_ends_at_once() {
        let clock = ManualClock::new();
        let sleep = clock.sleep(SECOND);
        assert_eq!(clock.sleepers(), 1);
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
        clock.sleep(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn setting_the_wall_clock_and_suspending_wake_nobody() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep(SECOND);
        let start = clock.now();
        clock.step_wall(-3600);
        assert_eq!(clock.now().wall, start.wall - SECOND * 3600);
        clock.set_wall(start.wall);
        clock.suspend(SECOND * 60);
        let now = clock.now();
        assert_eq!(now.wall, start.wall + SECOND * 60);
        assert_eq!(now.boot.since(start.boot), SECOND * 60);
        assert_eq!(now.monotonic, start.monotonic);
        let mut context = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        clock.advance(SECOND).await;
        assert!(sleep.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn the_wall_clock_stops_at_the_epoch() {
        let clock = ManualClock::new();
        clock.step_wall(i64::MIN);
        assert_eq!(clock.now().wall, SystemTime::UNIX_EPOCH);
        assert_eq!(clock.coarse().wall, Duration::ZERO);
        clock.step_wall(i64::MAX);
        assert!(clock.now().wall >= SystemTime::UNIX_EPOCH);
    }
}
