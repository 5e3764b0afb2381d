//! A semaphore whose size may change while its permits are held.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A semaphore whose size may change.
#[derive(Clone)]
pub(super) struct ResizableSemaphore(Arc<Inner>);

struct Inner {
    semaphore: Arc<Semaphore>,
    size: Mutex<Size>,
}

struct Size {
    target: usize,
    /// How many permits too many there still are, because they were held when the target became
    /// smaller. The next ones that are given back are removed.
    surplus: usize,
}

/// A permit that is held, or waited for. Its drop gives it back, or removes it if there are too
/// many.
pub(super) struct ResizablePermit {
    /// `None` only during the wait for it.
    permit: Option<OwnedSemaphorePermit>,
    of: ResizableSemaphore,
}

impl ResizableSemaphore {
    pub(super) fn new(permits: usize) -> Self {
        let target = permits.min(Semaphore::MAX_PERMITS);
        let semaphore = Arc::new(Semaphore::new(target));
        Self(Arc::new(Inner { semaphore, size: Mutex::new(Size { target, surplus: 0 }) }))
    }

    /// Changes the number of permits. Permits that are held stay valid: if there are too many, no
    /// other is given until enough of them are given back.
    pub(super) fn resize(&self, permits: usize) {
        let permits = permits.min(Semaphore::MAX_PERMITS);
        let mut size = self.0.size.lock();
        if size.target == permits {
            return;
        }
        let (former, missing) = (size.target, permits.saturating_sub(size.target));
        size.target = permits;
        size.surplus += former.saturating_sub(permits);
        // A permit that is still to be removed is kept in place of a new one.
        let kept = missing.min(size.surplus);
        size.surplus -= kept;
        self.0.semaphore.add_permits(missing - kept);
        self.remove_free(&mut size);
    }

    /// Waits for a permit, in the order of the calls.
    pub(super) async fn acquire(&self) -> Option<ResizablePermit> {
        // Made before the wait, so that it is dropped after the wait's future. If that is dropped
        // with a permit that it has just got, this drop removes the permit if there are too many.
        let mut acquired = ResizablePermit { permit: None, of: self.clone() };
        acquired.permit = Some(Arc::clone(&self.0.semaphore).acquire_owned().await.ok()?);
        Some(acquired)
    }

    /// Takes a permit that is free and for which nobody waits.
    pub(super) fn try_acquire(&self) -> Option<ResizablePermit> {
        let permit = Arc::clone(&self.0.semaphore).try_acquire_owned().ok()?;
        Some(ResizablePermit { permit: Some(permit), of: self.clone() })
    }

    fn remove_free(&self, size: &mut Size) {
        if size.surplus > 0 {
            size.surplus -= self.0.semaphore.forget_permits(size.surplus);
        }
    }

    fn give_back(&self, permit: Option<OwnedSemaphorePermit>) {
        let mut size = self.0.size.lock();
        match permit {
            // Not given back first: the next waiter would get it.
            Some(permit) if size.surplus > 0 => {
                permit.forget();
                size.surplus -= 1;
            }
            permit => drop(permit),
        }
        self.remove_free(&mut size);
    }
}

impl Drop for ResizablePermit {
    fn drop(&mut self) {
        self.of.give_back(self.permit.take());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn held(semaphore: &ResizableSemaphore) -> Vec<ResizablePermit> {
        std::iter::from_fn(|| semaphore.try_acquire()).collect()
    }

    #[test]
    fn what_is_free_follows_the_size_at_once() {
        let semaphore = ResizableSemaphore::new(6);
        for (size, free) in [(2, 2), (2, 2), (9, 9), (0, 0), (6, 6)] {
            semaphore.resize(size);
            assert_eq!(held(&semaphore).len(), free);
        }
    }

    #[test]
    fn of_permits_that_are_held_only_as_many_come_back_as_there_may_be() {
        let semaphore = ResizableSemaphore::new(6);
        let mut permits = held(&semaphore);
        semaphore.resize(2);
        for left in (2..6).rev() {
            permits.pop();
            assert!(semaphore.try_acquire().is_none(), "{left} are still held");
        }
        permits.pop();
        assert_eq!(held(&semaphore).len(), 1);
        permits.clear();
        assert_eq!(held(&semaphore).len(), 2);
    }

    #[test]
    fn a_size_that_is_given_back_in_time_removes_no_permit() {
        let semaphore = ResizableSemaphore::new(6);
        let permits = held(&semaphore);
        semaphore.resize(2);
        semaphore.resize(5);
        assert!(semaphore.try_acquire().is_none());
        drop(permits);
        assert_eq!(held(&semaphore).len(), 5);
        semaphore.resize(8);
        assert_eq!(held(&semaphore).len(), 8);
    }

    #[tokio::test]
    async fn who_waits_gets_no_permit_that_is_too_many() {
        let semaphore = ResizableSemaphore::new(2);
        let mut permits = held(&semaphore);
        let mut waiting = Box::pin(semaphore.acquire());
        assert!((&mut waiting).now_or_never().is_none());
        semaphore.resize(1);
        permits.pop();
        assert!((&mut waiting).now_or_never().is_none());
        permits.pop();
        assert!((&mut waiting).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_with_its_permit_leaves_no_permit_that_is_too_many() {
        let semaphore = ResizableSemaphore::new(2);
        let mut permits = held(&semaphore);
        let mut waiting = Box::pin(semaphore.acquire());
        assert!((&mut waiting).now_or_never().is_none());
        permits.pop();
        // The wait has its permit now, and does not know.
        semaphore.resize(1);
        drop(waiting);
        assert!(semaphore.try_acquire().is_none());
        permits.pop();
        assert_eq!(held(&semaphore).len(), 1);
    }
}
