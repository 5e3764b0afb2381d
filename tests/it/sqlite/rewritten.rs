//! Rows that an attacker rewrote who can write the file but has no key.

use rusqlite::Connection;
use rusqlite::types::Value;
use session_warden::error::LostReason;
use session_warden::key::SessionId;
use session_warden::store::{
    Intent, Lose, Outcome, Owner, Phase, RecordFilter, Statement, Store, StoreErrorKind,
};

use super::faults::sql;
use super::store_folder::{
    Folder, access, claim, close, delete, done, exchange, found, granted, id, id_of,
};

/// Sessions in each state, and others to take values from.
const NAMES: [&str; 6] = ["live", "claimed", "doubtful", "lost", "closed", "other"];

async fn fill(store: &impl Store) {
    for name in NAMES {
        exchange(store, &id(name), Intent::Establish, name).await.unwrap();
        exchange(store, &id(name), Intent::Refresh, name).await.unwrap();
    }
    exchange(store, &id_of("stranger", "live"), Intent::Establish, "stranger").await.unwrap();
    let out = claim(Owner(1), Intent::Refresh, Some((1, 2)));
    granted(store, &id("claimed"), out).await.unwrap();
    let out = claim(Owner(1), Intent::Refresh, Some((1, 2)));
    let (epoch, attempt) = granted(store, &id("doubtful"), out).await.unwrap();
    let to = session_warden::store::SettleTo::InDoubt;
    let retry_in = Some(std::time::Duration::from_secs(9));
    let settle = session_warden::store::Settle {
        epoch,
        attempt,
        to,
        retry_in,
        due_in: None,
        failures: None,
    };
    done(store.apply(&id("doubtful"), Statement::Settle(settle)).await);
    let lose = Lose { epoch: 1, generation: 2, reason: LostReason::Rejected };
    done(store.apply(&id("lost"), Statement::Lose(lose)).await);
    done(store.apply(&id("closed"), close(2)).await);
}

