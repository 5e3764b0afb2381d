use super::*;
use crate::policy::SQLITE_STEPS;
use crate::store::sqlite::sqlite_fault::{SqliteFault, fault};

/// Counts to a number, in some 10 steps each.
fn count(conn: &Connection, to: u64) -> rusqlite::Result<u64> {
    let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?1)
        SELECT max(x) FROM n";
    let to = i64::try_from(to).unwrap();
    conn.query_row(sql, [to], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

#[test]
fn a_statement_that_does_not_end_is_interrupted_and_the_next_one_is_not() {
    let mut conn = Connection::open_in_memory().unwrap();
    let step_limit = StepLimit::install(&mut conn, 1_000_000);
    step_limit.reset();
    let endless = count(&conn, u64::MAX >> 1).unwrap_err();
    assert_eq!(fault(&endless), SqliteFault::TooLong);
    for _ in 0..3 {
        step_limit.reset();
        assert_eq!(count(&conn, 10_000).unwrap(), 10_000);
    }
}

#[test]
fn the_bound_is_far_above_what_a_large_file_takes() {
    let mut conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(
        "CREATE TABLE t (key INTEGER, filler TEXT); CREATE INDEX i ON t (key);
         WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000)
         INSERT INTO t SELECT x % 3, 'x' FROM n",
    )
    .unwrap();
    // What counts records by their keys reads each of them.
    let step_limit = StepLimit::install(&mut conn, SQLITE_STEPS);
    step_limit.reset();
    let mut statement = conn.prepare("SELECT key, count(*) FROM t GROUP BY key").unwrap();
    let mut rows = statement.query([]).unwrap();
    while rows.next().unwrap().is_some() {}
    let used = SQLITE_STEPS - step_limit.left.load(Ordering::Relaxed);
    let sessions = u64::try_from(crate::policy::Policy::default().max_sessions).unwrap();
    assert!(used / 20_000 * sessions < SQLITE_STEPS / 2, "{used}");
}
