//! The task that loads records in batches. The loads that have arrived while the last batch was
//! under way make the next one, so a load that comes alone waits for nobody.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::connections::MAX_LOST;
use super::postgres_fault::PostgresFault;
use super::read_rows::ReadRows;
use crate::key::SessionId;
use crate::store::record_cipher::SealedCredentials;
use crate::store::{StoreError, Stored};

/// How many records one query loads at most. Defaults to 256, some 200 KB: more would make the
/// first of them wait.
const MAX_LOADS: usize = 256;

/// How many loads wait for the lane at most; more wait outside. Defaults to 4,096, sixteen queries.
pub(super) const MAX_QUEUED_LOADS: usize = 4096;

/// A record to be loaded.
pub(super) struct Load {
    pub(super) id: SessionId,
    pub(super) reply: oneshot::Sender<LoadResult>,
}

/// A record as it was read, with its credentials still sealed.
pub(super) type LoadResult = Result<Option<Stored<SealedCredentials>>, StoreError>;

/// Serves the queue until the store is dropped.
pub(super) async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Load>) {
    while let Some(first) = queue.recv().await {
        let mut loads = vec![first];
        while loads.len() < MAX_LOADS {
            let Ok(load) = queue.try_recv() else { break };
            loads.push(load);
        }
        loads.retain(|load| !load.reply.is_closed());
        let read = read(&shared, &loads).await;
        answer(&shared, loads, read);
    }
}

async fn read(shared: &Shared, loads: &[Load]) -> Result<ReadRows, PostgresFault> {
    let ids: Vec<_> = loads.iter().map(|load| &load.id).collect();
    let mut lost = 0;
    loop {
        let mut connection = shared.connections.get(&shared.connections.reads).await?;
        match shared.read_rows(&mut connection, &ids).await {
            // The server or PgBouncer has closed the connection while it was idle. A read can be
            // sent again.
            Err(PostgresFault::ConnectionLost) if lost < MAX_LOST => lost += 1,
            read => return read,
        }
    }
}

fn answer(shared: &Shared, loads: Vec<Load>, read: Result<ReadRows, PostgresFault>) {
    let read = match read {
        Ok(read) => read,
        Err(fault) => {
            for load in loads {
                drop(load.reply.send(Err(fault.clone().into())));
            }
            return;
        }
    };
    let now = read.at.now();
    for (load, found) in loads.into_iter().zip(read.into_rows()) {
        let found = match found {
            None => Ok(None),
            Some(Ok(row)) => {
                shared.known.note(&load.id, Arc::clone(&row));
                Ok(Some(Stored { record: row.record.clone(), now }))
            }
            Some(Err(unreadable)) => Err(unreadable.error),
        };
        drop(load.reply.send(found));
    }
}
