//! Who waits at a slot, and the jobs that do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Slot;
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::session::job::Job;

impl Slot {
    /// Makes room for one waiter more, until the place is dropped.
    pub(crate) fn waiter_permit(self: &Arc<Self>, most: usize) -> Result<WaiterPermit, Error> {
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
            // The job's caller waits for what runs, which must not wait behind other callers.
            flight.join();
        }
        Ok(())
    }

    /// The first job whose caller has not gone.
    pub(crate) fn next_job(&self) -> Option<Job> {
        let mut inner = self.inner.lock();
        inner.queue.retain(|job| !job.is_abandoned());
        let job = inner.queue.pop_front();
        if inner.queue.is_empty() {
            // Grants are rare, and the room for them would stay with every session.
            inner.queue = VecDeque::new();
        }
        job
    }

    /// Refuses the jobs that a shutdown leaves unbegun, of those that `which` is true for.
    pub(crate) fn refuse(&self, which: impl Fn(&Job) -> bool) {
        let mut inner = self.inner.lock();
        let (refused, kept): (VecDeque<_>, _) = inner.queue.drain(..).partition(|job| which(job));
        inner.queue = kept;
        drop(inner);
        refused.into_iter().for_each(|job| job.refuse(self.unbegun(ErrorKind::ShuttingDown)));
    }

    /// The error of what was asked for and has not begun.
    pub(crate) fn unbegun(&self, kind: ErrorKind) -> Error {
        Error::new(kind).with_outcome(ExchangeOutcome::NotSent).of_session(&self.id)
    }

    /// Whether there is a job that can be begun.
    pub(crate) fn has_work(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.queue.retain(|job| !job.is_abandoned());
        !inner.queue.is_empty() && !inner.state.is_busy()
    }
}

/// A waiter's place; given back when it is dropped.
pub(crate) struct WaiterPermit(Arc<Slot>);

impl Drop for WaiterPermit {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Nothing was sent: a grant that was turned away here is still good.
fn full(what: &'static str) -> Error {
    Error::new(ErrorKind::Capacity).about(what).with_outcome(ExchangeOutcome::NotSent)
}
