//! Tasks: the only module that spawns, so that every task has an owner that waits for it.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::clock::{Clock, timeout};
use crate::error::{Error, ErrorKind};

/// The tasks of one supervisor. They run on the runtime that the supervisor was started on, so that
/// the end of a caller's short-lived runtime ends none of them.
pub(crate) struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
    closing: CancellationToken,
    gone: CancellationToken,
    /// Ends the sentinel with the supervisor.
    _over: DropGuard,
}

/// Held by a task that does nothing. The runtime drops it when the runtime is shut down.
struct Sentinel {
    closing: CancellationToken,
    gone: CancellationToken,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.closing.cancel();
        self.gone.cancel();
    }
}

/// A guard that shutdown waits for. Its holder may clone it for work that follows from its own.
#[derive(Clone)]
pub(crate) struct TaskGuard {
    _token: TaskTrackerToken,
}

#[cfg(test)]
impl TaskGuard {
    pub(crate) fn of_nobody() -> Self {
        Self { _token: TaskTracker::new().token() }
    }
}

impl Tasks {
    /// Tasks on the current runtime; `None` if there is no runtime.
    pub(crate) fn here() -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        let (closing, gone, over) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let sentinel = Sentinel { closing: closing.clone(), gone: gone.clone() };
        let ended = over.clone();
        // The first task, because a runtime drops its oldest tasks first.
        drop(runtime.spawn(async move {
            ended.cancelled().await;
            drop(sentinel);
        }));
        let tracker = TaskTracker::new();
        Some(Self { tracker, runtime, closing, gone, _over: over.drop_guard() })
    }

    /// A guard for an exchange, unless shutdown has begun.
    ///
    /// The guard is taken first and `closing` is read after that. The tracker accepts tasks even
    /// after it was closed, so in the other order an exchange could begin after shutdown has
    /// stopped waiting.
    pub(crate) fn enter(&self) -> Option<TaskGuard> {
        let task_guard = TaskGuard { _token: self.tracker.token() };
        (!self.is_closing()).then_some(task_guard)
    }

    /// Runs `task` to its end, even if callers and actors die meanwhile.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The handle is dropped on purpose: the tracker owns the task.
        drop(self.tracker.spawn_on(task, &self.runtime));
    }

    /// Runs `task` until it ends. Shutdown does not wait for it.
    pub(crate) fn spawn_detached(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// Runs `work` on a thread that may block for long; `None` if the runtime is shut down.
    pub(crate) async fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.runtime.spawn_blocking(work).await.ok()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Ends when shutdown begins.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Whether the runtime of these tasks is shut down, so that nothing runs on it any more.
    pub(crate) fn is_runtime_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Ends when the runtime of these tasks is shut down.
    pub(crate) fn runtime_gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// The error of a call that came after the shutdown began, or after the runtime ended.
    pub(crate) fn refusal(&self) -> Error {
        self.explain(Error::new(ErrorKind::ShuttingDown))
    }

    /// The same error; if it says that the supervisor takes no more calls because its runtime has
    /// ended, with words that say so.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::ShuttingDown && self.is_runtime_gone() {
            return error.about(RUNTIME_GONE);
        }
        error
    }

    /// Notes that the runtime is shut down, for a task that notices it first because it is dropped.
    pub(crate) fn mark_runtime_gone(&self) {
        self.closing.cancel();
        self.gone.cancel();
    }

    /// Begins shutdown; true for the first call.
    pub(crate) fn close(&self) -> bool {
        let first = !self.closing.is_cancelled();
        self.closing.cancel();
        self.tracker.close();
        first
    }

    /// Waits for all tasks; false if `wait` passes before.
    pub(crate) async fn wait(&self, wait: Duration, clock: &dyn Clock) -> bool {
        timeout(clock, wait, self.tracker.wait()).await.is_some()
    }
}

const RUNTIME_GONE: &str = "the tokio runtime that it was started on has ended, so start it on a \
                            runtime that lives as long as the program";

/// Runs `task` on the current runtime until it ends; false if there is no runtime. For a store, whose
/// tasks end when the store is dropped.
#[cfg(feature = "postgres")]
pub(crate) fn spawn_here(task: impl Future<Output = ()> + Send + 'static) -> bool {
    let runtime = Handle::try_current();
    runtime.is_ok_and(|runtime| {
        drop(runtime.spawn(task));
        true
    })
}

/// Starts a thread for work that blocks, outside any runtime. `body` itself must notify its waiters
/// when it ends.
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

/// Catches the panics of a future of foreign code, also those of its drop. A panic gives `None`.
pub(crate) struct CatchPanic<F>(Option<F>);

impl<F> CatchPanic<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Some(future))
    }

    fn clear(&mut self) {
        let future = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            tracing::error!("a future panicked when it was dropped");
        }
    }
}

impl<F: Future + Unpin> Future for CatchPanic<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.0 else { return Poll::Ready(None) };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(context)));
        if matches!(polled, Ok(Poll::Pending)) {
            return Poll::Pending;
        }
        self.clear();
        match polled {
            Ok(Poll::Ready(given)) => Poll::Ready(Some(given)),
            Ok(Poll::Pending) | Err(_) => Poll::Ready(None),
        }
    }
}

impl<F> Drop for CatchPanic<F> {
    fn drop(&mut self) {
        self.clear();
    }
}