fn columns(file: &Connection) -> Vec<String> {
    let mut columns = file.prepare("SELECT name FROM pragma_table_info('session')").unwrap();
    let names = columns.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

/// A row with its number.
fn row(file: &Connection, name: &str) -> (i64, Vec<Value>) {
    let sql = "SELECT rowid, * FROM session WHERE token_id = ?1 AND tenant = 'tenant'";
    file.query_row(sql, [name], |row| {
        let columns = row.as_ref().column_count();
        Ok((row.get(0)?, (1..columns).map(|at| row.get(at).unwrap()).collect()))
    })
    .unwrap()
}

fn put_back(file: &Connection, columns: &[String], (number, values): &(i64, Vec<Value>)) {
    let sets: Vec<_> =
        columns.iter().enumerate().map(|(at, name)| format!("{name} = ?{}", at + 1)).collect();
    let sql = format!("UPDATE session SET {} WHERE rowid = {number}", sets.join(", "));
    file.execute(&sql, rusqlite::params_from_iter(values)).unwrap();
}

/// What somebody may write into a column without a key: little numbers, one more or less, nothing,
/// and what stands in other rows and other columns.
fn values(columns: &[String], column: &str) -> Vec<String> {
    let mut values: Vec<String> = (-1..=6).map(|number| number.to_string()).collect();
    values.extend(["NULL", "x''", "x'00'", "''", "'x'"].map(str::to_owned));
    values.push(format!("{column} + 1"));
    values.push(format!("{column} - 1"));
    values.push(format!("CAST({column} || x'00' AS BLOB)"));
    values.push("9223372036854775807".to_owned());
    for other in NAMES {
        values.push(format!(
            "(SELECT {column} FROM session WHERE token_id = '{other}' AND tenant = 'tenant')"
        ));
    }
    values.push(format!("(SELECT {column} FROM session WHERE tenant = 'stranger')"));
    values.extend(columns.iter().filter(|of| *of != column).cloned());
    values
}

/// All that a store returns of a session, with its secrets.
async fn shown(store: &impl Store, id: &SessionId) -> String {
    let record = found(store, id).await;
    format!("{record:?} {:?}", access(&record))
}

/// Each of some thousand changes to a row is refused, for its session alone, or changes nothing.
#[tokio::test]
async fn no_column_of_a_row_can_be_rewritten_without_the_key() {
    let folder = Folder::new();
    let store = folder.store();
    fill(&store).await;
    let file = Connection::open(folder.database()).unwrap();
    let columns = columns(&file);
    let whole = shown(&store, &id("other")).await;
    let (mut refused, mut harmless) = (0, 0);
    for name in &NAMES[..5] {
        let (before, as_shown) = (row(&file, name), shown(&store, &id(name)).await);
        for column in columns.iter().skip(3) {
            for value in values(&columns, column) {
                let change = format!("UPDATE session SET {column} = {value} WHERE rowid = ?1");
                // A column takes no other type than its own.
                let Ok(1) = file.execute(&change, [before.0]) else { continue };
                match store.load(&id(name)).await {
                    Ok(_) => {
                        assert_eq!(shown(&store, &id(name)).await, as_shown, "{name}: {change}");
                        harmless += 1;
                    }
                    Err(failed) => {
                        let damaged = [StoreErrorKind::Corrupt, StoreErrorKind::Sealed];
                        assert!(damaged.contains(&failed.kind()), "{name}: {change}: {failed:?}");
                        refused += 1;
                    }
                }
                put_back(&file, &columns, &before);
            }
        }
        assert_eq!(shown(&store, &id(name)).await, as_shown);
    }
    assert_eq!(shown(&store, &id("other")).await, whole);
    assert!(refused > 3_000 && harmless > 100, "{refused} refused, {harmless} changed nothing");
}

/// Changes of several columns in one statement. Each worked in version 0.1.
#[tokio::test]
async fn a_row_that_is_made_another_session_or_another_phase_is_damaged_kept_and_deletable() {
    let of = |name: &str| format!("WHERE token_id = '{name}' AND tenant = 'tenant'");
    let moved = "sealed = outbox, outbox = NULL, phase = 1, due_at = NULL, lease_claim = NULL,
        lease_owner = NULL, lease_intent = NULL, lease_from = NULL, lease_until = NULL,
        lease_holder = NULL, lease_boot = NULL";
    for (name, change) in [
        ("closed", moved.to_owned()),
        ("live", "outbox = sealed, sealed = NULL, phase = 5, due_at = 0".to_owned()),
        ("lost", "phase = 1, lost = NULL".to_owned()),
        ("live", "form = 1, mac = NULL".to_owned()),
        ("live", "form = 3".to_owned()),
        ("live", "mac = NULL, key_id = NULL".to_owned()),
        ("live", format!("mac = (SELECT mac FROM session {})", of("other"))),
        ("live", "token_id = 'elsewhere'".to_owned()),
        ("live", "tenant = 'elsewhere'".to_owned()),
    ] {
        let folder = Folder::new();
        let store = folder.store();
        fill(&store).await;
        sql(&folder, &format!("UPDATE session SET {change} {}", of(name)));
        let at = match &*change {
            "token_id = 'elsewhere'" => id("elsewhere"),
            "tenant = 'elsewhere'" => id_of("elsewhere", name),
            _ => id(name),
        };
        for _ in 0..2 {
            let failed = store.load(&at).await.unwrap_err();
            assert_eq!(failed.kind(), StoreErrorKind::Corrupt, "{change}");
            let refresh = Statement::Claim(claim(Owner(1), Intent::Refresh, Some((1, 2))));
            store.apply(&at, refresh).await.unwrap_err();
        }
        exchange(&store, &id("other"), Intent::Refresh, "other").await.unwrap();
        let listed = store.list(&RecordFilter::default(), None, 10).await.unwrap();
        let listed = listed.iter().find(|listed| listed.id == at).unwrap();
        let record = &listed.stored.record;
        assert_eq!((record.phase, record.lost), (Phase::Lost, Some(LostReason::Unreadable)));
        let gone = delete(&store, &at).await;
        let again = exchange(&store, &at, Intent::Establish, "again").await.unwrap();
        assert!(again.epoch > gone.epoch && again.version > gone.version, "{change}");
    }
}

#[tokio::test]
async fn a_row_with_counters_that_nobody_counted_to_leaves_room_for_others_when_it_is_deleted() {
    let folder = Folder::new();
    let store = folder.store();
    fill(&store).await;
    sql(&folder, "UPDATE session SET version = 4611686018427387903 WHERE token_id = 'live'");
    store.load(&id("live")).await.unwrap_err();
    delete(&store, &id("live")).await;
    let again = exchange(&store, &id("live"), Intent::Establish, "again").await.unwrap();
    assert!(again.version < 100, "{again:?}");
    let none = store.apply(&id("nobody"), Statement::Delete).await.unwrap();
    assert!(matches!(none, Outcome::Conflict(None)));
}
