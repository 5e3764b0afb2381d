//! Credentials that are still to be saved.

use crate::clock::BootTime;
use crate::store::{Commit, Statement};

/// The only copy of a rotated token, until the store has it.
pub(crate) struct Unsaved {
    pub(crate) commit: Commit,
    /// When the commit's times were counted.
    at: BootTime,
}

impl Unsaved {
    pub(crate) fn new(commit: Commit, at: BootTime) -> Self {
        Self { commit, at }
    }

    /// The commit as it is sent now: its times are shorter by what has passed.
    pub(crate) fn statement(&self, now: BootTime) -> Statement {
        let ends = self.commit.ends.after(now.since(self.at));
        Statement::Commit(Commit { ends, ..self.commit.clone() })
    }
}
