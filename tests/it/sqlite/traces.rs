//! Data on the disk after a session was forgotten.

use std::time::Duration;

use session_warden::provider::Rotation;
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{Intent, Store};
use session_warden::testing::ManualClock;

use super::store_folder::{Folder, Process, delete as forget, exchange, id_of};

fn count(folder: &Folder, needle: &str) -> usize {
    let bytes = folder.bytes();
    bytes.windows(needle.len()).filter(|window| *window == needle.as_bytes()).count()
}

/// Names that differ, of a length that varies, so that rows lie in any order and on many pages.
fn name(number: u32) -> String {
    let mixed = number.wrapping_mul(2_654_435_761);
    format!("canary{mixed:08x}{}", "x".repeat(usize::try_from(mixed % 90).unwrap()))
}

async fn fill(store: &SqliteStore, tenant: &str, count: u32) {
    for number in 0..count {
        let (id, name) = (id_of(tenant, &name(number)), name(number));
        exchange(store, &id, Intent::Establish, &name).await.unwrap();
        exchange(store, &id, Intent::Refresh, &format!("{name}-new")).await.unwrap();
    }
}

/// In another order than they came in.
async fn delete(store: &SqliteStore, tenant: &str, count: u32) {
    for number in (0..count).map(|number| number * 7 % count) {
        forget(store, &id_of(tenant, &name(number))).await;
    }
}

#[tokio::test]
async fn of_deleted_sessions_no_token_and_no_name_is_left_in_the_file_or_its_log() {
    let folder = Folder::new();
    let store = SqliteStore::builder(folder.database()).tokens_in_clear().open().unwrap();
    fill(&store, "tenant", 124).await;
    fill(&store, "staying", 40).await;
    assert!(count(&folder, "access-canary") >= 164);
    delete(&store, "tenant", 124).await;
    delete(&store, "staying", 39).await;
    let name = name(39);
    let left = count(&folder, "canary");
    // Its row, its primary key and two indexes name the one that stays; its row has its tokens.
    assert!(left <= 12, "{left} traces");
    assert!(store.load(&id_of("staying", &name)).await.unwrap().is_some());
    forget(&store, &id_of("staying", &name)).await;
    assert_eq!(count(&folder, "canary"), 0);
    store.shutdown().await;
    assert_eq!(count(&folder, "canary"), 0);
}

#[tokio::test]
async fn of_a_forgotten_tenant_no_name_is_left_in_a_sealed_file_or_its_log() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let process = Process::open(&folder, &clock, Rotation::Strict).await;
    fill(&process.store, "canary-tenant", 90).await;
    assert!(count(&folder, "canary") > 90);
    let tenant = session_warden::key::Tenant::new("canary-tenant").unwrap();
    for number in 0..90 {
        let key = session_warden::SessionKey::new(tenant.as_str(), name(number)).unwrap();
        process.supervisor.session("p", key).unwrap().forget().await.unwrap();
    }
    assert_eq!(count(&folder, "canary"), 0);
}

/// 1. Another process reads. 2. A session is deleted; the log cannot be cut. 3. The reader ends.
#[tokio::test]
async fn while_another_process_reads_the_log_is_cut_as_soon_as_it_has_ended() {
    let folder = Folder::new();
    let store = SqliteStore::builder(folder.database()).tokens_in_clear().open().unwrap();
    fill(&store, "tenant", 3).await;
    let reader = rusqlite::Connection::open(folder.database()).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let sessions: i64 =
        reader.query_row("SELECT count(*) FROM session", [], |row| row.get(0)).unwrap();
    assert_eq!(sessions, 3);
    delete(&store, "tenant", 3).await;
    assert!(count(&folder, "canary") > 0, "the reader still needs it");
    reader.execute_batch("COMMIT").unwrap();
    // The store's thread checks in real time, also while it gets statements without end.
    let gone = async {
        while count(&folder, "canary") > 0 {
            assert!(store.load(&id_of("tenant", "none")).await.unwrap().is_none());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}
