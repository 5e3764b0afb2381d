//! Steps of an exchange at which a test kills or stops its process. Without the feature
//! `testing`, these steps do nothing.

#[cfg(feature = "testing")]
use std::fmt;
#[cfg(feature = "testing")]
use std::sync::Arc;

#[cfg(feature = "testing")]
use parking_lot::Mutex;

/// A step of an exchange: of a refresh, a renewal or a grant. An adoption has no such steps,
/// because it sends no request. See the example of [`CrashPoints`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "named in `testing`"))]
#[non_exhaustive]
pub enum CrashPoint {
    /// Before the claim is written.
    BeforeClaim,
    /// After the claim is written, and before the request is sent.
    Claimed,
    /// After the head of the server's response has arrived, and before its body is read.
    Sent,
    /// After the new credentials are read, and before they are saved.
    Received,
    /// After the new credentials are in the [journal](crate::journal), and before they are saved. An
    /// exchange without a journal has no such step.
    Journaled,
    /// After the new credentials are saved, and before a caller has the outcome.
    Committed,
    /// After all waiting callers have the outcome.
    Replied,
}

/// The steps at which an exchange may meet a crash point.
#[derive(Clone, Default)]
pub(crate) struct Steps {
    #[cfg(feature = "testing")]
    points: Option<CrashPoints>,
    /// How many points were armed when the exchange began. Points that are armed later are for
    /// later exchanges.
    #[cfg(feature = "testing")]
    armed: Option<u64>,
}

impl Steps {
    /// The steps of an exchange that begins now. A test may arm a point as soon as a caller has an
    /// exchange's outcome; that point must not fire at the last step of the same exchange.
    pub(crate) fn of_exchange(&self) -> Self {
        #[cfg(feature = "testing")]
        return Self { armed: self.points.as_ref().map(CrashPoints::armed), ..self.clone() };
        #[cfg(not(feature = "testing"))]
        self.clone()
    }

    /// With the feature `testing`, this may not return.
    #[cfg(feature = "testing")]
    #[expect(clippy::panic, reason = "a test asked for it")]
    pub(crate) fn at(&self, point: CrashPoint) {
        let fate = self.points.as_ref().and_then(|points| points.take(point, self.armed));
        match fate {
            Some(Fate::Panic) => panic!("a crash point was armed"),
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

/// What happens at a [`CrashPoint`]. See the example of [`CrashPoints`].
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// The process is killed (`SIGKILL`): no destructor runs, and nothing is flushed.
    Kill,
    /// The process is stopped (`SIGSTOP`). After `SIGCONT` it goes on as before.
    Stop,
    /// The task of the exchange panics, and the process goes on.
    Panic,
}

/// Kills or stops the process at a step of an exchange, or makes the exchange panic there. It is
/// for tests that start processes of their own. All clones share the same points. Each armed point
/// takes effect once, at the first exchange that reaches it.
///
/// [`Fate::Kill`] and [`Fate::Stop`] need Linux or Android. On other systems the process aborts
/// instead.
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
/// // The process is killed when the next exchange has read new tokens, before it saves them.
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
    /// Makes a set of points, none of them armed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms a point: `fate` happens at the next exchange that begins after this call and reaches
    /// the point. If you arm a point twice, the fates happen in this order, one at each exchange.
    pub fn arm(&self, point: CrashPoint, fate: Fate) {
        let mut armed = self.0.lock();
        let number = armed.count;
        armed.count += 1;
        armed.points.push((number, point, fate));
    }

    fn armed(&self) -> u64 {
        self.0.lock().count
    }

    /// Takes the fate of an exchange that began when `begun` points were armed.
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
        // Only the exchange's task meets this fate.
        Fate::Panic => return,
    };
    // A process may always send signals to itself.
    let _ = kill_process(getpid(), signal);
    // The kernel delivers the signal to any thread, which then stops the others. Until then, this
    // thread must not go on.
    while is_pending(signal) {
        std::thread::yield_now();
    }
}

/// Whether no thread has taken the signal yet: `ShdPnd` in proc(5), where bit 0 is signal 1. Once
/// the signal is not pending, the kernel stops this thread too when the thread returns from it.
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
    fn a_point_fires_as_often_as_it_was_armed() {
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
