use std::sync::{Arc, OnceLock};

use super::*;
use crate::log::LogLimit;
use crate::store::record_cipher::RecordCipher;
use crate::store::session_row::NEWEST_FORM;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::tests::Folder;

/// What brings a file in memory forward.
struct TestFile {
    folder: Folder,
    conn: Connection,
    options: SqliteBuilder,
    shared: Shared,
}

impl TestFile {
    fn new() -> Self {
        let (folder, conn) = (Folder::new(), Connection::open_in_memory().unwrap());
        let options = SqliteStore::builder(folder.path().join("a.db")).tokens_in_clear();
        let (clock, system) = (OnceLock::new(), SystemClock::new());
        let log_limit = LogLimit::new(Arc::new(SystemClock::new()));
        let cipher = RecordCipher::Plaintext;
        let shared = Shared { cipher, clock, system, form: NEWEST_FORM, log_limit };
        Self { folder, conn, options, shared }
    }

    fn process_lock(&self) -> ProcessLock {
        ProcessLock::new(&self.folder.path().join("a.db"), false).unwrap()
    }

    fn migrate(&mut self, process_lock: &ProcessLock, migrations: &[&str]) -> Result<i64> {
        let context = OpenContext { options: &self.options, shared: &self.shared, process_lock };
        let version = check_version(&mut self.conn, migrations)?;
        migrate(&mut self.conn, version, migrations, context)?;
        check_version(&mut self.conn, migrations)
    }
}

const SECOND: &str = "ALTER TABLE session ADD COLUMN more TEXT";

#[test]
fn a_file_of_an_older_version_is_brought_forward_and_keeps_what_it_has() {
    let mut file = TestFile::new();
    let process_lock = file.process_lock();
    for migrations in [MIGRATIONS, &[VERSION_1, VERSION_2, SECOND]] {
        let version = file.migrate(&process_lock, migrations).map_err(|_| "refused").unwrap();
        assert_eq!(version, newest_version(migrations));
        let stores: i64 = file
            .conn
            .query_row("SELECT count(*) FROM store WHERE in_clear", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stores, 1);
    }
    file.conn.query_row("SELECT count(more) FROM session", [], |_| Ok(())).unwrap();
    // Version 3 is not known to this program.
    let Err(StatementError::Rejected(newer)) = check_version(&mut file.conn, MIGRATIONS) else {
        panic!("it is taken");
    };
    let newer = std::error::Error::source(&newer).unwrap().downcast_ref();
    assert_eq!(newer, Some(&SqliteFault::Newer { found: 3, known: 2 }));
}

#[test]
fn a_migration_that_fails_leaves_the_version_before() {
    let mut file = TestFile::new();
    let process_lock = file.process_lock();
    file.migrate(&process_lock, MIGRATIONS).map_err(|_| "refused").unwrap();
    let broken = [VERSION_1, VERSION_2, "CREATE TABLE more (a); CREATE TABLE more (a)"];
    file.migrate(&process_lock, &broken).map_err(|_| "refused").unwrap_err();
    assert_eq!(check_version(&mut file.conn, MIGRATIONS).map_err(|_| "refused").unwrap(), 2);
    file.conn.query_row("SELECT count(*) FROM more", [], |_| Ok(())).unwrap_err();
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_file_that_a_process_of_this_version_has_open_is_not_brought_to_the_next() {
    let mut file = TestFile::new();
    let open = file.process_lock();
    file.migrate(&open, MIGRATIONS).map_err(|_| "refused").unwrap();
    let next = file.process_lock();
    let later = [VERSION_1, VERSION_2, SECOND];
    let waits = file.migrate(&next, &later);
    assert!(matches!(waits, Err(StatementError::TryAgain(SqliteFault::OtherVersion))));
    drop(open);
    assert_eq!(file.migrate(&next, &later).map_err(|_| "refused").unwrap(), 3);
}
