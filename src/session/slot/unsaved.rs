//! Unsaved credentials.

use std::sync::Arc;

use super::{Inner, Slot};
use crate::clock::BootTime;
use crate::store::{Commit, Statement};

/// The only copy of a rotated token, until the store has it.
pub(crate) struct Unsaved {
    pub(crate) commit: Commit,
    /// The commit's times count from here.
    at: BootTime,
}

impl Unsaved {
    pub(crate) fn new(commit: Commit, at: BootTime) -> Self {
        Self { commit, at }
    }

    /// The commit to send now: its times are shorter by the time that has passed.
    pub(crate) fn statement(&self, now: BootTime) -> Statement {
        // Each try counts from `at`: counted from the try, the tokens would seem to live longer.
        let ends = self.commit.ends.after(now.since(self.at));
        Statement::Commit(Commit { ends, ..self.commit.clone() })
    }
}

impl Slot {
    pub(crate) fn keep_unsaved(&self, unsaved: Unsaved) {
        self.set_unsaved(&mut self.inner.lock(), Some(Arc::new(unsaved)));
    }

    pub(crate) fn unsaved(&self) -> Option<Arc<Unsaved>> {
        self.inner.lock().unsaved.clone()
    }

    /// Clears the unsaved credentials if they are still these.
    pub(crate) fn clear_unsaved(&self, saved: &Arc<Unsaved>) -> bool {
        let mut inner = self.inner.lock();
        inner.claims.ended(saved.commit.attempt.claim);
        // A slow statement may be answered when the next exchange has put newer ones here.
        let same = inner.unsaved.as_ref().is_some_and(|unsaved| Arc::ptr_eq(unsaved, saved));
        if same {
            self.set_unsaved(&mut inner, None);
        }
        same
    }

    /// Changes the unsaved credentials. Only this does, so that the client's count is right.
    pub(super) fn set_unsaved(&self, inner: &mut Inner, unsaved: Option<Arc<Unsaved>>) {
        let owner = self.tenant_client.owner();
        match (&inner.unsaved, &unsaved) {
            (None, Some(_)) => owner.unsaved_came(),
            (Some(_), None) => owner.unsaved_left(),
            (None, None) | (Some(_), Some(_)) => {}
        }
        inner.unsaved = unsaved;
    }
}
