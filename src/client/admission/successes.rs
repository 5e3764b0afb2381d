//! When the sessions of one client last succeeded.

use crate::clock::BootTime;
use crate::key::SessionId;

/// The latest success of a client's sessions, and the latest success of any other session.
#[derive(Default)]
pub(super) struct Successes {
    latest: Option<(SessionId, BootTime)>,
    another: Option<BootTime>,
}

impl Successes {
    pub(super) fn note(&mut self, session: &SessionId, now: BootTime) {
        match &mut self.latest {
            Some((latest, at)) if latest == session => *at = now,
            latest => {
                self.another = latest.take().map(|(_, at)| at);
                *latest = Some((session.clone(), now));
            }
        }
    }

    pub(super) fn of_another(&self, session: &SessionId) -> Option<BootTime> {
        match &self.latest {
            Some((latest, _)) if latest == session => self.another,
            latest => latest.as_ref().map(|(_, at)| *at),
        }
    }
}
