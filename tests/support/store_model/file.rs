//! A file with the sessions of one walk, and the processes that share it.

use async_trait::async_trait;
use session_warden::clock::Clock;
use session_warden::store::Store;
use session_warden::store::sqlite::SqliteStore;
use tempfile::TempDir;

use super::{Database, HANDLES};
use crate::store_statements::ring;

/// A file that shows the time of a clock.
pub struct File<C> {
    folder: TempDir,
    clock: C,
    handles: Vec<SqliteStore>,
}

impl<C: Clock + Clone> File<C> {
    pub fn new(clock: C) -> Self {
        let mut file = Self { folder: tempfile::tempdir().unwrap(), clock, handles: Vec::new() };
        file.handles = (0..HANDLES).map(|_| file.open()).collect();
        file
    }

    fn open(&self) -> SqliteStore {
        let builder = SqliteStore::builder(self.folder.path().join("sessions.db"));
        builder.key_ring(ring(1)).clock(self.clock.clone()).open().unwrap()
    }
}

#[async_trait(?Send)]
impl<C: Clock + Clone> Database for File<C> {
    fn handle(&self, number: usize) -> &dyn Store {
        &self.handles[number]
    }

    fn observers(&self) -> Vec<&dyn Store> {
        self.handles.iter().map(|handle| handle as &dyn Store).collect()
    }

    /// The process that goes on must hold no lease: a file knows which of its processes have ended,
    /// so that leases would end at once, which memory does not do.
    async fn reopen(&mut self, handle: usize, is_leased: bool) {
        if !is_leased {
            self.handles[handle].shutdown().await;
            self.handles[handle] = self.open();
        }
    }
}
