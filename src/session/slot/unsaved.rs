//! Unsaved credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Inner, Slot};
use crate::clock::{BootTime, Now};
use crate::journal::{Entry, JournalFault, Room};
use crate::key::SessionId;
use crate::store::{Commit, Statement};

/// The only copy of a rotated token, until the store has it.
pub(crate) struct Unsaved {
    pub(crate) commit: Commit,
    /// The commit's times count from here.
    at: Now,
    /// The room in the journal; `None` if there is no journal.
    room: Option<Room>,
    journaled: AtomicBool,
}

impl Unsaved {
    pub(crate) fn new(commit: Commit, at: Now, room: Option<Room>) -> Self {
        Self { commit, at, room, journaled: AtomicBool::new(false) }
    }

    /// Writes them to the journal, if there is one; true if they are on the disk then.
    pub(crate) async fn write_to_journal(&self, id: &SessionId) -> Result<bool, JournalFault> {
        let Some(room) = &self.room else { return Ok(false) };
        let (id, commit) = (id.clone(), self.commit.clone());
        room.write(&Entry { id, commit, at: self.at.wall }).await?;
        self.journaled.store(true, Ordering::Release);
        Ok(true)
    }

    /// Whether they are in the journal, so that the next process has them.
    pub(crate) fn is_journaled(&self) -> bool {
        self.journaled.load(Ordering::Acquire)
    }

    /// The commit to send now: its times are shorter by the time that has passed.
    pub(crate) fn statement(&self, now: BootTime) -> Statement {
        // Each try counts from `at`: counted from the try, the tokens would seem to live longer.
        let ends = self.commit.ends.after(now.since(self.at.boot));
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
        if let Some(room) = inner.unsaved.as_ref().and_then(|former| former.room.as_ref()) {
            room.free();
        }
        match (&inner.unsaved, &unsaved) {
            (None, Some(_)) => owner.unsaved_came(),
            (Some(_), None) => owner.unsaved_left(),
            (None, None) | (Some(_), Some(_)) => {}
        }
        inner.unsaved = unsaved;
    }
}
