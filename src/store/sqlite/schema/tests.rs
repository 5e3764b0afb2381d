use std::sync::OnceLock;

use super::*;
use crate::store::seal::Vault;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::row::FORM;
use crate::store::sqlite::tests::Folder;

/// What brings a file in memory forward.
struct Bench {
    folder: Folder,
    conn: Connection,
    with: SqliteBuilder,
    shared: Shared,
}

impl Bench {
    fn new() -> Self {
        let (folder, conn) = (Folder::new(), Connection::open_in_memory().unwrap());
        let with = SqliteStore::builder(folder.path().join("a.db")).tokens_in_clear();
        let (clock, system) = (OnceLock::new(), SystemClock::new());
        let shared = Shared { vault: Vault::Open, clock, system, form: FORM };
        Self { folder, conn, with, shared }
    }

    fn holder(&self) -> Holder {
        Holder::new(&self.folder.path().join("a.db"), false).unwrap()
    }

    fn migrate(&mut self, holder: &Holder, migrations: &[&str]) -> Result<i64> {
        let opening = Opening { with: &self.with, shared: &self.shared, holder };
        let version = recognized(&mut self.conn, migrations)?;
        migrate(&mut self.conn, version, migrations, opening)?;
        recognized(&mut self.conn, migrations)
    }
}

const SECOND: &str = "ALTER TABLE session ADD COLUMN more TEXT";

#[test]
fn a_file_of_an_older_version_is_brought_forward_and_keeps_what_it_has() {
    let mut bench = Bench::new();
    let holder = bench.holder();
    for migrations in [MIGRATIONS, &[VERSION_1, VERSION_2, SECOND]] {
        let version = bench.migrate(&holder, migrations).map_err(|_| "refused").unwrap();
        assert_eq!(version, newest(migrations));
        let stores: i64 = bench
            .conn
            .query_row("SELECT count(*) FROM store WHERE in_clear", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stores, 1);
    }
    bench.conn.query_row("SELECT count(more) FROM session", [], |_| Ok(())).unwrap();
    // Version 3 is not known to this programme.
    let Err(Undone::Told(newer)) = recognized(&mut bench.conn, MIGRATIONS) else {
        panic!("it is taken");
    };
    let newer = std::error::Error::source(&newer).unwrap().downcast_ref();
    assert_eq!(newer, Some(&SqliteFault::Newer { found: 3, known: 2 }));
}

#[test]
fn a_migration_that_fails_leaves_the_version_before() {
    let mut bench = Bench::new();
    let holder = bench.holder();
    bench.migrate(&holder, MIGRATIONS).map_err(|_| "refused").unwrap();
    let broken = [VERSION_1, VERSION_2, "CREATE TABLE more (a); CREATE TABLE more (a)"];
    bench.migrate(&holder, &broken).map_err(|_| "refused").unwrap_err();
    assert_eq!(recognized(&mut bench.conn, MIGRATIONS).map_err(|_| "refused").unwrap(), 2);
    bench.conn.query_row("SELECT count(*) FROM more", [], |_| Ok(())).unwrap_err();
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_file_that_a_process_of_this_version_has_open_is_not_brought_to_the_next() {
    let mut bench = Bench::new();
    let open = bench.holder();
    bench.migrate(&open, MIGRATIONS).map_err(|_| "refused").unwrap();
    let next = bench.holder();
    let later = [VERSION_1, VERSION_2, SECOND];
    let waits = bench.migrate(&next, &later);
    assert!(matches!(waits, Err(Undone::Meanwhile(SqliteFault::OtherVersion))));
    drop(open);
    assert_eq!(bench.migrate(&next, &later).map_err(|_| "refused").unwrap(), 3);
}
