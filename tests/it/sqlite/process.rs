//! A supervisor on a file, as a process has it.

use session_warden::event::Events;
use session_warden::provider::Rotation;
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{Phase, Store};
use session_warden::testing::{Faults, FaultyStore, ManualClock, Script, ScriptedProvider};
use session_warden::{Session, Supervisor};

use super::bed::{Folder, ring};
use crate::support::{LIFE, session};

/// What ends with a process.
pub struct Process {
    pub supervisor: Supervisor,
    pub session: Session<ScriptedProvider>,
    pub script: Script,
    pub store: SqliteStore,
    pub faults: Faults,
    pub events: Events,
}

impl Process {
    /// Time stands still but for what the test says, so that no wait for the disk counts.
    pub async fn start(folder: &Folder, clock: &ManualClock, rotation: Rotation) -> Self {
        let provider = ScriptedProvider::new().lifetime(LIFE).rotation(rotation);
        let script = provider.script();
        let store = SqliteStore::open(folder.database()).unwrap();
        let faulty = FaultyStore::new(store.clone());
        let faults = faulty.faults();
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .key_ring(ring(1))
            .store(faulty)
            .provider("p", provider)
            .start()
            .await
            .unwrap();
        let session = session(&supervisor, "device");
        let events = supervisor.subscribe();
        Self { supervisor, session, script, store, faults, events }
    }

    pub async fn phase(&self) -> Phase {
        let listed = self.store.list(&Default::default(), None, 2).await.unwrap();
        listed.first().unwrap().record.phase
    }

    /// As if it were killed: its file is let go of, and nothing that it holds in memory is written.
    pub async fn die(self) {
        self.store.shutdown().await;
        drop(self.supervisor);
    }
}
