//! The waiters of a slot, and its queue of jobs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Slot;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::session::job::Job;

impl Slot {
    /// Counts one waiter more until the permit is dropped.
    pub(crate) fn waiter_permit(self: &Arc<Self>, most: usize) -> Result<WaiterPermit, Error> {
        // The permit exists before the count is raised: its drop lowers the count in both cases.
        let permit = WaiterPermit(Arc::clone(self));
        if self.waiters.fetch_add(1, Ordering::AcqRel) >= most {
            return Err(full("too many callers wait"));
        }
        Ok(permit)
    }

    pub(crate) fn enqueue(&self, job: Job, most: usize) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        inner.queue.retain(|job| !job.is_abandoned());
        if inner.queue.len() >= most {
            return Err(full("too many grants are queued"));
        }
        inner.queue.push_back(job);
        if let Some(flight) = &inner.flight {
            // The job runs after this exchange, so admission must not keep that in the background.
            // Under the lock of the push: the exchange could end, or another begin, between them.
            flight.join();
        }
        Ok(())
    }

    /// The first job whose caller still waits.
    pub(crate) fn next_job(&self) -> Option<Job> {
        let mut inner = self.inner.lock();
        inner.queue.retain(|job| !job.is_abandoned());
        let job = inner.queue.pop_front();
        if inner.queue.is_empty() {
            // Free the memory: grants are rare, and there are many sessions.
            inner.queue = VecDeque::new();
        }
        job
    }

    /// Refuses the queued jobs for which `which` is true, because of a shutdown.
    pub(crate) fn refuse(&self, which: impl Fn(&Job) -> bool) {
        let mut inner = self.inner.lock();
        let (refused, kept): (VecDeque<_>, _) = inner.queue.drain(..).partition(|job| which(job));
        inner.queue = kept;
        // Release the lock before the answers: a caller that wakes up takes it.
        drop(inner);
        refused.into_iter().for_each(|job| job.refuse(self.unbegun(ErrorKind::ShuttingDown)));
    }

    /// The error of a job that has not begun.
    pub(crate) fn unbegun(&self, kind: ErrorKind) -> Error {
        Error::new(kind).with_outcome(ExchangeOutcome::NotSent).of_session(&self.id)
    }

    /// Whether a job can begin.
    pub(crate) fn has_work(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.queue.retain(|job| !job.is_abandoned());
        !inner.queue.is_empty() && !inner.state.is_busy()
    }
}

/// Counts one waiter until it is dropped.
pub(crate) struct WaiterPermit(Arc<Slot>);

impl Drop for WaiterPermit {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}

/// `NotSent`: a grant that is refused here can be used again.
fn full(what: &'static str) -> Error {
    Error::new(ErrorKind::Capacity).about(what).with_outcome(ExchangeOutcome::NotSent)
}
