//! Steps of an exchange at which a test makes its process die or stop. Without the feature
//! `testing` nothing is left of it.

#[cfg(feature = "testing")]
use std::fmt;
#[cfg(feature = "testing")]
use std::sync::Arc;

#[cfg(feature = "testing")]
use parking_lot::Mutex;

/// A step of an exchange, be it a refresh or a grant. An adoption, which asks no server, is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "named in `testing`"))]
#[non_exhaustive]
pub enum CrashPoint {
    /// Nothing is written yet, and nothing is sent.
    BeforeClaim,
    /// The claim is written, and nothing is sent.
    Claimed,
    /// The server has answered, and none of its answer's body is read.
    Sent,
    /// New credentials are read, and not saved.
    Received,
    /// They are saved, and nobody is told of it.
    Committed,
    /// All who waited are told.
    Replied,
}

/// What exchanges pass on their way.
#[derive(Clone, Default)]
pub(crate) struct Steps {
    #[cfg(feature = "testing")]
    points: Option<CrashPoints>,
    /// How many points were armed when the exchange began. Later ones are for later exchanges.
    #[cfg(feature = "testing")]
    armed: Option<u64>,
}

impl Steps {
    /// The steps of an exchange that begins now. A point that is armed when a caller has heard of
    /// an exchange's end must not fire on the last step of that exchange.
    pub(crate) fn of_exchange(&self) -> Self {
        #[cfg(feature = "testing")]
        let armed = self.points.as_ref().map(CrashPoints::armed);
        Self {
            #[cfg(feature = "testing")]
            armed,
            ..self.clone()
        }
    }

    /// With the feature `testing` this may not return.
    #[cfg(feature = "testing")]
    #[expect(clippy::panic, reason = "a test says so")]
    pub(crate) fn at(&self, point: CrashPoint) {
        let fate = self.points.as_ref().and_then(|points| points.take(point, self.armed));
        match fate {
            Some(Fate::Panic) => panic!("a crash point says so"),
            Some(fate) => meet(fate),
            None => {}
        }
    }

    #[cfg(not(feature = "testing"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) fn at(&self, _: CrashPoint) {}
}

#[cfg(feature = "testing")]
impl From<CrashPoints> for Steps {
    fn from(points: CrashPoints) -> Self {
        Self { points: Some(points), armed: None }
    }
}

/// What becomes of a process.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// It is killed (`SIGKILL`): no destructor runs, and nothing is flushed.
    Kill,
    /// It is stopped (`SIGSTOP`) until somebody lets it go on (`SIGCONT`), and then goes on as if
    /// nothing had been.
    Stop,
    /// It lives on, and the exchange's own task panics.
    Panic,
}

/// Makes the process die or stop at a step of an exchange, for tests that start processes of their
/// own, or makes the exchange panic there. Clones are the same points. What is armed fires once, at
/// the first exchange that gets there.
///
/// On Linux and Android; elsewhere the process aborts for each [`Fate`] but [`Fate::Panic`].
///
/// ```no_run
/// use session_warden::Supervisor;
/// use session_warden::store::sqlite::SqliteStore;
/// use session_warden::testing::{CrashPoint, CrashPoints, Fate, ScriptedProvider};
///
/// # #[cfg(feature = "sqlite")]
/// # async fn child() -> Result<(), Box<dyn std::error::Error>> {
/// // In a child process of the test:
/// let points = CrashPoints::new();
/// let provider: ScriptedProvider = ScriptedProvider::new();
/// let supervisor = Supervisor::builder()
///     .crash_points(&points)
///     .store(SqliteStore::open("/tmp/sessions.db")?)
///     .provider("scripted", provider)
///     .start()
///     .await?;
///
/// // The next exchange gets its answer, and the process dies with it.
/// points.arm(CrashPoint::Received, Fate::Kill);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "testing")]
#[derive(Clone, Default)]
pub struct CrashPoints(Arc<Mutex<Armed>>);

#[cfg(feature = "testing")]
#[derive(Default)]
struct Armed {
    /// How many were armed so far.
    count: u64,
    points: Vec<(u64, CrashPoint, Fate)>,
}

#[cfg(feature = "testing")]
impl CrashPoints {
    /// None is armed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next exchange that begins and gets there meets this fate. A point that is armed twice
    /// meets the first first.
    pub fn arm(&self, point: CrashPoint, fate: Fate) {
        let mut armed = self.0.lock();
        let number = armed.count;
        armed.count += 1;
        armed.points.push((number, point, fate));
    }

    fn armed(&self) -> u64 {
        self.0.lock().count
    }

    /// The fate of an exchange that began when so many were armed.
    fn take(&self, point: CrashPoint, begun: Option<u64>) -> Option<Fate> {
        let mut armed = self.0.lock();
        let meets = |(number, armed, _): &(u64, CrashPoint, Fate)| {
            *armed == point && begun.is_none_or(|begun| *number < begun)
        };
        let at = armed.points.iter().position(meets)?;
        Some(armed.points.remove(at).2)
    }
}

#[cfg(feature = "testing")]
impl fmt::Debug for CrashPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let armed = self.0.lock();
        let points: Vec<_> = armed.points.iter().map(|(_, point, fate)| (point, fate)).collect();
        f.debug_tuple("CrashPoints").field(&points).finish()
    }
}

#[cfg(all(feature = "testing", any(target_os = "linux", target_os = "android")))]
fn meet(fate: Fate) {
    use rustix::process::{Signal, getpid, kill_process};
    let signal = match fate {
        Fate::Kill => Signal::KILL,
        Fate::Stop => Signal::STOP,
        // Met by its thread alone.
        Fate::Panic => return,
    };
    // One may always send signals to oneself.
    let _ = kill_process(getpid(), signal);
    // The kernel gives it to any thread, which then stops the others: until it has, this one must
    // not go a step further.
    while is_pending(signal) {
        std::thread::yield_now();
    }
}

/// Whether no thread has taken the signal yet: `ShdPnd` in proc(5), bit 0 is signal 1. By the time
/// that it is not pending, this thread too is told to stop, and does so when it returns from the
/// kernel.
#[cfg(all(feature = "testing", any(target_os = "linux", target_os = "android")))]
fn is_pending(signal: rustix::process::Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (signal.as_raw() - 1)) != 0
}

#[cfg(all(feature = "testing", not(any(target_os = "linux", target_os = "android"))))]
fn meet(_: Fate) {
    std::process::abort();
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[test]
    fn a_point_fires_as_often_as_it_was_armed_and_no_other_does() {
        let points = CrashPoints::new();
        assert_eq!(points.take(CrashPoint::Sent, None), None);
        points.arm(CrashPoint::Sent, Fate::Kill);
        points.clone().arm(CrashPoint::Sent, Fate::Stop);
        assert_eq!(points.take(CrashPoint::Claimed, None), None);
        assert_eq!(points.take(CrashPoint::Sent, None), Some(Fate::Kill));
        assert_eq!(points.take(CrashPoint::Sent, None), Some(Fate::Stop));
        assert_eq!(points.take(CrashPoint::Sent, None), None);
    }

    #[test]
    fn a_point_that_is_armed_later_is_for_exchanges_that_begin_later() {
        let points = CrashPoints::new();
        let begun = points.armed();
        points.arm(CrashPoint::Replied, Fate::Kill);
        assert_eq!(points.take(CrashPoint::Replied, Some(begun)), None);
        assert_eq!(points.take(CrashPoint::Replied, Some(points.armed())), Some(Fate::Kill));
    }
}
