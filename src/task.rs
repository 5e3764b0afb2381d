//! Tasks: the only place that spawns, so that every task has an owner that waits for it.

use std::future::Future;
#[cfg(feature = "sqlite")]
use std::io;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::clock::Clock;

/// The tasks of one supervisor. They run on the runtime that the supervisor was started on, so
/// that a caller's short-lived runtime takes nothing with it.
pub(crate) struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
    closing: CancellationToken,
}

/// A place among the tasks: shutdown waits for it. Who has one can have more, for what follows from
/// what it does.
#[derive(Clone)]
pub(crate) struct Place {
    _token: TaskTrackerToken,
}

impl Tasks {
    /// On the current runtime; none if there is no runtime.
    pub(crate) fn here() -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        Some(Self { tracker: TaskTracker::new(), runtime, closing: CancellationToken::new() })
    }

    /// A place for an exchange, unless shutdown has begun.
    ///
    /// The place is taken first and `closing` is read after it: the tracker takes spawns after it
    /// was closed, so the other order would let an exchange begin behind shutdown's back.
    pub(crate) fn enter(&self) -> Option<Place> {
        let place = Place { _token: self.tracker.token() };
        (!self.is_closing()).then_some(place)
    }

    /// Runs `task` to its end, whoever dies meanwhile.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The handle is dropped on purpose: the tracker owns the task.
        drop(self.tracker.spawn_on(task, &self.runtime));
    }

    /// Runs `task` until it ends or shutdown has ended everything else; shutdown does not wait
    /// for it.
    pub(crate) fn attend(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Ends when shutdown begins.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Begins shutdown; true for the first who does.
    pub(crate) fn close(&self) -> bool {
        let first = !self.closing.is_cancelled();
        self.closing.cancel();
        self.tracker.close();
        first
    }

    /// Waits for all tasks; false if `within` passes before.
    pub(crate) async fn wait(&self, within: Duration, clock: &dyn Clock) -> bool {
        tokio::select! {
            biased;
            () = self.tracker.wait() => true,
            () = clock.sleep(within) => false,
        }
    }
}

/// A thread for work that blocks, outside any runtime. `body` says to whoever waits that it ended.
#[cfg(feature = "sqlite")]
pub(crate) fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    // The handle is dropped on purpose: a join would block a runtime.
    thread.spawn(body).map(drop)
}

/// Blocks a thread that [`thread`] made.
#[cfg(feature = "sqlite")]
#[expect(clippy::disallowed_methods, reason = "there is no runtime on these threads")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// What a future gives, unless the clock's `within` passes first.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    within: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = clock.sleep(within) => None,
    }
}
