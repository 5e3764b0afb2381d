//! The crate takes all time from one [`Clock`]: it reads the time there, and it sleeps there.
//!
//! A clock has three readings ([`Now`]): wall time, boot time and monotonic time. In memory the
//! crate keeps deadlines as boot times, because boot time goes on while the machine is suspended
//! and does not change when the wall clock is set. The store and the public API use wall
//! time, because boot time means nothing on another machine.

pub(crate) mod rfc3339;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// The future that [`Clock::sleep`] returns.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// The source of all time for a supervisor and its store.
///
/// Without a setting, a supervisor uses [`SystemClock`]. Tests use `testing::ManualClock`, whose
/// time stands still until the test advances it.
///
/// # Contract
///
/// The three readings advance together: when [`sleep`](Self::sleep) has ended, each reading is
/// later by at least the duration of the sleep. Only the wall clock may be set to another time
/// meanwhile.
///
/// ```
/// use std::time::Duration;
/// use session_warden::clock::{Clock, Now, Sleep, SystemClock};
/// use session_warden::Supervisor;
///
/// /// Corrects the wall clock of a device that cannot set it.
/// struct CorrectedClock {
///     system: SystemClock,
///     behind: Duration,
/// }
///
/// impl Clock for CorrectedClock {
///     fn now(&self) -> Now {
///         let now = self.system.now();
///         Now::new(now.wall + self.behind, now.boot, now.monotonic)
///     }
///
///     fn sleep(&self, duration: Duration) -> Sleep {
///         self.system.sleep(duration)
///     }
/// }
///
/// let clock = CorrectedClock { system: SystemClock::new(), behind: Duration::from_secs(3600) };
/// assert!(clock.now().wall > SystemClock::new().now().wall + Duration::from_secs(3500));
/// let builder = Supervisor::builder().clock(clock);
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Reads wall, boot and monotonic time at the same moment.
    fn now(&self) -> Now;

    /// A cheap reading, for every call for a token.
    #[doc(hidden)]
    fn coarse(&self) -> Coarse {
        let now = self.now();
        let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Coarse::new(wall, now.monotonic)
    }

    /// Returns a future that ends after `duration`.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The output of a future. None if `wait` passes on the clock first.
pub(crate) async fn timeout<T>(
    clock: &dyn Clock,
    wait: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = clock.sleep(wait) => None,
    }
}

/// One reading of a clock. See the examples of [`Clock`] and [`BootTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Now {
    /// Time of day.
    pub wall: SystemTime,
    /// Time since the machine started, suspended time included.
    pub boot: BootTime,
    /// Time since the machine started, without suspended time.
    pub monotonic: Duration,
}

impl Now {
    /// Makes a reading from its three times.
    #[must_use]
    pub fn new(wall: SystemTime, boot: BootTime, monotonic: Duration) -> Self {
        Self { wall, boot, monotonic }
    }

    /// Converts a wall time to the boot time of the same moment. The result is right as long as the
    /// wall clock is not set to another time.
    #[must_use]
    pub fn boot_at(&self, wall: SystemTime) -> BootTime {
        match wall.duration_since(self.wall) {
            Ok(ahead) => self.boot.after(ahead),
            Err(behind) => BootTime(self.boot.0.saturating_sub(behind.duration())),
        }
    }

    /// Converts a boot time to the wall time of the same moment. The result is right as long as the
    /// wall clock is not set to another time.
    #[must_use]
    pub fn wall_at(&self, boot: BootTime) -> SystemTime {
        let shifted = if boot >= self.boot {
            self.wall.checked_add(boot.since(self.boot))
        } else {
            self.wall.checked_sub(self.boot.since(boot))
        };
        shifted.unwrap_or(self.wall)
    }
}

/// A cheap reading of two clocks.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coarse {
    /// Time of day, since the epoch.
    pub wall: Duration,
    /// Time since the machine started, without suspended time; never less than the exact time.
    pub monotonic: Duration,
}

impl Coarse {
    /// A reading of both.
    #[must_use]
    pub fn new(wall: Duration, monotonic: Duration) -> Self {
        Self { wall, monotonic }
    }
}

