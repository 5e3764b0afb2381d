//! Time: wall, boot, and sleep, all from one [`Clock`].
//!
//! Deadlines are boot times: boot time runs on while the machine is suspended, and does not change
//! when the wall clock is set. The store and the public API use wall time, which other machines
//! understand.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// A sleep that a [`Clock`] returns.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// The source of all time.
///
/// Production uses [`SystemClock`]. Tests use `testing::ManualClock`, whose time stands still until
/// the test advances it.
///
/// # Contract
///
/// The three readings move together: after [`sleep`](Self::sleep) has ended, each shows at least
/// that much more, unless the wall clock was set.
pub trait Clock: Send + Sync + 'static {
    /// Wall, boot and monotonic time, read together.
    fn now(&self) -> Now;

    /// A cheap reading, for every call for a token.
    #[doc(hidden)]
    fn coarse(&self) -> Coarse {
        let now = self.now();
        let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Coarse::new(wall, now.monotonic)
    }

    /// A future that ends after `duration`.
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

/// One reading of a clock.
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
    /// A reading of all three.
    #[must_use]
    pub fn new(wall: SystemTime, boot: BootTime, monotonic: Duration) -> Self {
        Self { wall, boot, monotonic }
    }

    /// The boot time at which the wall clock will show `wall`, unless it is set before then.
    #[must_use]
    pub fn boot_at(&self, wall: SystemTime) -> BootTime {
        match wall.duration_since(self.wall) {
            Ok(ahead) => self.boot.after(ahead),
            Err(behind) => BootTime(self.boot.0.saturating_sub(behind.duration())),
        }
    }

    /// The wall time at `boot`, unless the wall clock is set before then.
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

/// A point in boot time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootTime(Duration);

impl BootTime {
    /// The point that lies `since_boot` after the start of the machine.
    #[must_use]
    pub const fn new(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// The point that lies `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// The point that lies `duration` earlier, or the start of the machine.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }

    /// How long after `earlier` this is; zero if it is before it.
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

/// The operating system's clocks. No other code reads them.
#[derive(Clone, Debug)]
pub struct SystemClock {
    source: os::Source,
}

impl SystemClock {
    /// The clocks of this machine.
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
