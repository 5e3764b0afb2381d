//! Where the sessions of a test are kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use session_warden::store::Store;
use session_warden::store::postgres::PostgresStore;
use session_warden::store::sqlite::SqliteStore;

use super::orders::keys;
use super::replica::pause;
use crate::postgres_cluster::PostgresCluster;

/// How often a process tries to open its store, ten times a second.
const TRIES: usize = 200;

/// Which store a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    File,
    Postgres,
}

/// A store, as its processes open it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Database {
    File(PathBuf),
    /// A URL.
    Postgres(String),
}

impl Database {
    /// An empty one; a file is in this folder.
    pub async fn new(kind: StoreKind, folder: &Path) -> Self {
        match kind {
            StoreKind::File => Self::File(folder.join("sessions.db")),
            StoreKind::Postgres => {
                Self::Postgres(PostgresCluster::shared().await.new_database().await)
            }
        }
    }

    /// For a supervisor, which has the keys.
    pub async fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::File(path) => Arc::new(SqliteStore::open(path).unwrap()),
            Self::Postgres(url) => {
                Arc::new(until_it_is_there(async || PostgresStore::connect(url).await).await)
            }
        }
    }

    /// Beside the processes, without a supervisor.
    pub async fn reader(&self) -> Reader {
        match self {
            Self::File(path) => {
                Reader::File(SqliteStore::builder(path).key_ring(keys()).open().unwrap())
            }
            Self::Postgres(url) => {
                let builder = PostgresStore::builder(url).key_ring(keys());
                Reader::Postgres(builder.open().await.unwrap())
            }
        }
    }

    /// The path, if it is a file.
    pub fn file(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }
}

/// Repeats what needs a database, which may have failed for a moment.
///
/// # Panics
///
/// With the error, if it fails for long.
pub async fn until_it_is_there<T, E: std::fmt::Debug>(start: impl AsyncFn() -> Result<T, E>) -> T {
    for _ in 0..TRIES {
        match start().await {
            Ok(started) => return started,
            Err(_) => pause(100).await,
        }
    }
    start().await.unwrap()
}

/// A store that is only read.
pub enum Reader {
    File(SqliteStore),
    Postgres(PostgresStore),
}

impl Reader {
    pub fn store(&self) -> &dyn Store {
        match self {
            Self::File(store) => store,
            Self::Postgres(store) => store,
        }
    }

    /// After this a file may be read as a file: to do so beside a connection of the same process
    /// would take its locks from it.
    pub async fn close(&self) {
        if let Self::File(store) = self {
            store.shutdown().await;
        }
    }
}
