//! A sign-in that waits for a client that the server rejects.

use super::Admission;

/// A sign-in that waits for the client. Refreshes leave the next probe to it.
pub(super) struct WaitingSignIn<'a>(&'a Admission);

impl<'a> WaitingSignIn<'a> {
    pub(super) fn new(admission: &'a Admission) -> Self {
        admission.state.lock().stop.waiting_sign_ins += 1;
        Self(admission)
    }
}

impl Drop for WaitingSignIn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().stop.waiting_sign_ins -= 1;
        self.0.changed.notify_waiters();
    }
}
