//! Random statements on a file that two processes share, on memory and on the model of all stores.

use std::sync::Arc;

use async_trait::async_trait;
use proptest::prelude::*;
use session_warden::store::Store;
use session_warden::store::sqlite::SqliteStore;

use super::store_folder::Folder;
use crate::store_model::{Database, HANDLES, Run, walks};

struct File {
    folder: Folder,
    /// All ask the same file.
    handles: [SqliteStore; HANDLES],
}

impl File {
    fn new() -> Self {
        let folder = Folder::new();
        let handles = std::array::from_fn(|_| folder.store());
        Self { folder, handles }
    }
}

#[async_trait(?Send)]
impl Database for File {
    fn handle(&self, number: usize) -> &dyn Store {
        &self.handles[number]
    }

    fn observers(&self) -> Vec<&dyn Store> {
        self.handles.iter().map(|handle| handle as &dyn Store).collect()
    }

    /// The process that goes on must hold no lease, or leases would end at once, which memory does
    /// not do.
    async fn reopen(&mut self, handle: usize, is_leased: bool) {
        if !is_leased {
            self.handles[handle].shutdown().await;
            self.handles[handle] = self.folder.store();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_file_two_processes_share_memory_and_the_model_agree_on_any_statements(walk in walks()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let file = File::new();
            let clock = file.folder.clock.clone();
            let shown = Arc::new(clock.clone());
            Run::new(clock, shown, vec![Box::new(file)]).walk(&walk).await;
        });
    }
}
