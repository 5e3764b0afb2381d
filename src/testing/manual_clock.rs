//! A clock that a test moves.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use crate::clock::{BootTime, Clock, Coarse, Now, Sleep};

/// A [`Clock`] whose time only a test moves, with [`advance`](Self::advance).
///
/// All clones show the same time.
///
/// A sleep waits for monotonic time, as tokio's timers do. A change of the wall clock
/// ([`set_wall`](Self::set_wall), [`step_wall`](Self::step_wall)) or a suspension of the machine
/// ([`suspend`](Self::suspend)) ends no sleep.
///
/// The wall clock, the boot clock and the monotonic clock start at different values, so that a test
/// fails if the code confuses them.
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
    /// The first time of the wall clock, since the epoch: 2025-01-01T00:00:00Z.
    pub const START_WALL: Duration = Duration::from_secs(1_735_689_600);

    /// The first time of the boot clock: one day since boot.
    pub const START_BOOT: Duration = Duration::from_secs(86_400);

    /// The first time of the monotonic clock: 23 hours, as if the machine had been suspended for
    /// one hour of the day.
    pub const START_MONOTONIC: Duration = Duration::from_secs(82_800);

    /// Makes a clock that shows the first times.
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

    /// Moves all three clocks by `duration`, and ends the sleeps that are due.
    ///
    /// The clock stops at the deadline of each sleep in turn, and lets the runtime run the woken
    /// task before it moves on. If that task sleeps again, its new sleep begins at this deadline.
    /// On a runtime with one thread, the woken tasks run until they wait for another thread or
    /// another machine. On several threads, a woken task may see a later time than its deadline.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the clock keeps the time that it has reached.
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

    /// Sets only the wall clock, as an operator or NTP does.
    ///
    /// If `wall` is before 1970, the clock shows 1970.
    pub fn set_wall(&self, wall: SystemTime) {
        self.lock().wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    }

    /// Moves only the wall clock; it moves back if `seconds` is negative.
    ///
    /// If the result is before 1970, the clock shows 1970.
    pub fn step_wall(&self, seconds: i64) {
        let mut state = self.lock();
        let step = Duration::from_secs(seconds.unsigned_abs());
        state.wall = if seconds < 0 {
            state.wall.saturating_sub(step)
        } else {
            state.wall.saturating_add(step)
        };
    }

    /// Acts as if the machine were suspended for `duration`: wall time and boot time pass, and
    /// monotonic time does not.
    ///
    /// The suspension ends no sleep. A sleep goes on afterwards for the monotonic time that it has
    /// left, as with tokio's timers on Linux. A task that needs boot time must read it when it
    /// wakes.
    pub fn suspend(&self, duration: Duration) {
        let mut state = self.lock();
        state.wall = state.wall.saturating_add(duration);
        state.boot = state.boot.saturating_add(duration);
    }

    /// The number of sleeps that are running now.
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
