//! Unsaved credentials.

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
