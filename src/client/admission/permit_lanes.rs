//! The permits of one client's exchanges: callers wait for them in order, and the schedule takes
//! those for which no caller waits.

mod resizable_semaphore;

use std::sync::Arc;

use tokio::sync::Notify;

use self::resizable_semaphore::{ResizablePermit, ResizableSemaphore};

/// The permits, and the limit of the schedule's lane.
pub(super) struct PermitLanes {
    permits: ResizableSemaphore,
    /// Limits how many scheduled exchanges have a permit or try to get one.
    scheduled: ResizableSemaphore,
    /// Notifies that a permit was given back.
    freed: Arc<Notify>,
}

/// A permit of the schedule's lane that no exchange uses yet. Its drop gives it back.
pub(crate) struct ScheduledPermit(pub(super) Held);

/// A permit that is held. Its drop gives it back and lets the schedule's lane try again.
pub(super) struct Held {
    /// `None` only during the wait for it.
    permit: Option<ResizablePermit>,
    /// `None` in the callers' lane.
    scheduled: Option<ResizablePermit>,
    freed: Arc<Notify>,
}

impl PermitLanes {
    /// The schedule gets at most half of the permits, and at least one.
    pub(super) fn new(permits: usize) -> Self {
        let [permits, scheduled] = [permits, of_schedule(permits)].map(ResizableSemaphore::new);
        Self { permits, scheduled, freed: Arc::default() }
    }

    /// Changes the number of permits, also while exchanges run: those keep theirs.
    pub(super) fn resize(&self, permits: usize) {
        self.permits.resize(permits);
        self.scheduled.resize(of_schedule(permits));
        // The schedule tries again, because there may be more.
        self.freed.notify_waiters();
    }

    /// Waits for a caller's permit. Callers get permits in the order in which they came.
    pub(super) async fn queue(&self) -> Option<Held> {
        // Made before the wait, so that it is dropped after the wait's future. A caller who gives
        // up may already have got a permit, and only this drop then notifies the schedule that the
        // permit is free.
        let mut held = Held { permit: None, scheduled: None, freed: Arc::clone(&self.freed) };
        held.permit = Some(self.permits.acquire().await?);
        Some(held)
    }

    /// Waits for a permit of the schedule's lane: one that is free and for which no caller waits.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped; it only loses its order among the scheduled exchanges that wait.
    pub(super) async fn acquire_for_schedule(&self) -> ScheduledPermit {
        let scheduled = self.scheduled.acquire().await;
        loop {
            // Registered before the try, so that a permit that is given back between the two wakes
            // it. The drop of a permit wakes all that wait, because `Notify` keeps only one of
            // several notifications to one.
            let freed = self.freed.notified();
            // This overtakes no caller: a permit that is given back goes to the callers that queue,
            // and is free for a try only if none does.
            if let Some(permit) = self.permits.try_acquire() {
                let freed = Arc::clone(&self.freed);
                return ScheduledPermit(Held { permit: Some(permit), scheduled, freed });
            }
            freed.await;
        }
    }

    /// Whether this permit belongs to this client, and not to one that it replaces.
    pub(super) fn owns(&self, scheduled_permit: &ScheduledPermit) -> bool {
        Arc::ptr_eq(&self.freed, &scheduled_permit.0.freed)
    }
}

fn of_schedule(permits: usize) -> usize {
    (permits / 2).max(1)
}

impl Held {
    /// Makes it a caller's permit.
    pub(super) fn leave_schedule(&mut self) {
        self.scheduled = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Before the notification, so that the woken task finds the permit.
        drop(self.permit.take());
        self.freed.notify_waiters();
    }
}
