//! The permits of one client's exchanges: callers wait for them in order, and the schedule takes
//! what no caller waits for.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The permits, and the places of the schedule's lane.
pub(super) struct PermitLanes {
    permits: Arc<Semaphore>,
    /// At most so many of the schedule's exchanges have a permit, or try to get one.
    places: Arc<Semaphore>,
    /// A permit was given back.
    freed: Arc<Notify>,
}

/// A permit of the schedule's lane that no exchange uses yet. Dropped, it is given back.
pub(crate) struct ScheduledPermit(pub(super) Held);

/// A permit that is held. Dropped, it is given back, and the schedule's lane looks again.
pub(super) struct Held {
    /// None only while it is waited for.
    permit: Option<OwnedSemaphorePermit>,
    /// None in the callers' lane.
    place: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
}

impl PermitLanes {
    /// The schedule has half of the permits at most, and one at least.
    pub(super) fn new(permits: usize) -> Self {
        let permits = permits.min(Semaphore::MAX_PERMITS);
        let places = (permits / 2).max(1);
        let [permits, places] = [permits, places].map(|count| Arc::new(Semaphore::new(count)));
        Self { permits, places, freed: Arc::default() }
    }

    /// A caller's permit, in the order in which they came.
    pub(super) async fn queue(&self) -> Option<Held> {
        // Made before the wait, so that it is dropped after it. A caller who gives up may already
        // have got a permit; only this drop then tells the schedule that the permit is free.
        let mut held = Held { permit: None, place: None, freed: Arc::clone(&self.freed) };
        held.permit = Some(Arc::clone(&self.permits).acquire_owned().await.ok()?);
        Some(held)
    }

    /// A permit of the schedule's lane, whenever one is free that no caller waits for.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost but the place among those of the schedule's who wait.
    pub(super) async fn acquire_for_schedule(&self) -> ScheduledPermit {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            // ProviderEntry before the try, so that a permit given back between the two wakes it. The
            // drop wakes all who wait: of several notices to one, `Notify` keeps only one.
            let freed = self.freed.notified();
            // This overtakes no caller: a permit that is given back goes to those who queue, and is
            // free for a try only if nobody does.
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                let freed = Arc::clone(&self.freed);
                return ScheduledPermit(Held { permit: Some(permit), place, freed });
            }
            freed.await;
        }
    }

    /// Whether this is a permit of this client's, and not of one that it replaces.
    pub(super) fn gave(&self, scheduled_permit: &ScheduledPermit) -> bool {
        Arc::ptr_eq(&self.freed, &scheduled_permit.0.freed)
    }
}

impl Held {
    /// It is a caller's from now on.
    pub(super) fn leave_schedule(&mut self) {
        self.place = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Before the notice: who is woken by it finds the permit.
        drop(self.permit.take());
        self.freed.notify_waiters();
    }
}