/// A point in time, as the time since the machine started, suspended time included.
///
/// ```
/// use std::time::Duration;
/// use session_warden::clock::{BootTime, Clock};
/// use session_warden::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let now = clock.now();
/// let deadline: BootTime = now.boot_at(now.wall + Duration::from_secs(60));
/// assert_eq!(deadline.since(clock.now().boot), Duration::from_secs(60));
///
/// // The deadline stays where it is when an operator sets the wall clock.
/// clock.step_wall(3600);
/// assert_eq!(deadline.since(clock.now().boot), Duration::from_secs(60));
///
/// // The deadline comes closer while the machine is suspended.
/// clock.suspend(Duration::from_secs(45));
/// assert_eq!(deadline.since(clock.now().boot), Duration::from_secs(15));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootTime(Duration);

impl BootTime {
    /// Makes the point that is `since_boot` after the start of the machine.
    #[must_use]
    pub const fn new(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Returns the point that is `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// Returns the point that is `duration` earlier, but not before the start of the machine.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }

    /// Returns the time from `earlier` to this point. Zero if `earlier` is later than this point.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time since the start of the machine.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }
}

/// The clocks of the operating system. No other code of the crate reads them. See the example of
/// [`Clock`].
#[derive(Clone, Debug)]
pub struct SystemClock {
    source: os::Source,
}

impl SystemClock {
    /// Makes a clock that reads the clocks of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self { source: os::Source::new() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let (wall, boot, monotonic) = self.source.exact();
        Now { wall: SystemTime::UNIX_EPOCH + wall, boot: BootTime(boot), monotonic }
    }

    fn coarse(&self) -> Coarse {
        let (wall, monotonic) = self.source.coarse();
        Coarse { wall, monotonic }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Linux has coarse clocks, which take a few nanoseconds and no system call to read.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod os {
    use std::time::Duration;

    use rustix::time::{ClockId, Timespec, clock_gettime};

    /// How far the coarse clock may lag. It is added to the reading, so that a token is never
    /// handed out after it expired. 25 ms because the slowest kernel ticks every 10 ms, and a tick
    /// of an idle core of a virtual machine comes late (7.2 ms were measured at a resolution of 4
    /// ms).
    pub(super) const LAG: Duration = Duration::from_millis(25);

    #[derive(Clone, Debug)]
    pub(super) struct Source(());

    impl Source {
        pub(super) fn new() -> Self {
            Self(())
        }

        pub(super) fn exact(&self) -> (Duration, Duration, Duration) {
            (read(ClockId::Realtime), read(ClockId::Boottime), read(ClockId::Monotonic))
        }

        pub(super) fn coarse(&self) -> (Duration, Duration) {
            (read(ClockId::RealtimeCoarse), read(ClockId::MonotonicCoarse) + LAG)
        }
    }

    fn read(clock: ClockId) -> Duration {
        duration(clock_gettime(clock))
    }

    /// A wall clock before 1970 reads as 1970.
    fn duration(time: Timespec) -> Duration {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

/// Other systems use the clocks of the standard library. There only the wall clock counts suspended
/// time.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod os {
    #![expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    use std::time::{Duration, Instant, SystemTime};

    pub(super) const LAG: Duration = Duration::ZERO;

    #[derive(Clone, Debug)]
    pub(super) struct Source {
        start: Instant,
    }

    impl Source {
        pub(super) fn new() -> Self {
            Self { start: Instant::now() }
        }

        pub(super) fn exact(&self) -> (Duration, Duration, Duration) {
            let (wall, monotonic) = self.coarse();
            (wall, monotonic, monotonic)
        }

        pub(super) fn coarse(&self) -> (Duration, Duration) {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            (wall.unwrap_or_default(), self.start.elapsed())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_agrees_with_itself_and_its_coarse_reading_never_lags() {
        let clock = SystemClock::new();
        let before = clock.now();
        let coarse = clock.coarse();
        let after = clock.now();
        assert!(before.boot <= after.boot);
        assert!(coarse.monotonic >= before.monotonic, "{coarse:?} {before:?}");
        assert!(coarse.monotonic <= after.monotonic + os::LAG, "{coarse:?} {after:?}");
    }

    #[test]
    fn boot_and_wall_times_translate_both_ways() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let now = Now::new(wall, BootTime::new(Duration::from_secs(10)), Duration::ZERO);
        for seconds in [0, 5, 995, 2000] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(990));
            assert_eq!(now.wall_at(now.boot_at(at)), at);
        }
        let long_ago = now.boot_at(SystemTime::UNIX_EPOCH);
        assert_eq!(long_ago, BootTime::default());
    }
}
