//! The change feed and the loads of a process, as `Context::news`, `load::loaded` and
//! `load::restore` handle them.

use super::Mutation;
use super::act::Model;
use super::product::instant;
use super::world::{PendingLoad, World};
use crate::session::machine::{ExternalChange, Input, Settled};
use crate::store::{Change, Outcome, Restore, Statement, Stored};

impl Model {
    /// Notes all changes of the feed, each as `Context::news` does.
    pub(super) fn notice_all(&self, w: &mut World, p: usize) {
        for change in std::mem::take(&mut w.processes[p].feed) {
            self.notice(w, p, change);
        }
    }

    fn notice(&self, w: &mut World, p: usize, change: Change) {
        let Change { version, epoch, generation, phase } = change;
        let ended =
            matches!(phase, None | Some(crate::store::Phase::Lost | crate::store::Phase::Closed));
        let process = &mut w.processes[p];
        let newer = (epoch, generation) > process.state.counters();
        let ends = ended || (newer && self.product.refresh_ends_access_tokens());
        let known = process.state.is_unloaded() && process.state.load.running.is_none();
        let external_change = ExternalChange { version: Some(version), ends };
        if ended && !known && version > process.state.version {
            process.dead_up_to = process.dead_up_to.max(generation);
        }
        if !(self.has(Mutation::ChangesAtRestOnly) && process.state.is_busy()) {
            self.apply(w, p, Input::ExternalChange(external_change));
        }
    }

    /// One step of a load.
    pub(super) fn load(&mut self, w: &mut World, p: usize) {
        let now = instant(w.now, 0);
        match std::mem::replace(&mut w.processes[p].load, PendingLoad::None) {
            PendingLoad::None => {}
            PendingLoad::Wanted(number) => {
                let read = w.processes[p].state.load;
                if read.number == number && read.running.is_some() {
                    let found = w.record.clone().map(|record| Box::new(Stored { record, now }));
                    w.processes[p].load = PendingLoad::Found(number, found);
                }
            }
            PendingLoad::Found(read, found) => {
                let found = found.map(|found| *found);
                let (version, settled) = self.product.found(&w.processes[p], w.now, found);
                self.apply(w, p, Input::Loaded { read, version, settled });
            }
            PendingLoad::Restore => self.restore(w, p),
        }
    }

    /// Writes the credentials again that the store had and lost.
    fn restore(&mut self, w: &mut World, p: usize) {
        let state = &w.processes[p].state;
        let (Some(Settled::Active(held) | Settled::InDoubt(held, _)), version) =
            (&state.settled, state.version)
        else {
            return;
        };
        let credentials = super::product::tok_of(&held.credentials);
        let (epoch, generation) = (held.epoch, held.generation);
        w.ids += 1;
        let claim = crate::store::ClaimId(w.ids);
        let base = generation.saturating_sub(1);
        let attempt = crate::store::Attempt { base, fence: version, claim };
        let ends = crate::store::Ends::default();
        let restore = Restore { version, epoch, generation, attempt, credentials, ends };
        match self.store(w, Statement::Restore(restore)) {
            Some(Outcome::Done(done)) => {
                self.apply(w, p, Input::Wrote { version: done.version });
            }
            Some(_) | None => {
                self.apply(w, p, Input::ExternalChange(ExternalChange::UNKNOWN));
            }
        }
    }

    /// Drops changes that the process knows already.
    pub(super) fn drop_known_changes(w: &mut World, p: usize) {
        let process = &mut w.processes[p];
        let unread = process.state.is_unloaded() && process.state.load.running.is_none();
        while let Some(change) = process.feed.first() {
            if !unread && change.version > process.state.version {
                break;
            }
            process.feed.remove(0);
        }
    }
}
