//! Files and folders that other users wrote to.

use std::path::Path;
use std::process::Command;

use session_warden::ErrorKind;
use session_warden::provider::Rotation;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::sqlite::SqliteFault;
use session_warden::store::{Intent, RecordFilter, Store, StoreErrorKind};
use session_warden::testing::{ManualClock, ScriptedProvider};

use super::faults::{fault, sql};
use super::store_folder::{Folder, Process, access, exchange, found, id};

/// A file with one session, which no process has open.
async fn closed() -> Folder {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    store.shutdown().await;
    folder
}

/// Refused, and not touched.
#[track_caller]
fn refuses(folder: &Folder, expected: &SqliteFault) {
    let before = std::fs::read(folder.database()).unwrap();
    let refused = folder.builder().open().unwrap_err();
    assert_eq!((refused.kind(), &fault(&refused)), (StoreErrorKind::Unavailable, expected));
    assert!(std::fs::read(folder.database()).unwrap() == before, "it was touched");
}

const UNDO: &str = "CREATE TRIGGER undo AFTER UPDATE ON session BEGIN
    UPDATE session SET sealed = OLD.sealed, generation = OLD.generation, phase = OLD.phase,
        fence = OLD.fence WHERE token_id = OLD.token_id; END";

#[tokio::test]
async fn a_file_whose_schema_was_changed_is_refused_and_left_as_it_is() {
    let endless = "ALTER TABLE store RENAME TO hidden;
        CREATE VIEW store AS WITH RECURSIVE n(one) AS (SELECT 1 UNION ALL SELECT one FROM n)
            SELECT one, 0 AS in_clear, 0 AS version, count(*) AS epoch FROM n";
    let quietly = "PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, 'suspect INTEGER NOT NULL', 'suspect INTEGER')";
    for change in [
        UNDO,
        endless,
        quietly,
        "CREATE VIEW more AS SELECT * FROM session",
        "CREATE TABLE more (a)",
        "CREATE UNIQUE INDEX more ON session (phase)",
        "DROP INDEX session_due",
        "ALTER TABLE session ADD COLUMN more TEXT",
        "DROP TABLE change",
    ] {
        let folder = closed().await;
        sql(&folder, change);
        refuses(&folder, &SqliteFault::OtherSchema);
    }
}

#[tokio::test]
async fn what_an_operator_does_to_a_file_is_no_change_of_its_schema() {
    let folder = closed().await;
    let conn = rusqlite::Connection::open(folder.database()).unwrap();
    let text = "SELECT sql FROM sqlite_schema WHERE name = 'session_due'";
    let text: String = conn.query_row(text, [], |row| row.get(0)).unwrap();
    let as_written = "CREATE INDEX session_due ON session (provider, due_at, tenant, token_id)\n        \
                      WHERE due_at IS NOT NULL";
    assert_eq!(text, as_written, "another text would refuse every file that there is");
    conn.execute_batch("VACUUM; REINDEX").unwrap();
    drop(conn);
    let store = folder.store();
    assert_eq!(access(&found(&store, &id("a")).await), Some("access-a"));
}

#[tokio::test]
async fn a_trigger_that_comes_later_undoes_nothing_that_is_answered_as_stored() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    sql(&folder, UNDO);
    exchange(&store, &id("a"), Intent::Refresh, "b").await.unwrap();
    let record = found(&store, &id("a")).await;
    assert_eq!((record.generation, access(&record)), (2, Some("access-b")));
}

#[tokio::test]
async fn a_view_that_comes_later_is_not_read() {
    let folder = Folder::new();
    let store = folder.store();
    exchange(&store, &id("a"), Intent::Establish, "a").await.unwrap();
    sql(
        &folder,
        "ALTER TABLE session RENAME TO hidden;
         CREATE VIEW session AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n)
             SELECT hidden.* FROM hidden, n WHERE x = 2",
    );
    store.load(&id("a")).await.unwrap_err();
    store.list(&RecordFilter::default(), None, 10).await.unwrap_err();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_pipe_in_the_place_of_an_owner_lock_holds_nothing_up() {
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let pipe = folder.path().join(format!("sessions.db.holder-{}", "7".repeat(32)));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let process = Process::open(&folder, &clock, Rotation::Strict).await;
    let _ = process.session.establish(()).await.unwrap();
    let refreshed = process.session.refresh().await.unwrap();
    assert_eq!(refreshed.generation(), 2);
    assert!(process.store.load(process.session.id()).await.unwrap().is_some());
}

#[cfg(unix)]
fn mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_others_can_write_or_own_is_refused() {
    use std::os::unix::fs::chown;
    let folder = closed().await;
    let is_root = rustix::process::geteuid().is_root();
    for bits in [0o620, 0o602, 0o666] {
        mode(&folder.database(), bits);
        refuses(&folder, &SqliteFault::Exposed);
    }
    mode(&folder.database(), 0o660);
    folder.builder().writable_by_group().open().unwrap().shutdown().await;
    mode(&folder.database(), 0o662);
    let by_group = folder.builder().writable_by_group().open().unwrap_err();
    assert_eq!(fault(&by_group), SqliteFault::Exposed);
    mode(&folder.database(), 0o600);
    if is_root {
        chown(folder.database(), Some(65_534), None).unwrap();
        refuses(&folder, &SqliteFault::Exposed);
        chown(folder.database(), Some(0), None).unwrap();
    }
    // The files that SQLite reads as a part of the database.
    for name in ["sessions.db-wal", "sessions.db-journal", "sessions.db-shm"] {
        let beside = folder.path().join(name);
        std::fs::write(&beside, "").unwrap();
        mode(&beside, 0o666);
        refuses(&folder, &SqliteFault::Exposed);
        std::fs::remove_file(&beside).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &beside).unwrap();
        refuses(&folder, &SqliteFault::NotAFile);
        std::fs::remove_file(&beside).unwrap();
    }
    assert!(folder.store().load(&id("a")).await.unwrap().is_some());
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_folder_in_the_place_of_a_file_is_refused() {
    let folder = Folder::new();
    std::fs::create_dir(folder.database()).unwrap();
    assert_eq!(fault(&folder.builder().open().unwrap_err()), SqliteFault::NotAFile);
    std::fs::remove_dir(folder.database()).unwrap();
    assert!(Command::new("mkfifo").arg(folder.database()).status().unwrap().success());
    assert_eq!(fault(&folder.builder().open().unwrap_err()), SqliteFault::NotAFile);
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_else_can_open_an_owner_lock() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let _store = folder.store();
    let entries = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    let locks: Vec<_> =
        entries.filter(|e| e.file_name().to_string_lossy().contains(".holder-")).collect();
    assert_eq!(locks.len(), 1);
    assert_eq!(locks[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_supervisor_does_not_start_on_a_file_with_a_key_of_zero_bytes() {
    let folder = Folder::new();
    let store = session_warden::store::sqlite::SqliteStore::open(folder.database()).unwrap();
    let started = session_warden::Supervisor::builder()
        .key_ring(KeyRing::new(1, MasterKey::from([0; 32])))
        .store(store)
        .provider("p", ScriptedProvider::new())
        .start()
        .await;
    assert_eq!(started.unwrap_err().kind(), ErrorKind::Misconfigured);
}
