//! The queue of loads that no caller waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::machine::Start;
use super::slot::Slot;
use crate::policy::READ_PAGE;

/// Loads after changes of other processes. Each change queues its session at most once. The session
/// is served meanwhile.
#[derive(Default)]
pub(crate) struct LoadQueue {
    queue: Mutex<VecDeque<(Arc<Slot>, Start)>>,
    pub(crate) more: Notify,
}

impl LoadQueue {
    pub(crate) fn add(&self, slot: &Arc<Slot>, what: Start) {
        self.queue.lock().push_back((Arc::clone(slot), what));
        self.more.notify_one();
    }

    pub(crate) fn page(&self) -> Vec<(Arc<Slot>, Start)> {
        let mut queue = self.queue.lock();
        let some = READ_PAGE.min(queue.len());
        queue.drain(..some).collect()
    }
}
