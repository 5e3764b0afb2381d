//! The way to the thread that owns the connection: one bounded queue of statements.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::fault::{Result, SqliteFault};
use super::job::{Ask, Message, Need};
use super::owner::own;
use super::table::Tables;
use super::{Shared, SqliteBuilder};
use crate::clock::{Clock, SystemClock};
use crate::store::StoreError;
use crate::task;

/// How many statements wait at most; the next one's caller waits for a place. Defaults to 1,024, as
/// many as are done in some 50 ms, so that what waits longer waits where it can be dropped.
const QUEUE: usize = 1024;

/// The way to the thread. The thread ends with the last of them.
pub(super) struct Queue {
    sender: Sender<Message>,
    places: Arc<Semaphore>,
    ended: CancellationToken,
    /// The file is of an older version, and is brought forward by the first statement after there
    /// are keys.
    waits_for_keys: bool,
}

impl Queue {
    /// Opens the file on a thread of its own, and waits for that.
    pub(super) fn open(with: SqliteBuilder, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (sender, receiver) = channel();
        let (opened, answer) = channel();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let body = move || {
            own((&with, &shared), &receiver, &opened);
            // Only now: whoever waits for the end may open the file again.
            drop(end);
        };
        let system = |error: std::io::Error| SqliteFault::System(error.kind());
        task::thread("session-store", body).map_err(system)?;
        let opened = answer.recv();
        let waits_for_keys = opened.unwrap_or_else(|_| Err(closed()))?;
        Ok(Self { sender, places: Arc::new(Semaphore::new(QUEUE)), ended, waits_for_keys })
    }

    /// There are keys now. Waits for a file that waited for them, as long as an opening does.
    pub(super) fn has_keys(&self) -> Result<(), StoreError> {
        if !self.waits_for_keys {
            return Ok(());
        }
        let (reply, answer) = channel();
        self.sender.send(Message::Forward(reply)).map_err(|_| closed())?;
        answer.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Has `work` done, which may be done twice: whatever it wrote the first time is then undone.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        need: Need,
        work: impl FnMut(&mut Tables<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let since = SystemClock::new().now().monotonic;
        let ask = Ask { need, since, work, done: None, reply, _place: place };
        self.sender.send(Message::Do(Box::new(ask))).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Ends the thread after what was asked before, and waits for that.
    pub(super) async fn end(&self) {
        // If the thread is gone, there is nothing to be ended.
        drop(self.sender.send(Message::End));
        self.ended.cancelled().await;
    }
}

fn closed() -> StoreError {
    SqliteFault::Closed.into()
}
