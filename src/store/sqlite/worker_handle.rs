//! The handle to the thread that owns the connection, with its bounded queue of jobs.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::database::Database;
use super::sqlite_fault::SqliteFault;
use super::statement_error::Result;
use super::worker_job::{JobKind, Message, PendingJob};
use super::{Shared, SqliteBuilder, worker};
use crate::store::StoreError;
use crate::task;

/// How many jobs the queue holds; the caller of the next one waits for a permit. Defaults to 1,024,
/// as many as the thread does in some 50 ms. A job that waits for longer waits where it can still
/// be dropped.
const QUEUE_CAPACITY: usize = 1024;

/// The handle to the thread, which stops when the last handle is dropped.
pub(super) struct WorkerHandle {
    sender: Sender<Message>,
    permits: Arc<Semaphore>,
    stopped: CancellationToken,
    /// The file is of an older version; the thread migrates it with the first job after the store
    /// has keys.
    waits_for_keys: bool,
}

impl WorkerHandle {
    /// Opens the file on a thread of its own, and waits until it is open.
    pub(super) fn open(options: SqliteBuilder, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (sender, receiver) = channel();
        let (opened, answer) = channel();
        let stopped = CancellationToken::new();
        let stop_guard = stopped.clone().drop_guard();
        let body = move || {
            worker::run((&options, &shared), &receiver, &opened);
            // Only after `run` has dropped the connection and the process lock: a caller that
            // waits in `stop` may open the file again at once, also exclusively.
            drop(stop_guard);
        };
        let system = |error: std::io::Error| SqliteFault::System(error.kind());
        task::thread("session-store", body).map_err(system)?;
        let opened = answer.recv();
        let waits_for_keys = opened.unwrap_or_else(|_| Err(closed()))?;
        let permits = Arc::new(Semaphore::new(QUEUE_CAPACITY));
        Ok(Self { sender, permits, stopped, waits_for_keys })
    }

    /// Tells the thread that the store has keys now. If the file waited for them, this waits for
    /// its migration, for no longer than an opening.
    pub(super) fn keys_available(&self) -> Result<(), StoreError> {
        if !self.waits_for_keys {
            return Ok(());
        }
        let (reply, answer) = channel();
        self.sender.send(Message::Migrate(reply)).map_err(|_| closed())?;
        answer.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Runs `work` on the thread and waits for its result. The thread may run it twice; it has then
    /// rolled back what the first run wrote.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        kind: JobKind,
        work: impl FnMut(&mut Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let (caller, answer) = oneshot::channel();
        let job = PendingJob::new(kind, work, caller, permit);
        self.sender.send(Message::Run(Box::new(job))).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Stops the thread after the jobs that were queued before, and waits until the file is closed.
    pub(super) async fn stop(&self) {
        // If the thread is gone, there is nothing to stop.
        drop(self.sender.send(Message::Stop));
        self.stopped.cancelled().await;
    }
}

fn closed() -> StoreError {
    SqliteFault::Closed.into()
}
